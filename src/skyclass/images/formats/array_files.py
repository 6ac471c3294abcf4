"""NPY, NPZ and HDF5 files: their arrays by name, with shape and type, memory-mapped or read by rows.

Compressed NPZ arrays are unpacked once into a temporary file without a name, which is memory-mapped. libhdf5 was not
made for damaged files: where it never comes back from one, a way round it is taken here.
"""

from __future__ import annotations

import math
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import SkyclassError, did_you_mean, one_line
from ...core.limits import (
    CHILD_MEMORY,
    CHILD_SECONDS,
    MAX_CHUNK,
    MAX_COLUMN,
    MAX_GROUPS_DEEP,
    MAX_NAMES,
    MAX_TEXT,
    check_disk,
    check_unpacking,
)
from .arrays import COPY_AGAIN, UNPICKLE, read_npy_header, texts
from .isolated.process import DecoderError, decode_apart
from .open_files import decompress

_LOCAL_HEADER = 30  # bytes of a ZIP member's header before its name (APPNOTE.TXT, 4.3.7)
_CHUNK_CACHE = 2**26  # bytes of HDF5 chunks kept unpacked
_TEXT_SECONDS = 1e-4  # of computing, for each text of variable length
_TEXT_MEMORY = 64  # bytes, for each of them as Python holds it
TEXT = np.dtype("U")  # the type given to text of variable length


def open_npy(path: Path) -> Stack:
    """An NPY file, whose array has the name ""."""
    with path.open("rb") as stream:
        shape, fortran_order, dtype = read_npy_header(stream)
        start = stream.tell()
    if start + math.prod(shape) * dtype.itemsize > path.stat().st_size:
        raise SkyclassError("the file ends early", fix=COPY_AGAIN)
    return Stack("npy", {"": StackArray(shape, dtype, partial(_mapped, path, start, shape, fortran_order, dtype))}, {})


def open_npz(path: Path) -> Stack:
    """The arrays of an NPZ file."""
    arrays, refused = {}, {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".npy"):
                continue
            key = member.filename.removesuffix(".npy")
            try:
                arrays[key] = _member(path, archive, member)
            except SkyclassError as refusal:
                refused[key] = refusal
            except Exception as error:  # one damaged array must not cost the others
                refused[key] = SkyclassError(f"the array {key!r} is damaged ({one_line(error)[:200]})", fix=COPY_AGAIN)
    return Stack("npz", arrays, refused)


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> StackArray:
    """An array of an NPZ file; its header is used only where it agrees with the archive's directory."""
    with archive.open(member) as stream:
        shape, fortran_order, dtype = read_npy_header(stream)
        start = stream.tell()
    if start + math.prod(shape) * dtype.itemsize != member.file_size:
        raise SkyclassError(f"the header of {member.filename} does not agree with its length", fix=COPY_AGAIN)
    if member.compress_type != zipfile.ZIP_STORED:
        check_unpacking(member.file_size, member.compress_size)
        return StackArray(shape, dtype, partial(_unpacked, path, member, start, shape, fortran_order, dtype))
    with path.open("rb") as file:
        file.seek(member.header_offset)
        local = file.read(_LOCAL_HEADER)  # the lengths of name and extra field are its last four bytes
    start += member.header_offset + _LOCAL_HEADER + sum(np.frombuffer(local, "<u2", 2, 26).tolist())
    if start + math.prod(shape) * dtype.itemsize > path.stat().st_size:
        raise SkyclassError("the file ends early", fix=COPY_AGAIN)
    return StackArray(shape, dtype, partial(_mapped, path, start, shape, fortran_order, dtype))


def _mapped(file: Any, start: int, shape: tuple[int, ...], fortran_order: bool, dtype: np.dtype) -> np.ndarray:
    """An array in `file`, a path or an open file, from byte `start` on."""
    if math.prod(shape) * dtype.itemsize == 0:  # nothing cannot be mapped
        return np.empty(shape, dtype)
    return np.memmap(file, dtype, "r", start, shape, "F" if fortran_order else "C")


