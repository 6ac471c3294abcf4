"""Whether prediction sets hold what they promise, and how large they are."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.signal import fftconvolve
from scipy.stats import betabinom, binomtest

from .intervals import LEVEL
from .prediction_sets import PredictionSets, conformal_rank

Range = tuple[float, float]


def set_scores(
    members: np.ndarray, labels: np.ndarray, classes: Sequence[str], sets: PredictionSets | None = None
) -> dict[str, Any]:
    """Coverage and sizes of prediction sets, ready for JSON.

    members : (N, K) bool; labels : (N,) integers in [0, K), -1 where unknown: such images count in the sizes alone
    sets : how the sets were made, if the images are others than those of their calibration; gives `expected`

    `coverage`: share of the labelled images whose set holds the true class, `interval` its exact binomial interval
    (Clopper & Pearson 1934, Biometrika 26, 404), `expected` the range of `expected_coverage` and `within` whether the
    coverage lies in it; the same for each class, where `expected` needs class-conditional sets. `sizes`: how many sets
    hold 0, 1, ... K classes. `ambiguous`: how many do not hold exactly one.
    """
    known = labels >= 0
    hit = members[np.flatnonzero(known), labels[known]]
    true = labels[known]
    counts = np.bincount(true, minlength=len(classes))
    each = sets is not None and sets.class_conditional
    size = members.sum(axis=1)
    return {
        "coverage": _coverage(hit, expected_coverage(sets, counts) if sets else None),
        "coverage_per_class": {
            name: _coverage(hit[true == k], _expected_of_one(sets, k, int(counts[k])) if sets and each else None)
            for k, name in enumerate(classes)
        },
        "mean_size": float(size.mean()) if len(size) else None,
        "sizes": np.bincount(size, minlength=len(classes) + 1).tolist(),
        "ambiguous": int((size != 1).sum()),
    }


def _coverage(hit: np.ndarray, expected: Range | None) -> dict[str, Any]:
    if not len(hit):
        return {"n": 0, "share": None, "interval": None, "expected": None, "within": None}
    share, interval = float(hit.mean()), binomtest(int(hit.sum()), len(hit)).proportion_ci(LEVEL)
    return {
        "n": len(hit),
        "share": share,
        "interval": [float(interval.low), float(interval.high)],
        "expected": list(expected) if expected else None,
        "within": expected[0] <= share <= expected[1] if expected else None,
    }


def expected_coverage(sets: PredictionSets, counts: np.ndarray) -> Range | None:
    """The range in which the coverage of new images lies in 95 % of cases; None without an image.

    With n calibration images and their rank r = ceil((n + 1) coverage), the number of covered images among m is
    beta-binomial with r and n + 1 - r: thresholds differ with the calibration images, and luck with the new ones
    (Angelopoulos & Bates 2021, section 3.2 and appendix C). Class-conditional sets add up over the classes.

    counts : (K,) new images of each class
    """
    if not counts.sum():
        return None
    groups = counts.tolist() if sets.class_conditional else [int(counts.sum())]
    each = [_distribution(sets, row, m) for row, m in enumerate(groups)]
    return _middle(functools.reduce(fftconvolve, each))


def _expected_of_one(sets: PredictionSets, row: int, m: int) -> Range | None:
    return _middle(_distribution(sets, row, m)) if m else None


def _distribution(sets: PredictionSets, row: int, m: int) -> np.ndarray:
    """(m + 1,) the chance that 0, 1, ... m new images under threshold number `row` are covered."""
    if sets.thresholds[row] is None:  # every class is in every set
        return np.concatenate([np.zeros(m), [1.0]])
    n = sets.n[row]
    rank = conformal_rank(n, sets.coverage)
    return np.asarray(betabinom(m, rank, n + 1 - rank).pmf(np.arange(m + 1)))


def _middle(chance: np.ndarray) -> Range:
    """The middle 95 % of the share, of the chances of 0, 1, ... m."""
    below = np.cumsum(np.clip(chance, 0.0, None))
    tail, m = 0.5 * (1.0 - LEVEL), len(chance) - 1
    low, high = (min(int(np.searchsorted(below, edge * below[-1])), m) for edge in (tail, 1.0 - tail))
    return low / m, high / m
