"""Whether one picture is another one turned, mirrored, shifted or a little enlarged: find how, then compare them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import fft, ndimage

from .fingerprints import ANGLES, DISC, SIDE

_HIGHEST = 17  # angular harmonics that determine the angle, without the constant one
_FINER = 4  # times the angles of `fingerprints`, in the search for the best rotation
_REACH = 14  # pixels: the largest shift
_STEPS = 6  # of the refinement; the first ones on blurred pictures, which lets it start from farther off
_BLURRED_STEPS, _BLUR = 3, 1.0
_PROMISING = 0.3  # correlation before the refinement; copies reach 0.45, strangers among galaxies 0.3
_LEAST_OVERLAP = 0.5  # of the disc
_IN_CACHE = 16 * SIDE * SIDE  # pixels handled together by `warp`

_OFFSET = np.arange(SIDE, dtype=np.float32) - (SIDE - 1) / 2
_Y, _X = np.broadcast_arrays(_OFFSET[:, None], _OFFSET)
_SOFT = (np.clip(SIDE / 2 - np.hypot(_Y, _X), 0.0, 3.0) / 3.0).astype(np.float32)  # the disc with a soft edge


class Alignment(NamedTuple):
    """For each of n pairs, what brings the first picture onto the second.

    similarity : (n,) correlation of the overlapping parts of the flattened pictures, -1..1
    matrix : (n, 2, 2) from (y, x) in the second picture to those in the first, both from the centre
    shift : (n, 2) pixels (y, x), what is added then
    """

    similarity: np.ndarray
    matrix: np.ndarray
    shift: np.ndarray


def angular(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best rotation for both parities, from the harmonics (n, R, M) of two sets of pictures.

    Returns (n, 2) correlations of the rings at the best angle, and (n, 2) angles in degrees, modulo 180; the second
    column is for a mirrored first picture.
    """
    a, b = first[:, :, :_HIGHEST].copy(), second[:, :, :_HIGHEST].copy()
    a[:, :, 0] = b[:, :, 0] = 0.0
    both = np.stack([a, a.conj()], axis=1)  # (n, 2, R, M)
    cross = np.einsum("nprm,nrm->npm", both, b.conj())
    n_angles = ANGLES * _FINER
    curve = fft.irfft(cross, n_angles, axis=2) * n_angles  # (n, 2, angles)
    peak = curve.argmax(axis=2)
    power = np.sqrt(np.einsum("nrm,nrm->n", a, a.conj()).real * np.einsum("nrm,nrm->n", b, b.conj()).real)
    height = np.take_along_axis(curve, peak[:, :, None], 2)[:, :, 0]
    return height / np.maximum(2.0 * power, 1e-12)[:, None], peak * (180.0 / n_angles)


def align(first: np.ndarray, second: np.ndarray, angles: np.ndarray, parity: np.ndarray | None = None) -> Alignment:
    """Bring n flattened pictures (n, 64, 64) onto n others, starting from (n, 2) `angles` as `angular` gives them.

    Of the two parities the better one counts, or where given that of `parity`, (n,): 0, or 1 for a mirrored `first`.
    """
    matrices = _hypotheses(angles)  # (n, 2, 2, 2)
    if parity is not None:
        matrices = matrices[np.arange(len(matrices)), parity][:, None]
    n = len(first)
    target = fft.rfft2(_masked(second))
    best = np.full(n, -np.inf)
    matrix, shift = np.empty((n, 2, 2)), np.empty((n, 2))
    for k in range(matrices.shape[1]):
        turned = _masked(warp(first, matrices[:, k], np.zeros((n, 2))))
        for turn in (1, -1):  # the rings tell an angle only up to half a turn
            score, offset = _best_shift(turned[:, ::turn, ::turn], target)
            better = score > best
            best[better] = score[better]
            matrix[better] = turn * matrices[better, k]
            shift[better] = np.einsum("nij,nj->ni", matrix[better], offset[better])
    similarity = best / np.maximum(np.sqrt((_masked(second) ** 2).sum(axis=(1, 2))), 1e-9)
    promising = similarity >= _PROMISING
    if promising.any():
        fine = _refine(first[promising], second[promising], matrix[promising], shift[promising])
        similarity[promising], matrix[promising], shift[promising] = fine
    return Alignment(similarity, matrix, shift)


def _hypotheses(angles: np.ndarray) -> np.ndarray:
    """(n, 2, 2, 2): a matrix for each parity, from (n, 2) angles in degrees."""
    radians = np.radians(angles)
    cos, sin = np.cos(radians), np.sin(radians)
    matrix = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)
    matrix[:, 1, :1, :] *= -1.0  # mirrored in y, as the sign of all angles of the Fourier plane
    return matrix


