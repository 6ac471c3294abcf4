"""Files that are either whole or absent, and the hashes by which artefacts know each other."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import SkyclassError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that takes its place when the block ends well, and is removed when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text in one step."""
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON in one step; NaN is not JSON and raises ValueError."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, what: str, keys: Iterable[str] = ()) -> dict[str, Any]:
    """A JSON object that has all `keys`; `what` says what it should be.

    Errors: SkyclassError where the file is missing, damaged or lacks a key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SkyclassError(f"no {what}: the file does not exist", where=path, fix="check the path") from None
    except (OSError, ValueError) as error:
        raise SkyclassError(f"damaged {what} ({error})", where=path, fix="make it again") from None
    if not isinstance(content, dict):
        raise SkyclassError(f"damaged {what}: not a JSON object", where=path, fix="make it again")
    missing = [key for key in keys if key not in content]
    if missing:
        raise SkyclassError(f"damaged {what}: it lacks {', '.join(missing)}", where=path, fix="make it again")
    return content


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def new_folder(path: Path, *, overwrite: bool, fix: str) -> None:
    """Make an empty folder for an output; `overwrite` lets it lie over what is there.

    Errors: SkyclassError where the folder already holds something, with `fix` as the way out.
    """
    if path.exists() and not path.is_dir():
        raise SkyclassError("it is a file, not a folder", where=path, fix="name another folder")
    if not overwrite and path.is_dir() and any(path.iterdir()):
        raise SkyclassError("the folder is not empty", where=path, fix=fix)
    path.mkdir(parents=True, exist_ok=True)
