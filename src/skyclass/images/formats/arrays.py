"""Shared by all readers of images: arrays as images, size limits, and the fixes that errors suggest.

Nothing here names a file: what is refused raises a SkyclassError without a place, which the caller fills in.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from ...core.errors import SkyclassError, printable
from ...core.limits import MAX_ADDRESS, MAX_BANDS, MAX_PIXELS

RGB = ("red", "green", "blue")

# Ways out.
COPY_AGAIN = "copy it again from its source"
CUT = "cut it into smaller images first"
REAL = "save real numbers, such as float32"
UNPICKLE = 'load it where you trust it and rewrite it: np.save(file, np.stack(list(array)).astype("float32"))'


@dataclass(frozen=True, eq=False)
class Image:
    """An image, on the whole way from its file to the network.

    Parameters
    ----------
    pixels : (C, H, W), of any type as a decoder gives them; uint8, uint16 or float32, C-contiguous, writable and of
        native byte order as `read_image` does, and of the settings' type once they are preprocessed. Without any size
        where there is an error
    bands : C names: ("grey",), ("red", "green", "blue"), the file's own, or ("band_1", ..., "band_C")
    format : of `registry.FORMATS`; "array" for one that was given as an array
    warning : what is odd about the image or how it was read, such as a cutout that lies partly outside its mosaic
    error : why it cannot be used; None where it can
    bad : share of the decoded values that were NaN or infinite, in [0, 1], once it is preprocessed
    """

    pixels: np.ndarray
    bands: tuple[str, ...]
    format: str = ""
    warning: str | None = None
    error: str | None = None
    bad: float = 0.0


class _Quiet:
    """Silences warnings while any thread decodes; `warnings.catch_warnings` alone is not safe in several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._threads == 0:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
            self._threads += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._threads -= 1
            if self._threads == 0:
                self._caught.__exit__(kind, error, trace)


QUIET = _Quiet()


@contextmanager
def naming(where: str | Path, damage: Callable[[Exception], tuple[str, str]]) -> Iterator[None]:
    """Silence, and whatever goes wrong (damaged files make libraries raise anything) becomes a SkyclassError.

    where : what the message names
    damage : exception of a library -> the fault behind it, and the fix
    """
    try:
        with QUIET:
            yield
    except SkyclassError as refusal:
        raise SkyclassError(printable(refusal.what), where=where, fix=refusal.fix and printable(refusal.fix)) from None
    except Exception as error:
        what, fix = damage(error)
        raise SkyclassError(printable(what), where=where, fix=fix) from error


def check_file(path: Path) -> None:
    """Refuse folders and files that are not there."""
    if len(name := str(path)) > MAX_ADDRESS:
        what = f"a path or an address of {len(name):,} characters"
        raise SkyclassError(what, where=f"{name[:60]}...", fix=f"give one of at most {MAX_ADDRESS:,}")
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError:  # too long a name
        is_folder = is_file = False
    if is_folder:
        raise SkyclassError("a folder, not an image", where=path, fix="name a file in it")
    if not is_file:
        hint = "; nor is it an address such as stack.h5::images[0] or frame.fits::sky(150.1,2.2)[64x64]"
        looks_like_one = "::" in str(path)
        raise SkyclassError(f"no such file{hint if looks_like_one else ''}", where=path, fix="correct the path")


def check_shape(shape: Sequence[int]) -> None:
    """Refuse empty and huge images before anything is decoded."""
    if min(shape, default=0) < 1:
        raise SkyclassError(f"an image without pixels (shape {tuple(shape)})", fix="remove it, or write it again")
    if math.prod(shape) > MAX_PIXELS:
        raise SkyclassError(f"more than {MAX_PIXELS:,} pixels (shape {tuple(shape)})", fix=CUT)


def band_names(n_bands: int) -> tuple[str, ...]:
    """What the bands of a file that does not name them are called."""
    return ("grey",) if n_bands == 1 else tuple(f"band_{i}" for i in range(1, n_bands + 1))


def are_names(names: Sequence[str]) -> bool:
    """Whether the names are all different and not empty."""
    return len(names) > 0 and all(names) and len(set(names)) == len(names)


def from_array(array: np.ndarray, bands_first: bool = False) -> Image:
    """(H, W), (C, H, W) or (H, W, C), after any leading axes of length 1 -> (C, H, W).

    Of a three-axis array the shorter of the first and last axes is the bands (the first where they are equal), if it is
    no longer than MAX_BANDS; with `bands_first` it is the first, of any length. Three bands last, of 8 bits, are red,
    green and blue, as in pictures; in all other cases the bands of an array are unknown.
    """
    shape = array.shape
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 2:
        array = array[None]  # (H, W) -> (1, H, W)
    if array.ndim != 3:
        raise SkyclassError(f"not an image (shape {shape})", fix="save it as (H, W) or (C, H, W)")
    if not bands_first:
        if min(array.shape[0], array.shape[-1]) > MAX_BANDS:
            raise SkyclassError(
                f"no axis of the shape {shape} can be the bands (at most {MAX_BANDS})", fix="save it as (C, H, W)"
            )
        if array.shape[-1] < array.shape[0]:
            array = np.moveaxis(array, -1, 0)  # (H, W, C) -> (C, H, W)
            if len(array) == 3 and array.dtype == np.uint8:
                return Image(array, RGB)
    return Image(array, band_names(len(array)))


def with_bands(image: Image, names: Sequence[str] | None) -> Image:
    """The image with its bands called `names`, if there is one name a band and no two are the same."""
    named = names is not None and are_names(names) and len(names) == len(image.bands)
    return replace(image, bands=tuple(names)) if names and named else image


def texts(array: np.ndarray) -> np.ndarray:
    """Text of NumPy's types S and U, of any shape, as U, without the blanks around it."""
    array = np.char.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array
    return np.char.strip(array)


def read_npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether the first axis runs fastest, type) of an array in NumPy's format; objects are refused."""
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(stream)
    if dtype.hasobject:
        raise SkyclassError("a pickled object array, which runs code when it is loaded", fix=UNPICKLE)
    if min(shape, default=0) < 0:
        raise SkyclassError(f"an array of shape {shape}", fix=COPY_AGAIN)
    return shape, fortran_order, dtype


def check_numbers(dtype: np.dtype) -> None:
    """Refuse pixels that are not real numbers."""
    if dtype.kind not in "biuf":
        raise SkyclassError(f"pixels of type {dtype.str if dtype.names is None else 'structured'}", fix=REAL)