def _unpacked(
    path: Path, member: zipfile.ZipInfo, start: int, shape: tuple[int, ...], fortran_order: bool, dtype: np.dtype
) -> np.ndarray:
    check_disk(member.file_size)
    with (
        zipfile.ZipFile(path) as archive,
        archive.open(member) as stream,
        decompress(stream, member.compress_size) as file,  # what is mapped outlives the closing
    ):
        return _mapped(file, start, shape, fortran_order, dtype)


def open_hdf5(path: Path) -> Stack:
    """The datasets of an HDF5 file, `group/name` where they lie in groups; links to elsewhere are not followed."""
    import h5py

    # The cache holds the chunk that the rows after this one are in.
    file = h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE, locking=False)
    arrays: dict[str, StackArray] = {}
    refused: dict[str, SkyclassError] = {}
    for name, node in _walk(file, "", {file.id}, 0):
        try:
            if isinstance(node, SkyclassError):
                raise node
            arrays[name] = _dataset(path, node)
        except SkyclassError as refusal:
            refused[name] = refusal
        except Exception as error:  # one damaged array must not cost the others
            refused[name] = SkyclassError(f"the array {name!r} is damaged ({one_line(error)[:200]})", fix=COPY_AGAIN)
    return Stack("hdf5", arrays, refused, file)


def _walk(group: Any, prefix: str, seen: set[Any], depth: int) -> Iterator[tuple[str, Any]]:
    """The datasets of an HDF5 group and those below it, each with its path, or with why it cannot be opened.

    h5py's own `visititems` never ends on some damaged files.
    """
    import h5py

    names: list[bytes] = []

    def note(name: bytes) -> bool | None:  # anything but None ends the iteration
        names.append(name)
        return None if len(names) < MAX_NAMES else True

    group.id.links.iterate(note)
    for name in names:
        path = prefix + name.decode("utf-8", "replace")
        try:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            node = group[name]
        except Exception as error:  # one damaged array must not cost the others
            yield path, SkyclassError(f"{path!r} is damaged ({one_line(error)[:200]})", fix=COPY_AGAIN)
            continue
        if node.id in seen or len(seen) > MAX_NAMES:
            continue
        seen.add(node.id)
        if isinstance(node, h5py.Group) and depth == MAX_GROUPS_DEEP:
            what = f"{path!r} lies more than {MAX_GROUPS_DEEP} groups deep"
            yield path, SkyclassError(what, fix="write it again with fewer groups within each other")
        elif isinstance(node, h5py.Group):
            yield from _walk(node, f"{path}/", seen, depth + 1)
        elif isinstance(node, h5py.Dataset):
            yield path, node


def _dataset(path: Path, dataset: Any) -> StackArray:
    import h5py

    if dataset.is_virtual or dataset.external:
        raise SkyclassError(
            f"{dataset.name} is kept in other files, which could be any file of this machine",
            fix="copy its values into the file itself: file.create_dataset(name, data=old[name][()])",
        )
    is_text = h5py.check_string_dtype(dataset.dtype) is not None and dataset.dtype.kind == "O"
    if dataset.shape is None or (dataset.dtype.hasobject and not (is_text and dataset.ndim == 1)):
        raise SkyclassError(f"{dataset.name} holds objects of variable length, not numbers", fix=UNPICKLE)
    if dataset.chunks and math.prod(dataset.chunks) * dataset.dtype.itemsize > MAX_CHUNK:
        raise SkyclassError(
            f"{dataset.name} is stored in chunks of {dataset.chunks}, one of which would fill the memory",
            fix="write it again in chunks of one image",
        )
    if is_text:
        return StackArray(dataset.shape, TEXT, partial(_hdf5_texts, path, dataset.name, dataset.size))
    return StackArray(dataset.shape, dataset.dtype, lambda: dataset)


