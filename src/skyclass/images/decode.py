"""Decode and preprocess many image files in threads, in order; each result has pixels or an error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..core.errors import SkyclassError, one_line
from ..core.parallel import in_order
from ..recipes.data_settings import PixelSettings
from .formats.arrays import RGB
from .formats.read import Image, read_image
from .preprocess import are_numbered, bad_pixel_fraction, named_bands, preprocess

SATURATED = 0.02  # share of a band's pixels at its largest value; of 2,778 SDSS galaxies the worst has 0.007


class DecodeResult(NamedTuple):
    """Pixels (C, H, W), or None and the `error`; `warning` describes what is odd about an image that can be used.

    bad : share of the decoded values that are NaN or infinite, in [0, 1]; 0 where nothing was decoded
    """

    pixels: np.ndarray | None
    error: str | None
    warning: str | None
    bad: float = 0.0


def decode_files(files: Sequence[str | Path], pixel_settings: Sequence[PixelSettings]) -> Iterator[DecodeResult]:
    """One result a file, in order. Nothing is raised for a bad file; memory does not grow with their number."""
    return in_order(lambda file: decode_file(file, pixel_settings), files)


def decode_file(file: str | Path, pixel_settings: Sequence[PixelSettings]) -> DecodeResult:
    """Read one file and preprocess it."""
    return read_and_decode(file, pixel_settings)[1]


def read_and_decode(file: str | Path, pixel_settings: Sequence[PixelSettings]) -> tuple[Image | None, DecodeResult]:
    """As `decode_file`, with the image as it was read, if it could be.

    What a reader makes of a bad file is a result with an error. An exception that comes up behind the readers is a bug
    of ours: it is raised, with the file as a note.
    """
    image = None
    try:
        image = read_image(file)
        return image, preprocess_image(image, pixel_settings)
    except SkyclassError as refusal:
        return image, DecodeResult(None, _without_place(refusal), None)
    except MemoryError as error:  # the settings make too much of this image
        return image, DecodeResult(None, f"cannot be decoded: {one_line(error)}", None)
    except Exception as error:
        error.add_note(f"while decoding {file}")
        raise


def decode_rows(
    images: np.ndarray, rows: Iterable[int], bands: Sequence[str], pixel_settings: Sequence[PixelSettings]
) -> Iterator[DecodeResult]:
    """As `decode_files`, for rows of stored images (N, C, H, W) that were checked when they were packed.

    Errors: SkyclassError of the pixel path.
    """
    return in_order(
        lambda row: DecodeResult(preprocess(np.asarray(images[row]), bands, pixel_settings)[0], None, None), rows
    )


def preprocess_image(image: Image, pixel_settings: Sequence[PixelSettings]) -> DecodeResult:
    """Preprocess an image, unless it cannot be used. Errors: SkyclassError of the pixel path."""
    bad = bad_pixel_fraction(image.pixels)
    error, warning = _check_pixels(image, pixel_settings, bad)
    if error:
        return DecodeResult(None, error, None, bad)
    pixels, _ = preprocess(image.pixels, image.bands, pixel_settings)
    return DecodeResult(pixels, None, warning, bad)


def decode_arrays(
    images: np.ndarray, bands: Sequence[str], pixel_settings: Sequence[PixelSettings]
) -> Iterator[DecodeResult]:
    """Preprocess decoded pixels (N, C, H, W), with the bands of the files that these were made for.

    bands : names where the first settings give none
    Errors: SkyclassError for an array of another shape or another number of bands.
    """
    return (_decode_array(pixels, bands, pixel_settings) for pixels in images)


def decode_named(
    images: str | Path | Sequence[str | Path] | np.ndarray,
    bands: Sequence[str],
    pixel_settings: Sequence[PixelSettings],
) -> tuple[list[str], Iterator[DecodeResult]]:
    """Files, as `decode_files`, or an array (N, C, H, W) or (C, H, W), as `decode_arrays`, with a name for each image:
    the file's, or the row's number.
    """
    if isinstance(images, np.ndarray):
        array = images[None] if images.ndim < 4 else images
        return [str(row) for row in range(len(array))], decode_arrays(array, bands, pixel_settings)
    files = [images] if isinstance(images, str | Path) else list(images)
    return [str(file) for file in files], decode_files(files, pixel_settings)


def _decode_array(pixels: np.ndarray, bands: Sequence[str], pixel_settings: Sequence[PixelSettings]) -> DecodeResult:
    first = pixel_settings[0]
    bands = first.bands or bands
    if first.file_bands and pixels.ndim == 3 and len(pixels) == len(first.file_bands):
        bands = first.file_bands
    if pixels.ndim != 3 or len(pixels) != len(bands):
        fix = f"give (N, {len(bands)}, H, W) with the bands {', '.join(bands)}"
        raise SkyclassError(f"images of shape {pixels.shape}", where="array", fix=fix)
    if pixels.dtype not in (np.uint8, np.uint16):
        pixels = pixels.astype(np.float32)  # as `read` gives every other number
    return preprocess_image(Image(pixels, tuple(bands), "array"), pixel_settings)


def check_pixels(image: Image, pixel_settings: Sequence[PixelSettings]) -> tuple[str | None, str | None]:
    """(error, warning): why the image cannot be used, and what is odd about it. Either may be None.

    Errors: SkyclassError where the first settings' `file_bands` counts other bands than the image has.
    """
    return _check_pixels(image, pixel_settings, bad_pixel_fraction(image.pixels))


def _check_pixels(image: Image, pixel_settings: Sequence[PixelSettings], bad: float) -> tuple[str | None, str | None]:
    """As `check_pixels`, where the share of `bad` pixels is known."""
    oddities = [image.warning] if image.warning else []
    pixels = image.pixels
    if bad == 1.0:
        return "blank: every pixel is NaN or infinite", None
    finite = pixels[np.isfinite(pixels)] if bad else pixels
    low, high = finite.min(), finite.max()
    if low == high:
        return f"blank: every pixel is {low:g}", None
    first = pixel_settings[0] if pixel_settings else PixelSettings()
    scaled = first.interval != "none" or first.stretch == "lupton"
    if first.dtype in ("uint8", "uint16") and not scaled and pixels.dtype.kind == "f":
        expected = "8-bit" if first.dtype == "uint8" else "16-bit"
        return f"floating-point pixels among {expected} images; set an interval (percentile, zscale) for both", None
    if bad:
        filled = {"zero": "zero", "min": "the least finite value", "median": "the median"}[first.fill_nan]
        oddities.append(f"{bad:.2%} of the pixels are NaN or infinite; packing and predicting fill them with {filled}")
    bands = named_bands(image.bands, first.file_bands)
    if first.bands == RGB and are_numbered(bands):
        oddities.append("the file does not name its bands: taken in order as red, green, blue")
    shares = saturated_shares(pixels)
    if max(shares):
        whose = f" of {bands[int(np.argmax(shares))]}" if len(bands) > 1 else ""
        oddities.append(f"saturated: {max(shares):.0%} of the pixels are at the largest value{whose}")
    return None, "; ".join(oddities) or None


def saturated_shares(pixels: np.ndarray) -> list[float]:
    """Share of the pixels of each band of (C, H, W) at its largest finite value, where they pile up there; else 0.

    A pile is more than `SATURATED` of all pixels, and more than have the value below it, which clears counts of few
    photons.
    """
    tops = np.max(pixels, axis=(1, 2), keepdims=True)
    if not np.isfinite(tops).all():
        tops = np.max(pixels, axis=(1, 2), keepdims=True, where=np.isfinite(pixels), initial=-np.inf)
    some = pixels[:, :: max(1, pixels.shape[1] // 64)]  # a plateau shows in some rows too, at a fraction of the time
    if np.count_nonzero(some == tops) <= 0.5 * SATURATED * some[0].size:
        return [0.0] * len(pixels)
    return [_share_at(band, top) for band, top in zip(pixels, tops[:, 0, 0], strict=True)]


def _share_at(band: np.ndarray, top: Any) -> float:
    at_top, below = np.count_nonzero(band == top), band[band < top]
    piled_up = at_top > SATURATED * band.size and below.size and at_top > np.count_nonzero(below == below.max())
    return at_top / band.size if piled_up else 0.0


def _without_place(error: SkyclassError) -> str:
    """What is wrong and the fix; the file has a column of its own."""
    return f"{error.what}; {error.fix}" if error.fix else error.what
