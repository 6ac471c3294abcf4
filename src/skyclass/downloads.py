"""Downloads that go on where they stopped, each through the client that its host asks for.

pooch looks after what is there already, the checksum and the final name. What it lacks, the resumption, lies in the
functions that it calls for the transfer itself: plain HTTP (which serves Kaggle too), gdown and the Hub's client.
Until a file is whole, its bytes lie beside it, as `NAME.part` or in the client's own partial file.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pooch
import requests
import urllib3
from requests.auth import AuthBase, HTTPBasicAuth

from .console import shown_progress
from .datasets import RemoteFile
from .errors import SkyclassError, one_line
from .files import read_json, sync, write_text
from .passwords import host_of

CHUNK = 1 << 20
ATTEMPTS = 5  # without a single new byte
PAUSE = 1.0  # seconds before the second attempt; it doubles with each
TIMEOUT = (10.0, 60.0)  # seconds to connect, and between bytes
HUB_FOLDER = ".hub"  # in which the Hub's client keeps its partial files
_MEGA = 1e6
_PATIENCE = (408, 425, 429, 500, 502, 503, 504)  # statuses of a server that may answer better soon
_HUB = re.compile(
    r"(?P<endpoint>https?://[^/]+)/datasets/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)"
)

Advance = Callable[[int, int | None], None]  # told the bytes so far and all bytes where known


def download(file: RemoteFile, folder: Path, page: str) -> Path:
    """Fetch one file into the folder unless it is there, with its checksum; returns its path.

    page : where a person can get the file by hand
    Errors: SkyclassError without a network, for a host that refuses, a web page in place of the file, a wrong checksum
        and a missing Kaggle token, each with the way out.
    """
    target = folder / file.name
    by_hand = file.by_hand(target, page)
    if not target.exists():
        _transfer(file, target, by_hand)
    elif _is_page(target) or not file.is_at(target):
        what = f"its checksum is not {file.checksum}" if file.checksum else "it is a web page"
        fix = "it is damaged or not the file: delete it and run the command again"
        raise SkyclassError(what, where=target, fix=fix)
    return target


def _transfer(file: RemoteFile, target: Path, by_hand: str) -> None:
    def run(url: str, output: str, _pooch: object) -> None:
        TRANSFERS[file.via](url, target, Path(output), by_hand)
        if _is_page(Path(output)):
            raise _page(target, by_hand)

    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(file.url, file.checksum, fname=target.name, path=target.parent, downloader=run)
    except ValueError as error:  # pooch's word for a wrong checksum
        fix = "run the command again; if it repeats, the publisher has changed the file: see its page"
        raise SkyclassError(f"what {host_of(file.url)} sent has not {file.checksum}", where=target, fix=fix) from error


def _out_of_reach(url: str, target: Path, by_hand: str, reason: str, kept: bool) -> SkyclassError:
    """The one error of a network that is not there or breaks."""
    stays = "what has arrived is kept, so run the command again to go on; " if kept else ""
    fix = f"{stays}without a network here, {by_hand}"
    return SkyclassError(f"{host_of(url)} could not be reached ({reason})", where=target.name, fix=fix)


def _is_page(path: Path) -> bool:
    """Whether the file is a web page: a login, a notice, a quota."""
    with path.open("rb") as stream:
        return stream.read(512).lstrip().lower().startswith((b"<!doctype html", b"<html", b"<?xml"))


def _page(target: Path, by_hand: str) -> SkyclassError:
    what = "the server answered with a web page (a login, a notice or a quota) instead of the file"
    return SkyclassError(what, where=target.name, fix=f"look at it in a browser, or {by_hand}")


@contextmanager
def _watched(name: str) -> Iterator[Advance]:
    """Progress in megabytes; the function is told the bytes so far, and all bytes."""
    with shown_progress(name, None, unit="MB") as shown:

        def show(so_far: int, total: int | None) -> None:
            shown.update(so_far / _MEGA, None if total is None else total / _MEGA)

        yield show


# HTTP


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _http(url: str, target: Path, output: Path, by_hand: str, auth: AuthBase | None = None) -> None:
    """Receive into `NAME.part`, which becomes `output` once it is whole."""
    part = target.with_name(f"{target.name}.part")
    failed = 0
    with _watched(target.name) as show:
        while True:
            before = _size(part)
            try:
                _receive(url, part, target, by_hand, auth, show)
                break
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                arrived = _size(part)
                failed = 1 if arrived > before else failed + 1
                unanswered = isinstance(error, requests.ConnectionError) and arrived == before and failed == 1
                if unanswered or failed == ATTEMPTS:
                    raise _out_of_reach(url, target, by_hand, _reason(error), arrived > 0) from error
                time.sleep(PAUSE * 2 ** (failed - 1))
    _tag_of(part).unlink(missing_ok=True)
    sync(part)
    part.replace(output)


def _tag_of(part: Path) -> Path:
    """Where the server's name for this state of the file is kept, so that halves of two states are never joined."""
    return part.with_name(f"{part.name}.tag")


def _reason(error: BaseException) -> str:
    if isinstance(error, requests.HTTPError):
        return str(error)
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return "no answer in time"
    return "no connection" if isinstance(error, requests.ConnectionError) else "the connection broke"


