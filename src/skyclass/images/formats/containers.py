"""Rows of files that hold many images (NPY, NPZ, HDF5, Parquet), and their columns, without reading the whole file.

Files stay open for the next row; threads may read at once.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...core.errors import SkyclassError, one_line
from .array_files import Stack, column_of, open_hdf5, open_npy, open_npz
from .arrays import COPY_AGAIN, Pixels, check_file, check_numbers, check_shape, from_array, named_bands, naming
from .open_files import KeptOpen
from .parquet import ParquetImages

_AT_MOST = 8  # files kept open
_OPENERS: dict[bytes, Callable[[Path], Stack | ParquetImages]] = {
    b"\x93NUMPY": open_npy,
    b"PK\x03\x04": open_npz,
    b"\x89HDF\r\n\x1a\n": open_hdf5,
    b"PAR1": ParquetImages,
}


def stack_arrays(path: str | Path) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Name -> (shape, type) of the arrays of an NPZ, NPY (name "") or HDF5 file (`group/name`), without reading them.

    Arrays of objects, which cannot be read, are left out; HDF5 text of variable length has the type `U`.

    Errors: SkyclassError where the file is damaged or none of the three.
    """
    path = Path(path)
    with naming(path, _damage):
        return {name: (array.shape, array.dtype) for name, array in _stack(path).arrays.items()}


def read_column(path: str | Path, key: str) -> np.ndarray:
    """A whole (N,) or (N, K) array of an NPZ, NPY or HDF5 file: numbers as stored, text of any kind as str (`U`).

    Errors: SkyclassError where there is no such array, or it has more axes or holds objects.
    """
    path = Path(path)
    with naming(path, _damage):
        return column_of(_stack(path).array(key), key)


def read_row(path: Path, key: str, row: int) -> tuple[Pixels | bytes | Path, str]:
    """(image, kind): row `row` of an array, or of a Parquet column the bytes or the path of an encoded image.

    A row is (H, W), (C, H, W) or (H, W, C); an array of text called `filters` or `bands`, one a band, names the bands.

    Errors: SkyclassError, and whatever damage makes the libraries raise.
    """
    stack = _open.get(path)
    if isinstance(stack, ParquetImages):
        return stack.read_row(key, row), "parquet"
    array = stack.array(key)
    check_numbers(array.dtype)
    if len(array.shape) < 3:
        raise SkyclassError(f"no stack of images (shape {array.shape})", fix="save it as (N, H, W) or (N, C, H, W)")
    if not 0 <= row < array.shape[0]:
        raise SkyclassError(f"no row {row}: it has {array.shape[0]:,} rows, counted from 0", fix="correct the row")
    check_shape(array.shape[1:])
    decoded = from_array(np.array(array.get()[row]))
    return named_bands(decoded, stack.names_of_bands), stack.kind


def _stack(path: Path) -> Stack:
    check_file(path)
    stack = _open.get(path)
    if isinstance(stack, ParquetImages):
        raise SkyclassError("a table, not a file of arrays", fix="give an NPZ, NPY or HDF5 file")
    return stack


def _opened(path: Path) -> Stack | ParquetImages:
    with path.open("rb") as stream:
        head = stream.read(8)
    for magic, open_file in _OPENERS.items():
        if head.startswith(magic):
            return open_file(path)
    raise SkyclassError("not a file of many images", fix="give NPZ, NPY, HDF5 or Parquet")


_open: KeptOpen[Stack | ParquetImages] = KeptOpen(_opened, _AT_MOST)


def _damage(error: Exception) -> tuple[str, str]:
    return f"cannot be read ({one_line(error)[:200]})", COPY_AGAIN
