"""Archives unpacked so that nothing can leave the folder: zip, tar and single gzip files, read as streams."""

from __future__ import annotations

import errno
import gzip
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from .console import progress
from .errors import SkyclassError, one_line

ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar", ".gz")
_CHUNK = 1 << 20
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, ValueError, RuntimeError, struct.error)
# Offsets and names that no disk takes, and a member that is both a file and a folder.
_ODD = {errno.EINVAL, errno.ENAMETOOLONG, errno.EILSEQ, errno.EEXIST, errno.EISDIR, errno.ENOTDIR}

Advance = Callable[[int], None]


def is_archive(path: Path) -> bool:
    """Whether the name ends as an archive's does."""
    return path.name.lower().endswith(ARCHIVES)


def unpack(archive: Path, folder: Path) -> None:
    """Write the members of an archive below the folder; what macOS adds (`__MACOSX`, `.DS_Store`) is left out.

    Links and devices are refused. After an error the folder holds a part of the archive.
    Errors: SkyclassError for an archive that is damaged, locked, larger than the disk or would write elsewhere.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = archive.name.lower()
    write = _unzip if name.endswith(".zip") else _gunzip if _single(name) else _untar
    with _damage_told(archive), progress(f"Unpacking {archive.name}", None, unit="files") as advance:
        write(archive, folder, advance)


def _single(name: str) -> bool:
    return name.endswith(".gz") and not name.endswith(".tar.gz")


@contextmanager
def _damage_told(archive: Path) -> Iterator[None]:
    fix = "delete it and fetch it again"
    try:
        yield
    except _DAMAGE as error:
        raise SkyclassError(f"a damaged archive ({one_line(error)})", where=archive, fix=fix) from error
    except OSError as error:
        if error.errno not in _ODD and not isinstance(error, gzip.BadGzipFile):
            raise
        raise SkyclassError(f"a damaged archive ({error.strerror or error})", where=archive, fix=fix) from error


def _place(member: str, archive: Path) -> Path | None:
    """Where a member goes, as a path from the folder; None for what is left out.

    Errors: SkyclassError for a name that leads out of the folder.
    """
    path = PurePosixPath(member.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in member or re.match("[A-Za-z]:", member):
        fix = "do not use this archive; tell its publisher"
        raise SkyclassError(f"its member {member!r} would lie outside the folder", where=archive, fix=fix)
    if not path.parts or path.parts[0] == "__MACOSX" or path.name == ".DS_Store":
        return None
    return Path(*path.parts)


def _write(source: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as stream:
        shutil.copyfileobj(source, stream, _CHUNK)


def _refuse_kind(member: str, archive: Path) -> SkyclassError:
    fix = "do not use this archive; tell its publisher"
    return SkyclassError(f"its member {member!r} is a link or a device", where=archive, fix=fix)


def _unzip(path: Path, folder: Path, advance: Advance) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        places = [_place(member.filename, path) for member in members]
        needed, free = sum(member.file_size for member in members), shutil.disk_usage(folder).free
        if needed > free:
            what = f"it unpacks to {needed / 1e9:,.1f} GB, and the disk has {free / 1e9:,.1f} GB left"
            raise SkyclassError(what, where=path, fix="make room, or fetch onto another disk with --out")
        for member, place in zip(members, places, strict=True):
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refuse_kind(member.filename, path)
            if member.flag_bits & 1:
                raise SkyclassError("it is locked with a password", where=path, fix="unpack it by hand")
            if place is None or member.is_dir():
                continue
            with archive.open(member) as source:
                _write(source, folder / place)
            advance(1)


def _untar(path: Path, folder: Path, advance: Advance) -> None:
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            place = _place(member.name, path)
            if not (member.isreg() or member.isdir()):
                raise _refuse_kind(member.name, path)
            source = archive.extractfile(member)
            if place is None or source is None:
                continue
            _write(source, folder / place)
            advance(1)


def _gunzip(path: Path, folder: Path, advance: Advance) -> None:
    with gzip.open(path, "rb") as source:
        _write(source, folder / path.name[: -len(".gz")])  # type: ignore[arg-type]
    advance(1)
