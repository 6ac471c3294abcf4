"""Calibration: known maps are found again, right probabilities are left alone, and odd inputs do no harm."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from helpers.probabilities import calibrated_answers, labels_drawn_from
from skyclass.core.errors import SkyclassError
from skyclass.evaluation.calibration.error import expected_calibration_error
from skyclass.evaluation.calibration.scaling import (
    MIN_IMAGES,
    MIN_PER_CLASS,
    Calibration,
    fit_calibration,
    out_of_fold,
    temperature_scaling,
    vector_scaling,
)
from skyclass.evaluation.metrics import log_loss
from skyclass.recipes.training_settings import CalibrationSettings


def loss_of(calibration: Calibration, log_p: np.ndarray, labels: np.ndarray) -> float:
    return log_loss(labels, calibration.apply(log_p))


# What is found


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature: float) -> None:
    """Logits that are `temperature` times too large are divided by it."""
    log_p, labels = calibrated_answers(6_000)
    found = temperature_scaling(log_softmax(log_p * temperature, axis=1), labels)
    assert found.method == "temperature"
    assert 1.0 / found.scale[0] == pytest.approx(temperature, rel=0.06)
    chosen = fit_calibration(log_softmax(log_p * temperature, axis=1), labels).calibration
    assert chosen == found  # vector scaling has nothing to add


def test_the_temperature_is_where_the_log_loss_is_least() -> None:
    """Against scipy's scalar minimiser on the bare log loss; the prior moves it by less than one in a thousand."""
    log_p, labels = calibrated_answers(5_000, 4, seed=3)
    log_p = log_softmax(1.7 * log_p, axis=1)

    def loss(log_scale: float) -> float:
        return -float(log_softmax(math.exp(log_scale) * log_p, axis=1)[np.arange(5_000), labels].mean())

    best = math.exp(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded", options={"xatol": 1e-9}).x)
    assert temperature_scaling(log_p, labels).scale[0] == pytest.approx(best, rel=1e-3)


def test_a_known_scale_and_bias_are_found() -> None:
    scale, bias = np.array([0.4, 0.8, 1.5]), np.array([0.7, -0.9, 0.2])
    scores = np.random.default_rng(0).normal(size=(12_000, 3)) * 3.0
    log_p = log_softmax(scores, axis=1)
    labels = labels_drawn_from(softmax(scale * log_p + bias, axis=1))
    found = fit_calibration(log_p, labels).calibration
    assert found.method == "vector"
    np.testing.assert_allclose(found.scale, scale, rtol=0.1)
    np.testing.assert_allclose(found.bias, bias, atol=0.12)
    assert sum(found.bias) == pytest.approx(0.0, abs=1e-6)


def test_the_gradient_is_that_of_the_loss() -> None:
    """At the minimum no small step lowers the penalised log loss of either map."""
    log_p, labels = calibrated_answers(200, 3, seed=5)
    for fitted, k in ((temperature_scaling, 1), (vector_scaling, 3)):
        found = fitted(log_p, labels)

        def loss(scale: np.ndarray, bias: np.ndarray) -> float:
            data = -log_softmax(scale * log_p + bias, axis=1)[np.arange(200), labels].mean()
            return float(data + 0.5 * (np.square(np.log(scale)).sum() + np.square(bias).sum()) / 200)

        scale, bias = np.array(found.scale), np.array(found.bias or (0.0,) * 3)
        least = loss(scale, bias)
        for step in (0.01, -0.01):
            for row in range(k):
                assert loss(scale * np.exp(step * np.eye(k)[row]), bias) > least
            for row in range(3 if found.bias else 0):
                assert loss(scale, bias + step * np.eye(3)[row]) > least


def test_calibrated_probabilities_stay_as_they_are() -> None:
    log_p, labels = calibrated_answers(5_000, 5, seed=2)
    found = fit_calibration(log_p, labels).calibration
    np.testing.assert_allclose(found.apply(log_p), np.exp(log_p), atol=0.03)


@settings(max_examples=8, deadline=None)
@given(
    temperature=st.floats(0.25, 4.0),
    n_classes=st.integers(2, 6),
    n=st.integers(400, 1500),
    seed=st.integers(0, 10_000),
)
def test_calibration_helps_new_images(temperature: float, n_classes: int, n: int, seed: int) -> None:
    """Fitted on some images, the log loss of others falls, or rises by no more than chance does."""
    log_p, labels = calibrated_answers(n + 4_000, n_classes, seed)
    log_p = log_softmax(log_p * temperature, axis=1)
    found = fit_calibration(log_p[:n], labels[:n]).calibration
    before, after = log_loss(labels[n:], np.exp(log_p[n:])), loss_of(found, log_p[n:], labels[n:])
    assert after <= before + 0.02
    if abs(math.log(temperature)) > 0.7:
        assert after < before
        errors = [expected_calibration_error(labels[n:], p) for p in (found.apply(log_p[n:]), np.exp(log_p[n:]))]
        assert errors[0] < errors[1]


def test_temperature_changes_no_predicted_class_and_vector_may() -> None:
    log_p, labels = calibrated_answers(3_000, 3, seed=1)
    skewed = log_softmax(log_p + np.array([1.5, 0.0, 0.0]), axis=1)
    warm, vector = temperature_scaling(skewed, labels), vector_scaling(skewed, labels)
    np.testing.assert_array_equal(warm.apply(skewed).argmax(axis=1), skewed.argmax(axis=1))
    assert (vector.apply(skewed).argmax(axis=1) != skewed.argmax(axis=1)).any()
    assert loss_of(vector, skewed, labels) < loss_of(warm, skewed, labels)


def test_the_order_of_the_images_does_not_matter() -> None:
    log_p, labels = calibrated_answers(500, 3, seed=4)
    order = np.random.default_rng(0).permutation(500)
    for method in ("temperature", "vector"):
        one = fit_calibration(log_p, labels, method).calibration
        other = fit_calibration(log_p[order], labels[order], method).calibration
        np.testing.assert_allclose(one.scale, other.scale, rtol=1e-5)
        np.testing.assert_allclose(one.bias, other.bias, atol=1e-5)


# The method


def test_every_method_of_the_recipe_gives_its_own_map() -> None:
    log_p, labels = calibrated_answers(2_000, 3, seed=6)
    skewed = log_softmax(2.0 * log_p + np.array([1.5, 0.0, 0.0]), axis=1)
    wanted = CalibrationSettings.model_json_schema()["properties"]["method"]["enum"]
    found = {method: fit_calibration(skewed, labels, method).calibration.method for method in wanted}
    assert found == {"auto": "vector", "temperature": "temperature", "vector": "vector", "none": "none"}


def test_the_reason_says_why() -> None:
    log_p, labels = calibrated_answers(200, 3)
    few = slice(0, MIN_IMAGES - 1)
    assert "29 validation images are too few, 30 are needed" in fit_calibration(log_p[few], labels[few]).reason
    assert fit_calibration(log_p[few], labels[few], "vector").calibration == Calibration()
    rare = np.where(labels == 2, 1, labels)
    rare[: MIN_PER_CLASS - 1] = 2
    for method in ("auto", "vector"):
        fit = fit_calibration(log_p, rare, method)
        assert fit.calibration.method == "temperature"
        assert "4 validation images of a class are too few for vector scaling, 5 are needed" in fit.reason
    absent = fit_calibration(log_p, np.where(labels == 2, 1, labels))
    assert absent.calibration.method == "temperature"
    assert absent.reason.startswith("0 validation images of a class")
    assert "in cross-validation" in fit_calibration(log_p, labels).reason
    one = fit_calibration(np.zeros((50, 1)), np.zeros(50, dtype=int))
    assert (one.calibration.method, one.reason) == ("none", "a single class has nothing to calibrate")


# Extremes; warnings are errors


def test_a_perfect_classifier_keeps_a_finite_temperature() -> None:
    labels = np.arange(60) % 3
    log_p = log_softmax(4.0 * np.eye(3)[labels], axis=1)
    found = temperature_scaling(log_p, labels)
    assert 0.2 < 1.0 / found.scale[0] < 1.0  # sharper, and no step function
    p = found.apply(log_p)
    assert (p.argmax(axis=1) == labels).all()
    assert p.max() < 1.0


@pytest.mark.parametrize("method", ["auto", "temperature", "vector"])
def test_probabilities_of_nought_and_one(method: str) -> None:
    """An ensemble's mean can be zero: ln p is -inf, for a few images of the true class."""
    labels = np.arange(90) % 3
    p = np.eye(3)[labels]
    p[:9] = np.eye(3)[(labels[:9] + 1) % 3]
    with np.errstate(divide="ignore"):
        log_p = np.log(p)
    found = fit_calibration(log_p, labels, method).calibration
    after = found.apply(log_p)
    assert np.isfinite(after).all()
    np.testing.assert_allclose(after.sum(axis=1), 1.0, atol=1e-12)
    assert (after[9:].argmax(axis=1) == labels[9:]).all()
    assert after.max(axis=1).mean() < 1.0  # the nine mistakes have taught it doubt


def test_always_wrong_is_no_error() -> None:
    labels = np.arange(60) % 3
    log_p = log_softmax(9.0 * np.eye(3)[(labels + 1) % 3], axis=1)
    np.testing.assert_allclose(temperature_scaling(log_p, labels).apply(log_p), 1 / 3, atol=0.05)


def test_rows_without_a_prediction_stay_so() -> None:
    log_p = np.array([[0.0, -np.inf], [np.nan, np.nan], np.log([0.25, 0.75])])
    for calibration in (
        Calibration(),
        Calibration("temperature", (0.5,)),
        Calibration("vector", (1.0, 2.0), (0.1, -0.1)),
    ):
        p = calibration.apply(log_p)
        assert np.isnan(p[1]).all()
        np.testing.assert_allclose(p[[0, 2]].sum(axis=1), 1.0)
    np.testing.assert_allclose(Calibration().apply(log_p)[2], [0.25, 0.75])
    expected = np.sqrt([0.25, 0.75]) / np.sqrt([0.25, 0.75]).sum()
    np.testing.assert_allclose(Calibration("temperature", (0.5,)).apply(log_p)[2], expected)


# Probabilities for the thresholds of prediction sets


def test_out_of_fold_probabilities_know_as_little_as_those_of_new_images() -> None:
    """With 20 parameters for 200 images, a map flatters the images that it was fitted on, and out_of_fold does not."""
    log_p, labels = calibrated_answers(10_200, 10, seed=9)
    some, others = slice(0, 200), slice(200, None)
    vector = vector_scaling(log_p[some], labels[some])
    within = log_loss(labels[some], vector.apply(log_p[some])) - log_loss(labels[some], np.exp(log_p[some]))
    apart = log_loss(labels[some], out_of_fold(log_p[some], labels[some], "vector"))
    apart -= log_loss(labels[some], np.exp(log_p[some]))
    new = log_loss(labels[others], vector.apply(log_p[others])) - log_loss(labels[others], np.exp(log_p[others]))
    assert within < -0.02  # "better" than the truth
    assert new > 0.01
    assert apart == pytest.approx(new, abs=0.06)
    np.testing.assert_array_equal(out_of_fold(log_p, labels, "none"), np.exp(log_p))
    np.testing.assert_allclose(out_of_fold(log_p, labels, "temperature"), np.exp(log_p), atol=0.03)


# Kept


@pytest.mark.parametrize("method", ["none", "temperature", "vector"])
def test_json_and_back(method: str) -> None:
    log_p, labels = calibrated_answers(200, 3)
    calibration = fit_calibration(log_p, labels, method).calibration
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json(), allow_nan=False)))
    assert again == calibration
    assert Calibration.from_json(None) == Calibration()
    assert str(calibration).startswith(method)


@pytest.mark.parametrize(
    "damage",
    [{"scale": [0.0]}, {"scale": ["x"]}, {"scale": None}, {"method": "magic"}, {"other": 1}, {"scale": [math.inf]}],
)
def test_a_damaged_calibration_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(SkyclassError, match="damaged calibration; copy the classifier again"):
        Calibration.from_json({**Calibration().to_json(), **damage})