def warp(pictures: np.ndarray, matrix: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """out[p] = picture[matrix p + shift], linear interpolation, zero outside; positions from the centre.

    In numpy, a few pictures at a time that stay in the processor's cache: three times as fast as
    `scipy.ndimage.affine_transform`, which took half of the whole search.
    """
    n, side, _ = pictures.shape
    out = np.empty(pictures.shape, np.float32)
    step = max(1, _IN_CACHE // side**2)
    padded = np.zeros((step, side + 2, side + 2), np.float32)
    corner = shift + (1.0 - matrix.sum(axis=2)) * ((side - 1) / 2) + 1.0  # +1: of the border
    pixel = np.arange(side, dtype=np.float32)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        part = padded[: len(pictures[rows])]
        part[:, 1 : side + 1, 1 : side + 1] = pictures[rows]
        m, c = matrix[rows].astype(np.float32)[..., None], corner[rows].astype(np.float32)[..., None]
        y, x = ((m[:, i, 0] * pixel + c[:, i])[:, :, None] + (m[:, i, 1] * pixel)[:, None, :] for i in (0, 1))
        out[rows] = _interpolated(part, y, x)
    return out


def _interpolated(padded: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(n, s, s) values at y, x of pictures with a border of zeros, which also stands for all that lies beyond it."""
    n, _, width = padded.shape
    for position in (y, x):
        np.clip(position, 0.0, width - 1.001, out=position)
    row, column = y.astype(np.int32), x.astype(np.int32)
    y -= row
    x -= column
    index = row * width + column + (np.arange(n, dtype=np.int32) * padded[0].size)[:, None, None]
    values = padded.ravel()
    upper, lower = values[index], values[index + width]
    upper += (values[index + 1] - upper) * x
    lower += (values[index + width + 1] - lower) * x
    return np.asarray(upper + (lower - upper) * y)


def _masked(pictures: np.ndarray) -> np.ndarray:
    return (pictures - pictures[:, DISC].mean(axis=1)[:, None, None]) * _SOFT


def _best_shift(pictures: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Highest correlation with pictures given by their `rfft2`, and the (n, 2) shift (y, x) at which it is reached."""
    curve = fft.irfft2(fft.rfft2(pictures) * target.conj(), s=(SIDE, SIDE))
    window = np.arange(-_REACH, _REACH + 1)
    near = curve[:, window[:, None] % SIDE, window % SIDE].reshape(len(curve), -1)
    peak = near.argmax(axis=1)
    y, x = np.divmod(peak, len(window))
    score = near[np.arange(len(near)), peak] / np.maximum(np.sqrt((pictures**2).sum(axis=(1, 2))), 1e-9)
    return score, np.stack([window[y], window[x]], axis=1).astype(float)


def _refine(first: np.ndarray, second: np.ndarray, matrix: np.ndarray, shift: np.ndarray) -> Alignment:
    """Gauss-Newton on rotation, scale and shift; the best of the steps counts.

    Steps are taken in the frame of the second picture (inverse of Baker & Matthews 2004, Int. J. Comput. Vision 56,
    221: the compositional algorithm), on pictures of zero mean and unit norm.
    """
    blurred = [ndimage.gaussian_filter(part, (0.0, _BLUR, _BLUR)) for part in (first, second)]
    best, best_matrix, best_shift = np.full(len(first), -1.0), matrix.copy(), shift.copy()
    for step in range(_STEPS + 1):
        a, b = blurred if step < _BLURRED_STEPS else (first, second)
        moved, weight = warp(a, matrix, shift), _overlap(matrix, shift)
        x, x_norm = _standard(moved, weight)
        y, _ = _standard(b, weight)
        if step >= _BLURRED_STEPS:
            similarity = np.einsum("nij,nij->n", x, y)
            better = similarity > best
            best[better], best_matrix[better], best_shift[better] = similarity[better], matrix[better], shift[better]
        if step < _STEPS:
            matrix, shift = _gauss_newton(moved / x_norm[:, None, None], y - x, weight, matrix, shift)
    return Alignment(best, best_matrix, best_shift)


def _overlap(matrix: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """(n, 64, 64) float32: 1 where a pixel of the second picture's disc lies in the first one's, else 0."""
    matrix, shift = matrix.astype(np.float32), shift.astype(np.float32)
    y = matrix[:, 0, 0, None, None] * _Y + matrix[:, 0, 1, None, None] * _X + shift[:, 0, None, None]
    x = matrix[:, 1, 0, None, None] * _Y + matrix[:, 1, 1, None, None] * _X + shift[:, 1, None, None]
    return ((y * y + x * x <= (SIDE / 2) ** 2) & DISC).astype(np.float32)


def _standard(pictures: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of zero mean and unit norm within the weight, zero where too little of the disc is left; the norms."""
    total = weight.sum(axis=(1, 2))
    mean = np.einsum("nij,nij->n", pictures, weight) / np.maximum(total, 1.0)
    centred = (pictures - mean[:, None, None].astype(np.float32)) * weight
    norm = np.sqrt(np.einsum("nij,nij->n", centred, centred))
    norm = np.where(total >= _LEAST_OVERLAP * DISC.sum(), np.maximum(norm, 1e-6), np.inf).astype(np.float32)
    return centred / norm[:, None, None], norm


def _gauss_newton(
    moved: np.ndarray, residual: np.ndarray, weight: np.ndarray, matrix: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The next matrix and shift: least squares in (growth, turn, shift y, shift x)."""
    n = len(moved)
    dy, dx = np.gradient(moved, axis=(1, 2))
    slopes = np.stack([dy * _Y + dx * _X, dy * _X - dx * _Y, dy, dx], axis=1) * weight[:, None]  # (n, 4, 64, 64)
    slopes = slopes.reshape(n, 4, -1)
    normal = slopes @ slopes.transpose(0, 2, 1)
    damping = 1e-3 * np.einsum("nii->ni", normal)[:, :, None] * np.eye(4) + 1e-9 * np.eye(4)
    right = slopes @ residual.reshape(n, -1, 1)
    growth, turn, y, x = np.linalg.solve(normal + damping, right)[:, :, 0].T
    growth, turn = np.clip(growth, -0.05, 0.05), np.clip(turn, -0.05, 0.05)
    step = np.stack([np.stack([1 + growth, turn], -1), np.stack([-turn, 1 + growth], -1)], -2)  # (n, 2, 2)
    by = np.clip(np.stack([y, x], axis=1), -2.0, 2.0)
    return matrix @ step, shift + np.einsum("nij,nj->ni", matrix, by)
