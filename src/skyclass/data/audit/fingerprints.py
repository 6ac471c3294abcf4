"""Fingerprints of images to find duplicates: a hash, a small picture, and a descriptor invariant to rotation.

The picture shows the central square on 64x64 pixels, bright parts compressed. For comparison it is flattened: the local
mean is taken off and the local contrast evened out, so that faint neighbours and the sky's own grain count beside the
central blob, which looks the same in thousands of galaxies. Differences as small as the noise that a copy may have
gained count for little.

The descriptor describes the Fourier magnitudes of the flattened picture, which no shift changes, in polar coordinates,
where a rotation is a shift in angle (Fourier-Mellin; Reddy & Chatterji 1996, IEEE Trans. Image Process. 5, 1266): the
magnitudes of their angular harmonics, and the real parts of the products of the same harmonic at neighbouring radii,
which neither a rotation nor a mirror changes.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import fft, ndimage, sparse

from ...images.resize import resize

SIDE = 64  # pixels of the picture
DETAIL = 128  # pixels of the larger picture, on which pairs are verified
DIGEST_BYTES = 16
NOISE = 0.01  # of the range of values: noise that a copy may have gained
_LIMIT = 7.2  # of the compressed values: asinh(10 * 64) for one bright pixel on nothing
_SOFTENING, _NOISE_SOFTENING = 0.1, 3.0  # where the compression sets in: in standard deviations, and in noise
_FLOOR = 4.0  # compressed values: contrast well below it is left low, so that noise does not count as structure
_FINE, _LOCAL = 2.5, 6.0  # pixels: local mean (Gaussian sigma), and the region whose contrast is brought to one

_PADDED = 2 * SIDE
RADII, ANGLES = 16, 48  # of the Fourier plane: rings, and directions over half a turn (the other half is the same)
_RADIUS = np.linspace(1.5, 25.0, RADII)  # in frequencies of the padded picture, whose highest is 64
_HARMONICS, _LAGS = 9, 3  # of the descriptor: harmonics, and pairs of rings up to this far apart

_OFFSET = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2


@lru_cache(maxsize=2)
def disc(pixels: int) -> np.ndarray:
    """(pixels, pixels) bool: the largest disc about the centre."""
    offset = np.arange(pixels, dtype=np.float32) - (pixels - 1) / 2
    return np.asarray(np.hypot(offset[:, None], offset) <= pixels / 2)


DISC = disc(SIDE)
_WINDOW = np.cos(np.pi * np.minimum(np.hypot(_OFFSET[:, None], _OFFSET) / SIDE, 0.5)).astype(np.float32)


class Fingerprint(NamedTuple):
    """Of a blank image all but the digest is zero.

    digest : (16,) uint8
    descriptor : (D,) float32
    picture, detail : (64, 64) and (128, 128) uint8
    """

    digest: np.ndarray
    descriptor: np.ndarray
    picture: np.ndarray
    detail: np.ndarray


def fingerprint(pixels: np.ndarray) -> Fingerprint:
    """The fingerprint of one decoded image.

    Parameters
    ----------
    pixels : (C, H, W) integers or floats, any size and range; NaN and infinities are taken for the median. What lies
        outside the central square takes part in the hash alone
    """
    digest = hashlib.blake2b(f"{pixels.dtype.str} {pixels.shape} ".encode(), digest_size=DIGEST_BYTES)
    digest.update(np.ascontiguousarray(pixels).data)
    height, width = pixels.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    grey, reach = _grey(pixels[:, top : top + side, left : left + side])  # (side, side)
    picture, detail = _picture(grey, reach, SIDE), _picture(grey, reach, DETAIL)
    if not picture.any():
        detail[:] = 0
    return Fingerprint(np.frombuffer(digest.digest(), np.uint8), compute_descriptors(picture[None])[0], picture, detail)


def _picture(grey: np.ndarray, reach: float, pixels: int) -> np.ndarray:
    """(side, side) values -> (pixels, pixels) uint8; zeros for an image that is constant within the central disc."""
    side = len(grey)
    small = resize(grey, (pixels, pixels), "area")
    inside = small[disc(pixels)]
    spread = float(inside.std())
    if spread <= 1e-6 * max(float(np.abs(inside).max()), 1e-30):
        return np.zeros((pixels, pixels), np.uint8)
    noise = NOISE * reach / max(1.0, side / pixels)  # as it is after averaging over the pixels of the picture
    compressed = np.arcsinh((small - np.median(inside)) / max(_SOFTENING * spread, _NOISE_SOFTENING * noise))
    return np.rint((np.clip(compressed / _LIMIT, -1.0, 1.0) + 1.0) * 127.0 + 1.0).astype(np.uint8)


def _grey(square: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean over the bands (H, W) float32, and the range of the values: 255 of bytes, of other types that in use."""
    if square.dtype == np.uint8:
        return square.mean(axis=0, dtype=np.float32), 255.0
    if square.dtype.kind != "f":
        grey = square.mean(axis=0, dtype=np.float64)
        return _scaled(grey, float(np.ptp(grey)))
    finite = np.isfinite(square)
    if not finite.all():
        median = np.median(square[finite]) if finite.any() else 0.0
        square = np.where(finite, square, median)
    grey = square.mean(axis=0, dtype=np.float64)
    return _scaled(grey, float(np.ptp(grey)))


