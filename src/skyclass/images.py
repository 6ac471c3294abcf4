"""A file becomes an image with named bands: JPEG, PNG, TIFF, WebP, GIF, FITS, NPY, NPZ.

What a file is, its first bytes say, not its name. Pixels are given as they are stored: rows in the order of the file
(FITS counts them from the bottom), EXIF orientation ignored, NaN and infinities kept (`pixels` fills them).
Transparency is dropped, the colours beneath it are kept. What cannot be decoded raises a SkyclassError naming the file.
"""

from __future__ import annotations

import gzip
import io
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image as pillow

from .decoders import COPY_AGAIN, CUT, DECODERS, MAGIC, MAX_PIXELS, REAL
from .errors import SkyclassError, one_line

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".npy", ".npz"),
    *(".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fts.gz", ".fits.fz"),
)
MAX_BYTES = 8 * MAX_PIXELS + 2**20  # float64 pixels and a generous header

# What the decoders say when the bytes run out.
_EARLY = ("truncated", "too small", "eof", "missing end card", "corrupt fits", "not a zip file")


@dataclass(frozen=True, eq=False)
class Image:
    """A decoded image.

    pixels : (C, H, W) uint8, uint16 or float32; C-contiguous, writable, native byte order
    bands : C names: ("grey",), ("red", "green", "blue"), or ("band_1", ..., "band_C")
    format : jpeg, png, webp, gif, tiff, fits, npy or npz
    """

    pixels: np.ndarray
    bands: tuple[str, ...]
    format: str


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


_quiet = _Quiet()


def is_image_name(path: str | Path) -> bool:
    """Whether the name ends as an image's does; hidden files (such as macOS's `._x.jpg`) are not images."""
    name = Path(path).name.lower()
    return name.endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def read_image(path: str | Path) -> Image:
    """Read and decode one image file.

    Errors: SkyclassError, in one sentence, when it is absent, not an image, damaged, or larger than MAX_PIXELS.
    """
    path = Path(path)
    if path.is_dir():
        raise SkyclassError("a folder, not an image", where=path, fix="name a file in it")
    if not path.is_file():
        raise SkyclassError("no such file", where=path, fix="correct the path")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SkyclassError(f"the file is larger than {MAX_BYTES:,} bytes", where=path, fix=CUT)
        data = path.read_bytes()
    except OSError as error:
        raise SkyclassError(
            f"cannot be read ({error.strerror})", where=path, fix="check its permissions and its disk"
        ) from error
    return decode_image(data, str(path))


def decode_image(data: bytes, name: str) -> Image:
    """Decode the bytes of an image file; `name` is what messages call it.

    Errors: SkyclassError as for `read_image`.
    """
    try:
        with _quiet:
            if data[:2] == b"\x1f\x8b":
                data = _gunzip(data)
            kind = _format_of(data)
            pixels, bands = DECODERS[kind](data)
            return Image(_stored(pixels), bands, kind)
    except SkyclassError as refusal:
        raise SkyclassError(refusal.what, where=name, fix=refusal.fix) from None
    except Exception as error:  # a damaged file makes a decoder raise anything
        what, fix = _damage(error)
        raise SkyclassError(what, where=name, fix=fix) from error


def _format_of(data: bytes) -> str:
    head = data[:256]
    for magic, kind in MAGIC:
        if head.startswith(magic) and (kind != "webp" or head[8:12] == b"WEBP"):
            return kind
    if not data:
        raise SkyclassError("the file is empty", fix=COPY_AGAIN)
    if all(byte >= 32 or byte in b"\t\n\f\r" for byte in head):
        raise SkyclassError("not an image (it begins as text)", fix="remove it, or download it again")
    raise SkyclassError(
        "not an image of a known format", fix="convert it to JPEG, PNG, TIFF, WebP, GIF, FITS, NPY or NPZ"
    )


def _damage(error: Exception) -> tuple[str, str]:
    """The fault behind a decoder's exception, and the way out."""
    if isinstance(error, pillow.DecompressionBombError):
        return f"more than {MAX_PIXELS:,} pixels", CUT
    if isinstance(error, pillow.UnidentifiedImageError):
        return "the header is damaged, or the file ends early", COPY_AGAIN
    text = one_line(error)
    if isinstance(error, EOFError) or any(word in text.lower() for word in _EARLY):
        return "the file ends early", COPY_AGAIN
    return f"cannot be decoded ({text.rstrip('.')[:200]})", COPY_AGAIN


def _stored(pixels: np.ndarray) -> np.ndarray:
    """Bring (C, H, W) pixels to uint8, uint16 or float32: booleans become 0 and 255, all other numbers float32."""
    if pixels.dtype == np.bool_:
        pixels = pixels * np.uint8(255)
    if pixels.dtype.kind not in "iuf":
        raise SkyclassError(f"pixels of type {pixels.dtype}", fix=REAL)
    native = pixels.dtype.newbyteorder("=")
    dtype = native if native in (np.uint8, np.uint16) else np.float32
    with np.errstate(all="ignore"):  # a float64 beyond float32 becomes infinite, which `pixels` fills
        return np.require(pixels, dtype, ["C", "W"])


def _gunzip(data: bytes) -> bytes:
    with gzip.open(io.BytesIO(data)) as stream:
        whole = stream.read(MAX_BYTES + 1)
    if len(whole) > MAX_BYTES:
        raise SkyclassError(f"more than {MAX_BYTES:,} bytes when unpacked", fix=CUT)
    return whole
