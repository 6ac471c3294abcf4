"""The table of the scores of an evaluation, METRICS, and all of them at once under many weightings of the images.

A score is a function of sums over images (`weighted_sums`), so that a bootstrap repeats it in no time. Its row has what
else is known of it: its words, its range, how its interval is made, where it is shown. From the table come
metrics.json, metrics.csv, the lines that are logged, the report, the model card and the comparison.
"""

from __future__ import annotations

import math
import warnings
from functools import partial

import numpy as np

from .metric import PARTS, PER_CLASS, Metric
from .weighted_sums import SortedScores, WeightedSums, sort_and_bin

Scores = dict[str, np.ndarray]  # name -> (R,), or (R, K)


def sort_by_score(labels: np.ndarray, probabilities: np.ndarray) -> SortedScores:
    """Sort and bin the predictions once. labels : (N,) integers in [0, K); probabilities : (N, K); N > 0."""
    means = {
        name: metric.of_images(labels, probabilities)
        for name, metric in METRICS.items()
        if metric.of_images and probabilities.shape[1] >= metric.least_classes
    }
    return sort_and_bin(labels, probabilities, means)


def weighted_scores(prepared: SortedScores, weights: np.ndarray) -> Scores:
    """Every score under every weighting, in the order of METRICS.

    weights : (N, R) >= 0, R weightings of the N images; of each class present some image must have weight

    Returns name -> (R,), or (R, K) for the scores called `..._per_class`; nan where undefined. With a ratio of nothing
    to nothing counting as 0, these are scikit-learn's scores with `sample_weight` and the classes present as `labels`;
    the classes averaged over are those of all images, whatever the weights. See `metrics.compute_metrics` for each of
    them.
    """
    sums = WeightedSums(prepared, weights)
    return {
        name: metric.score(sums) if metric.score else sums.mean(name)
        for name, metric in METRICS.items()
        if prepared.n_classes >= metric.least_classes
    }


def in_report() -> dict[str, Metric]:
    """The scores of all classes that a report shows, in its order."""
    return {
        name: metric
        for part in PARTS
        for name, metric in METRICS.items()
        if metric.part == part and not name.endswith(PER_CLASS)
    }


def metric_name(name: str) -> str:
    """What metrics.csv calls a score, which may be one of another version."""
    row = METRICS[name].row if name in METRICS else ""
    return row or name.removesuffix(PER_CLASS)


def _cohen_kappa(sums: WeightedSums) -> np.ndarray:
    """Cohen 1960, Educational and Psychological Measurement 20, 37."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(sums.expected < 1.0, (sums.agreed - sums.expected) / (1.0 - sums.expected), np.nan)


def _matthews(sums: WeightedSums) -> np.ndarray:
    """Gorodkin 2004, Computational Biology and Chemistry 28, 367, equation 8."""
    true, taken = ((counts**2).sum(axis=1) / sums.total**2 for counts in (sums.true, sums.taken))
    spread = (1.0 - true) * (1.0 - taken)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0.0, (sums.agreed - sums.expected) / np.sqrt(spread), 0.0)


def _log_loss(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    p_true = probabilities[np.arange(len(labels)), labels]
    return np.asarray(-np.log(np.clip(p_true, np.finfo(np.float64).eps, 1.0)))


def _brier(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Brier 1950, Monthly Weather Review 78, 1, equation 2."""
    one_hot = labels[:, None] == np.arange(probabilities.shape[1])  # (N, K)
    return np.asarray(((probabilities - one_hot) ** 2).sum(axis=1))