def _scaled(grey: np.ndarray, reach: float) -> tuple[np.ndarray, float]:
    """Values from zero to one, so that neither huge nor tiny ones leave the range of float32."""
    if not reach > 0.0:
        return np.zeros(grey.shape, np.float32), 0.0
    return ((grey - grey.min()) / reach).astype(np.float32), 1.0


def flatten(
    pictures: np.ndarray, fine: float = _FINE, local: float = _LOCAL, floor: float = _FLOOR, smooth: float = 0.0
) -> np.ndarray:
    """(n, s, s) pictures, uint8 or float32 -> float32: deviations from the local mean over the local contrast.

    Pixels: the local mean is of Gaussian sigma `fine`, the contrast of `local`; `smooth` blurs the picture first.
    """
    values = (pictures.astype(np.float32) - 128.0) * np.float32(_LIMIT / 127.0)
    if smooth:
        values = _blur(values, smooth)
    detail = values - _blur(values, fine)
    contrast = np.sqrt(np.maximum(_blur(detail * detail, local), 0.0))
    return np.asarray(detail / (contrast + floor), np.float32)


def _blur(values: np.ndarray, sigma: float) -> np.ndarray:
    """(n, s, s) blurred by a Gaussian, edges repeated outwards: a product with a matrix on each side."""
    kernel = _blur_matrix(sigma, values.shape[-1])
    return np.asarray(kernel @ values @ kernel.T)


@lru_cache(maxsize=8)
def _blur_matrix(sigma: float, side: int) -> np.ndarray:
    return ndimage.gaussian_filter1d(np.eye(side, dtype=np.float32), sigma, axis=0, mode="nearest")


def harmonics(flat: np.ndarray) -> np.ndarray:
    """(n, 64, 64) flattened pictures -> (n, RADII, ANGLES // 2 + 1) complex64.

    Harmonic m of a picture turned by an angle t is that of the picture times exp(-2 i m t), up to the sense of t; that
    of a mirrored one is its conjugate.
    """
    inside = flat - flat[:, DISC].mean(axis=1)[:, None, None]
    spectrum = np.log1p(np.abs(fft.rfft2(inside * _WINDOW, s=(_PADDED, _PADDED))))  # (n, 128, 65)
    rings = _to_polar() @ spectrum.reshape(len(flat), -1).T  # (RADII * ANGLES, n)
    polar = np.ascontiguousarray(rings.T).reshape(len(flat), RADII, ANGLES)
    return np.asarray(fft.rfft(polar, axis=2) / ANGLES, np.complex64)


@lru_cache(maxsize=1)
def _to_polar() -> sparse.csr_matrix:
    """(RADII * ANGLES, 128 * 65): linear interpolation in the half-plane of `rfft2`, angles from -90 to 90 degrees."""
    angle = np.arange(ANGLES) * (np.pi / ANGLES) - np.pi / 2
    y, x = (_RADIUS[:, None] * part for part in (np.sin(angle), np.cos(angle)))  # (RADII, ANGLES)
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    matrix = sparse.lil_matrix((RADII * ANGLES, _PADDED * (SIDE + 1)), dtype=np.float32)
    for dy in (0, 1):
        for dx in (0, 1):
            weight = np.abs(1 - dy - (y - y0)) * np.abs(1 - dx - (x - x0))
            column = ((y0 + dy) % _PADDED) * (SIDE + 1) + x0 + dx
            matrix[np.arange(RADII * ANGLES), column.ravel()] += weight.ravel()
    return matrix.tocsr()


def compute_descriptors(pictures: np.ndarray) -> np.ndarray:
    """(n, 64, 64) pictures -> (n, D) float32 descriptors; zeros for blank pictures."""
    waves = harmonics(flatten(pictures))[:, :, :_HARMONICS]
    size = np.abs(waves)
    scaled = waves / np.sqrt(np.maximum(size, 1e-9))  # so that products have the dimension of a magnitude
    products = [(scaled[:, lag:] * scaled[:, :-lag].conj())[:, :, 1:].real for lag in range(1, _LAGS + 1)]
    parts = [part.reshape(len(pictures), -1) for part in (size, *products)]
    descriptors = np.concatenate(parts, axis=1).astype(np.float32)
    descriptors[~pictures.any(axis=(1, 2))] = 0.0
    return descriptors
