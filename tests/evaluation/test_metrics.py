"""Metrics against scikit-learn, and against cases small enough to do by hand."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from skyclass.core.errors import SkyclassError
from skyclass.evaluation import metrics
from skyclass.evaluation.calibration.error import (
    adaptive_calibration_error,
    class_wise_calibration_error,
    expected_calibration_error,
)
from skyclass.evaluation.intervals import wilson_interval

KEYS = {
    "n",
    "n_unlabelled",
    "accuracy",
    "balanced_accuracy",
    "macro_precision",
    "macro_recall",
    "macro_f1",
    "accuracy_per_class",
    "auroc_per_class",
    "auroc_macro",
    "log_loss",
    "confusion_matrix",
    "classes",
    *("precision_per_class", "f1_per_class", "average_precision_per_class", "average_precision_macro"),
    *("weighted_precision", "weighted_recall", "weighted_f1", "brier", "cohen_kappa", "matthews"),
    *("ece", "adaptive_ece", "class_wise_ece", "averaged_over"),
}


def draw(n_images: int, classes: list[str], seed: int = 0, decimals: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Labels of every class (more of the first ones) and better than random probabilities; few decimals make ties."""
    rng = np.random.default_rng(seed)
    n_classes = len(classes)
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n_images - n_classes) ** 2 % n_classes])
    scores = rng.normal(size=(n_images, n_classes)).round(decimals)
    scores[np.arange(n_images), labels] += 1.0
    p = np.exp(scores)
    return np.array(classes)[labels], p / p.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [["lens", "none"], ["no", "sphere", "vort"], [f"class_{k}" for k in range(10)]])
