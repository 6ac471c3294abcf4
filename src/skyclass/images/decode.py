"""Decode and preprocess many image files in threads, in order; each image has pixels or an error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import SkyclassError, one_line
from ..core.parallel import in_order
from ..recipes.data_settings import PixelSettings
from .formats.arrays import RGB, Image
from .formats.read import read_image
from .preprocess import are_numbered, bad_pixel_fraction, named_bands, preprocess

SATURATED = 0.02  # share of a band's pixels at its largest value; of 2,778 SDSS galaxies the worst has 0.007


def decode_files(files: Sequence[str | Path], pixel_settings: Sequence[PixelSettings]) -> Iterator[Image]:
    """One preprocessed image a file, in order. Nothing is raised for a bad file: its image has an `error`.

    Memory does not grow with the number of files.
    """
    return in_order(lambda file: read_and_decode(file, pixel_settings)[1], files)


def read_and_decode(file: str | Path, pixel_settings: Sequence[PixelSettings]) -> tuple[Image | None, Image]:
    """One file's image as it was read, if it could be, and preprocessed, or with its `error`.

    What a reader makes of a bad file is an image with an error. An exception that comes up behind the readers is a bug
    of ours: it is raised, with the file as a note.
    """
    image = None
    try:
        image = read_image(file)
        return image, preprocess_image(image, pixel_settings)
    except SkyclassError as refusal:
        return image, unusable(f"{refusal.what}; {refusal.fix}" if refusal.fix else refusal.what)
    except MemoryError as error:  # the settings make too much of this image
        return image, unusable(f"cannot be decoded: {one_line(error)}")
    except Exception as error:
        error.add_note(f"while decoding {file}")
        raise


def unusable(error: str, bad: float = 0.0) -> Image:
    """An image that cannot be used, because of the error."""
    return Image(np.empty((0, 0, 0), np.uint8), (), error=error, bad=bad)


def decode_rows(
    images: np.ndarray, rows: Iterable[int], bands: Sequence[str], pixel_settings: Sequence[PixelSettings]
) -> Iterator[Image]:
    """As `decode_files`, for rows of stored images (N, C, H, W) that were checked when they were packed.

    Errors: SkyclassError of the pixel path.
    """
    return in_order(lambda row: Image(*preprocess(np.asarray(images[row]), bands, pixel_settings)), rows)


def preprocess_image(image: Image, pixel_settings: Sequence[PixelSettings]) -> Image:
    """Preprocess an image; one that cannot be used has an `error`. Errors: SkyclassError of the pixel path."""
    bad = bad_pixel_fraction(image.pixels)
    error, warning = check_pixels(image, pixel_settings, bad)
    if error:
        return unusable(error, bad)
    pixels, bands = preprocess(image.pixels, image.bands, pixel_settings)
    return Image(pixels, bands, image.format, warning, bad=bad)


def decode_named(
    images: str | Path | Sequence[str | Path] | np.ndarray,
    bands: Sequence[str],
    pixel_settings: Sequence[PixelSettings],
) -> tuple[list[str], Iterator[Image]]:
    """Files, as `decode_files`, or decoded pixels (N, C, H, W) or (C, H, W), preprocessed in order; and their names.

    The name of an image is that of its file, or the number of its row.

    bands : those of the files that the pixels were made for, where the first settings name none
    Errors: SkyclassError for an array of another shape or another number of bands.
    """
    if isinstance(images, np.ndarray):
        array = images[None] if images.ndim < 4 else images
        names = [str(row) for row in range(len(array))]
        return names, (_decode_array(pixels, bands, pixel_settings) for pixels in array)
    files = [images] if isinstance(images, str | Path) else list(images)
    return [str(file) for file in files], decode_files(files, pixel_settings)


def _decode_array(pixels: np.ndarray, bands: Sequence[str], pixel_settings: Sequence[PixelSettings]) -> Image:
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


def check_pixels(
    image: Image, pixel_settings: Sequence[PixelSettings], bad: float | None = None
) -> tuple[str | None, str | None]:
    """(error, warning): why the image cannot be used, and what is odd about it. Either may be None.

    bad : `bad_pixel_fraction` of the image, where it is known already
    Errors: SkyclassError where the first settings' `file_bands` counts other bands than the image has.
    """
    bad = bad_pixel_fraction(image.pixels) if bad is None else bad
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
        how = "store all in one type, or pack and train with pixels.interval (percentile, zscale), which scales them"
        return f"floating-point pixels among {expected} images; {how}", None
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
