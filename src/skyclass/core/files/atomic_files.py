"""Atomic writes (a file is whole or absent), and the hashes by which artefacts refer to each other."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import SkyclassError
from .disk_errors import disk_error, disk_errors
from .temporary_names import part_of, remove, remove_leftovers


@contextmanager
def written_whole(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A temporary name beside `path` that takes its place when the block ends well, and is removed when it does not.

    At any moment, a power cut included, `path` is the whole old file or the whole new one,
    readable by whom the umask allows. Half-written files of dead processes in the same folder are removed.

    durable : False leaves it to the system when the bytes reach the disk, and old leftovers where they are: for many
        small files, whose folder is `synced` at its end

    Raises
    ------
    MachineError : where the disk is full, the folder cannot be written to or has vanished, and the like
    """
    part = part_of(path)
    with disk_errors(path, part):
        path.parent.mkdir(parents=True, exist_ok=True)
        if durable:
            remove_leftovers(path.parent)
        try:
            with part.open("xb") as stream:  # made here, for its permissions: some libraries make theirs private
                mode = os.fstat(stream.fileno()).st_mode
            yield part
            if part.stat().st_mode != mode:
                part.chmod(mode)
            if durable:
                sync(part)
            part.replace(path)
            if durable:
                sync(path.parent)
        finally:
            remove(part)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk itself, so that a power cut does not take them."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folder
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise  # else a network disk that knows no such thing for folders
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """`sync` every file and folder below `folder`, and it: after many files, quicker than one by one."""
    for inner, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(Path(inner) / name)
        sync(Path(inner))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text in one step."""
    with written_whole(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON in one step; NaN is not JSON and raises ValueError."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_text(path: Path, what: str, fix: str = "make it again") -> str:
    """A UTF-8 text; `what` is its kind, for messages.

    Errors: SkyclassError where the file is missing, cannot be read, or holds something else than text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SkyclassError(f"no {what}: the file does not exist", where=path, fix="check the path") from None
    except OSError as error:
        raise SkyclassError(f"unreadable {what}: {disk_error(error, path).what}", where=path, fix=fix) from None
    except UnicodeDecodeError:
        raise SkyclassError(f"damaged {what}: it is no UTF-8 text", where=path, fix=fix) from None


def read_json(path: Path, what: str, keys: Iterable[str] = (), fix: str = "make it again") -> dict[str, Any]:
    """A JSON object that has all `keys`; `what` is its kind, for messages.

    Errors: SkyclassError where the file is missing, damaged or lacks a key.
    """
    try:
        content = json.loads(read_text(path, what, fix), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise SkyclassError(f"damaged {what}: it is no JSON from {place} on", where=path, fix=fix) from None
    except (ValueError, RecursionError):  # NaN, numbers of thousands of digits, thousands of brackets
        raise SkyclassError(f"damaged {what}: it is no JSON of ours", where=path, fix=fix) from None
    if not isinstance(content, dict):
        raise SkyclassError(f"damaged {what}: not a JSON object", where=path, fix=fix)
    missing = [key for key in keys if key not in content]
    if missing:
        raise SkyclassError(f"damaged {what}: it lacks {', '.join(missing)}", where=path, fix=fix)
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def new_folder(path: Path, *, overwrite: bool, fix: str) -> None:
    """Make an empty folder for an output; `overwrite` lets it lie over what is there.

    Errors: SkyclassError where the folder already holds something, with the fix `fix`.
    """
    with disk_errors(path):
        if path.exists() and not path.is_dir():
            raise SkyclassError("it is a file, not a folder", where=path, fix="name another folder")
        remove_leftovers(path)
        if not overwrite and path.is_dir() and any(path.iterdir()):
            raise SkyclassError("the folder is not empty", where=path, fix=fix)
        path.mkdir(parents=True, exist_ok=True)
