"""How far probabilities can be taken at their word: calibration errors, and the bins of a reliability diagram.

An image's confidence is the probability of its predicted class; a classifier is calibrated when of all images with
confidence 0.8 four in five are right. The error is estimated in bins. Bins of equal mass hold equally many images each,
so that none is empty and all are equally certain (Nguyen & O'Connor 2015, EMNLP 1587, section 3; Nixon et al. 2019,
section 3.3). Equal probabilities never part: they share the bin of their mean rank, so that no score depends on the
order of the images, and bins can be of unequal size where there are ties.

All functions take labels (N,) of integers in [0, K) and probabilities (N, K) that sum to one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.stats import rankdata

from ..intervals import wilson_interval

BINS = 15
Cut = Callable[[np.ndarray, int], np.ndarray]  # values (N,), bins -> the bin of each
_CHUNK = 2**19  # images times draws at a time
LEAST_IN_BIN = 10  # images; with fewer the error would be mostly noise


class ReliabilityBins(NamedTuple):
    """What a reliability diagram shows, (B,) each: the bins that hold images, by rising confidence.

    low, high : the least and the largest confidence of the bin's images
    confidence : their mean confidence
    accuracy : the share that is right
    n_images : how many they are
    accuracy_low, accuracy_high : the 95 % Wilson interval of the accuracy
    """

    low: np.ndarray
    high: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    n_images: np.ndarray
    accuracy_low: np.ndarray
    accuracy_high: np.ndarray


def number_of_bins(n_images: int, bins: int = BINS) -> int:
    """`bins`, or as many fewer as leave `LEAST_IN_BIN` images in each; at least one."""
    return max(1, min(bins, n_images // LEAST_IN_BIN))


def equal_mass_bins(values: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each value, in [0, bins): equally many in each but for ties, which share the bin of their mean rank.

    values : (N,). Returns (N,) integers.
    """
    ranks = rankdata(values) - 0.5  # mean ranks, in (0, N)
    return np.minimum((ranks * bins / max(len(values), 1)).astype(np.int64), bins - 1)


