"""Arrays of a file by their names, each opened when it is used, and what of them are columns."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from .errors import SkyclassError, did_you_mean
from .image_arrays import COPY_AGAIN, texts
from .limits import MAX_COLUMN

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
                with suppress(Exception):  # damaged text makes the libraries raise anything
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
