"""Figures of an evaluation: what they show, and that they can be drawn for awkward input without a warning."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.figures import LONG, fits, legend_of, size_drawn
from skyclass.core.errors import SkyclassError
from skyclass.core.plotting import save_figure
from skyclass.evaluation import metrics
from skyclass.evaluation.figures.scores import confusion_figure, roc_figure
from skyclass.evaluation.figures.training import training_curves_figure


@pytest.mark.parametrize("classes", [["lens", "none"], LONG, [f"{LONG[0]}_{k}" for k in range(10)]])
def test_confusion_cells_hold_counts_and_shares_of_the_true_class(classes: list[str]) -> None:
    matrix = np.eye(len(classes), dtype=int) * 3
    matrix[0, 1] = 1
    figure = confusion_figure(matrix.tolist(), classes)
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert cells[:2] == ["3\n75.0 %", "1\n25.0 %"]
    assert cells[-1] == "3\n100.0 %"
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == classes
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("predicted class", "true class")
    assert fits(figure)


def test_a_class_without_images_has_no_shares() -> None:
    figure = confusion_figure([[2, 0], [0, 0]], ["a", "b"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["2\n100.0 %", "0\n0.0 %", "0", "0"]
    with pytest.raises(SkyclassError, match=r"shape \(2, 2\) does not fit 3 classes"):
        confusion_figure([[2, 0], [0, 0]], ["a", "b", "c"])


@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_roc_legend_holds_the_areas_of_the_evaluation(n_classes: int) -> None:
    rng = np.random.default_rng(0)
    classes = [f"{LONG[0]}_{k}" for k in range(n_classes)]
    labels = np.array(classes)[np.arange(80) % n_classes]
    p = rng.dirichlet(np.ones(n_classes), 80)
    result = metrics.compute_metrics(labels, p, classes)
    figure = roc_figure(labels, p, classes)
    shown = dict(text.rsplit(": ", 1) for text in legend_of(figure))
    assert shown.pop("chance") == "0.5000"
    assert shown.pop("mean of classes") == f"{result['auroc_macro']:.4f}"
    assert shown == {name: f"{area:.4f}" for name, area in result["auroc_per_class"].items()}
    assert fits(figure)


def test_the_mean_roc_curve_has_the_mean_area() -> None:
    rng = np.random.default_rng(1)
    labels, p = np.array(["a", "b", "c"] * 40), rng.dirichlet(np.ones(3), 120)
    lines = {
        line.get_label().split(":")[0]: line.get_xydata() for line in roc_figure(labels, p, list("abc")).axes[0].lines
    }
    mean = lines["mean of classes"]
    result = metrics.compute_metrics(labels, p, list("abc"))
    assert np.trapezoid(mean[:, 1], mean[:, 0]) == pytest.approx(result["auroc_macro"], abs=2e-3)
    assert np.trapezoid(lines["a"][:, 1], lines["a"][:, 0]) == pytest.approx(result["auroc_per_class"]["a"])


def test_roc_leaves_out_classes_without_a_curve() -> None:
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.3, 0.4, 0.3]])
    assert [text.split(":")[0] for text in legend_of(roc_figure(["a", "b", "a"], p, list("abc")))] == [
        "a",
        "b",
        "mean of classes",
        "chance",
    ]
    assert legend_of(roc_figure(["a", "a", None], p, list("abc"))) == ["chance: 0.5000"]


def history(n_epochs: int = 5) -> pd.DataFrame:
    falling = np.linspace(1.0, 0.2, n_epochs)
    names = ["train_loss", "val_loss", "train_accuracy", "val_accuracy", "val_balanced_accuracy", "val_auroc"]
    return pd.DataFrame({"epoch": range(n_epochs), **dict.fromkeys(names, falling), "learning_rate": 1e-3 * falling})


def test_curves_of_a_full_history() -> None:
    figure = training_curves_figure(history())
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "score", "learning rate"]
    assert [len(axes.lines) for axes in figure.axes] == [2, 4, 1]
    assert figure.axes[2].get_yscale() == "log"
    assert fits(figure)


def test_the_best_epoch_is_marked() -> None:
    for axes in training_curves_figure(history(), best_epoch=3).axes:
        assert axes.lines[-1].get_xdata() == [3, 3]
        assert axes.get_legend().get_texts()[-1].get_text() == "best epoch: 3"


def test_curves_with_gaps_and_absent_columns() -> None:
    table = history().assign(val_auroc=np.nan)[["epoch", "val_loss", "train_loss", "val_auroc"]]
    table.loc[[1, 3], "val_loss"] = np.nan
    (axes,) = training_curves_figure(table).axes
    assert [line.get_label() for line in axes.lines] == ["training", "validation"]
    assert list(axes.lines[1].get_xdata()) == [0, 2, 4]


def test_curves_of_one_epoch_and_of_none() -> None:
    figure = training_curves_figure(history(1).assign(learning_rate=0.0))
    assert size_drawn(figure)
    assert figure.axes[2].get_yscale() == "linear"
    with pytest.raises(SkyclassError, match="no curve to draw from the columns epoch;"):
        training_curves_figure(history()[["epoch"]])
    with pytest.raises(SkyclassError, match="no curve"):
        training_curves_figure(history().drop(columns="epoch"))


def test_letters_that_no_font_has_are_drawn_without_a_word(tmp_path: Path) -> None:
    """Matplotlib warns of each of them, which fails a test."""
    save_figure(confusion_figure([[1, 0], [0, 1]], ["\u6e26", "blob"]), tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
