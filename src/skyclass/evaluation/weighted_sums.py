"""Sums over images under many weightings of them, of which nearly every score is made: what a bootstrap repeats.

Nearly every score is a function of sums over images: of hits, of losses, of the images between two thresholds of a
curve. `sort_and_bin` says once which image counts in which sum; `WeightedSums` makes all sums of all weightings by
sparse products, so that 2,000 resamples of 10,000 images take seconds. Weights of one give the plain scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from .calibration.error import equal_mass_bins, equal_width_bins, number_of_bins, sums_by


@dataclass(frozen=True, eq=False)
class Curve:
    """Of one class against the rest: which images are above each of the G thresholds, one at each image of the class.

    sums : sparse (3 G, N); its rows are the images of the class at each threshold, then the others at the same
        probability, then the others between it and the next higher threshold; thresholds fall
    """

    sums: sparse.csr_matrix


@dataclass(frozen=True, eq=False)
class SortedScores:
    """Which image counts in which sum.

    n_classes : K
    present : (K,) whether a class has an image among the labels: the classes that every mean is taken over
    confusion : sparse (K * K, N), the cell of each image
    means : (M, N) values whose weighted means are scores, called `mean_names`
    gaps : sparse (B, N) outcome minus prediction in the bins of each calibration error; `gap_bins` are the rows of each
    curves : one a class, None where the class has no image or has them all
    """

    n_classes: int
    present: np.ndarray
    confusion: sparse.csr_matrix
    mean_names: tuple[str, ...]
    means: np.ndarray
    gaps: sparse.csr_matrix
    gap_bins: dict[str, slice]
    curves: list[Curve | None]


def sort_and_bin(labels: np.ndarray, probabilities: np.ndarray, means: Mapping[str, np.ndarray]) -> SortedScores:
    """Sort and bin the predictions once.

    labels : (N,) integers in [0, K); probabilities : (N, K); N > 0
    means : name -> (N,) values whose weighted mean is a score; at least one
    """
    n, n_classes = probabilities.shape
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    one_hot = labels[:, None] == np.arange(n_classes)  # (N, K)
    counts = np.bincount(labels, minlength=n_classes)
    present = counts > 0
    gaps, gap_bins = _gaps(labels == predicted, one_hot[:, present], probabilities[:, present], confidence)
    return SortedScores(
        n_classes=n_classes,
        present=present,
        confusion=sums_by(labels * n_classes + predicted, np.ones(n), n_classes**2),
        mean_names=tuple(means),
        means=np.stack(list(means.values())),
        gaps=gaps,
        gap_bins=gap_bins,
        curves=[curve_of(one_hot[:, k], probabilities[:, k]) if 0 < counts[k] < n else None for k in range(n_classes)],
    )


def _gaps(
    right: np.ndarray, one_hot: np.ndarray, probabilities: np.ndarray, confidence: np.ndarray
) -> tuple[sparse.csr_matrix, dict[str, slice]]:
    """The sums of which the calibration errors are made (`calibration.error.binned_gap`), and the rows of each.

    one_hot, probabilities : (N, P), those of the classes present
    """
    n, n_present = probabilities.shape
    bins = number_of_bins(n)
    blocks = [sums_by(equal_mass_bins(confidence, bins), right - confidence, bins)]
    for cut in (equal_mass_bins, equal_width_bins):
        blocks += [sums_by(cut(p, bins), one_hot[:, k] - p, bins) for k, p in enumerate(probabilities.T)]
    every = n_present * bins
    rows = {"ece": slice(0, bins), "adaptive_ece": slice(bins, bins + every)}
    return sparse.vstack(blocks, format="csr"), rows | {"class_wise_ece": slice(bins + every, bins + 2 * every)}


def curve_of(positive: np.ndarray, p: np.ndarray) -> Curve:
    """positive : (N,) bool, some but not all; p : (N,) the class's probability."""
    thresholds = np.unique(p[positive])  # (G,) rising
    n_thresholds = len(thresholds)
    at = np.searchsorted(thresholds, p, side="right") - 1  # the highest threshold that is not above p; -1: none
    equal = (at >= 0) & (thresholds[np.maximum(at, 0)] == p)
    falling = n_thresholds - 1 - at
    part = np.where(positive, 0, np.where(equal, 1, 2))
    counted = at >= 0  # images below all thresholds change neither curve
    rows = (part * n_thresholds + falling)[counted]
    columns = np.flatnonzero(counted)
    sums = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(3 * n_thresholds, len(p)))
    return Curve(sums)


