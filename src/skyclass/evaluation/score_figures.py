"""Figures of scores: precision-recall curves, accuracy against a property of the images, runs side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import precision_recall_curve

from ..drawing import colour_and_line, figure_style
from .by_column import AccuracyBy
from .comparison import SCORES
from .judging import scores_of
from .metrics import labelled_rows

_REPORTED: dict[str, Any] = {"marker": "D", "color": "#D55E00", "markerfacecolor": "none", "linestyle": "none"}
_BY_CHANCE: dict[str, Any] = {
    "marker": 3,  # TICKDOWN: below the line, for the number stands above it
    "color": "0.35",
    "linestyle": "none",
    "markersize": 9,
    "markeredgewidth": 1.8,
    "label": "ECE by chance alone",
}


def precision_recall_figure(labels: Iterable[object], probabilities: np.ndarray, classes: Sequence[str]) -> Figure:
    """Precision against recall of each class against the rest.

    Takes what `metrics.evaluate` takes, raises what it raises, and shows the average precisions that it returns. A dot
    at the left edge is the class's share of the images: the precision of guessing. A class without images, or with all
    of them, has no curve.
    """
    indices, p, _ = labelled_rows(labels, probabilities, classes)
    scores = scores_of(indices, p)
    areas = scores["average_precision_per_class"]
    with figure_style():
        figure = Figure(figsize=(5.2, 5.2 + 0.17 * (len(classes) + 1)), layout="constrained")
        axes = figure.subplots()
        for k in np.flatnonzero(~np.isnan(areas)).tolist():
            precision, recall, _ = precision_recall_curve(indices == k, p[:, k])
            colour, line = colour_and_line(k)
            # In steps: between two thresholds there is no classifier, and a straight line would promise too much.
            axes.plot(
                recall, precision, line, color=colour, drawstyle="steps-post", label=f"{classes[k]}: {areas[k]:.4f}"
            )
            axes.plot(0.0, (indices == k).mean(), "o", color=colour, markersize=5, clip_on=False)
        if not np.isnan(scores["average_precision_macro"]):
            mean = f"mean of classes: {scores['average_precision_macro']:.4f}"
            axes.plot([], [], " ", label=mean)
        axes.plot([], [], "o", color="0.4", markersize=5, label="share of the images (guessing)")
        axes.set(xlabel="recall (completeness)", ylabel="precision (purity)")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axes.grid(True)
        figure.legend(loc="outside lower center", title="average precision", frameon=False)
    return figure


def accuracy_by_figure(by: AccuracyBy, column: str, overall: float) -> Figure:
    """Accuracy in bins of a column with 95 % intervals, above the number of images in each bin.

    overall : accuracy of all images, shown as a line
    """
    table = by.table
    height = 4.9 if by.numeric else 2.2 + 0.3 * len(table)
    with figure_style():
        figure = Figure(figsize=(6.2, height), layout="constrained")
        if by.numeric:
            upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
            _draw_numbers(upper, lower, by, column)
        else:
            upper, lower = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
            _draw_categories(upper, lower, by, column)
        line = upper.axhline if by.numeric else upper.axvline
        line(overall, color="0.4", linestyle="--", linewidth=1.0, label=f"all images: {overall:.3f}")
        upper.grid(True)
        note = f"; {by.n_missing:,} images without a value" if by.n_missing else ""
        figure.suptitle(f"Accuracy by {column}{note}", fontsize=11)
        figure.legend(*upper.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    return figure


def _draw_numbers(upper: Axes, lower: Axes, by: AccuracyBy, column: str) -> None:
    table, colour = by.table, colour_and_line(0)[0]
    x, y = table["middle"].to_numpy(), table["accuracy"].to_numpy()
    across = np.stack([x - table["low"], table["high"] - x])
    upward = np.stack([y - table["accuracy_low"], table["accuracy_high"] - y]).clip(min=0.0)
    upper.errorbar(x, y, upward, across, "o", color=colour, markersize=4, elinewidth=1.2, label="bin, 95 % interval")
    upper.set(ylabel="accuracy", ylim=_room(table))
    low, high = table["low"].to_numpy(), table["high"].to_numpy()
    # A bin of one value has no width, but an edge that shows.
    lower.bar(low, table["n"], high - low, align="edge", color=colour, alpha=0.35, edgecolor=colour, linewidth=1.5)
    lower.set(xlabel=column, ylabel="images")
    if low.min() > 0.0 and high.max() / low.min() > 100.0:
        lower.set_xscale("log")


def _draw_categories(upper: Axes, lower: Axes, by: AccuracyBy, column: str) -> None:
    table, colour = by.table, colour_and_line(0)[0]
    places, x = np.arange(len(table)), table["accuracy"].to_numpy()
    sideways = np.stack([x - table["accuracy_low"], table["accuracy_high"] - x]).clip(min=0.0)
    upper.errorbar(x, places, xerr=sideways, fmt="o", color=colour, markersize=4, label="category, 95 % interval")
    upper.set_yticks(places, table["bin"])
    upper.set(xlabel="accuracy", ylabel=column, xlim=_room(table), ylim=(len(table) - 0.4, -0.6))
    bars = lower.barh(places, table["n"], height=0.6, color=colour, alpha=0.35, edgecolor=colour)
    lower.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
    lower.set(xlabel="images")
    lower.margins(x=0.35)
    lower.xaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))


def _room(table: pd.DataFrame) -> tuple[float, float]:
    """Limits of an axis of accuracies, with room about the intervals."""
    low, high = float(table["accuracy_low"].min()), float(table["accuracy_high"].max())
    return max(low - 0.05, -0.01), min(high + 0.05, 1.01)


def comparison_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Methods side by side: a panel a score, a line a method, with 95 % intervals and the numbers.

    rows : as `comparison.comparison_markdown` takes them. Figures that others report are open diamonds. A grey tick
        stands where the ECE of a perfectly calibrated classifier with the same probabilities lies.
    """
    names = [_method_label(row) for row in rows]
    longest = max(len(line) for name in names for line in name.split("\n"))
    with figure_style():
        size = (0.075 * longest + 2.1 * len(SCORES) + 0.4, 1.3 + 0.56 * len(rows))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(1, len(SCORES), sharey=True, squeeze=False)[0]
        for axes, (score, title) in zip(panels, SCORES.items(), strict=True):
            for place, row in enumerate(rows):
                _draw_method(axes, row, score, place)
            better = "smaller" if score == "ece" else "larger"
            axes.set(xlabel=f"{title}\n({better} is better)", ylim=(len(rows) - 0.4, -0.75))
            axes.margins(x=0.15)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
            axes.grid(True, axis="x")
        panels[0].set_yticks(range(len(rows)), names)
        panels[0].set_ylabel("method")
        ours = Line2D([], [], marker="o", color=colour_and_line(0)[0], markersize=5, label="here, 95 % interval")
        handles = [ours, Line2D([], [], **_BY_CHANCE)] if any("ece_by_chance" in row for row in rows) else [ours]
        if any(row.get("reported_by") for row in rows):
            handles.append(Line2D([], [], **_REPORTED, label="reported by others, on their data"))
        figure.legend(handles=handles, loc="outside upper right", ncols=3, frameon=False)
    return figure


