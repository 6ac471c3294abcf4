"""Verify that two aligned pictures are one, at twice the resolution and against unrelated pictures.

Two planets agree in most of what they show: a bright disk, its limb, the dark sky. So do two lenses, or two radio
sources. What such strangers share looks nearly the same in a mirror. So each pair brings a stranger of its own: the
first picture in the other parity, aligned with the second as well as it can be. A copy differs by noise alone, the
mirror image by all that tells the picture from others of its kind; among strangers the mirror image comes as near as
the picture itself. `distance` compares the two. It needs no other image, so it holds in the smallest set too. A picture
that a mirror does not change has nothing to be told by, and is never claimed.

That leaves strangers that do show the same, such as two photographs of the Moon. They differ by a smooth change
(another libration, another shadow), a copy by grain. So the pictures are compared blurred as well, where grain
vanishes: `agreement`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .alignment import warp
from .fingerprints import DETAIL, SIDE, disc, flatten

_MARGIN = 6.0  # pixels of the detail at the edge of either picture that do not count: the flattening reaches across
_FINE = {"fine": 2.5, "local": 6.0, "floor": 4.0}
_COARSE = {"fine": 5.0, "local": 12.0, "floor": 1.0, "smooth": 1.5}
_LEAST = 0.25  # of the disc that both pictures must show
_INDISTINCT = 2e-3  # 1 - correlation within the noise of rounding and the resampling of the alignment
_CENTRE = (DETAIL - 1) / 2
_Y, _X = np.broadcast_arrays(*np.ogrid[-_CENTRE : _CENTRE + 1, -_CENTRE : _CENTRE + 1])


class Verification(NamedTuple):
    """Of n pairs, each (n,).

    agreement : correlation of the blurred pictures, -1..1
    fine : that of the pictures as they are
    distance : how far `fine` lies from 1, in units of how far that of the mirror image does: near 0 for copies, about 1
        for strangers, more where the alignment went wrong
    """

    agreement: np.ndarray
    fine: np.ndarray
    distance: np.ndarray


class Placed(NamedTuple):
    """Matrices (n, 2, 2) and shifts (n, 2) of `alignment.Alignment`, for whole pictures of SIDE pixels."""

    matrix: np.ndarray
    shift: np.ndarray


def levels(details: np.ndarray) -> np.ndarray:
    """(n, 128, 128) details -> (n, 2, 128, 128) float32: flattened as they are, and blurred before."""
    return np.stack([flatten(details, **_FINE), flatten(details, **_COARSE)], axis=1)


def verify(first: np.ndarray, second: np.ndarray, straight: Placed, mirrored: Placed) -> Verification:
    """Compare n pairs, given their `levels` and how `first` lies on `second`, in its own parity and in the other."""
    own = _correlations(first, second, straight)
    other = _correlations(first[:, :1], second[:, :1], mirrored)[:, 0]
    fine, agreement = own.T
    return Verification(agreement, fine, (1.0 - fine + _INDISTINCT) / (1.0 - other + _INDISTINCT))


def _correlations(first: np.ndarray, second: np.ndarray, placed: Placed) -> np.ndarray:
    """(n, L) correlations of all L levels where the pictures overlap; -1 where they hardly do."""
    matrix, shift = placed.matrix, placed.shift * (DETAIL / SIDE)
    result = np.full(first.shape[:2], -1.0)
    weights = [_overlap(*one) for one in zip(matrix, shift, strict=True)]
    shown = [np.count_nonzero(weight) >= _LEAST * np.count_nonzero(disc(DETAIL)) for weight in weights]
    for level in range(first.shape[1]):
        moved = warp(first[:, level], matrix, shift)
        for k in np.flatnonzero(shown):
            result[k, level] = _correlation(moved[k][weights[k]], second[k, level][weights[k]])
    return result


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Of two vectors; 0 where one of them is constant."""
    one, other = one - one.mean(), other - other.mean()
    return float(one @ other) / max(float(np.sqrt((one @ one) * (other @ other))), 1e-9)


def _overlap(matrix: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """(128, 128) bool: pixels of the second picture's disc that lie in the first one, both without their margins."""
    y = matrix[0, 0] * _Y + matrix[0, 1] * _X + shift[0]
    x = matrix[1, 0] * _Y + matrix[1, 1] * _X + shift[1]
    reach = _CENTRE - _MARGIN
    inside = (np.abs(y) <= reach) & (np.abs(x) <= reach)
    return np.asarray(inside & (np.abs(_Y) <= reach) & (np.abs(_X) <= reach) & disc(DETAIL))
