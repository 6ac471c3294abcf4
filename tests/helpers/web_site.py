"""A web site in this process, for tests of downloads: it can break off, forget ranges, answer nonsense and redirect.

Use it as `from web_site import Page, Site, serve`.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Page:
    """What the server answers at one path."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    cut_at: int | None = None  # the connection breaks here, once
    etag: str = '"first"'


@dataclass
class Site:
    """A server, its pages and what was asked of it."""

    address: str
    pages: dict[str, Page]
    asked: list[tuple[str, str, dict[str, str]]]
    server: ThreadingHTTPServer

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Handler(BaseHTTPRequestHandler):
    pages: dict[str, Page]
    asked: list[tuple[str, str, dict[str, str]]]

    def do_HEAD(self) -> None:
        self.answer(send_body=False)

    def do_GET(self) -> None:
        self.answer(send_body=True)

    def answer(self, send_body: bool) -> None:
        self.asked.append((self.command, self.path, {key.lower(): value for key, value in self.headers.items()}))
        page = self.pages.get(self.path.split("?")[0], Page(b"nothing here", 404))
        start, status = 0, page.status
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and page.ranges and self.headers.get("If-Range", page.etag) == page.etag:
            start, status = int(wanted[1]), 206 if int(wanted[1]) < len(page.body) else 416
        body = page.body[start:]
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(page.body) - 1}/{len(page.body)}")
        if status == 416:
            self.send_header("Content-Range", f"bytes */{len(page.body)}")
        for key, value in {"ETag": page.etag, "Content-Length": str(len(body)), **page.headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if send_body and page.cut_at is not None and self.command == "GET":
            cut, page.cut_at = page.cut_at, None
            self.wfile.write(body[:cut])
            self.close_connection = True
        elif send_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def serve() -> Site:
    pages: dict[str, Page] = {}
    asked: list[tuple[str, str, dict[str, str]]] = []
    handler = type("TheHandler", (Handler,), {"pages": pages, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hung up
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return Site(f"http://127.0.0.1:{server.server_port}", pages, asked, server)
