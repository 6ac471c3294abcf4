"""Weighted scores against scikit-learn's `sample_weight`, and against copies of the images."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from skyclass.evaluation import metrics
from skyclass.evaluation.metric import PARTS, PER_CLASS
from skyclass.evaluation.weighted_metrics import METRICS, in_report, sort_by_score, weighted_scores


def drawn(n: int, n_classes: int, seed: int, decimals: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities with ties where decimals are few, and weights (n, 4) of whole numbers.

    The first image of each class that occurs always counts.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    scores = rng.normal(size=(n, n_classes)).round(decimals)
    scores[np.arange(n), labels] += 1.0
    p = np.exp(scores)
    weights = rng.integers(0, 4, (n, 4)).astype(np.float64)
    weights[np.unique(labels, return_index=True)[1]] += 1.0
    return labels, p / p.sum(axis=1, keepdims=True), weights


@pytest.mark.parametrize("n_classes", [2, 3, 6])
@pytest.mark.parametrize("decimals", [8, 0])
def test_scores_are_those_of_scikit_learn_with_sample_weights(n_classes: int, decimals: int) -> None:
    labels, p, weights = drawn(150, n_classes, seed=1, decimals=decimals)
    scores = weighted_scores(sort_by_score(labels, p), weights)
    predicted, one_hot = p.argmax(axis=1), np.eye(n_classes)[labels]
    for r, w in enumerate(weights.T):
        expected = {
            "accuracy": sk.accuracy_score(labels, predicted, sample_weight=w),
            "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted, sample_weight=w),
            "cohen_kappa": sk.cohen_kappa_score(labels, predicted, sample_weight=w),
            "matthews": sk.matthews_corrcoef(labels, predicted, sample_weight=w),
            "log_loss": sk.log_loss(labels, p, sample_weight=w),
            "brier": np.average(((p - one_hot) ** 2).sum(axis=1), weights=w),
            "auroc_macro": sk.roc_auc_score(one_hot, p, sample_weight=w),
            "average_precision_macro": sk.average_precision_score(one_hot, p, sample_weight=w),
            "auroc_per_class": sk.roc_auc_score(one_hot, p, sample_weight=w, average=None),
            "average_precision_per_class": sk.average_precision_score(one_hot, p, sample_weight=w, average=None),
        }
        for average in ("macro", "weighted", None):
            three = sk.precision_recall_fscore_support(
                labels, predicted, average=average, sample_weight=w, zero_division=0.0
            )
            for name, value in zip(("precision", "recall", "f1"), three, strict=False):
                expected[f"{average}_{name}" if average else f"{name}_per_class"] = value
        expected["accuracy_per_class"] = expected.pop("recall_per_class")
        for name, value in expected.items():
            assert scores[name][r] == pytest.approx(value), name


@given(
    n=st.integers(1, 40),
    n_classes=st.integers(1, 5),
    seed=st.integers(0, 10_000),
    decimals=st.integers(0, 2),
)
@settings(max_examples=80, deadline=None)
def test_a_weight_counts_as_so_many_copies(n: int, n_classes: int, seed: int, decimals: int) -> None:
    """Calibration errors are left out: copies would change the bins."""
    labels, p, weights = drawn(n, n_classes, seed, decimals)
    scores = weighted_scores(sort_by_score(labels, p), weights)
    for r, w in enumerate(weights.T):
        copies = np.repeat(np.arange(n), w.astype(int))
        y, q = labels[copies], p[copies]
        assert scores["accuracy"][r] == pytest.approx(metrics.accuracy(y, q))
        assert scores["log_loss"][r] == pytest.approx(metrics.log_loss(y, q))
        np.testing.assert_allclose(scores["accuracy_per_class"][r], metrics.recall_per_class(y, q))
        np.testing.assert_allclose(scores["auroc_per_class"][r], metrics.auroc_per_class(y, q), atol=1e-12)
        assert scores["balanced_accuracy"][r] == pytest.approx(metrics.balanced_accuracy(y, q))
        assert scores["auroc_macro"][r] == pytest.approx(metrics.auroc_macro(y, q), nan_ok=True)


@given(n=st.integers(1, 40), n_classes=st.integers(1, 5), seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_weights_of_one_give_the_scores_of_every_epoch(n: int, n_classes: int, seed: int) -> None:
    labels, p, _ = drawn(n, n_classes, seed, decimals=1)
    scores = {name: values[0] for name, values in weighted_scores(sort_by_score(labels, p), np.ones((n, 1))).items()}
    assert scores["macro_f1"] == pytest.approx(metrics.macro_f1(labels, p))
    assert scores["auroc_macro"] == pytest.approx(metrics.auroc_macro(labels, p), nan_ok=True)
    for name, values in scores.items():
        defined = values[~np.isnan(values)]
        assert (defined >= (-1.0 if name in ("cohen_kappa", "matthews") else 0.0)).all(), name
    assert scores["macro_recall"] == pytest.approx(scores["balanced_accuracy"])


def test_the_classes_averaged_over_do_not_change_with_the_weights() -> None:
    """The only image taken for c has no weight in the second weighting: as in the first, only a and b count."""
    labels = np.array([0, 0, 1, 1])
    p = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7]])
    scores = weighted_scores(sort_by_score(labels, p), np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 2.0], [1.0, 0.0]]))
    assert scores["macro_precision"].tolist() == pytest.approx([1.0, 1.0])
    assert scores["accuracy"].tolist() == pytest.approx([0.75, 1.0])
    assert math.isnan(scores["auroc_per_class"][0, 2])


def test_the_first_of_equally_probable_classes_is_ranked_first() -> None:
    p = np.full((4, 4), 0.25)
    scores = weighted_scores(sort_by_score(np.arange(4), p), np.ones((4, 1)))
    assert [scores[name][0] for name in ("accuracy", "top_2_accuracy", "top_3_accuracy")] == [0.25, 0.5, 0.75]


@pytest.mark.parametrize("name", METRICS)
def test_a_row_of_the_table_is_complete_and_its_score_is_in_its_range(name: str) -> None:
    metric = METRICS[name]
    assert metric.words
    assert metric.meaning
    assert (metric.score is None) != (metric.of_images is None)
    labels, p, weights = drawn(60, 4, 5)
    found = weighted_scores(sort_by_score(labels, p), weights)[name]
    assert found.shape == ((4, 4) if name.endswith(PER_CLASS) else (4,))
    assert (metric.low <= found).all()
    assert (found <= metric.high).all()


@pytest.mark.parametrize("name", METRICS)
def test_perfect_predictions_have_the_best_scores(name: str) -> None:
    metric = METRICS[name]
    labels = np.arange(12) % 4
    found = weighted_scores(sort_by_score(labels, np.eye(4)[labels]), np.ones((12, 1)))[name]
    assert found == pytest.approx(metric.high if metric.higher_is_better else metric.low)


def test_a_report_shows_the_scores_part_after_part() -> None:
    parts = [metric.part for metric in in_report().values()]
    assert list(dict.fromkeys(parts)) == list(PARTS)
    assert parts == sorted(parts, key=PARTS.index)