def test_evaluate_agrees_with_scikit_learn(classes: list[str]) -> None:
    labels, p = draw(200, classes)
    result = metrics.compute_metrics(labels, p, classes)
    y = np.array([classes.index(name) for name in labels])
    predicted = p.argmax(axis=1)
    one_hot = np.eye(len(classes))[y]

    tops = {f"top_{k}_accuracy" for k in (2, 3) if len(classes) > k}
    assert set(result) == KEYS | tops
    assert (result["n"], result["n_unlabelled"], result["classes"]) == (200, 0, classes)
    assert result["accuracy"] == pytest.approx(sk.accuracy_score(y, predicted))
    assert result["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(y, predicted))
    assert result["macro_precision"] == pytest.approx(sk.precision_score(y, predicted, average="macro"))
    assert result["macro_recall"] == pytest.approx(sk.recall_score(y, predicted, average="macro"))
    assert result["macro_f1"] == pytest.approx(sk.f1_score(y, predicted, average="macro"))
    assert list(result["accuracy_per_class"].values()) == pytest.approx(sk.recall_score(y, predicted, average=None))
    assert list(result["auroc_per_class"].values()) == pytest.approx(sk.roc_auc_score(one_hot, p, average=None))
    assert result["auroc_macro"] == pytest.approx(sk.roc_auc_score(one_hot, p, average="macro"))
    assert result["log_loss"] == pytest.approx(sk.log_loss(y, p))
    assert result["confusion_matrix"] == sk.confusion_matrix(y, predicted).tolist()
    for average in ("macro", "weighted", None):
        found = sk.precision_recall_fscore_support(y, predicted, average=average, zero_division=0.0)
        for name, value in zip(("precision", "recall", "f1"), found, strict=False):
            ours = f"{average}_{name}" if average else {"recall": "accuracy_per_class"}.get(name, f"{name}_per_class")
            assert (result[ours] if average else list(result[ours].values())) == pytest.approx(value)
    areas = sk.average_precision_score(one_hot, p, average=None)
    assert list(result["average_precision_per_class"].values()) == pytest.approx(areas)
    assert result["average_precision_macro"] == pytest.approx(areas.mean())
    assert result["brier"] == pytest.approx(((p - one_hot) ** 2).sum(axis=1).mean())
    if len(classes) == 2:
        assert result["brier"] == pytest.approx(2.0 * sk.brier_score_loss(y, p[:, 1]))
    assert result["cohen_kappa"] == pytest.approx(sk.cohen_kappa_score(y, predicted))
    assert result["matthews"] == pytest.approx(sk.matthews_corrcoef(y, predicted))
    for k in (2, 3):
        if len(classes) > k:
            top = sk.top_k_accuracy_score(y, p, k=k, labels=range(len(classes)))
            assert result[f"top_{k}_accuracy"] == pytest.approx(top)
    assert result["ece"] == pytest.approx(expected_calibration_error(y, p))
    assert result["adaptive_ece"] == pytest.approx(adaptive_calibration_error(y, p))
    assert result["class_wise_ece"] == pytest.approx(class_wise_calibration_error(y, p))
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_a_confusion_matrix_has_the_true_class_in_rows_and_the_given_order() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    labels = np.array(["b", "b", "b"])
    assert metrics.compute_metrics(labels, p, ["a", "b"])["confusion_matrix"] == [[0, 0], [2, 1]]
    assert metrics.compute_metrics(labels, p[:, ::-1], ["b", "a"])["confusion_matrix"] == [[1, 2], [0, 0]]


def test_auroc_counts_ties_as_one_half() -> None:
    y = np.array([0, 0, 1, 1])
    p = np.array([[0.5, 0.5], [0.8, 0.2], [0.5, 0.5], [0.1, 0.9]])
    # Pairs of class 1 over class 0: a tie and three wins, of four.
    assert metrics.auroc_per_class(y, p) == pytest.approx([3.5 / 4, 3.5 / 4])
    labels, coarse = draw(300, ["a", "b", "c"], decimals=0)
    y = np.array(["abc".index(name) for name in labels])
    assert metrics.auroc_per_class(y, coarse) == pytest.approx(sk.roc_auc_score(np.eye(3)[y], coarse, average=None))


def test_an_absent_class_is_left_out_of_the_averages() -> None:
    """Class c has no image, but one image of b is taken for it: every mean is over a and b, in every place."""
    p = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7]])
    result = metrics.compute_metrics(["a", "a", "b", "b"], p, ["a", "b", "c"])
    assert result["accuracy_per_class"] == {"a": 1.0, "b": 0.5, "c": None}
    assert result["precision_per_class"] == {"a": 1.0, "b": 1.0, "c": None}
    assert result["f1_per_class"] == {"a": 1.0, "b": pytest.approx(2.0 / 3.0), "c": None}
    assert result["averaged_over"] == ["a", "b"]
    assert result["balanced_accuracy"] == pytest.approx(0.75)
    assert result["auroc_per_class"]["c"] is None
    assert result["average_precision_per_class"]["c"] is None
    assert result["auroc_macro"] == pytest.approx(np.mean([result["auroc_per_class"][name] for name in "ab"]))
    y, predicted = np.array([0, 0, 1, 1]), p.argmax(axis=1)
    expected = sk.precision_recall_fscore_support(y, predicted, labels=[0, 1])
    for name, score in zip(("precision", "recall", "f1"), expected, strict=False):
        assert result[f"macro_{name}"] == pytest.approx(score.mean())
    assert result["macro_recall"] == result["balanced_accuracy"]
    assert metrics.macro_f1(y, p) == pytest.approx(result["macro_f1"])
    for name in ("adaptive_ece", "class_wise_ece"):
        assert result[name] == pytest.approx(np.abs((y[:, None] == [0, 1]).mean(0) - p[:, :2].mean(0)).mean())
    report = metrics.classification_report(["a", "a", "b", "b"], p, ["a", "b", "c"])
    lines = {" ".join(line.split()[:2]): line.split()[2:] for line in report.splitlines()}
    assert lines["macro avg"] == ["1.0000", "0.7500", "0.8333", "4"]
    assert "accuracy 0.7500" in lines  # of all images, whatever they are taken for


def test_a_score_of_a_class_that_is_absent_has_no_interval() -> None:
    p = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7]])
    intervals = metrics.compute_metrics(["a", "a", "b", "b"], p, ["a", "b", "c"], resamples=50)["intervals"]
    assert all(ends["c"] is None for name, ends in intervals.items() if name.endswith("_per_class"))


def test_an_ece_among_those_of_chance_does_not_end_its_own_interval() -> None:
    """On few images an error of the size that chance gives can hide behind an ECE of nothing."""
    p = np.full((4, 2), 0.5)
    result = metrics.compute_metrics(["a", "b", "a", "b"], p, ["a", "b"], resamples=50)
    assert result["ece"] == 0.0
    assert result["ece_by_chance"] > 0.1
    rng = np.random.default_rng(0)
    p = rng.dirichlet([1.0, 1.0], 40)
    labels = np.where(rng.random(40) < p[:, 0], "a", "b")
    result = metrics.compute_metrics(labels, p, ["a", "b"], resamples=200)
    assert result["intervals"]["ece"][0] == 0.0
    assert result["intervals"]["ece"][1] > 1.1 * result["ece"]
    assert result["intervals"]["ece_by_chance"][0] < result["ece"] < result["intervals"]["ece_by_chance"][1]


def test_a_class_of_one_image_is_counted() -> None:
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    result = metrics.compute_metrics(["a", "a", "b"], p, ["a", "b"])
    assert result["accuracy_per_class"]["b"] == 1.0
    assert result["auroc_per_class"] == {"a": 1.0, "b": 1.0}


