"""How good a classifier is: scores from true labels and predicted probabilities.

The small functions take integer labels and are cheap enough for every epoch; `compute_metrics` takes class names,
checks what it is given, and gives every score there is, with 95 % intervals on request (`bootstrap_scores`). An
undefined score is nan in the small functions and None in `compute_metrics`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import entr
from scipy.stats import rankdata
from sklearn.metrics import classification_report as sklearn_report

from ..core.errors import SkyclassError
from .bootstrap import BootstrapScores, bootstrap_scores, scores_of
from .intervals import LEVEL, ends
from .weighted_metrics import Scores

# Probabilities that went through float16 or a text file still pass; logits and percentages do not.
SUM_TOLERANCE = 1e-3


def accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of images whose most probable class is the true one.

    labels : (N,) integers in [0, K); probabilities : (N, K). Returns a float in [0, 1], nan for N = 0.
    """
    hits = labels == probabilities.argmax(axis=1)
    return float(hits.mean()) if len(hits) else math.nan


def recall_per_class(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Share of each true class that is recognised (the accuracy of the class).

    labels : (N,) integers in [0, K); probabilities : (N, K). Returns (K,) in [0, 1], nan where a class has no image.
    """
    matrix = confusion_matrix(labels, probabilities)
    images = matrix.sum(axis=1)
    return np.where(images > 0, matrix.diagonal() / np.maximum(images, 1), np.nan)


def balanced_accuracy(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean recall over the classes that are present in `labels`, as scikit-learn defines it.

    labels : (N,) integers in [0, K); probabilities : (N, K). Returns a float in [0, 1], nan for N = 0.
    """
    return _mean_of_defined(recall_per_class(labels, probabilities))


def macro_f1(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean F1 over the classes that are present in `labels`, the same that `balanced_accuracy` averages over.

    F1 is the harmonic mean of precision and recall, 2 hits / (images of the class + images taken for it).

    labels : (N,) integers in [0, K); probabilities : (N, K). Returns a float in [0, 1], nan for N = 0.
    """
    matrix = confusion_matrix(labels, probabilities)
    images, taken = matrix.sum(axis=1), matrix.sum(axis=0)  # (K,) each
    return _mean_of_defined(np.where(images > 0, 2.0 * matrix.diagonal() / np.maximum(images + taken, 1), np.nan))


def confusion_matrix(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Number of images of each true class (rows) that are taken for each class (columns).

    labels : (N,) integers in [0, K); probabilities : (N, K). Returns (K, K) integers.
    """
    n_classes = probabilities.shape[1]
    cells = np.bincount(labels * n_classes + probabilities.argmax(axis=1), minlength=n_classes**2)
    return cells.reshape(n_classes, n_classes)  # (K * K,) -> (K, K)


def auroc_per_class(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class against the rest.

    It is the chance that an image of the class gets a higher probability than one of the rest, ties counting one half:
    the Mann-Whitney statistic over the number of pairs (Hanley & McNeil 1982, Radiology 143, 29, section III).

    labels : (N,) integers in [0, K); probabilities : (N, K).
    Returns (K,) in [0, 1], nan where a class has no image, has them all, or has a probability that is nan.
    """
    n_images, n_classes = probabilities.shape
    positives = np.bincount(labels, minlength=n_classes).astype(float)  # (K,)
    negatives = n_images - positives
    if n_images == 0:
        return np.full(n_classes, np.nan)
    ranks = rankdata(probabilities, axis=0)  # (N, K), nan through a column that holds one
    rank_sum = np.where(labels[:, None] == np.arange(n_classes), ranks, 0.0).sum(axis=0)  # (K,)
    pairs = positives * negatives
    wins = rank_sum - positives * (positives + 1.0) / 2.0
    return np.where(pairs > 0, wins / np.maximum(pairs, 1.0), np.nan)


def auroc_macro(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of `auroc_per_class` over the classes for which it is defined.

    labels : (N,) integers in [0, K); probabilities : (N, K). Returns a float in [0, 1], nan where no class has one.
    """
    return _mean_of_defined(auroc_per_class(labels, probabilities))


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean of -ln p(true class), in nats; a probability of zero counts as the machine epsilon of float64.

    labels : (N,) integers in [0, K); probabilities : (N, K). Returns a float >= 0, nan for N = 0.
    """
    if len(labels) == 0:
        return math.nan
    p_true = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.clip(p_true, np.finfo(np.float64).eps, 1.0)).mean())


def entropy_uncertainty(probabilities: np.ndarray) -> np.ndarray:
    """Predictive entropy over its largest possible value, -sum_k p_k ln p_k / ln K (Shannon 1948, section 6).

    probabilities : (N, K), rows that sum to one. Returns (N,) in [0, 1]: 0 is one certain class, 1 is all classes
    alike; with a single class it is 0.
    """
    n_images, n_classes = probabilities.shape
    if n_classes == 1:
        return np.zeros(n_images)
    return np.clip(entr(probabilities.astype(np.float64)).sum(axis=1) / math.log(n_classes), 0.0, 1.0)


def compute_metrics(
    labels: Iterable[object], probabilities: np.ndarray, classes: Sequence[str], *, resamples: int = 0, seed: int = 0
) -> dict[str, Any]:
    """All scores of a set of predictions, ready for JSON.

    labels : (N,) class names; a row whose label is None, nan or empty is left out and counted in `n_unlabelled`
    probabilities : (N, K), each labelled row in [0, 1] and summing to one
    classes : the K class names, in the order of the columns
    resamples : of the images, for 95 % intervals; 0 for none

    The scores are those of `weighted_metrics.METRICS`. One number each: `accuracy`, `balanced_accuracy`; `macro_` and
    `weighted_precision`, `_recall` and `_f1` (weighted by the images of each class); `auroc_macro`, the mean area under
    the ROC curve of a class against the rest, and `average_precision_macro`, that under the precision-recall curve (sum
    of precision times gain in recall); `log_loss` in nats; `brier`, the squared error summed over the classes, 0 to 2
    (Brier 1950, Monthly Weather Review 78, 1, equation 2); `top_2_accuracy` and `top_3_accuracy` where there are more
    classes; `cohen_kappa` (Cohen 1960, Educational and Psychological Measurement 20, 37) and `matthews` (Gorodkin 2004,
    Computational Biology and Chemistry 28, 367, equation 8), the agreement beyond chance; `ece`, `adaptive_ece` and
    `class_wise_ece`, the calibration errors (`calibration_error`). A class each: `accuracy_per_class` (the recall),
    `precision_per_class`, `f1_per_class`, `auroc_per_class`, `average_precision_per_class`.

    With resamples also `intervals`, from the name of each score to [low, high], or None where the images do not show
    how it varies; `bootstrap`, how they were made; and `ece_by_chance` and its sisters, the mean calibration errors
    that a calibrated classifier with the same probabilities would show on as many images, whose intervals hold the
    middle 95 % of them.

    Every mean over classes, in all scores, is over those that are present in the labels, which `averaged_over` names;
    an absent class has no scores of its own (None), whatever is taken for it. A ratio of nothing to nothing is 0.
    Where the labels are all of one class, areas are None; so is `cohen_kappa` where labels and predictions are all one
    class, where `matthews` is 0. `confusion_matrix` has a row for each true and a column for each predicted class, in
    the order of `classes`.

    Errors: SkyclassError for shapes that do not fit, labels outside `classes`, rows that are not probabilities, and
    when no row has a label.
    """
    indices, p, n_unlabelled = labelled_rows(labels, probabilities, classes)
    bootstrapped = bootstrap_scores(indices, p, resamples, seed) if resamples else None
    return {
        "n": len(indices),
        "n_unlabelled": n_unlabelled,
        **_plain(bootstrapped.scores if bootstrapped else scores_of(indices, p), classes),
        "confusion_matrix": confusion_matrix(indices, p).tolist(),
        "classes": [str(name) for name in classes],
        "averaged_over": [str(classes[k]) for k in np.unique(indices)],
        **(_certainty(bootstrapped, classes) if bootstrapped else {}),
    }


def _plain(scores: Scores, classes: Sequence[str]) -> dict[str, Any]:
    """Scores as numbers, and as dictionaries of the classes; None for nan."""
    return {
        name: _by_class(classes, values) if values.ndim else _none_if_nan(float(values))
        for name, values in scores.items()
    }


def _certainty(bootstrapped: BootstrapScores, classes: Sequence[str]) -> dict[str, Any]:
    """The intervals, how they were made, and what chance gives."""
    intervals: dict[str, Any] = {}
    for name in bootstrapped.scores:
        low, high = bootstrapped.low[name], bootstrapped.high[name]  # () or (K,)
        found = [ends(*pair) for pair in zip(np.atleast_1d(low), np.atleast_1d(high), strict=True)]
        intervals[name] = dict(zip(map(str, classes), found, strict=True)) if np.ndim(low) else found[0]
    how = {
        "resamples": bootstrapped.resamples,
        "seed": bootstrapped.seed,
        "level": LEVEL,
        "stratified_by": "true class",
    }
    by_chance = {f"{name}_by_chance": value for name, value in bootstrapped.by_chance.items()}
    intervals |= {f"{name}_by_chance": both for name, both in bootstrapped.by_chance_range.items()}
    return {**by_chance, "intervals": intervals, "bootstrap": how}


def classification_report(labels: Iterable[object], probabilities: np.ndarray, classes: Sequence[str]) -> str:
    """Precision, recall, F1 and number of images of each class as text, laid out as scikit-learn does.

    Takes what `compute_metrics` takes and averages as it does: classes without an image are left out.
    """
    indices, p, _ = labelled_rows(labels, probabilities, classes)
    predicted, present = p.argmax(axis=1), np.unique(indices)
    names = [str(classes[k]) for k in present]
    report = str(sklearn_report(indices, predicted, labels=present, target_names=names, digits=4, zero_division=0.0))
    if np.isin(predicted, present).all():
        return report
    # Where absent ones are predicted too, scikit-learn averages over hits ("micro avg") in place of the accuracy.
    lines = report.split("\n")
    place = next(k for k, line in enumerate(lines) if line.lstrip().startswith("micro avg"))
    width = lines[place].index("micro avg") + len("micro avg")
    lines[place] = f"{'accuracy':>{width}}{'':22}{(indices == predicted).mean():9.4f}{len(indices):10d}"
    return "\n".join(lines)


def labelled_rows(
    labels: Iterable[object], probabilities: np.ndarray, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, int]:
    """The rows that have a label, checked: integer labels (M,), probabilities (M, K) float64, and the number left out.

    Errors: as `compute_metrics`, which see.
    """
    names = pd.Series(list(labels), dtype=object)
    p = np.asarray(probabilities, dtype=np.float64)
    if len(set(classes)) != len(classes):
        raise SkyclassError(f"class names repeat: {', '.join(map(str, classes))}", fix="give each class once")
    if p.shape != (len(names), len(classes)):
        raise SkyclassError(
            f"{len(names)} labels and {len(classes)} classes do not fit probabilities of shape {p.shape}",
            fix="give one row an image and one column a class",
        )
    known = (names.where(names.notna(), "") != "").to_numpy()
    if not known.any():
        raise SkyclassError("no row has a label", fix="evaluate on a catalog with a filled label column")
    index_of = {name: k for k, name in enumerate(classes)}
    unknown = sorted({str(name) for name in names[known] if name not in index_of})
    if unknown:
        raise SkyclassError(
            f"labels that the classifier does not know: {', '.join(map(repr, unknown[:10]))}",
            fix=f"leave these rows out or rename them; the classes are {', '.join(map(str, classes))}",
        )
    _check_probabilities(p, known)
    indices = np.array([index_of[name] for name in names[known]], dtype=np.int64)
    return indices, p[known], int((~known).sum())


def _check_probabilities(probabilities: np.ndarray, known: np.ndarray) -> None:
    """Refuse labelled rows that are not distributions; unlabelled ones, often unreadable images, may be nan."""
    # Comparisons with nan are False, so nan fails both tests.
    in_range = ((probabilities >= 0.0) & (probabilities <= 1.0 + SUM_TOLERANCE)).all(axis=1)
    sums_to_one = np.abs(probabilities.sum(axis=1) - 1.0) <= SUM_TOLERANCE
    wrong = np.flatnonzero(known & ~(in_range & sums_to_one))
    if len(wrong):
        row = ", ".join(f"{value:.4g}" for value in probabilities[wrong[0]][:10])
        raise SkyclassError(
            f"{len(wrong)} labelled rows are not probabilities that sum to one, the first is [{row}]",
            where=f"row {wrong[0]}",
            fix="give softmax probabilities, and leave out the images that could not be read",
        )


def _mean_of_defined(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


def _none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _by_class(classes: Sequence[str], values: np.ndarray) -> dict[str, float | None]:
    return {str(name): _none_if_nan(value) for name, value in zip(classes, values, strict=True)}