def _receive(url: str, part: Path, target: Path, by_hand: str, auth: AuthBase | None, show: Advance) -> None:
    """One request: the rest of the file where the server can give it, else all of it."""
    have = _size(part)
    # As identity, and read raw: some servers call a .gz file an encoding, and its bytes would be decoded on the way.
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if _tag_of(part).exists():
            headers["If-Range"] = _tag_of(part).read_text(encoding="utf-8")
    with requests.get(url, headers=headers, auth=auth, stream=True, timeout=TIMEOUT) as response:
        span = response.headers.get("Content-Range", "")
        if response.status_code == 416:  # the part is as long as the file, or longer
            if span.endswith(f"/{have}"):
                return
            part.unlink(missing_ok=True)
            raise requests.HTTPError("it has no such part of the file")
        _refuse_answer(response, target, by_hand)
        resumed = response.status_code == 206 and span.startswith(f"bytes {have}-")
        have = have if resumed else 0
        _keep_tag(response, part)
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdecimal() else None
        with part.open("ab" if resumed else "wb") as stream:
            show(have, total)
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                stream.write(chunk)
                show(stream.tell(), total)
            if total is not None and stream.tell() < total:
                raise urllib3.exceptions.ProtocolError("the answer ends early")


def _keep_tag(response: requests.Response, part: Path) -> None:
    """Note the validator that If-Range takes (RFC 9110, 13.1.5): a strong ETag, else the date."""
    tag = response.headers.get("ETag", "")
    tag = response.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
    if tag:
        write_text(_tag_of(part), tag)
    else:
        _tag_of(part).unlink(missing_ok=True)


def _refuse_answer(response: requests.Response, target: Path, by_hand: str) -> None:
    """Errors: SkyclassError for an answer that will not change, requests.HTTPError for one that may."""
    status, host = response.status_code, host_of(response.url)
    if status in _PATIENCE:
        raise requests.HTTPError(f"it answers {status}, too busy or out of order")
    if status in (404, 410):
        fix = f"the publisher has moved it: see its page, or {by_hand}"
        raise SkyclassError(f"{host} has no such file ({status})", where=target.name, fix=fix)
    if status >= 400:
        fix = f"look at it in a browser, or {by_hand}"
        raise SkyclassError(f"{host} refuses the file ({status})", where=target.name, fix=fix)
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise _page(target, by_hand)


# Google Drive, Kaggle, the Hub


def _drive(url: str, target: Path, output: Path, by_hand: str) -> None:
    """gdown follows Google's confirmations and keeps its own partial file beside the target."""
    import gdown
    from gdown.exceptions import DownloadError, FileURLRetrievalError

    part = target.with_name(f"{target.name}.part")
    try:
        with _watched(target.name) as show:
            gdown.download(
                url, str(part), quiet=True, resume=True, use_cookies=False, timeout=TIMEOUT, progress=show, retries=2
            )
    except FileURLRetrievalError as error:  # a page about quota or permission in place of the file
        fix = f"try again tomorrow, or {by_hand}"
        what = f"Google Drive gives the file to nobody at the moment ({one_line(error.__context__ or error)})"
        raise SkyclassError(what, where=target.name, fix=fix) from error
    except (DownloadError, requests.RequestException) as error:
        kept = any(target.parent.glob(f"{part.name}*"))
        raise _out_of_reach(url, target, by_hand, _reason(error.__cause__ or error), kept) from error
    part.replace(output)


class _Bearer(AuthBase):
    """A token in place of a name and a password."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def kaggle_token() -> AuthBase:
    """The person's token, from where Kaggle's own clients look for it.

    Errors: SkyclassError where there is none, saying how to get one.
    """
    folder = Path(os.environ.get("KAGGLE_CONFIG_DIR") or Path.home() / ".kaggle")
    if token := os.environ.get("KAGGLE_API_TOKEN"):
        return _Bearer(token)
    name, key = os.environ.get("KAGGLE_USERNAME"), os.environ.get("KAGGLE_KEY")
    if name and key:
        return HTTPBasicAuth(name, key)
    if (folder / "access_token").is_file():
        return _Bearer((folder / "access_token").read_text(encoding="utf-8").strip())
    if (folder / "kaggle.json").is_file():
        content = read_json(folder / "kaggle.json", "Kaggle token", ("username", "key"))
        return HTTPBasicAuth(str(content["username"]), str(content["key"]))
    place = f"save it as {folder / 'kaggle.json'}, or set KAGGLE_USERNAME and KAGGLE_KEY"
    fix = f"make one at https://www.kaggle.com/settings and {place}"
    raise SkyclassError("Kaggle gives its files only to those who have a token of their own", fix=fix)


def _kaggle(url: str, target: Path, output: Path, by_hand: str) -> None:
    """Plain HTTP at the address that Kaggle's own clients call: they would unpack into a cache of theirs."""
    try:
        _http(url, target, output, by_hand, kaggle_token())
    except SkyclassError as error:
        if not re.search(r"\((401|403)\)", error.what):
            raise
        fix = f"accept the rules of the competition on its page, make a new token if yours is old, or {by_hand}"
        raise SkyclassError(error.what, where=error.where, fix=fix) from error


def _hub(url: str, target: Path, output: Path, by_hand: str) -> None:
    """The Hub's client resumes within its own folder, and shows its own bar."""
    from huggingface_hub import hf_hub_download

    found = _HUB.fullmatch(url)
    if found is None:
        raise SkyclassError("not the address of a file on the Hub", where=url, fix="correct it in datasets.yaml")
    try:
        path = hf_hub_download(
            found["repository"],
            found["file"],
            repo_type="dataset",
            revision=found["revision"],
            local_dir=target.parent / HUB_FOLDER,
            endpoint=found["endpoint"],
        )
    except Exception as error:  # its transport, and with it the kinds of its errors, differs between its versions
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        what = f"the Hub's client could not get the file from {host_of(url)} ({one_line(error)[:200]})"
        fix = f"run the command again to go on; without a network here, {by_hand}"
        raise SkyclassError(what, where=target.name, fix=fix) from error
    shutil.move(path, output)


TRANSFERS: dict[str, Callable[[str, Path, Path, str], None]]
TRANSFERS = {"http": _http, "drive": _drive, "kaggle": _kaggle, "hub": _hub}
