"""All scores of a set of predictions at once, under many weightings of its images: what a bootstrap repeats.

Nearly every score is a function of sums over images: of hits, of losses, of the images between two thresholds of a
curve. `sort_by_score` says once which image counts in which sum; `weighted_scores` makes all sums of all weightings by
sparse products, so that 2,000 resamples of 10,000 images take seconds. Weights of one give the plain scores.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from .calibration.error import equal_mass_bins, equal_width_bins, number_of_bins, sums_by

TOP = (2, 3)
Scores = dict[str, np.ndarray]  # name -> (R,), or (R, K)


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


def sort_by_score(labels: np.ndarray, probabilities: np.ndarray) -> SortedScores:
    """Sort and bin the predictions once. labels : (N,) integers in [0, K); probabilities : (N, K); N > 0."""
    n, n_classes = probabilities.shape
    predicted = probabilities.argmax(axis=1)
    p_true = probabilities[np.arange(n), labels]
    confidence = probabilities.max(axis=1)
    one_hot = labels[:, None] == np.arange(n_classes)  # (N, K)
    means = {
        "log_loss": -np.log(np.clip(p_true, np.finfo(np.float64).eps, 1.0)),
        "brier": ((probabilities - one_hot) ** 2).sum(axis=1),
    }
    if n_classes > min(TOP):
        place = _place_of_truth(labels, probabilities)
        means |= {f"top_{k}_accuracy": (place < k).astype(np.float64) for k in TOP if n_classes > k}
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


def _place_of_truth(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(N,) how many classes are ranked above the true one; of equal ones the first, as `argmax` has it."""
    p_true = np.take_along_axis(probabilities, labels[:, None], axis=1)
    before = np.arange(probabilities.shape[1]) < labels[:, None]
    return np.asarray(((probabilities > p_true) | ((probabilities == p_true) & before)).sum(axis=1))


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


def weighted_scores(prepared: SortedScores, weights: np.ndarray) -> Scores:
    """Every score under every weighting.

    weights : (N, R) >= 0, R weightings of the N images; of each class present some image must have weight

    Returns name -> (R,), or (R, K) for the scores called `..._per_class`; nan where undefined. With a ratio of nothing
    to nothing counting as 0, these are scikit-learn's scores with `sample_weight` and the classes present as `labels`;
    the classes averaged over are those of all images, whatever the weights. See `metrics.compute_metrics` for each of
    them.
    """
    k = prepared.n_classes
    matrix = (prepared.confusion @ weights).reshape(k, k, -1).transpose(2, 0, 1)  # (K * K, R) -> (R, K, K)
    total = weights.sum(axis=0)  # (R,)
    scores = _confusion_scores(matrix, total, prepared.present)
    scores |= dict(zip(prepared.mean_names, prepared.means @ weights / total, strict=True))
    gaps = np.abs(prepared.gaps @ weights) / total  # (B, R)
    for name, rows in prepared.gap_bins.items():
        scores[name] = gaps[rows].sum(axis=0) / (1 if name == "ece" else prepared.present.sum())
    areas = np.full((2, weights.shape[1], k), np.nan)  # (2, R, K)
    for place, curve in enumerate(prepared.curves):
        if curve is not None:
            areas[:, :, place] = areas_under(curve, weights, total)
    for name, area in zip(("auroc", "average_precision"), areas, strict=True):
        scores |= {f"{name}_per_class": area, f"{name}_macro": _mean_of_defined(area)}
    return scores


def _confusion_scores(matrix: np.ndarray, total: np.ndarray, present: np.ndarray) -> Scores:
    """The scores that follow from the confusion matrices (R, K, K), rows true."""
    hits = matrix.diagonal(axis1=1, axis2=2)  # (R, K)
    true, taken = matrix.sum(axis=2), matrix.sum(axis=1)  # (R, K) images of the class, and taken for it
    recall, precision, f1 = _ratio(hits, true), _ratio(hits, taken), _ratio(2.0 * hits, true + taken)
    expected = (true * taken).sum(axis=1) / total**2  # (R,) agreement by chance
    agreed = hits.sum(axis=1) / total
    spread = (1.0 - (true**2).sum(axis=1) / total**2) * (1.0 - (taken**2).sum(axis=1) / total**2)
    with np.errstate(invalid="ignore", divide="ignore"):
        kappa = np.where(expected < 1.0, (agreed - expected) / (1.0 - expected), np.nan)
        matthews = np.where(spread > 0.0, (agreed - expected) / np.sqrt(spread), 0.0)
    scores = {
        "accuracy": agreed,
        "balanced_accuracy": recall[:, present].mean(axis=1),
        "cohen_kappa": kappa,
        "matthews": matthews,
        "accuracy_per_class": np.where(present, recall, np.nan),
        "precision_per_class": np.where(present, precision, np.nan),
        "f1_per_class": np.where(present, f1, np.nan),
    }
    for name, values in (("precision", precision), ("recall", recall), ("f1", f1)):
        scores[f"macro_{name}"] = values[:, present].mean(axis=1)
        scores[f"weighted_{name}"] = (values * true).sum(axis=1) / total
    return scores


def areas_under(curve: Curve, weights: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(R,) the area under the ROC curve, ties counting one half, and the average precision."""
    hits, tied, between = (curve.sums @ weights).reshape(3, -1, weights.shape[1])  # (G, R) each
    positives = hits.sum(axis=0)  # (R,)
    above = np.cumsum(between + tied, axis=0) - tied  # (G, R) others strictly above the threshold
    losses = (hits * (above + 0.5 * tied)).sum(axis=0)
    found = np.cumsum(hits, axis=0)
    precision = _ratio(found, found + above + tied)
    return 1.0 - losses / (positives * (total - positives)), (hits * precision).sum(axis=0) / positives


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, and 0 where there is nothing."""
    return np.divide(part, whole, out=np.zeros(np.broadcast_shapes(part.shape, whole.shape)), where=whole > 0)


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """(R, K) -> (R,), over the classes that are not nan; nan where all are."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mean of empty slice", category=RuntimeWarning)
        return np.asarray(np.nanmean(values, axis=1))
