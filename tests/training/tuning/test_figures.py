"""Figures of a tuning: what they show, in a table that was written by hand."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.figure import Figure

from skyclass.core.errors import SkyclassError
from skyclass.training.tuning.figures import Dimension, history_figure, importance_figure, slices_figure

TABLE = pd.DataFrame(
    {
        "number": [0, 1, 2, 3, 4],
        "state": ["complete", "pruned", "complete", "complete", "failed"],
        "rate": pd.Series([1e-4, 1e-2, 1e-3, 1e-1, 1.0]),
        "freeze": ["[]", '["layer1"]', "null", "[]", "null"],
        "size": pd.Series([64, 8, 16, 8, 16], dtype=object),
        "val_auroc": [0.7, 0.5, 0.9, 0.8, float("nan")],
    }
)
DIMENSIONS = [
    Dimension("rate", None, log=True),
    Dimension("freeze", ["[]", '["layer1"]', "null"]),
    Dimension("size", [64, 8, 16]),
]


def line(figure: Figure, label: str, panel: int = 0) -> tuple[list[float], list[float]]:
    """The points of a line of that label."""
    one = next(line for line in figure.axes[panel].lines if line.get_label() == label)
    return [float(x) for x in one.get_xdata()], [float(y) for y in one.get_ydata()]  # type: ignore[union-attr]


@pytest.mark.parametrize(("less", "best"), [(False, [0.7, 0.9, 0.9]), (True, [0.7, 0.7, 0.7])])
def test_the_history_has_each_trial_and_the_best_so_far(less: bool, best: list[float]) -> None:
    figure = history_figure(TABLE, "val_auroc", less_is_better=less)
    assert line(figure, "complete trial") == ([0, 2, 3], [0.7, 0.9, 0.8])
    assert line(figure, "pruned trial") == ([1], [0.5])
    assert line(figure, "best so far") == ([0, 2, 3], best)
    assert figure.axes[0].get_xlabel() == "trial"
    assert figure.axes[0].get_ylabel() == "val_auroc"


def test_slices_have_a_panel_a_key() -> None:
    figure = slices_figure(TABLE, DIMENSIONS, "val_auroc", less_is_better=False)
    assert [axes.get_xlabel() for axes in figure.axes] == ["rate", "freeze", "size"]
    assert figure.axes[0].get_xscale() == "log"
    assert line(figure, "complete trial")[0] == [1e-4, 1e-3, 1e-1]
    assert line(figure, "best") == ([1e-3], [0.9])
    names = [[label.get_text() for label in axes.get_xticklabels()] for axes in figure.axes[1:]]
    assert names == [["[]", '["layer1"]', "null"], ["8", "16", "64"]]  # numbers in their order
    assert [round(x) for x in line(figure, "complete trial", 1)[0]] == [0, 2, 0]
    assert [round(x) for x in line(figure, "complete trial", 2)[0]] == [2, 1, 0]
    means = figure.axes[1].collections[0].get_paths()
    assert [float(path.vertices[0][1]) for path in means] == pytest.approx([0.75, 0.9])  # type: ignore[index]
    least = slices_figure(TABLE, DIMENSIONS, "val_auroc", less_is_better=True)
    assert line(least, "best") == ([1e-4], [0.7])


def test_many_keys_make_rows() -> None:
    figure = slices_figure(TABLE, DIMENSIONS[:1] * 5, "val_auroc", less_is_better=False)
    assert sum(axes.axison for axes in figure.axes) == 5
    width, height = figure.get_size_inches()
    assert width < 12
    assert height > 6


def test_the_most_important_key_is_on_top() -> None:
    figure = importance_figure({"one": 0.2, "other": 0.8}, "val_auroc")
    bars = figure.axes[0].patches
    assert [bar.get_width() for bar in bars] == [0.8, 0.2]  # type: ignore[attr-defined]
    assert figure.axes[0].yaxis_inverted()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["other", "one"]


def test_nothing_to_draw_is_said() -> None:
    failed = TABLE[TABLE["state"] == "failed"]
    for draw in (
        lambda: history_figure(failed, "val_auroc", less_is_better=False),
        lambda: slices_figure(failed, DIMENSIONS, "val_auroc", less_is_better=False),
    ):
        with pytest.raises(SkyclassError, match="no trial to draw"):
            draw()
    with pytest.raises(SkyclassError, match="no key to draw"):
        slices_figure(TABLE, [], "val_auroc", less_is_better=False)
    with pytest.raises(SkyclassError, match="no key to draw"):
        importance_figure({}, "val_auroc")
