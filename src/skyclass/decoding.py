"""Many image files through the pixel path: decoded in threads, returned in order, each with its pixels or a reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .errors import SkyclassError, one_line
from .images import Image, read_image
from .pixels import apply_recipes, are_numbered, bad_pixel_fraction
from .recipe import PixelRecipe
from .threads import in_order


class Decoded(NamedTuple):
    """Pixels (C, H, W), or None and the `error`; `warning` says what is odd about an image that was used."""

    pixels: np.ndarray | None
    error: str | None
    warning: str | None


def decode_files(files: Sequence[str | Path], recipes: Sequence[PixelRecipe]) -> Iterator[Decoded]:
    """One result a file, in order. Nothing is raised for a bad file; memory does not grow with their number."""
    return in_order(lambda file: decode_file(file, recipes), files)


def decode_file(file: str | Path, recipes: Sequence[PixelRecipe]) -> Decoded:
    """Read one file and take it through the recipes."""
    try:
        return decode_image(read_image(Path(file)), recipes)
    except SkyclassError as refusal:
        return Decoded(None, _without_place(refusal), None)
    except Exception as error:  # a decoder's own bug must not cost the good rows
        return Decoded(None, f"cannot be decoded: {one_line(error)}", None)


def decode_rows(
    images: np.ndarray, rows: Iterable[int], bands: Sequence[str], recipes: Sequence[PixelRecipe]
) -> Iterator[Decoded]:
    """As `decode_files`, for rows of stored images (N, C, H, W) that were judged when they were packed.

    Errors: SkyclassError of the pixel path.
    """
    return in_order(lambda row: Decoded(apply_recipes(np.asarray(images[row]), bands, recipes)[0], None, None), rows)


def decode_image(image: Image, recipes: Sequence[PixelRecipe]) -> Decoded:
    """Take an image through the recipes, unless it is of no use. Errors: SkyclassError of the pixel path."""
    error, warning = judge(image, recipes)
    if error:
        return Decoded(None, error, None)
    pixels, _ = apply_recipes(image.pixels, image.bands, recipes)
    return Decoded(pixels, None, warning)


def judge(image: Image, recipes: Sequence[PixelRecipe]) -> tuple[str | None, str | None]:
    """(error, warning): why the image is of no use, and what is odd about it. Either may be None."""
    oddities = []
    pixels = image.pixels
    bad = bad_pixel_fraction(pixels)
    if bad == 1.0:
        return "blank: every pixel is NaN or infinite", None
    finite = pixels[np.isfinite(pixels)] if bad else pixels
    low, high = finite.min(), finite.max()
    if low == high:
        return f"blank: every pixel is {low:g}", None
    first = recipes[0] if recipes else PixelRecipe()
    if first.dtype in ("uint8", "uint16") and first.interval == "none" and pixels.dtype.kind == "f":
        expected = "8-bit" if first.dtype == "uint8" else "16-bit"
        return f"floating-point pixels among {expected} images; set an interval (percentile, zscale) for both", None
    if bad:
        filled = {"zero": "zero", "min": "the least finite value", "median": "the median"}[first.fill_nan]
        oddities.append(f"{bad:.2%} of the pixels are NaN or infinite; packing and predicting fill them with {filled}")
    if first.bands and are_numbered(image.bands) and not set(first.bands) <= set(image.bands):
        oddities.append(f"the file does not name its bands: taken in order as {', '.join(first.bands)}")
    return None, "; ".join(oddities) or None


def _without_place(error: SkyclassError) -> str:
    """What is wrong and the way out; the file has a column of its own."""
    return f"{error.what}; {error.fix}" if error.fix else error.what
