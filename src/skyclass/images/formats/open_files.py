"""Files that are kept open between reads, and compressed ones decompressed so that they can be memory-mapped."""

from __future__ import annotations

import gzip
import io
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Generic, TypeVar

from ...core.errors import SkyclassError
from ...core.limits import check_disk, check_unpacking

_PIECE = 2**20  # bytes copied at a time

Opened = TypeVar("Opened")


def file_version(path: Path) -> tuple[int, int, int]:
    """What changes when a file is written again."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


class KeptOpen(Generic[Opened]):
    """The files opened last, each as `open_file` gives it; one that has changed on the disk is opened again.

    Thread-safe. An evicted file is closed when the last thread has finished with it.
    """

    def __init__(self, open_file: Callable[[Path], Opened], at_most: int) -> None:
        self._open_file = open_file
        self._at_most = at_most
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, str], tuple[tuple[int, int, int], Opened]] = OrderedDict()

    def get(self, path: Path) -> Opened:
        """The open file. Errors: OSError, and those of `open_file`."""
        version = file_version(path)
        name = (os.getpid(), str(path))  # a forked process would share the place in the file with its parent
        with self._lock:
            if name not in self._kept or self._kept[name][0] != version:
                self._kept.pop(name, None)  # first: while a file is open libhdf5 gives back what it was
                self._kept[name] = version, self._open_file(path)
                if len(self._kept) > self._at_most:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(name)
            return self._kept[name][1]


def decompress(stream: IO[bytes] | io.BufferedIOBase, packed: int) -> IO[bytes]:
    """All that a decompressing stream gives, in a temporary file without a name, read from its start.

    packed : bytes of the compressed data, by which a bomb is known

    Errors: SkyclassError where it is a bomb, or larger than the disk can bear.
    """
    unpacked = 0
    with tempfile.TemporaryFile() as file:
        while piece := stream.read(_PIECE):
            unpacked += len(piece)
            check_unpacking(unpacked, packed)
            check_disk(len(piece))
            file.write(piece)
        file.flush()
        file.seek(0)
        return os.fdopen(os.dup(file.fileno()), "rb")


def plain_fits(path: Path) -> IO[bytes]:
    """An open FITS file, or where it is gzipped an unpacked temporary file. Errors: SkyclassError."""
    with path.open("rb") as stream:
        head = stream.read(10)
    if head[:2] == b"\x1f\x8b":
        with gzip.open(path) as packed:
            return decompress(packed, path.stat().st_size)
    if not head.startswith(b"SIMPLE  ="):
        raise SkyclassError("not a FITS file, and only those can be cut", fix="give the mosaic as FITS")
    return path.open("rb")