@dataclass(frozen=True, eq=False)
class WeightedSums:
    """The sums under R weightings of the images; each is made when a score first asks for it.

    weights : (N, R) >= 0; of each class present some image must have weight
    """

    prepared: SortedScores
    weights: np.ndarray

    @cached_property
    def total(self) -> np.ndarray:
        """(R,) the weight of all images."""
        return np.asarray(self.weights.sum(axis=0))

    @property
    def present(self) -> np.ndarray:
        """(K,) bool: the classes that every mean over classes is taken over, whatever the weights."""
        return self.prepared.present

    @cached_property
    def confusion(self) -> np.ndarray:
        """(R, K, K) weight of the images of each class (rows) that are taken for each (columns)."""
        k = self.prepared.n_classes
        return np.asarray((self.prepared.confusion @ self.weights).reshape(k, k, -1).transpose(2, 0, 1))

    @cached_property
    def hits(self) -> np.ndarray:
        """(R, K) weight of the images of each class that are recognised."""
        return self.confusion.diagonal(axis1=1, axis2=2)

    @cached_property
    def true(self) -> np.ndarray:
        """(R, K) weight of the images of each class."""
        return np.asarray(self.confusion.sum(axis=2))

    @cached_property
    def taken(self) -> np.ndarray:
        """(R, K) weight of the images that are taken for each class."""
        return np.asarray(self.confusion.sum(axis=1))

    @cached_property
    def agreed(self) -> np.ndarray:
        """(R,) share of the images whose predicted class is the true one."""
        return np.asarray(self.hits.sum(axis=1) / self.total)

    @cached_property
    def expected(self) -> np.ndarray:
        """(R,) that share by chance."""
        return np.asarray((self.true * self.taken).sum(axis=1) / self.total**2)

    @cached_property
    def recall(self) -> np.ndarray:
        """(R, K) share of the images of each class that are taken for it."""
        return ratio(self.hits, self.true)

    @cached_property
    def precision(self) -> np.ndarray:
        """(R, K) share of the images taken for each class that are of it."""
        return ratio(self.hits, self.taken)

    @cached_property
    def f1(self) -> np.ndarray:
        """(R, K) harmonic mean of recall and precision."""
        return ratio(2.0 * self.hits, self.true + self.taken)

    def macro(self, values: np.ndarray) -> np.ndarray:
        """(R, K) -> (R,) the mean over the classes present."""
        return np.asarray(values[:, self.present].mean(axis=1))

    def weighted(self, values: np.ndarray) -> np.ndarray:
        """(R, K) -> (R,) the mean over the images, each with the value of its class."""
        return np.asarray((values * self.true).sum(axis=1) / self.total)

    def of_present(self, values: np.ndarray) -> np.ndarray:
        """(R, K) values, nan for the classes absent from the labels."""
        return np.where(self.present, values, np.nan)

    def mean(self, name: str) -> np.ndarray:
        """(R,) the weighted mean of the values called so."""
        return np.asarray(self._means[self.prepared.mean_names.index(name)])

    def gap(self, name: str) -> np.ndarray:
        """(R,) the sum of the gaps in the bins of the calibration error called so."""
        return np.asarray(self._gaps[self.prepared.gap_bins[name]].sum(axis=0))

    @cached_property
    def areas(self) -> np.ndarray:
        """(2, R, K) the areas under the ROC curve and under the precision-recall curve; nan where undefined."""
        areas = np.full((2, self.weights.shape[1], self.prepared.n_classes), np.nan)
        for place, curve in enumerate(self.prepared.curves):
            if curve is not None:
                areas[:, :, place] = areas_under(curve, self.weights, self.total)
        return areas

    @cached_property
    def _means(self) -> np.ndarray:
        return np.asarray(self.prepared.means @ self.weights / self.total)  # (M, R)

    @cached_property
    def _gaps(self) -> np.ndarray:
        return np.asarray(np.abs(self.prepared.gaps @ self.weights) / self.total)  # (B, R)


def areas_under(curve: Curve, weights: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R,) the area under the ROC curve, ties counting one half, and the average precision."""
    hits, tied, between = (curve.sums @ weights).reshape(3, -1, weights.shape[1])  # (G, R) each
    positives = hits.sum(axis=0)  # (R,)
    above = np.cumsum(between + tied, axis=0) - tied  # (G, R) others strictly above the threshold
    losses = (hits * (above + 0.5 * tied)).sum(axis=0)
    found = np.cumsum(hits, axis=0)
    precision = ratio(found, found + above + tied)
    return 1.0 - losses / (positives * (total - positives)), (hits * precision).sum(axis=0) / positives


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, and 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros(np.broadcast_shapes(part.shape, whole.shape)), where=whole > 0)