def test_the_only_class_has_no_auroc() -> None:
    p = np.array([[0.9, 0.1], [0.4, 0.6]])
    result = metrics.compute_metrics(["a", "a"], p, ["a", "b"])
    assert result["auroc_per_class"] == {"a": None, "b": None}
    assert result["auroc_macro"] is None
    assert result["accuracy"] == result["balanced_accuracy"] == 0.5
    assert (result["cohen_kappa"], result["matthews"]) == (0.0, 0.0)
    single = metrics.compute_metrics(["a"], np.ones((1, 1)), ["a"])
    assert (single["accuracy"], single["log_loss"], single["auroc_macro"]) == (1.0, 0.0, None)
    assert (single["cohen_kappa"], single["matthews"]) == (None, 0.0)


def test_a_class_neither_present_nor_predicted_has_no_scores() -> None:
    result = metrics.compute_metrics(["a", "b"], np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1]]), ["a", "b", "c"])
    for name in ("accuracy", "precision", "f1", "auroc", "average_precision"):
        assert result[f"{name}_per_class"] == {"a": 1.0, "b": 1.0, "c": None}


def test_intervals_of_every_score_are_ready_for_json() -> None:
    """Class d is absent, of e there is one image, and one row has no label."""
    classes = list("abcde")
    labels, p = draw(120, list("abc"))
    p = np.hstack([0.97 * p, np.full((120, 1), 0.02), np.full((120, 1), 0.01)])
    labels, p = [*labels, "e", None], np.vstack([p, np.eye(5)[4], np.full(5, np.nan)])
    plain = metrics.compute_metrics(labels, p, classes)
    result = metrics.compute_metrics(labels, p, classes, resamples=200, seed=3)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert {name: result[name] for name in plain} == plain
    assert result["bootstrap"] == {"resamples": 200, "seed": 3, "level": 0.95, "stratified_by": "true class"}
    intervals = result["intervals"]
    by_chance = {name for name in result if name.endswith("_by_chance")}
    assert len(by_chance) == 3
    assert (
        set(intervals) == set(plain) - {"n", "n_unlabelled", "classes", "averaged_over", "confusion_matrix"} | by_chance
    )
    for name, interval in intervals.items():
        if name.endswith("_per_class"):
            assert list(interval) == classes
            assert interval["d"] is None
            assert all(interval[k][0] <= result[name][k] <= interval[k][1] for k in "abc")
        else:
            assert interval[0] <= result[name] <= interval[1]
    one_image = wilson_interval(1, 1)  # all resamples hold it once
    assert intervals["accuracy_per_class"]["e"] == pytest.approx(list(one_image))
    assert intervals["f1_per_class"]["e"] is None
    assert metrics.compute_metrics(labels, p, classes, resamples=200, seed=3) == result
    assert metrics.compute_metrics(labels, p, classes, resamples=200, seed=4)["intervals"] != intervals
    assert 0.0 < result["ece_by_chance"] < 0.2


@pytest.mark.parametrize(("labels", "p"), [(["a"], [[1.0]]), (["a", "a"], [[1.0], [1.0]])])
def test_intervals_of_hardly_anything(labels: list[str], p: list[list[float]]) -> None:
    result = metrics.compute_metrics(labels, np.array(p), ["a"], resamples=50)
    assert result["intervals"]["accuracy"] == pytest.approx(list(map(float, wilson_interval(len(p), len(p)))))
    assert result["intervals"]["auroc_macro"] is None


@pytest.mark.parametrize("nothing", [None, float("nan"), "", pd.NA])
def test_rows_without_a_label_are_left_out_and_counted(nothing: object) -> None:
    labels, p = draw(50, ["a", "b", "c"])
    expected = metrics.compute_metrics(labels, p, ["a", "b", "c"])
    unreadable = np.full((2, 3), np.nan)  # their probabilities may be anything
    result = metrics.compute_metrics(
        [nothing, *labels, nothing], np.vstack([unreadable[:1], p, unreadable[1:]]), list("abc")
    )
    assert result == expected | {"n_unlabelled": 2}


def test_labels_may_be_a_pandas_column() -> None:
    labels, p = draw(20, ["a", "b"])
    expected = metrics.compute_metrics(labels, p, ["a", "b"])
    assert metrics.compute_metrics(pd.Series(labels, dtype="string"), p, ["a", "b"]) == expected
    assert metrics.compute_metrics(pd.Series(labels, dtype="category"), p, ["a", "b"]) == expected


