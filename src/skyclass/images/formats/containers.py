"""Rows of files that hold many images (NPY, NPZ, HDF5, Parquet), and their columns, without reading the whole file.

Files stay open for the next row; threads may read at once.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ...core.errors import SkyclassError, one_line
from .array_files import Stack, column_of
from .arrays import COPY_AGAIN, Image, check_file, check_numbers, check_shape, from_array, naming, with_bands
from .open_files import KeptOpen
from .parquet import ParquetImages
from .registry import FORMATS, HEAD, format_of

_AT_MOST = 8  # files kept open


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


def read_row(path: Path, key: str, row: int) -> Image | bytes | Path:
    """Row `row` of an array as an image, or of a Parquet column the bytes or the path of an encoded image.

    A row is (H, W), (C, H, W) or (H, W, C); an array of text called `filters` or `bands`, one a band, names the bands.

    Errors: SkyclassError, and whatever damage makes the libraries raise.
    """
    stack = _open.get(path)
    if isinstance(stack, ParquetImages):
        return stack.read_row(key, row)
    array = stack.array(key)
    check_numbers(array.dtype)
    if len(array.shape) < 3:
        raise SkyclassError(f"no stack of images (shape {array.shape})", fix="save it as (N, H, W) or (N, C, H, W)")
    if not 0 <= row < array.shape[0]:
        raise SkyclassError(f"no row {row}: it has {array.shape[0]:,} rows, counted from 0", fix="correct the row")
    check_shape(array.shape[1:])
    image = from_array(np.array(array.get()[row]))
    return replace(with_bands(image, stack.names_of_bands), format=stack.kind)


def _stack(path: Path) -> Stack:
    check_file(path)
    stack = _open.get(path)
    if isinstance(stack, ParquetImages):
        raise SkyclassError("a table, not a file of arrays", fix="give an NPZ, NPY or HDF5 file")
    return stack


def _opened(path: Path) -> Stack | ParquetImages:
    with path.open("rb") as stream:
        kind = format_of(stream.read(HEAD))
    if kind and FORMATS[kind].opener:
        return FORMATS[kind].open(path)
    raise SkyclassError("not a file of many images", fix="give NPZ, NPY, HDF5 or Parquet")


_open: KeptOpen[Stack | ParquetImages] = KeptOpen(_opened, _AT_MOST)


def _damage(error: Exception) -> tuple[str, str]:
    return f"cannot be read ({one_line(error)[:200]})", COPY_AGAIN
