"""Preprocessing: decoded pixels become stored pixels, and stored pixels the network's input.

`preprocess` does what a PixelSettings says, in its order: bands, NaN, interval and stretch, crop, resize, type.
Stored integers stand for [0, 1], uint8 in steps of 1/255 and uint16 of 1/65535 ("unit scale"); floats are themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import SkyclassError
from ..recipes.data_settings import PixelSettings
from .formats.arrays import RGB, band_names
from .geometry import fitting
from .resize import resize, round_to
from .stretch import LEVELS, stretch

if TYPE_CHECKING:
    import torch

LUMINANCE = (0.299, 0.587, 0.114)  # Rec. ITU-R BT.601, 2.5.1
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation, one number a band


def preprocess(
    pixels: np.ndarray, bands: Sequence[str], pixel_settings: Sequence[PixelSettings]
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Apply pixel settings in turn (a pack's, then a training's).

    Parameters
    ----------
    pixels : (C, H, W) uint8, uint16, float16 or float32; floats may hold NaN and infinities
    bands : C names

    Returns
    -------
    (C', h, w), C-contiguous and finite, of the last settings' `dtype`, and its C' names. With `dtype: null` integers
    stay what they are unless they were stretched; all else is float32. A float is clipped to [0, 1] where it is
    stretched or stored as an integer.

    Errors: SkyclassError for bands that the image lacks or that `file_bands` does not count, for a stretch that cannot
    use its softening or the number of bands, and for values that float16 cannot hold.
    """
    bands = tuple(bands)
    for settings in pixel_settings:
        if pixels.ndim != 3 or len(pixels) != len(bands):
            what = f"pixels of shape {pixels.shape} for the bands {_listed(bands)}"
            raise SkyclassError(what, fix="give (C, H, W)")
        bands = named_bands(bands, settings.file_bands)
        if settings.bands is not None:
            pixels, bands = select_bands(pixels, bands, settings.bands), settings.bands
        pixels = fill_bad_pixels(pixels, settings.fill_nan)
        pixels = stretch(pixels, settings)
        if settings.crop is not None:
            pixels = centre(pixels, settings.crop)
        if settings.size is not None and settings.size != pixels.shape[-2:]:
            pixels = fit_size(pixels, settings.size, settings.fit, settings.interpolation)
        pixels = np.ascontiguousarray(convert(pixels, settings.dtype))
    return pixels, bands


def apply_settings(pixels: np.ndarray, bands: Sequence[str], settings: PixelSettings) -> np.ndarray:
    """The pixels that `preprocess` makes by one set of settings."""
    return preprocess(pixels, bands, [settings])[0]


def remaining_settings(pixel_settings: list[PixelSettings], packed: PixelSettings, where: Path) -> list[PixelSettings]:
    """The pixel settings of a classifier that are still to be applied to the images of a pack.

    packed : the pack's own settings; where : the pack
    Errors: SkyclassError where the pack's pixels were changed in another way than the classifier's.
    """
    if packed == pixel_settings[0]:
        return pixel_settings[1:]
    as_read = packed.interval == "none" and packed.stretch == "linear" and packed.crop is None
    if as_read and not any(settings.crop for settings in pixel_settings):
        return pixel_settings  # its images are as good as files, unless they were resized and then cropped
    fix = "name the files themselves, or pack them by `skyclass pack SOURCE PACK --like CLASSIFIER`"
    raise SkyclassError("the pack's pixels were made in another way than the classifier's", where=where, fix=fix)


def stored_bands(bands: Sequence[str], settings: PixelSettings) -> tuple[str, ...]:
    """Names of the bands that `settings` leaves of an image with the bands `bands`. Errors: as `named_bands`."""
    return settings.bands or named_bands(bands, settings.file_bands)


def named_bands(bands: Sequence[str], file_bands: Sequence[str] | None) -> tuple[str, ...]:
    """The bands of a file that only numbers them, by the names in `file_bands`; a file that names its own keeps them.

    A grey image, whose band has no name either, takes a single one.
    Errors: SkyclassError where the file has another number of bands.
    """
    if file_bands is None or not (are_numbered(bands) or (tuple(bands) == ("grey",) and len(file_bands) == 1)):
        return tuple(bands)
    if len(bands) != len(file_bands):
        raise SkyclassError(
            f"the file has {len(bands)} bands and pixels.file_bands names {len(file_bands)}: {_listed(file_bands)}",
            fix="name every band of the files there, in order, or leave this file out",
        )
    return tuple(file_bands)


