"""Resizing by area averages or linear interpolation: rows and columns apart, each a product with a sparse matrix."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import sparse


def resize(array: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
    """Resize (..., H, W) to `size` = (h, w), rows and columns apart; integers are rounded, halves to even.

    interpolation : `area` averages over the area of each new pixel, as OpenCV's INTER_AREA; an axis that grows is
        interpolated linearly. `bilinear` is torch's interpolate(mode="bilinear", align_corners=False, antialias=False).

    Returns uint8 and uint16 as they came, floats as float32.
    """
    height, width = array.shape[-2:]
    dtype = array.dtype if array.dtype.kind == "u" else np.dtype(np.float32)
    if (height, width) == tuple(size):
        return array.astype(dtype, copy=False)
    rows, columns = _weights(height, size[0], interpolation), _weights(width, size[1], interpolation)
    planes = array.reshape(-1, height, width)
    out = np.empty((len(planes), *size), dtype)
    # One plane at a time, so that an image comes out the same alone and in a batch.
    for plane, target in zip(planes, out, strict=True):
        tall = rows @ plane.astype(np.float32, copy=False)  # (h, H) @ (H, W) -> (h, W)
        target[:] = round_to((columns @ np.ascontiguousarray(tall.T)).T, dtype)  # (w, W) @ (W, h) -> (w, h)
    return out.reshape(*array.shape[:-2], *size)


@lru_cache(maxsize=64)
def _weights(n_in: int, n_out: int, interpolation: str) -> sparse.csr_matrix:
    """Sparse, because a new pixel depends on few old ones: a product reads each old pixel about once."""
    use_area = interpolation == "area" and n_out < n_in
    return sparse.csr_matrix(area_weights(n_in, n_out) if use_area else linear_weights(n_in, n_out))


def area_weights(n_in: int, n_out: int) -> np.ndarray:
    """(n_out, n_in) float32: the share of each old pixel in each new one, for n_out <= n_in; rows sum to one."""
    edges = np.arange(n_out + 1) * (n_in / n_out)  # borders of the new pixels, in old pixels
    old = np.arange(n_in)
    overlap = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)  # (n_out, n_in)
    overlap = np.where(overlap > 1e-9, overlap, 0.0)  # rounding leaves slivers
    return np.asarray(overlap / overlap.sum(1, keepdims=True), np.float32)


def linear_weights(n_in: int, n_out: int) -> np.ndarray:
    """(n_out, n_in) float32: linear interpolation between pixel centres, the border pixels repeated outwards."""
    position = np.clip((np.arange(n_out) + 0.5) * (n_in / n_out) - 0.5, 0.0, n_in - 1.0)
    left = np.minimum(position.astype(int), n_in - 1)
    right = np.minimum(left + 1, n_in - 1)
    weights = np.zeros((n_out, n_in))
    np.add.at(weights, (np.arange(n_out), left), 1.0 - (position - left))
    np.add.at(weights, (np.arange(n_out), right), position - left)
    return weights.astype(np.float32)


def round_to(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """float32 -> `dtype`, integers rounded to the nearest."""
    if dtype.kind != "u":
        return values.astype(dtype, copy=False)
    return np.clip(np.rint(values), 0, np.iinfo(dtype).max).astype(dtype)