def _hdf5_texts(path: Path, name: str, size: int) -> np.ndarray:
    """Text of variable length, read by a process of its own: libhdf5 never comes back from some damaged heaps."""
    if size > MAX_TEXT // 16:  # what libhdf5 needs of each
        raise SkyclassError(f"{name} is too long for a column ({size:,} rows)", fix=COPY_AGAIN)
    try:
        strings = decode_apart(
            "hdf5_texts",
            {"path": str(path), "name": name},
            seconds=CHILD_SECONDS + _TEXT_SECONDS * size,
            memory=CHILD_MEMORY + 4 * MAX_TEXT + _TEXT_MEMORY * size,
        ).values["texts"]
    except (SkyclassError, DecoderError) as error:
        raise SkyclassError(f"the text in {name} is damaged ({one_line(error)[:200]})", fix=COPY_AGAIN) from error
    if 4 * len(strings) * max(map(len, strings), default=0) > MAX_COLUMN:  # NumPy gives all the longest one's room
        raise SkyclassError(f"{name} holds texts too long for a column", fix="shorten them")
    return np.array(strings, dtype=np.str_)


def decode_texts(arguments: dict[str, Any], _content: bytearray) -> tuple[dict[str, Any], None]:
    """The task of `isolated.process` that reads text of variable length."""
    import h5py

    with h5py.File(arguments["path"], "r", locking=False) as file:
        texts = file[arguments["name"]][()].tolist()
    if sum(map(len, texts)) > MAX_TEXT:
        raise SkyclassError(f"more than {MAX_TEXT:,} bytes of it")
    texts = [text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in texts]
    return {"texts": texts}, None


_MOST_BANDS = 1000


@dataclass(eq=False)
class StackArray:
    """One array of a file: its shape and type, and `get()`, which opens it at the first call, in whatever thread."""

    shape: tuple[int, ...]
    dtype: np.dtype
    open_array: Callable[[], Any]
    _opened: Any = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self) -> Any:
        """A memory-mapped array or an HDF5 dataset."""
        with self._lock:
            if self._opened is None:
                self._opened = self.open_array()
            return self._opened


@dataclass(eq=False)
class Stack:
    """The arrays of a file of `kind` npy, npz or hdf5 by name, and why others of them cannot be read."""

    kind: str
    arrays: dict[str, StackArray]
    refused: dict[str, SkyclassError]
    held: Any = None  # what must not be closed before

    def array(self, key: str) -> StackArray:
        """The array called `key`. Errors: SkyclassError where there is none, or none that can be read."""
        if key in self.refused:
            raise self.refused[key]
        if key not in self.arrays:
            names = ", ".join(map(repr, sorted(self.arrays)[:20])) or "none"
            fix = did_you_mean(key, self.arrays) or f"its arrays are: {names}"
            raise SkyclassError(f"no array called {key!r} in it", fix=fix)
        return self.arrays[key]

    @cached_property
    def names_of_bands(self) -> list[str] | None:
        """The texts of the array `filters` or `bands`; None where there is none or it is damaged."""
        for key in ("filters", "bands"):
            array = self.arrays.get(key)
            if array and array.dtype.kind in "SU" and len(array.shape) == 1 and array.shape[0] < _MOST_BANDS:
                with suppress(SkyclassError, OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
                    return [str(name) for name in column_of(array, key)]
        return None


def column_of(array: StackArray, key: str) -> np.ndarray:
    """(N,) or (N, K) numbers, booleans or text (`U`) of an array. Errors: SkyclassError where it is no column."""
    if len(array.shape) not in (1, 2):
        raise SkyclassError(f"the array {key!r} is no column (shape {array.shape})", fix="name one of one axis or two")
    if array.dtype.kind not in "biufSU":
        raise SkyclassError(f"the array {key!r} holds neither numbers nor text", fix="name one that does")
    if math.prod(array.shape) * max(array.dtype.itemsize, 1) > MAX_COLUMN:
        raise SkyclassError(f"the array {key!r} is too long for a column (shape {array.shape})", fix=COPY_AGAIN)
    values = np.array(array.get()[()])
    return texts(values) if values.dtype.kind in "SU" else values.astype(values.dtype.newbyteorder("="))
