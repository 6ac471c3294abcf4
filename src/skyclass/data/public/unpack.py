"""Archives unpacked so that nothing can leave the folder: zip, tar and single gzip files, read as streams.

The `data` filter of `tarfile` keeps members in the folder, but bounds neither what they unpack to nor the length of a
header, and `zipfile` and `gzip` have no such bounds at all.
"""

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
from typing import IO, Self

from ...core.console import progress
from ...core.errors import SkyclassError, one_line
from ...core.limits import MAX_TAR_HEADER, check_members, check_unpacking

ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar", ".gz")
_CHUNK = 1 << 20
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, ValueError, RuntimeError, struct.error)
# Offsets and names that no disk takes, and a member that is both a file and a folder.
_ODD = {errno.EINVAL, errno.ENAMETOOLONG, errno.EILSEQ, errno.EEXIST, errno.EISDIR, errno.ENOTDIR}

Advance = Callable[[int], None]


def is_archive(path: Path) -> bool:
    """Whether the name ends as an archive's does."""
    return path.name.lower().endswith(ARCHIVES)


def extract(archive: Path, folder: Path) -> None:
    """Write the members of an archive below the folder; what macOS adds (`__MACOSX`, `.DS_Store`) is left out.

    Links and devices are refused. After an error the folder holds a part of the archive.
    Errors: SkyclassError for an archive that is damaged, locked, larger than the disk or would write elsewhere.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = archive.name.lower()
    write = _unzip if name.endswith(".zip") else _gunzip if _single(name) else _untar
    with _located_damage(archive), progress(f"Unpacking {archive.name}", None, unit="files") as advance:
        write(archive, folder, advance)


def _single(name: str) -> bool:
    return name.endswith(".gz") and not name.endswith(".tar.gz")


@contextmanager
def _located_damage(archive: Path) -> Iterator[None]:
    fix = "delete it and fetch it again"
    try:
        yield
    except SkyclassError as refusal:
        raise SkyclassError(refusal.what, where=refusal.where or archive, fix=refusal.fix) from None
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


class _Output:
    """The files that come out of an archive, counted against what its bytes can honestly hold."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self._packed = archive.stat().st_size
        self._folder = folder
        self._members = 0
        self._unpacked = 0

    def count(self) -> None:
        """One more member, a folder or what is left out included. Errors: SkyclassError where they are too many."""
        self._members += 1
        check_members(self._members, self._packed)

    def write(self, source: IO[bytes], place: Path) -> None:
        """Write one file. Errors: SkyclassError for a bomb, or where the disk would be full."""
        target = self._folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as stream:
            while piece := source.read(_CHUNK):
                self._unpacked += len(piece)
                check_unpacking(self._unpacked, self._packed)
                _check_room(len(piece), self._folder)
                stream.write(piece)


def _check_room(needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        what = f"it unpacks to {needed / 1e9:,.1f} GB more, and the disk has {free / 1e9:,.1f} GB left"
        raise SkyclassError(what, fix="make room, or fetch onto another disk with --out")


class _TarMember(tarfile.TarInfo):
    """A header of a tar file; long names and PAX records, which tarfile holds in memory, may not be of any length."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        member = super().frombuf(buf, encoding, errors)
        if not (member.isreg() or member.isdir()) and member.size > MAX_TAR_HEADER:
            raise SkyclassError(f"a header of {member.size:,} bytes", fix="do not use this archive; tell its publisher")
        return member


def _refuse_kind(member: str, archive: Path) -> SkyclassError:
    fix = "do not use this archive; tell its publisher"
    return SkyclassError(f"its member {member!r} is a link or a device", where=archive, fix=fix)


def _unzip(path: Path, folder: Path, advance: Advance) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        places = [_place(member.filename, path) for member in members]
        _check_room(sum(member.file_size for member in members), folder)
        output = _Output(path, folder)
        for member, place in zip(members, places, strict=True):
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refuse_kind(member.filename, path)
            if member.flag_bits & 1:
                raise SkyclassError("it is locked with a password", where=path, fix="unpack it by hand")
            output.count()
            if place is None or member.is_dir():
                continue
            with archive.open(member) as source:
                output.write(source, place)
            advance(1)


def _untar(path: Path, folder: Path, advance: Advance) -> None:
    output = _Output(path, folder)
    with tarfile.open(path, "r|*", tarinfo=_TarMember) as archive:
        for member in archive:
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile would remember each to the end
            output.count()
            place = _place(member.name, path)
            if not (member.isreg() or member.isdir()):
                raise _refuse_kind(member.name, path)
            source = archive.extractfile(member)
            if place is None or source is None:
                continue
            output.write(source, place)
            advance(1)


def _gunzip(path: Path, folder: Path, advance: Advance) -> None:
    with gzip.open(path, "rb") as source:
        _Output(path, folder).write(source, Path(path.name[: -len(".gz")]))  # type: ignore[arg-type]
    advance(1)
