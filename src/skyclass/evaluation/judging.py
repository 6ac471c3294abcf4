"""Scores with their intervals: one bootstrap of the images for all of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .calibration_error import errors_if_calibrated
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
from .weighted_scores import Scores, prepare, weighted_scores

_DRAWS = 500  # of labels, to see what a calibrated classifier shows by chance


class Judgement(NamedTuple):
    """Scores by name, and how certain they are.

    scores : () each, or (K,) for those called `..._per_class`; nan where undefined
    low, high : ends of the 95 % intervals, shaped as the scores; nan where there is none
    samples : the scores of every resample, (R,) or (R, K)
    by_chance : the mean calibration errors of a calibrated classifier with these probabilities
    by_chance_range : between which the middle 95 % of them lie
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
    every = weighted_scores(prepare(labels, probabilities), np.ones((len(labels), 1)))
    return {name: values[0] for name, values in every.items()}


def judge(labels: np.ndarray, probabilities: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED) -> Judgement:
    """Scores and their 95 % intervals from a bootstrap of the images, stratified by true class.

    Percentile intervals; of the calibration errors `debiased_interval`. A share of which every resample is the same
    (a class of one image, or one that is always recognised) has Wilson's interval, any other such score has none.

    labels : (N,) integers in [0, K), N > 0; probabilities : (N, K) that sum to one. Above 20,000 images there are fewer
    resamples. The same labels and seed draw the same images, so that the samples of two classifiers are paired.
    """
    n, n_classes = probabilities.shape
    prepared, scores = prepare(labels, probabilities), scores_of(labels, probabilities)
    resamples = affordable_resamples(n, resamples)
    samples = bootstrap(labels, lambda w: weighted_scores(prepared, w), resamples, seed)
    by_chance = errors_if_calibrated(probabilities, affordable_resamples(n, _DRAWS), seed, classes=np.unique(labels))
    true = np.bincount(labels, minlength=n_classes)
    taken = np.bincount(probabilities.argmax(axis=1), minlength=n_classes)
    counts = {name: n for name in scores if name == "accuracy" or name.startswith("top_")}
    shares = {**counts, "accuracy_per_class": true, "precision_per_class": taken}
    low: Scores = {}
    high: Scores = {}
    for name, score in scores.items():
        if name in by_chance:
            errors = debiased_interval(float(score), samples[name], by_chance[name])
            low[name], high[name] = np.array(errors[0]), np.array(errors[1])
            continue
        low[name], high[name] = percentile_interval(samples[name])
        if name in shares:
            ends = wilson_interval(np.nan_to_num(score * shares[name]), shares[name])
            same = np.isnan(low[name]) & ~np.isnan(score)
            low[name], high[name] = np.where(same, ends[0], low[name]), np.where(same, ends[1], high[name])
    mean_by_chance = {name: float(errors.mean()) for name, errors in by_chance.items()}
    tail = 0.5 * (1.0 - LEVEL)
    ranges = {name: np.quantile(errors, (tail, 1.0 - tail)).tolist() for name, errors in by_chance.items()}
    return Judgement(scores, low, high, samples, mean_by_chance, ranges, resamples, seed)