def equal_width_bins(values: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each value when [0, 1] is cut into equal pieces; (N,) in [0, 1] -> (N,) integers in [0, bins)."""
    return np.clip((values * bins).astype(np.int64), 0, bins - 1)


def binned_gap(outcomes: np.ndarray, predicted: np.ndarray, bin_of: np.ndarray) -> float:
    """sum_b (n_b / N) |mean outcome - mean prediction| over the bins: Guo et al. 2017, ICML 1321, equation 3.

    outcomes : (N,) 0 or 1; predicted : (N,) in [0, 1]; bin_of : (N,) integers >= 0. Returns a float in [0, 1], nan for
    N = 0. The counts cancel: it is sum_b |sum of (outcome - prediction) in b| / N.
    """
    if not len(outcomes):
        return math.nan
    gaps = np.bincount(bin_of, weights=outcomes - predicted)
    return float(np.abs(gaps).sum() / len(outcomes))


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """ECE of the predicted class: mean gap between confidence and accuracy, in bins of equal mass.

    Guo et al. 2017, equation 3, with the bins of Nguyen & O'Connor 2015. Fewer bins for fewer than 10 images a bin.
    Returns a float in [0, 1], nan for N = 0. It is never negative, hence too large on few images: noise alone gives
    about 0.4 sqrt(bins / N) where half the predictions are right.
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    return binned_gap(right, confidence, equal_mass_bins(confidence, number_of_bins(len(labels), bins)))


def adaptive_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """ACE: the gap of the probability of every class that is present, in bins of equal mass; mean over these classes.

    Nixon et al. 2019, "Measuring Calibration in Deep Learning" (CVPR workshops, 38), equation 4; bins are weighted by
    their images, which differ only where probabilities tie. Returns a float in [0, 1], nan for N = 0.
    """
    return _mean_over_classes(labels, probabilities, bins, equal_mass_bins)


def class_wise_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> float:
    """Class-wise ECE: the gap of every class's probability in bins of equal width; mean over the classes present.

    Kull et al. 2019, "Beyond temperature scaling" (NeurIPS), equation 3. Most probabilities of many classes are small
    and share the first bin: the adaptive error tells these apart. Returns a float in [0, 1], nan for N = 0.
    """
    return _mean_over_classes(labels, probabilities, bins, equal_width_bins)


def _mean_over_classes(labels: np.ndarray, probabilities: np.ndarray, bins: int, cut: Cut) -> float:
    bins = number_of_bins(len(labels), bins)
    columns = [(k, probabilities[:, k]) for k in np.unique(labels)]
    return float(np.mean([binned_gap(labels == k, p, cut(p, bins)) for k, p in columns])) if columns else math.nan


def errors_if_calibrated(
    probabilities: np.ndarray, draws: int = 500, seed: int = 0, bins: int = BINS, classes: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The errors that chance alone gives: those of labels drawn from the probabilities themselves.

    Broecker & Smith 2007, Weather and Forecasting 22, 651 (consistency resampling). An error within these is
    no evidence of miscalibration. probabilities : (N, K), N > 0; classes : those that the errors of classes are
    averaged over, all where None. Returns `ece`, `adaptive_ece` and `class_wise_ece`, (draws,) each.
    """
    n, n_classes = probabilities.shape
    averaged = range(n_classes) if classes is None else classes
    bins = number_of_bins(n, bins)
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    of_top = sums_by(equal_mass_bins(confidence, bins), np.ones(n), bins)
    cuts: dict[str, Cut] = {"adaptive_ece": equal_mass_bins, "class_wise_ece": equal_width_bins}
    of_classes = {
        name: {k: sums_by(cut(probabilities[:, k], bins), np.ones(n), bins) for k in averaged}
        for name, cut in cuts.items()
    }
    below = probabilities.cumsum(axis=1)[:, :-1]  # (N, K - 1)
    random = np.random.default_rng(seed)
    parts: list[np.ndarray] = []
    at_a_time = int(np.clip(_CHUNK // n, 1, draws))
    for start in range(0, draws, at_a_time):
        chance = random.random((n, min(at_a_time, draws - start)))  # (N, D)
        labels = sum((edge[:, None] < chance for edge in below.T), np.zeros(chance.shape, np.int64))  # (N, D)
        errors = [_absolute(of_top, (labels == predicted[:, None]) - confidence[:, None])]
        for sums in of_classes.values():
            gaps = [_absolute(one, (labels == k) - probabilities[:, k, None]) for k, one in sums.items()]
            errors.append(np.mean(gaps, axis=0))
        parts.append(np.stack(errors))
    return dict(zip(("ece", *cuts), np.concatenate(parts, axis=1) / n, strict=True))


def _absolute(sums: sparse.csr_matrix, gaps: np.ndarray) -> np.ndarray:
    """sum_b |sum of the gaps in bin b|; sums (B, N), gaps (N, D). Returns (D,)."""
    return np.asarray(np.abs(sums @ gaps).sum(axis=0))


def sums_by(row_of: np.ndarray, values: np.ndarray, n_rows: int) -> sparse.csr_matrix:
    """A sparse (n_rows, N) by which image i adds its value to the sum row_of[i]."""
    return sparse.csr_matrix((values, (row_of, np.arange(len(row_of)))), shape=(n_rows, len(row_of)))


def reliability_bins(labels: np.ndarray, probabilities: np.ndarray, bins: int = BINS) -> ReliabilityBins:
    """Confidence against accuracy in the bins of `expected_calibration_error`, for a reliability diagram.

    DeGroot & Fienberg 1983, The Statistician 32, 12. No bin for N = 0.
    """
    confidence = probabilities.max(axis=1)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    bin_of = equal_mass_bins(confidence, number_of_bins(len(labels), bins))
    filled, bin_of = np.unique(bin_of, return_inverse=True)
    count = np.bincount(bin_of, minlength=len(filled))
    hits = np.bincount(bin_of, weights=right, minlength=len(filled))
    order = np.argsort(confidence, kind="stable")
    begin = np.cumsum(count) - count  # (B,): sorted by confidence, the images of a bin are neighbours
    low, high = wilson_interval(hits, count)
    return ReliabilityBins(
        low=confidence[order[begin]],
        high=confidence[order[begin + count - 1]],
        confidence=np.bincount(bin_of, weights=confidence, minlength=len(filled)) / count,
        accuracy=hits / count,
        n_images=count,
        accuracy_low=low,
        accuracy_high=high,
    )
