"""Errors of the operating system about files and disks, as one sentence with a fix."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import MachineError

_ROOM = "make room there, or name a folder on another disk; then repeat the command"
_WRITE = "name a folder that you may write to, or have its permissions changed; then repeat the command"
_PATH = "check the path"
_DISK = "check the disk and its connection, or name a folder on another one; then repeat the command"

# errno: what is wrong, and the fix
_MEANING: dict[int, tuple[str, str]] = {
    errno.ENOSPC: ("the disk is full", _ROOM),
    errno.EDQUOT: ("your share of the disk (its quota) is used up", _ROOM),
    errno.EFBIG: ("the file is larger than this disk, or a limit of the system (ulimit -f), allows", _ROOM),
    errno.EROFS: ("the disk can only be read", _WRITE),
    errno.EACCES: ("no permission to read or write here", _WRITE),
    errno.EPERM: ("no permission to read or write here", _WRITE),
    errno.ENOENT: ("no such file or folder, or it has vanished", "check the path, and that its disk is still there"),
    errno.ENOTDIR: ("a part of this path is a file and no folder", "name another folder"),
    errno.EEXIST: ("a file of that name is in the way of a folder", "name another folder"),
    errno.EISDIR: ("it is a folder where a file is wanted", "name a file"),
    errno.ENAMETOOLONG: ("the name is too long for this disk", "name a shorter one"),
    errno.ELOOP: ("its symbolic links lead in a circle", _PATH),
    errno.EINVAL: ("this disk does not allow that name or that access", "name a folder on another disk"),
    errno.EIO: ("the disk failed while it was read or written", _DISK),
    errno.ENODEV: ("the disk is gone", _DISK),
    errno.ENXIO: ("the disk is gone", _DISK),
    errno.ESTALE: ("the network disk has lost this file", _DISK),
    errno.ENOTCONN: ("the network disk is not connected", _DISK),
    errno.ETIMEDOUT: ("the network disk does not answer", _DISK),
    errno.EMFILE: ("too many files are open at once", "raise the limit (ulimit -n), or ask for fewer processes"),
    errno.ENFILE: ("too many files are open on this machine", "end some programs; then repeat the command"),
    errno.ENOLCK: ("no file can be locked here", "name a folder on a disk of this machine"),
    errno.EBUSY: ("another program uses it", "end that program; then repeat the command"),
    errno.ETXTBSY: ("another program uses it", "end that program; then repeat the command"),
}
_NATIVE = re.compile(r"os error (\d+)")  # of libraries written in Rust, which raise errors of their own


def disk_errno(error: BaseException) -> int | None:
    """The system's number of an error, also where a library gives it in words alone; None for other errors."""
    if isinstance(error, OSError):
        return error.errno
    found = _NATIVE.search(str(error))
    return int(found[1]) if found else None


def disk_error(error: BaseException, path: str | Path) -> MachineError:
    """The error as one sentence about the file that it names, else about `path`."""
    number = disk_errno(error)
    named = getattr(error, "filename", None)
    where = os.fsdecode(named) if isinstance(named, str | bytes) else path
    unknown = (
        f"the system refuses to read or write it ({os.strerror(number) if number else type(error).__name__})",
        _DISK,
    )
    what, fix = _MEANING.get(number or 0, unknown)
    return MachineError(what, where=where, fix=fix)


@contextmanager
def disk_errors(path: Path, part: Path | None = None) -> Iterator[None]:
    """While the block writes the file or folder `path`, errors of the operating system are raised as a sentence.

    part : the temporary name under which it is written; the sentence names `path` instead

    Raises
    ------
    MachineError : for errors of the system, and of libraries that hand them on in words
    """
    try:
        yield
    except Exception as error:
        origin = _origin(error)
        if origin is None:  # pyarrow, pandas and Pillow raise complaints about data as OSError too, without a number
            raise
        raise _renamed(origin, path, part) from error


def _origin(error: BaseException | None) -> BaseException | None:
    """The error, or the one in whose handling it came up, that has the system's number."""
    while error is not None and disk_errno(error) is None:
        # torch and Pillow answer a refused write with an error of their own.
        error = error.__context__ if isinstance(error, OSError | RuntimeError) else None
    return error


def _renamed(error: BaseException, path: Path, part: Path | None) -> MachineError:
    located = disk_error(error, path)
    if part is not None and located.where == str(part):
        located = MachineError(located.what, where=path, fix=located.fix)
    return located
