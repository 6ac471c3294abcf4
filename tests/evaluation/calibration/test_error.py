"""Calibration errors against loops written down from the papers, and on data whose calibration is known."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from helpers.probabilities import sharpened_answers
from skyclass.evaluation.calibration.error import (
    adaptive_calibration_error,
    class_wise_calibration_error,
    equal_mass_bins,
    expected_calibration_error,
    number_of_bins,
    reliability_bins,
)
from skyclass.evaluation.intervals import wilson_interval

ERRORS = (expected_calibration_error, adaptive_calibration_error, class_wise_calibration_error)


def gap_by_hand(outcomes: np.ndarray, predicted: np.ndarray, groups: list[np.ndarray]) -> float:
    """Equation 3 of Guo et al. 2017, term by term."""
    n = len(outcomes)
    return sum(len(rows) / n * abs(outcomes[rows].mean() - predicted[rows].mean()) for rows in groups if len(rows))


def equal_mass(values: np.ndarray, bins: int) -> list[np.ndarray]:
    return np.array_split(np.argsort(values), bins)


@pytest.mark.parametrize("n_classes", [2, 3, 7])
def test_errors_are_those_of_the_papers(n_classes: int) -> None:
    labels, p = sharpened_answers(300, n_classes, sharper=1.8)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    ece = gap_by_hand(right, confidence, equal_mass(confidence, 15))
    assert expected_calibration_error(labels, p) == pytest.approx(ece)
    ace = np.mean([gap_by_hand(labels == k, p[:, k], equal_mass(p[:, k], 15)) for k in range(n_classes)])
    assert adaptive_calibration_error(labels, p) == pytest.approx(ace)
    widths = [
        [np.flatnonzero((p[:, k] >= b / 15) & (p[:, k] < (b + 1) / 15)) for b in range(15)] for k in range(n_classes)
    ]
    class_wise = np.mean([gap_by_hand(labels == k, p[:, k], widths[k]) for k in range(n_classes)])
    assert class_wise_calibration_error(labels, p) == pytest.approx(class_wise)
    assert expected_calibration_error(labels, p, bins=5) == pytest.approx(
        gap_by_hand(right, confidence, equal_mass(confidence, 5))
    )


@pytest.mark.parametrize("error", ERRORS)
def test_errors_of_calibrated_and_of_overconfident_probabilities(error: Callable[..., float]) -> None:
    assert error(*sharpened_answers(20_000, 3)) < 0.012
    assert error(*sharpened_answers(20_000, 3, sharper=3.0)) > 0.05
    assert error(*sharpened_answers(20_000, 3, sharper=0.4)) > 0.05
    certain = np.repeat([0, 1, 1], 20)
    assert error(certain, np.eye(2)[certain]) == 0.0
    assert error(certain, np.eye(2)[1 - certain]) == 1.0
    assert math.isnan(error(np.zeros(0, int), np.zeros((0, 3))))
    assert error(np.zeros(4, int), np.ones((4, 1))) == 0.0  # a single class


@given(st.integers(1, 60), st.integers(2, 4), st.integers(0, 10_000), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_no_error_depends_on_the_order_of_images(n: int, n_classes: int, seed: int, decimals: int) -> None:
    """Few decimals make ties, which a sort would part by their order."""
    rng = np.random.default_rng(seed)
    labels, p = sharpened_answers(n, n_classes, seed)
    p = p.round(decimals)
    order = rng.permutation(n)
    for error in ERRORS:
        assert 0.0 <= error(labels, p) <= 1.0
        assert error(labels[order], p[order]) == pytest.approx(error(labels, p), abs=1e-12)


def test_bins_are_of_equal_mass_and_fewer_for_few_images() -> None:
    values = np.random.default_rng(0).random(1003)
    counts = np.bincount(equal_mass_bins(values, 15), minlength=15)
    assert set(counts) <= {66, 67}
    tied = equal_mass_bins(np.array([0.2, 0.5, 0.5, 0.5, 0.9]), 5)
    assert tied.tolist() == [0, 2, 2, 2, 4]
    assert [number_of_bins(n) for n in (0, 1, 10, 29, 149, 150, 9999)] == [1, 1, 1, 2, 14, 15, 15]
    assert number_of_bins(1000, bins=40) == 40


def test_reliability_bins_hold_what_the_error_is_made_of() -> None:
    labels, p = sharpened_answers(450, 3, sharper=2.0)
    bins = reliability_bins(labels, p)
    assert bins.n_images.tolist() == [30] * 15
    gap = (bins.n_images * np.abs(bins.accuracy - bins.confidence)).sum() / 450
    assert gap == pytest.approx(expected_calibration_error(labels, p))
    assert (bins.low <= bins.confidence).all()
    assert (bins.confidence <= bins.high).all()
    assert (bins.high[:-1] <= bins.low[1:]).all()
    assert bins.low[0] == p.max(axis=1).min()
    assert bins.high[-1] == p.max(axis=1).max()
    for k in range(15):
        wilson = binomtest(round(30 * bins.accuracy[k]), 30).proportion_ci(method="wilson")
        assert (bins.accuracy_low[k], bins.accuracy_high[k]) == pytest.approx((wilson.low, wilson.high))
    assert len(reliability_bins(np.zeros(0, int), np.zeros((0, 3))).n_images) == 0
    one = reliability_bins(np.array([1]), np.array([[0.2, 0.8]]))
    assert (one.n_images.tolist(), one.accuracy.tolist(), one.confidence.tolist()) == ([1], [1.0], [0.8])


def test_wilson_intervals_of_all_small_shares() -> None:
    hits, n = np.array([(h, n) for n in range(1, 12) for h in range(n + 1)]).T
    low, high = wilson_interval(hits, n)
    for k in range(len(n)):
        wilson = binomtest(hits[k], n[k]).proportion_ci(method="wilson")
        assert (low[k], high[k]) == pytest.approx((wilson.low, wilson.high))
    narrow = binomtest(3, 9).proportion_ci(0.5, method="wilson")
    assert wilson_interval(3, 9, level=0.5) == pytest.approx((narrow.low, narrow.high))
    assert np.isnan(wilson_interval(0, 0)).all()
