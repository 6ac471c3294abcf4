"""The inverse geometry of preprocessing: where pixels of the network's input lie in the original image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..recipes.data_settings import PixelSettings


class Fitting(NamedTuple):
    """How an image is brought to a size, each (height, width): its centre is cut out, resized, and set in zeros."""

    cut: tuple[int, int]
    resized: tuple[int, int]
    size: tuple[int, int]


class Axis(NamedTuple):
    """Pixel x of the result is pixel `scale` x + `offset` of the image, both counted from 0 at a pixel's centre.

    low, high : edges of what was not cut away, in pixels of the image; zeros that a result is set in may lie beyond
    """

    scale: float
    offset: float
    low: float = -np.inf
    high: float = np.inf


class Placement(NamedTuple):
    """Of a result within its image."""

    size: tuple[int, int]
    """Height and width of the result."""
    rows: Axis
    columns: Axis


def fitting(image: tuple[int, int], size: tuple[int, int], fit: str) -> Fitting:
    """How `preprocess.fit_size` brings an image of (height, width) to `size`; fit: distort, crop or pad."""
    height, width = image
    if fit == "crop":
        scale = min(height / size[0], width / size[1])
        return Fitting((max(1, round(size[0] * scale)), max(1, round(size[1] * scale))), size, size)
    if fit == "pad":
        scale = min(size[0] / height, size[1] / width)
        return Fitting(image, (max(1, round(height * scale)), max(1, round(width * scale))), size)
    return Fitting(image, size, size)


def placement(image: tuple[int, int], pixel_settings: Sequence[PixelSettings]) -> Placement:
    """Where what `preprocess.preprocess` makes of an image of (height, width) lies in it."""
    size = image
    axes = [Axis(1.0, 0.0), Axis(1.0, 0.0)]
    for settings in pixel_settings:
        if settings.crop is not None:
            axes, size = _centred(axes, size, settings.crop), settings.crop
        if settings.size is not None:
            cut, resized, wanted = fitting(size, settings.size, settings.fit)
            axes = _centred(axes, size, cut)
            axes = [_resized(axis, n_in, n_out) for axis, n_in, n_out in zip(axes, cut, resized, strict=True)]
            axes, size = _centred(axes, resized, wanted), wanted
    return Placement((size[0], size[1]), axes[0], axes[1])


def put_back(heatmap: np.ndarray, place: Placement, image: tuple[int, int]) -> np.ndarray:
    """A map of the result (h, w) as one of the image (H, W) float32, interpolated linearly between pixel centres.

    NaN where the network saw nothing of the image: what was cropped away.
    """
    rows, columns = _weights(place.rows, len(heatmap), image[0]), _weights(place.columns, heatmap.shape[1], image[1])
    return (rows @ heatmap @ columns.T).astype(np.float32)  # (H, h) @ (h, w) @ (w, W)


def _centred(axes: list[Axis], size: tuple[int, int], wanted: tuple[int, int]) -> list[Axis]:
    """As `pixels.centre` takes or pads the centre: the smaller half of what is left over lies before it."""
    return [_centred_axis(*one) for one in zip(axes, size, wanted, strict=True)]


def _centred_axis(axis: Axis, n_in: int, n_out: int) -> Axis:
    start = (n_in - n_out) // 2 if n_in > n_out else -((n_out - n_in) // 2)
    offset = axis.offset + axis.scale * start
    if n_in <= n_out:
        return axis._replace(offset=offset)
    low, high = offset - 0.5 * axis.scale, offset + (n_out - 0.5) * axis.scale
    return Axis(axis.scale, offset, max(axis.low, low), min(axis.high, high))


def _resized(axis: Axis, n_in: int, n_out: int) -> Axis:
    """The edges of the image stay its edges: pixel x lies at (x + 1/2) n_in / n_out - 1/2."""
    step = n_in / n_out
    return axis._replace(scale=axis.scale * step, offset=axis.offset + axis.scale * (0.5 * step - 0.5))


def _weights(axis: Axis, n_result: int, n_image: int) -> np.ndarray:
    """(n_image, n_result) float64: what each pixel of the result adds to each of the image, NaN in rows outside."""
    rows = np.arange(n_image)
    position = (rows - axis.offset) / axis.scale  # of the image's pixels, in pixels of the result
    inside = np.clip(position, 0.0, n_result - 1.0)
    left = np.minimum(inside.astype(int), max(n_result - 2, 0))
    weights = np.zeros((n_image, n_result))
    np.add.at(weights, (rows, left), 1.0 - (inside - left))
    np.add.at(weights, (rows, np.minimum(left + 1, n_result - 1)), inside - left)
    beyond = (position < -0.5 - 1e-9) | (position > n_result - 0.5 + 1e-9)
    weights[beyond | (rows < axis.low - 1e-9) | (rows > axis.high + 1e-9)] = np.nan
    return weights
