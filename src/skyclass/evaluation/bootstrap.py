"""Scores with their intervals: one bootstrap of the images for all of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .calibration.error import errors_if_calibrated
from .intervals import (
    LEVEL,
    RESAMPLES,
    SEED,
    affordable_resamples,
    bootstrap,
    debiased_interval,
    percentile_interval,
    wilson_interval,
)
from .metric import PER_CLASS
from .weighted_metrics import METRICS, Scores, in_report, metric_name, sort_by_score, weighted_scores

_DRAWS = 500  # of labels, to see what a calibrated classifier shows by chance


class BootstrapScores(NamedTuple):
    """Scores by name, and how certain they are.

    scores : () each, or (K,) for those called `..._per_class`; nan where undefined
    low, high : ends of the 95 % intervals, shaped as the scores; nan where there is none
    samples : the scores of every resample, (R,) or (R, K)
    by_chance : the mean calibration errors of a calibrated classifier with these probabilities
    by_chance_range : the interval that holds the central 95 % of them
    resamples, seed : of the bootstrap
    """

    scores: Scores
    low: Scores
    high: Scores
    samples: Scores
    by_chance: dict[str, float]
    by_chance_range: dict[str, list[float]]
    resamples: int
    seed: int


def scores_of(labels: np.ndarray, probabilities: np.ndarray) -> Scores:
    """All scores that `weighted_scores` names, () or (K,) each. labels : (N,), N > 0; probabilities : (N, K)."""
    every = weighted_scores(sort_by_score(labels, probabilities), np.ones((len(labels), 1)))
    return {name: values[0] for name, values in every.items()}


def bootstrap_scores(
    labels: np.ndarray, probabilities: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED
) -> BootstrapScores:
    """Scores and their 95 % intervals from a bootstrap of the images, stratified by true class.

    Percentile intervals; of the calibration errors `debiased_interval`. A share of which every resample is the same
    (a class of one image, or one that is always recognised) has Wilson's interval, any other such score has none.

    labels : (N,) integers in [0, K), N > 0; probabilities : (N, K) that sum to one. Above 20,000 images there are fewer
    resamples. The same labels and seed draw the same images, so that the samples of two classifiers are paired.
    """
    n, n_classes = probabilities.shape
    prepared, scores = sort_by_score(labels, probabilities), scores_of(labels, probabilities)
    resamples = affordable_resamples(n, resamples)
    samples = bootstrap(labels, lambda w: weighted_scores(prepared, w), resamples, seed)
    by_chance = errors_if_calibrated(probabilities, affordable_resamples(n, _DRAWS), seed, classes=np.unique(labels))
    counts = {
        "all": np.array(n),
        "true": np.bincount(labels, minlength=n_classes),
        "taken": np.bincount(probabilities.argmax(axis=1), minlength=n_classes),
    }
    low: Scores = {}
    high: Scores = {}
    for name, score in scores.items():
        if name in by_chance:
            errors = debiased_interval(float(score), samples[name], by_chance[name])
            low[name], high[name] = np.array(errors[0]), np.array(errors[1])
            continue
        low[name], high[name] = percentile_interval(samples[name])
        if share_of := METRICS[name].share_of:
            ends = wilson_interval(np.nan_to_num(score * counts[share_of]), counts[share_of])
            same = np.isnan(low[name]) & ~np.isnan(score)
            low[name], high[name] = np.where(same, ends[0], low[name]), np.where(same, ends[1], high[name])
    mean_by_chance = {name: float(errors.mean()) for name, errors in by_chance.items()}
    tail = 0.5 * (1.0 - LEVEL)
    ranges = {name: np.quantile(errors, (tail, 1.0 - tail)).tolist() for name, errors in by_chance.items()}
    return BootstrapScores(scores, low, high, samples, mean_by_chance, ranges, resamples, seed)


MAIN = tuple(name for name, metric in in_report().items() if metric.is_main)
"""The scores that are shown where there is no room for all."""


def score_table(result: dict[str, Any]) -> pd.DataFrame:
    """What `metrics.compute_metrics` returns, one row a score.

    Returns the columns `name`, `class` (empty for scores of all classes), `value`, and `low` and `high`, the ends of
    the 95 % interval; all empty where undefined. The accuracy of a class is called by its usual name, recall; `images`
    counts the images, of all classes and of each.
    """
    intervals = result.get("intervals", {})
    rows: list[tuple[str, str, float | None, float | None, float | None]] = [("images", "", result["n"], None, None)]
    for name, value in result.items():
        if isinstance(value, dict) and name.endswith(PER_CLASS):
            for each, score in value.items():
                rows.append((metric_name(name), each, score, *(intervals.get(name, {}).get(each) or (None, None))))
        elif name in intervals or name.endswith("_by_chance"):
            rows.append((name, "", value, *(intervals.get(name) or (None, None))))
    counts = zip(result["classes"], result["confusion_matrix"], strict=True)
    rows += [("images", str(name), sum(row), None, None) for name, row in counts]
    return pd.DataFrame(rows, columns=["name", "class", "value", "low", "high"])


def with_interval(value: float | None, interval: list[float] | None, digits: int = 3, sign: str = "") -> str:
    """A score and its interval as text, such as 0.912 (0.894 to 0.927); with "+" as sign a plus is written."""
    if value is None:
        return "undefined"
    form = f"{sign}.{digits}f"
    ends = "" if interval is None else f" ({interval[0]:{form}} to {interval[1]:{form}})"
    return f"{value:{form}}{ends}"


def score_line(result: dict[str, Any]) -> str:
    """The number of images and the scores of MAIN with their intervals in one line."""
    shown = [f"{name} {with_interval(result[name], result['intervals'][name], 4)}" for name in MAIN]
    return ", ".join([f"{result['n']:,} images", *shown])