def select_bands(pixels: np.ndarray, bands: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """Bands by name and in order: (C, H, W) -> (len(wanted), H, W).

    A grey image is taken as red, green and blue alike; of a red, green and blue one the luminance is the grey (integers
    rounded to the nearest, halves to even). Three bands that the file only numbers (`are_numbered`) are red,
    green and blue, as in arrays of colour images; the order of others is unknown. Capitals count only where bands
    differ in nothing else: FITS writes extension g as G.
    """
    place = {name.lower(): row for row, name in enumerate(bands)}
    if len(place) == len(bands) and {name.lower() for name in wanted} <= set(place):
        return pixels[[place[name.lower()] for name in wanted]]
    if set(wanted) <= set(bands):
        return pixels[[list(bands).index(name) for name in wanted]]
    if are_numbered(bands) and len(bands) == len(RGB) and tuple(wanted) == RGB:
        return pixels
    if tuple(bands) == ("grey",) and set(wanted) <= set(RGB):
        return np.repeat(pixels, len(wanted), axis=0)  # (1, H, W) -> (C', H, W)
    if tuple(wanted) == ("grey",) and set(RGB) <= set(bands):
        colours = select_bands(pixels, bands, RGB).astype(np.float32)
        grey = np.tensordot(np.asarray(LUMINANCE, np.float32), colours, axes=1)[None]  # (3, H, W) -> (1, H, W)
        return round_to(grey, pixels.dtype)
    fix = "name the file's bands in order by pixels.file_bands" if are_numbered(bands) else "leave it out"
    raise SkyclassError(
        f"the image has the bands {_listed(bands)}, the recipe wants {_listed(wanted)}",
        fix=f"{fix}, or set pixels.bands to names that it has (null: as they are)",
    )


def are_numbered(bands: Sequence[str]) -> bool:
    """Whether the bands are those of a file that does not name its bands: band_1 to band_C, C > 1."""
    return len(bands) > 1 and tuple(bands) == band_names(len(bands))


def bad_pixel_fraction(pixels: np.ndarray) -> float:
    """Share of the values that are NaN or infinite, in [0, 1]; 0 for integers."""
    return 0.0 if pixels.dtype.kind != "f" else 1.0 - np.count_nonzero(np.isfinite(pixels)) / pixels.size


def fill_bad_pixels(pixels: np.ndarray, fill: str) -> np.ndarray:
    """Replace NaN and infinities of (C, H, W) by zero, or by the finite `min` or `median` of their band.

    A band without one finite value becomes zero. Floats come back as float32.
    """
    if pixels.dtype.kind != "f":
        return pixels
    pixels = pixels.astype(np.float32, copy=False)
    good = np.isfinite(pixels)
    if good.all():
        return pixels
    summaries: dict[str, Callable[[np.ndarray], float]] = {"zero": lambda _: 0.0, "min": np.min, "median": np.median}
    values = [summaries[fill](band[ok]) if ok.any() else 0.0 for band, ok in zip(pixels, good, strict=True)]
    return np.where(good, pixels, np.asarray(values, np.float32)[:, None, None])


def centre(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The central (height, width) of (..., H, W); a smaller image is padded with zeros, so its scale is kept."""
    for axis, n_out in ((-2, size[0]), (-1, size[1])):
        n_in = pixels.shape[axis]
        if n_in > n_out:
            start = (n_in - n_out) // 2
            pixels = pixels.take(range(start, start + n_out), axis)
        elif n_in < n_out:
            before = (n_out - n_in) // 2
            margin = [(0, 0)] * pixels.ndim
            margin[axis] = (before, n_out - n_in - before)
            pixels = np.pad(pixels, margin)
    return pixels


def fit_size(pixels: np.ndarray, size: tuple[int, int], fit: str, interpolation: str) -> np.ndarray:
    """Resize (..., H, W) to exactly `size`.

    fit : another aspect ratio is distorted (`distort`), loses its ends (`crop`), or is given zeros at its ends (`pad`)
    """
    cut, resized, size = fitting((pixels.shape[-2], pixels.shape[-1]), size, fit)
    return centre(resize(centre(pixels, cut), resized, interpolation), size)


def convert(pixels: np.ndarray, dtype: str | None) -> np.ndarray:
    """Change the stored type of unit-scaled integers or float32; null keeps it. For integers floats are clipped.

    Errors: SkyclassError where a value is beyond the range of float16.
    """
    if dtype is None or pixels.dtype == dtype:
        return pixels
    values = pixels * np.float32(unit_scale(pixels.dtype)) if pixels.dtype.kind == "u" else pixels
    if dtype in LEVELS:
        levels = np.float32(LEVELS[dtype])
        return round_to(np.clip(values, 0.0, 1.0) * levels, np.dtype(dtype))
    if dtype == "float16" and np.abs(values).max() > np.finfo(np.float16).max:
        raise SkyclassError(
            f"values up to {np.abs(values).max():.3g} do not fit float16",
            where="pixels.dtype",
            fix="set pixels.interval (minmax, for example), or dtype: float32",
        )
    return values.astype(dtype, copy=False)


def unit_scale(dtype: np.dtype | torch.dtype) -> float:
    """The factor that brings a stored type to [0, 1]: 1/255 for uint8, 1/65535 for uint16, 1 for floats."""
    name = str(dtype).removeprefix("torch.")
    if name not in LEVELS and "float" not in name:
        raise SkyclassError(f"pixels of type {name}", fix="store uint8, uint16, float16 or float32")
    return 1.0 / LEVELS.get(name, 1)


def network_input(batch: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Stored pixels (N, C, h, w) -> (pixels * unit scale - mean) / std, (N, C, h, w) of a floating `dtype`.

    mean, std : (C,) in unit scale, on the batch's device. One multiply-add in float32, rounded to `dtype` at the end.
    """
    import torch  # here, because inspecting and packing do without it, and it takes a second

    factor = unit_scale(batch.dtype) / std.float()
    offset = -mean.float() / std.float()
    return torch.addcmul(offset[:, None, None], batch.float(), factor[:, None, None]).to(dtype)


def channel_statistics(images: np.ndarray, rows: np.ndarray) -> Statistics:
    """Mean and standard deviation of each band over all pixels of `rows`, in unit scale.

    images : (N, C, h, w) stored pixels, memory-mapped or not; they are read 64 images at a time, in float64
    rows : (M,) row numbers, M >= 1, in any order

    A band that does not vary is given the deviation 1, so that it can be divided by. Chunks are merged by Chan, Golub
    and LeVeque 1979 (Stanford STAN-CS-79-773), eq. 2.1, which loses no digits where the mean is large.
    """
    if len(rows) == 0:
        raise SkyclassError("no images to take the mean and deviation of", fix="give the training split some images")
    rows = np.sort(rows)  # neighbours in the file are read together
    count, mean, squares = 0, np.zeros(images.shape[1]), np.zeros(images.shape[1])
    for start in range(0, len(rows), 64):
        chunk = np.asarray(images[rows[start : start + 64]], np.float64)
        n = chunk[:, 0].size
        chunk_mean = chunk.mean((0, 2, 3))  # (n, C, h, w) -> (C,)
        difference = chunk_mean - mean
        squares += ((chunk - chunk_mean[:, None, None]) ** 2).sum((0, 2, 3)) + difference**2 * (count * n / (count + n))
        mean += difference * (n / (count + n))
        count += n
    deviation = np.sqrt(squares / count)
    deviation[deviation <= 1e-7 * np.abs(mean)] = 0.0  # nothing but rounding
    scale = unit_scale(images.dtype)
    std = np.where(deviation > 0, deviation * scale, 1.0)
    return tuple((mean * scale).tolist()), tuple(std.tolist())


def resolve_normalisation(normalise: str, n_bands: int, statistics: Statistics | None) -> Statistics:
    """Mean and standard deviation of each band for a recipe's `pixels.normalise`.

    statistics : the training split's, which `dataset` needs. ImageNet's are averaged for a single band.

    Errors: SkyclassError for `imagenet` with another number of bands, and for `dataset` without statistics.
    """
    if normalise == "none":
        return (0.0,) * n_bands, (1.0,) * n_bands
    if normalise == "imagenet":
        if n_bands == 3:
            return IMAGENET_MEAN, IMAGENET_STD
        if n_bands == 1:
            return (sum(IMAGENET_MEAN) / 3,), (sum(IMAGENET_STD) / 3,)
        raise SkyclassError(
            f"ImageNet's mean is known for three bands or one, not for {n_bands}",
            where="pixels.normalise",
            fix="set pixels.normalise: dataset",
        )
    if statistics is None:
        raise SkyclassError("the data's mean and deviation are not known", fix="take them by channel_statistics")
    return statistics


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