def _is_among(k: int, labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """(N,) 1 where fewer than k classes are ranked above the true one; of equal ones the first, as `argmax` has it."""
    p_true = np.take_along_axis(probabilities, labels[:, None], axis=1)
    before = np.arange(probabilities.shape[1]) < labels[:, None]
    place = ((probabilities > p_true) | ((probabilities == p_true) & before)).sum(axis=1)
    return np.asarray((place < k).astype(np.float64))


def _area(row: int, sums: WeightedSums) -> np.ndarray:
    return np.asarray(sums.areas[row])


def _mean_area(row: int, sums: WeightedSums) -> np.ndarray:
    """(R,) the mean over the classes whose area is defined; nan where none is."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mean of empty slice", category=RuntimeWarning)
        return np.asarray(np.nanmean(sums.areas[row], axis=1))


METRICS: dict[str, Metric] = {
    "accuracy": Metric(
        words="accuracy",
        meaning="share of the images that are classified rightly",
        score=lambda sums: sums.agreed,
        share_of="all",
        part="classes",
        is_main=True,
        is_compared=True,
        hub=("accuracy", None),
    ),
    "balanced_accuracy": Metric(
        words="balanced accuracy",
        meaning="mean of the classes’ completeness",
        score=lambda sums: sums.macro(sums.recall),
        part="classes",
        is_main=True,
        is_compared=True,
        hub=("balanced_accuracy", None),
    ),
    "cohen_kappa": Metric(
        words="Cohen’s kappa",
        meaning="agreement with the labels beyond chance; 1 is perfect, 0 is luck",
        score=_cohen_kappa,
        low=-1.0,
        part="agreement",
    ),
    "matthews": Metric(
        words="Matthews correlation",
        meaning="correlation with the labels; 1 is perfect, 0 is luck",
        score=_matthews,
        low=-1.0,
        part="agreement",
    ),
    "accuracy_per_class": Metric(
        words="completeness",
        meaning="recall: of the images of the class, those that are taken for it",
        score=lambda sums: sums.of_present(sums.recall),
        share_of="true",
        part="classes",
        row="recall",
    ),
    "precision_per_class": Metric(
        words="purity",
        meaning="precision: of the images taken for the class, those that are",
        score=lambda sums: sums.of_present(sums.precision),
        share_of="taken",
        part="classes",
    ),
    "f1_per_class": Metric(
        words="F1",
        meaning="harmonic mean of completeness and purity",
        score=lambda sums: sums.of_present(sums.f1),
        part="classes",
    ),
    "macro_precision": Metric(
        words="purity, mean of the classes",
        meaning="precision: of the images taken for a class, those that are",
        score=lambda sums: sums.macro(sums.precision),
        part="classes",
    ),
    "weighted_precision": Metric(
        words="purity, mean of the images",
        meaning="that of the classes, weighted by their images",
        score=lambda sums: sums.weighted(sums.precision),
    ),
    "macro_recall": Metric(
        words="completeness, mean of the classes",
        meaning="recall: of the images of a class, those that are taken for it",
        score=lambda sums: sums.macro(sums.recall),
    ),
    "weighted_recall": Metric(
        words="completeness, mean of the images",
        meaning="that of the classes, weighted by their images",
        score=lambda sums: sums.weighted(sums.recall),
    ),
    "macro_f1": Metric(
        words="F1, mean of the classes",
        meaning="harmonic mean of completeness and purity",
        score=lambda sums: sums.macro(sums.f1),
        part="classes",
        is_main=True,
        hub=("f1", {"average": "macro"}),
    ),
    "weighted_f1": Metric(
        words="F1, mean of the images",
        meaning="that of the classes, weighted by their images",
        score=lambda sums: sums.weighted(sums.f1),
    ),
    "log_loss": Metric(
        words="log loss",
        meaning="minus the mean log-probability of the true class, nats",
        of_images=_log_loss,
        high=math.inf,
        higher_is_better=False,
        part="losses",
        is_main=True,
        hub=("log_loss", None),
    ),
    "brier": Metric(
        words="Brier score",
        meaning="squared error of the probabilities, 0 to 2",
        of_images=_brier,
        high=2.0,
        higher_is_better=False,
        part="losses",
        hub=("brier_score", None),
    ),
    **{
        f"top_{k}_accuracy": Metric(
            words=f"top-{k} accuracy",
            meaning=f"the true class is among the {words} most probable",
            of_images=partial(_is_among, k),
            least_classes=k + 1,
            share_of="all",
            part="ranks",
        )
        for k, words in ((2, "two"), (3, "three"))
    },
    "ece": Metric(
        words="ECE",
        meaning="expected calibration error: how far confidence and accuracy part",
        score=lambda sums: sums.gap("ece"),
        higher_is_better=False,
        part="calibration",
        is_main=True,
        is_compared=True,
        hub=("expected_calibration_error", None),
    ),
    "adaptive_ece": Metric(
        words="adaptive ECE",
        meaning="calibration error of the classes’ probabilities, in bins of equal mass",
        score=lambda sums: sums.gap("adaptive_ece") / sums.present.sum(),
        higher_is_better=False,
    ),
    "class_wise_ece": Metric(
        words="class-wise ECE",
        meaning="calibration error of the classes’ probabilities, in bins of equal width",
        score=lambda sums: sums.gap("class_wise_ece") / sums.present.sum(),
        higher_is_better=False,
    ),
    "auroc_per_class": Metric(
        words="AUROC",
        meaning="chance that an image of the class ranks above one of another; 0.5: luck",
        score=partial(_area, 0),
        part="areas",
    ),
    "auroc_macro": Metric(
        words="AUROC, mean of the classes",
        meaning="chance that an image of a class ranks above one of another; 0.5: luck",
        score=partial(_mean_area, 0),
        part="areas",
        short="macro AUROC",
        is_main=True,
        is_compared=True,
        hub=("roc_auc", {"average": "macro", "multi_class": "ovr"}),
    ),
    "average_precision_per_class": Metric(
        words="average precision",
        meaning="area under the precision-recall curve",
        score=partial(_area, 1),
        part="areas",
    ),
    "average_precision_macro": Metric(
        words="average precision",
        meaning="area under the precision-recall curve, mean of the classes",
        score=partial(_mean_area, 1),
        part="areas",
        hub=("average_precision", {"average": "macro"}),
    ),
}
