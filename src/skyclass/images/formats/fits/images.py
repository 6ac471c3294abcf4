"""FITS files: which of their HDUs are images, what their bands are called, and their pixels.

Headers are taken as they come: a card that cannot be printed or parsed counts as absent.
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from typing import Any, TypedDict

import numpy as np
from astropy.io import fits

from ....core.errors import SkyclassError
from ....core.limits import (
    CHILD_MEMORY,
    CHILD_MEMORY_A_PIXEL,
    CHILD_SECONDS,
    CHILD_SECONDS_A_PIXEL,
    CHILD_SECONDS_A_TILE,
    MAX_PIXELS,
    check_unpacking,
)
from ..arrays import COPY_AGAIN, Image, are_names, check_shape, from_array, with_bands
from ..isolated.process import decode_apart
from .cards import check_cards

# Words in the EXTNAME of an image that goes with another one and is no band.
_AUXILIARY = re.compile(
    r"(?<![A-Z])("
    r"ERR|ERROR|ERRORS|UNC|UNCERT|UNCERTAINTY|STD|STDDEV|SIGMA|RMS|NOISE|VAR|VARIANCE|IVAR|INVVAR"
    r"|WHT|WEIGHT|WEIGHTS|WGT|CON|CTX|CONTEXT|COV|COVERAGE|EXP|EXPOSURE|EXPTIME|TIME|SAMP|NSAMP|AREA"
    r"|DQ|QUALITY|MASK|MASKS|BPM|BADPIX|FLAG|FLAGS|SEG|SEGM|SEGMAP|SEGMENTATION"
    r"|PSF|BEAM|KERNEL|BKG|BACKGROUND|MODEL|RESIDUAL"
    r")(?![A-Z])"
)


def read_fits(data: bytes) -> Image:
    """The image of a FITS file, compressed or not, with a warning of the other images in it that are left out.

    Bands come first; BSCALE, BZERO and BLANK are applied (blank pixels are NaN).

    Image HDUs of one and the same two-axis shape that each have a name of their own (FILTER, BAND or EXTNAME) are the
    bands; those that an EXTNAME calls errors, weights or masks go with them and are left out. In all other cases the
    first image HDU of two axes or more is the image; if it has three, the first is the bands (see `cube_names`).

    Headers are checked before astropy follows them, and compressed tiles are decoded in a process of their own.
    """
    layout = check_cards(io.BytesIO(data))
    if not layout.n_tiles:
        return _read_whole(data)
    n_pixels = min(layout.n_pixels, MAX_PIXELS)
    answer = decode_apart("fits_image", {}, data, **allowance(n_pixels, layout.n_tiles, len(data)))
    return Image(answer.array, tuple(answer.values["bands"]), warning=answer.values["warning"])


def decode_whole(_arguments: dict[str, Any], content: bytearray) -> tuple[dict[str, Any], np.ndarray]:
    """The task of `isolated.process` that reads a file with compressed tiles."""
    image = _read_whole(bytes(content))
    return {"bands": image.bands, "warning": image.warning}, image.pixels


class Allowance(TypedDict):
    """Seconds and bytes of memory that a task of `isolated.process` may take."""

    seconds: float
    memory: int


def allowance(n_pixels: int, n_tiles: int, n_bytes: int) -> Allowance:
    """What decoding so many pixels, in compressed tiles of so many bytes, may take: far more than it ever does."""
    return Allowance(
        seconds=CHILD_SECONDS + CHILD_SECONDS_A_PIXEL * (n_pixels + n_bytes) + CHILD_SECONDS_A_TILE * n_tiles,
        memory=CHILD_MEMORY + CHILD_MEMORY_A_PIXEL * n_pixels + 2 * n_bytes,
    )


def _read_whole(data: bytes) -> Image:
    with fits.open(io.BytesIO(data), memmap=False) as hdus:
        images = image_hdus(hdus)
        _check_end(hdus[-1], data)
        names = _names_of(images)
        chosen = images if names else images[:1]
        check_shape((len(chosen), *chosen[0].shape))
        for hdu in chosen:
            check_whole(hdu, len(data))
            if isinstance(hdu, fits.CompImageHDU):
                check_unpacking(8 * math.prod(hdu.shape), hdu.fileinfo()["datSpan"])
        if names:
            return Image(np.concatenate([from_array(hdu.data, bands_first=True).pixels for hdu in chosen]), names)
        image = from_array(chosen[0].data, bands_first=True)
        image = with_bands(image, cube_names(chosen[0], len(image.bands)))
        return replace(image, warning=_left_out(images[1:]))


def _left_out(others: list[Any]) -> str | None:
    """The warning about images that are not read."""
    if not others:
        return None
    sizes = ", ".join("x".join(map(str, hdu.shape)) for hdu in others[:3]) + (", ..." if len(others) > 3 else "")
    count = "1 other image in the file is" if len(others) == 1 else f"{len(others)} other images in the file are"
    return f"{count} left out: {sizes}"


def image_hdus(hdus: fits.HDUList) -> list[Any]:
    """The HDUs with an image of two axes or more, auxiliary ones only where there are no others; at least one."""
    images = [hdu for hdu in hdus if hdu.is_image and len(hdu.shape) >= 2]
    if not images:
        kinds = ", ".join(type(hdu).__name__ for hdu in hdus)
        raise SkyclassError(f"a FITS file without an image (it holds {kinds})", fix="keep the file that has the image")
    return [hdu for hdu in images if not _AUXILIARY.search(text_of(hdu, "EXTNAME").upper())] or images


def _names_of(images: list[Any]) -> tuple[str, ...] | None:
    """Names of several image HDUs that are the bands of one image, or None where they are not."""
    if len(images) < 2 or len(images[0].shape) != 2 or len({tuple(hdu.shape) for hdu in images}) > 1:
        return None
    for key in ("FILTER", "BAND", "EXTNAME"):
        names = tuple(text_of(hdu, key) for hdu in images)
        if are_names(names):
            return names
    return None


def cube_names(hdu: Any, n_bands: int) -> tuple[str, ...] | None:
    """Names of the planes of a cube, or None: FILTERn or BANDn, numbered from 1 or 0, or the list FILTERS or BANDS.

    A list is parted by commas, semicolons or blanks (`g, r, i`); without them each letter is a band (`gri`).
    """
    for word in ("FILTER", "BAND"):
        for first in (1, 0):
            names = tuple(text_of(hdu, f"{word}{first + plane}") for plane in range(n_bands))
            if are_names(names):
                return names
    for key in ("FILTERS", "BANDS"):
        text = text_of(hdu, key)
        names = tuple(part for part in re.split(r"[,;\s]+", text) if part)
        for candidate in (names, tuple(text)):
            if len(candidate) == n_bands and are_names(candidate):
                return candidate
    return None


def text_of(hdu: Any, key: str) -> str:
    """The value of a header's text card, or "" where it is absent, empty or damaged."""
    try:
        value = hdu.header.get(key)
    except (fits.VerifyError, ValueError, KeyError):
        return ""
    return value.strip() if isinstance(value, str) and value.strip() != "COMPRESSED_IMAGE" else ""


def _check_end(last: Any, data: bytes) -> None:
    """Refuse a file that ends within the header of an extension, which astropy passes over: it may have been a band."""
    place = last.fileinfo()
    end = place["datLoc"] + place["datSpan"]
    is_cut = len(data) % 2880 > 0 or b"END     " not in data[end:]  # FITS comes in blocks of 2880 bytes
    if data[end : end + 8] == b"XTENSION" and is_cut:
        raise SkyclassError("the file ends early", fix=COPY_AGAIN)


def check_whole(hdu: Any, n_bytes: int) -> None:
    """Refuse an HDU whose data lie beyond the `n_bytes` of its file."""
    place = hdu.fileinfo()
    # `size` of a compressed image is what it unpacks to; its table is rounded up to FITS's blocks of 2880 bytes.
    size = place["datSpan"] - 2879 if isinstance(hdu, fits.CompImageHDU) else hdu.size
    if place["datLoc"] + size > n_bytes:
        raise SkyclassError("the file ends early", fix=COPY_AGAIN)