@pytest.mark.parametrize(
    ("labels", "p", "classes", "message"),
    [
        (["a", "comet"], [[0.5, 0.5], [0.5, 0.5]], ["a", "b"], "'comet'.*classes are a, b"),
        (["a", "b"], [[0.5, 0.5], [0.5, 0.6]], ["a", "b"], "row 1: 1 labelled rows.*sum to one.*softmax"),
        (["a", "b"], [[0.5, 0.5], [np.nan, 1.0]], ["a", "b"], "row 1: .*could not be read"),
        (["a", "b"], [[1.5, -0.5], [0.5, 0.5]], ["a", "b"], "row 0: "),
        ([None, ""], [[0.5, 0.5], [0.5, 0.5]], ["a", "b"], "no row has a label"),
        ([], np.zeros((0, 2)), ["a", "b"], "no row has a label"),
        (["a"], [[0.5, 0.5], [0.5, 0.5]], ["a", "b"], "1 labels and 2 classes do not fit"),
        (["a"], [[0.5, 0.5]], ["a", "b", "c"], "3 classes do not fit"),
        (["a"], [[0.5, 0.5]], ["a", "a"], "names repeat"),
    ],
)
def test_bad_input_is_refused(labels: list[object], p: object, classes: list[str], message: str) -> None:
    with pytest.raises(SkyclassError, match=message):
        metrics.compute_metrics(labels, np.array(p), classes)


def test_probabilities_stored_in_half_precision_pass() -> None:
    labels, p = draw(50, ["a", "b", "c"])
    exact = metrics.compute_metrics(labels, p, ["a", "b", "c"])
    assert metrics.compute_metrics(labels, p.astype(np.float16), ["a", "b", "c"])["log_loss"] == pytest.approx(
        exact["log_loss"], rel=1e-2
    )


def test_a_certain_mistake_has_a_finite_log_loss() -> None:
    y, p = np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]])
    assert metrics.log_loss(y, p) == pytest.approx(sk.log_loss(y, p))
    assert metrics.log_loss(y, p) > 10.0


def test_epoch_metrics_are_nan_without_images_or_after_divergence() -> None:
    none = np.zeros(0, dtype=np.int64), np.zeros((0, 3))
    for score in (metrics.accuracy, metrics.balanced_accuracy, metrics.auroc_macro, metrics.log_loss):
        assert math.isnan(score(*none))
    diverged = np.array([0, 1]), np.full((2, 2), np.nan)
    assert math.isnan(metrics.auroc_macro(*diverged))
    assert math.isnan(metrics.log_loss(*diverged))


def test_report_is_that_of_scikit_learn() -> None:
    classes = ["spiral_clockwise", "spiral_anticlockwise", "edge_on"]
    labels, p = draw(60, classes)
    names = np.array(classes)[p.argmax(axis=1)]
    expected = sk.classification_report(labels, names, labels=classes, digits=4)
    assert metrics.classification_report(labels, p, classes) == expected


def test_report_averages_as_evaluate_does_when_classes_are_missing() -> None:
    p = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    report = metrics.classification_report(["a", "b", None], p, ["a", "b", "c"])
    result = metrics.compute_metrics(["a", "b", None], p, ["a", "b", "c"])
    macro = next(line.split() for line in report.splitlines() if "macro avg" in line)
    assert macro[2:5] == [f"{result[key]:.4f}" for key in ("macro_precision", "macro_recall", "macro_f1")]
    assert " c " not in report


def test_entropy_runs_from_certain_to_clueless() -> None:
    p = np.array([[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])
    assert metrics.entropy_uncertainty(p) == pytest.approx([0.0, 0.5, 1.0])  # ln 2 / ln 4 = 1/2
    assert metrics.entropy_uncertainty(np.ones((2, 1))) == pytest.approx([0.0, 0.0])


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(2, 6), st.integers(0, 10_000))
def test_scores_stay_in_range_and_do_not_depend_on_the_order_of_rows(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(k), n)
    classes = [f"class_{i}" for i in range(k)]
    labels = np.array(classes)[rng.integers(0, k, n)]
    result = metrics.compute_metrics(labels, p, classes)
    order = rng.permutation(n)
    shuffled = metrics.compute_metrics(labels[order], p[order], classes)
    assert shuffled["confusion_matrix"] == result["confusion_matrix"]
    assert shuffled["auroc_per_class"] == result["auroc_per_class"]
    for key in ("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1"):
        assert 0.0 <= result[key] <= 1.0
    assert np.sum(result["confusion_matrix"]) == n
    assert ((metrics.entropy_uncertainty(p) >= 0) & (metrics.entropy_uncertainty(p) <= 1)).all()
