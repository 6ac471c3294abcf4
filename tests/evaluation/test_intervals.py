"""Intervals and tests of differences: against closed forms, and by how often they hold the truth."""

import functools
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.probabilities import sharpened_answers
from skyclass.evaluation.bootstrap import bootstrap_scores, scores_of
from skyclass.evaluation.calibration.error import errors_if_calibrated, expected_calibration_error
from skyclass.evaluation.intervals import (
    affordable_resamples,
    bootstrap,
    debiased_interval,
    mcnemar,
    percentile_interval,
    stratified_weights,
)
from skyclass.evaluation.weighted_metrics import sort_by_score, weighted_scores


@given(
    strata=st.lists(st.integers(0, 4), min_size=1, max_size=40), resamples=st.integers(1, 200), seed=st.integers(0, 99)
)
@settings(max_examples=40, deadline=None)
def test_every_resample_has_as_many_images_of_each_stratum(strata: list[int], resamples: int, seed: int) -> None:
    labels = np.array(strata)
    weights = np.hstack(list(stratified_weights(labels, resamples, seed)))
    assert weights.shape == (len(labels), resamples)
    assert (weights >= 0).all()
    for k in set(strata):
        assert (weights[labels == k].sum(axis=0) == (labels == k).sum()).all()


def test_weights_are_multinomial() -> None:
    """Of n images each is drawn once on average, with variance 1 - 1/n, and two images take from each other: -1/n."""
    weights = np.hstack(list(stratified_weights(np.array([0] * 5 + [7] * 3), 20_000)))
    np.testing.assert_allclose(weights.mean(axis=1), 1.0, atol=0.03)
    covariance = np.cov(weights)
    expected = np.zeros((8, 8))
    expected[:5, :5], expected[5:, 5:] = -1 / 5, -1 / 3
    np.testing.assert_allclose(covariance, expected + np.eye(8), atol=0.05)


def test_the_bootstrap_of_a_mean_has_its_standard_error() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    strata = np.zeros(400, int)
    found = bootstrap(strata, lambda weights: {"mean": values @ weights / 400}, 4000)["mean"]
    assert found.shape == (4000,)
    assert found.std() == pytest.approx(values.std() / 20.0, rel=0.05)
    low, high = percentile_interval(found)
    assert (low, high) == pytest.approx(
        (values.mean() - 1.96 * values.std() / 20.0, values.mean() + 1.96 * values.std() / 20.0), abs=0.01
    )
    narrow = percentile_interval(found, level=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_the_same_seed_draws_the_same_images() -> None:
    labels = np.repeat([0, 1, 2], 30)
    one, same, other = (np.hstack(list(stratified_weights(labels, 50, seed))) for seed in (0, 0, 1))
    assert (one == same).all()
    assert (one != other).any()


def test_what_does_not_vary_has_no_percentile_interval() -> None:
    samples = np.array([[1.0, 0.2, np.nan], [1.0, 0.4, np.nan], [1.0, np.nan, np.nan]])
    low, high = percentile_interval(samples)
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [True, False, True]
    assert 0.2 <= low[1] < high[1] <= 0.4


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """60 test sets of 300 images each; the truth is measured on 100,000."""
    names = ("accuracy", "auroc_macro", "macro_f1", "log_loss")
    truth = scores_of(*sharpened_answers(100_000, 3, seed=1, sharper=1.6))
    held = dict.fromkeys(names, 0)
    for seed in range(60):
        labels, p = sharpened_answers(300, 3, seed=seed + 2, sharper=1.6)
        samples = bootstrap(labels, functools.partial(weighted_scores, sort_by_score(labels, p)), 200)
        for name in names:
            low, high = percentile_interval(samples[name])
            held[name] += bool(low <= truth[name] <= high)
    # 95 % of 60 is 57, give or take 1.7.
    assert all(count >= 51 for count in held.values()), held
    assert sum(held.values()) < 240  # intervals that always hold it are too wide


@pytest.mark.parametrize("sharper", [1.0, 1.6])
def test_calibration_errors_hold_the_truth_where_percentiles_do_not(sharper: float) -> None:
    truth = scores_of(*sharpened_answers(100_000, 3, seed=1, sharper=sharper))["ece"]
    held = plain = 0
    for seed in range(30):
        judged = bootstrap_scores(*sharpened_answers(300, 3, seed=seed + 2, sharper=sharper), resamples=200)
        held += bool(judged.low["ece"] <= max(truth - 0.005, 0.0) and truth <= judged.high["ece"])
        plain += bool(percentile_interval(judged.samples["ece"])[0] <= truth)
    assert held >= 26
    assert plain <= 20


def test_an_error_far_above_chance_is_not_called_zero() -> None:
    judged = bootstrap_scores(*sharpened_answers(2000, 3, sharper=3.0), resamples=200)
    for name in ("ece", "adaptive_ece", "class_wise_ece"):
        assert 0.5 * judged.scores[name] < judged.low[name] < judged.scores[name] < judged.high[name]
        assert judged.by_chance[name] < judged.low[name]
    assert debiased_interval(0.02, np.array([0.03, 0.04]), np.array([0.02]))[0] == 0.0


def test_errors_by_chance_are_those_of_calibrated_labels() -> None:
    _, p = sharpened_answers(500, 3)
    simulated = errors_if_calibrated(p, draws=300)
    again = [expected_calibration_error(*sharpened_answers(500, 3, seed=seed)) for seed in range(60)]
    assert simulated["ece"].shape == (300,)
    assert simulated["ece"].mean() == pytest.approx(np.mean(again), rel=0.1)
    assert (errors_if_calibrated(p, draws=3, seed=1)["ece"] != simulated["ece"][:3]).any()


def test_paired_differences_are_narrower_than_two_intervals() -> None:
    labels, p = sharpened_answers(600, 3)
    other = 0.9 * p + 0.1 * p[:, ::-1]
    one, two = bootstrap_scores(labels, p, resamples=400), bootstrap_scores(labels, other, resamples=400)
    low, high = percentile_interval(one.samples["log_loss"] - two.samples["log_loss"])
    assert high - low < 0.5 * (one.high["log_loss"] - one.low["log_loss"])
    assert (bootstrap_scores(labels, p, resamples=400).samples["accuracy"] == one.samples["accuracy"]).all()


def test_mcnemar_is_the_binomial_test_of_what_differs() -> None:
    first = np.array([True] * 60 + [False] * 5 + [True] * 14 + [False] * 21)
    second = np.array([True] * 60 + [True] * 5 + [False] * 14 + [False] * 21)
    tail = sum(comb(19, k) for k in range(6)) / 2**19
    assert mcnemar(first, second) == (14, 5, pytest.approx(2.0 * tail))
    assert mcnemar(first, first) == (0, 0, 1.0)


def test_mcnemar_is_right_where_nothing_differs_but_chance() -> None:
    rng = np.random.default_rng(0)
    p_values = np.array([mcnemar(rng.random(200) < 0.8, rng.random(200) < 0.8).p_value for _ in range(400)])
    assert (p_values < 0.05).mean() <= 0.07


def test_many_images_need_fewer_resamples() -> None:
    assert [affordable_resamples(n) for n in (10, 20_000, 40_000, 10**6)] == [2000, 2000, 1000, 200]
    assert affordable_resamples(10**6, 50) == 50
