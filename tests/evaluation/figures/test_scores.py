"""Precision-recall curves, accuracy by column, and runs side by side, as figures."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from helpers.figures import LONG, fits, legend_of
from skyclass.evaluation import metrics
from skyclass.evaluation.figures.scores import accuracy_by_figure, precision_recall_figure
from skyclass.evaluation.subgroups import accuracy_by


@pytest.mark.parametrize("n_classes", [2, 4])
def test_precision_recall_legend_holds_the_areas_of_the_evaluation(n_classes: int) -> None:
    rng = np.random.default_rng(0)
    classes = [f"{LONG[0]}_{k}" for k in range(n_classes)]
    labels, p = np.array(classes)[np.arange(80) % n_classes], rng.dirichlet(np.ones(n_classes), 80)
    result = metrics.compute_metrics(labels, p, classes)
    figure = precision_recall_figure(labels, p, classes)
    shown = dict(text.rsplit(": ", 1) for text in legend_of(figure) if ": " in text)
    assert shown.pop("mean of classes") == f"{result['average_precision_macro']:.4f}"
    assert shown == {name: f"{area:.4f}" for name, area in result["average_precision_per_class"].items()}
    for k, name in enumerate(classes):
        curve = next(line for line in figure.axes[0].lines if str(line.get_label()).startswith(f"{name}:"))
        precision, recall, _ = sk.precision_recall_curve(labels == name, p[:, k])
        np.testing.assert_array_equal(curve.get_xydata(), np.stack([recall, precision], axis=1))
    assert fits(figure)


def test_precision_recall_leaves_out_classes_without_a_curve() -> None:
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.3, 0.4, 0.3]])
    shown = [text.split(":")[0] for text in legend_of(precision_recall_figure(["a", "b", "a"], p, list("abc")))]
    assert shown == ["a", "b", "mean of classes", "share of the images (guessing)"]
    assert legend_of(precision_recall_figure(["a", "a", None], p, list("abc"))) == ["share of the images (guessing)"]


@pytest.mark.parametrize("values", ["normal", "wide", "integers", "constant"])
def test_accuracy_by_numbers(values: str) -> None:
    rng = np.random.default_rng(0)
    column = {
        "normal": rng.normal(17.0, 1.0, 200),
        "wide": 10.0 ** rng.normal(0.0, 2.0, 200),
        "integers": rng.integers(0, 3, 200),
        "constant": np.full(200, 5.0),
    }[values]
    right = rng.random(200) < 0.8
    by = accuracy_by(pd.Series(column).where(np.arange(200) > 3), right)
    figure = accuracy_by_figure(by, "mag_r", float(right.mean()))
    upper, lower = figure.axes
    assert [bar.get_height() for bar in lower.patches] == by.table["n"].tolist()
    np.testing.assert_allclose(upper.lines[0].get_ydata(), by.table["accuracy"])
    assert (lower.get_xlabel(), lower.get_ylabel(), upper.get_ylabel()) == ("mag_r", "images", "accuracy")
    assert lower.get_xscale() == ("log" if values == "wide" else "linear")
    assert figure.get_suptitle() == "Accuracy by mag_r; 4 images without a value"
    assert legend_of(figure) == [f"all images: {right.mean():.3f}", "bin, 95 % interval"]
    assert fits(figure)


def test_accuracy_by_categories() -> None:
    column = pd.Series([*LONG, LONG[0], LONG[0]])
    by = accuracy_by(column, np.array([True, True, False, False, True]))
    figure = accuracy_by_figure(by, "telescope", 0.6)
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == by.table["bin"].tolist()
    assert left.yaxis_inverted()
    assert [text.get_text() for text in right.texts] == ["3", "1", "1"]
    assert (left.get_xlabel(), left.get_ylabel(), right.get_xlabel()) == ("accuracy", "telescope", "images")
    assert fits(figure)