def _draw_method(axes: Axes, row: Mapping[str, Any], score: str, place: int) -> None:
    """One score of one method, where it has one, with its number above."""
    value = row.get(score, np.nan)
    if value is None or np.isnan(value):
        return
    if row.get("reported_by"):
        axes.plot(value, place, **_REPORTED)
    else:
        low, high = (row[f"{score}_{end}"] for end in ("low", "high"))
        if not np.isnan(low):
            axes.plot([low, high], [place, place], "-", color=colour_and_line(0)[0], linewidth=1.6)
        if score == "ece":
            axes.plot(row["ece_by_chance"], place, **_BY_CHANCE)
        axes.plot(value, place, "o", color=colour_and_line(0)[0], markersize=5)
    axes.annotate(
        f"{value:.3f}", (value, place), xytext=(0, 5), textcoords="offset points", ha="center", va="bottom", fontsize=8
    )


def _method_label(row: Mapping[str, Any]) -> str:
    """The method, and below it what it took."""
    if row.get("reported_by"):
        return f"{row['method']}"
    trained = row["trained_parameters"]
    size = None if trained is None else f"{_short(trained)} parameters trained"
    took = ", ".join(part for part in (size, row["time"], row["memory"]) if part)
    return f"{row['method']}\n{took}" if took else str(row["method"])


def _short(number: int) -> str:
    """Such as 11.2 M, 270 k, 512."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return str(number)
