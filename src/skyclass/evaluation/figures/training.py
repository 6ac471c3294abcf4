"""The figure of a training's curves."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...core.errors import SkyclassError
from ...core.plotting import colour_and_line, figure_style

LOSSES = {"train_loss": "training", "val_loss": "validation"}
SCORES = {
    "train_accuracy": "training accuracy",
    "val_accuracy": "validation accuracy",
    "val_balanced_accuracy": "validation balanced accuracy",
    "val_macro_f1": "validation macro F1",
    "val_auroc": "validation AUROC",
}
RATES = {"learning_rate": ""} | {f"learning_rate_{part}": part for part in ("early", "middle", "late", "head")}


def training_curves_figure(history: pd.DataFrame, best_epoch: float | None = None) -> Figure:
    """Losses, scores and learning rate against the epoch, with a mark at the best one.

    history : columns `epoch` and any of train_loss, val_loss, train_accuracy, val_accuracy, val_balanced_accuracy,
        val_macro_f1, val_auroc, learning_rate or learning_rate_PART; cells may be nan, and columns that are absent or
        empty are not drawn
    Errors: SkyclassError without an epoch or without anything to draw.
    """
    filled = set(history.columns[history.notna().any()])
    panels = [
        (title, {name: label for name, label in names.items() if name in filled})
        for title, names in (("loss", LOSSES), ("score", SCORES), ("learning rate", RATES))
    ]
    panels = [(title, names) for title, names in panels if names]
    if "epoch" not in filled or not panels:
        raise SkyclassError(
            f"no curve to draw from the columns {', '.join(map(str, history.columns)) or '(none)'}",
            fix="give a history with epoch and at least one of train_loss, val_loss, val_accuracy",
        )
    with figure_style():
        figure = Figure(figsize=(4.2 * len(panels), 3.9), layout="constrained")
        for axes, (title, names) in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
            _draw_curves(axes, history, names)
            axes.set(xlabel="epoch", ylabel=title)
            if title == "learning rate" and (history[list(names)].min() > 0).all():
                axes.set_yscale("log")
            if best_epoch is not None:
                axes.axvline(best_epoch, color="0.4", linewidth=1.0, linestyle=":", label=f"best epoch: {best_epoch:g}")
            if axes.get_legend_handles_labels()[1]:
                # Below the axes: inside, a legend sooner or later covers a curve.
                axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, ncols=1)
    return figure


def _draw_curves(axes: Axes, history: pd.DataFrame, names: dict[str, str]) -> None:
    """One line a column, its gaps (validation is rarer than training) bridged; a lone epoch shows as a dot."""
    for k, (name, label) in enumerate(names.items()):
        rows = history.loc[history[name].notna() & history["epoch"].notna(), ["epoch", name]].sort_values("epoch")
        colour, _ = colour_and_line(k)
        axes.plot(rows["epoch"], rows[name], color=colour, marker="o", markersize=3, label=label or None)
    axes.set_xlim(history["epoch"].min() - 0.5, history["epoch"].max() + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(True)
