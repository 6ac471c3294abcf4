"""Figures of an evaluation. Each function returns a matplotlib Figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import precision_recall_curve, roc_curve

from ...core.errors import SkyclassError
from ...core.plotting import colour_and_line, figure_style, slant_names
from ..bootstrap import scores_of
from ..comparison import SCORES
from ..metrics import auroc_macro, auroc_per_class, labelled_rows
from ..subgroups import AccuracyBy
from ..weighted_metrics import METRICS


def confusion_figure(matrix: Sequence[Sequence[int]] | np.ndarray, classes: Sequence[str]) -> Figure:
    """Confusion matrix: in each cell the number of images and its share of the true class, which is also the colour.

    matrix : (K, K) counts, rows true, columns predicted, in the order of classes.
    Errors: SkyclassError where the matrix is not (K, K).
    """
    counts = np.asarray(matrix)
    n_classes = len(classes)
    if counts.shape != (n_classes, n_classes):
        raise SkyclassError(f"a confusion matrix of shape {counts.shape} does not fit {n_classes} classes")
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    side = float(np.clip(0.72 * n_classes, 2.2, 14.0))
    cell_points = 72.0 * side / n_classes
    with figure_style():
        figure = Figure(figsize=(side + 2.4, side + 1.6), layout="compressed")
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
        for i, j in np.ndindex(n_classes, n_classes):
            share = f"\n{100.0 * shares[i, j]:.1f} %" if totals[i, 0] else ""
            colour = "white" if shares[i, j] > 0.5 else "black" if counts[i, j] else "0.55"
            font_size = float(np.clip(0.19 * cell_points, 4.0, 10.0))
            axes.text(j, i, f"{counts[i, j]:d}{share}", ha="center", va="center", color=colour, fontsize=font_size)
        slanted = max(map(len, classes)) * 5.5 > cell_points
        axes.set_xticks(range(n_classes), classes)
        if slanted:
            slant_names(axes)
        axes.set_yticks(range(n_classes), classes)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="predicted class", ylabel="true class")
        figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046, pad=0.03)
    return figure


def roc_figure(labels: Iterable[object], probabilities: np.ndarray, classes: Sequence[str]) -> Figure:
    """ROC curve of each class against the rest, and their mean at equal false positive rate.

    Takes what `metrics.compute_metrics` takes, raises what it raises, and shows the AUROCs that it returns. A class
    without images, or with all of them, has no curve.
    """
    indices, p, _ = labelled_rows(labels, probabilities, classes)
    areas = auroc_per_class(indices, p)
    grid = np.linspace(0.0, 1.0, 501)
    mean_curve = []
    with figure_style():
        figure = Figure(figsize=(5.2, 5.4 + 0.17 * (len(classes) + 1)), layout="constrained")
        axes = figure.subplots()
        for k in np.flatnonzero(~np.isnan(areas)).tolist():
            false_rate, true_rate, _ = roc_curve(indices == k, p[:, k])
            colour, line = colour_and_line(k)
            axes.plot(false_rate, true_rate, line, color=colour, label=f"{classes[k]}: {areas[k]:.4f}")
            mean_curve.append(np.interp(grid, false_rate, true_rate))
        if mean_curve:
            curve = np.concatenate([[0.0], np.mean(mean_curve, axis=0)])
            label = f"mean of classes: {auroc_macro(indices, p):.4f}"
            # Wide and behind the others, which it would hide where they agree.
            axes.plot(np.concatenate([[0.0], grid]), curve, color="0.6", linewidth=3.5, zorder=1.5, label=label)
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=(0, (4, 4)), label="chance: 0.5000")
        axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axes.grid(True)
        figure.legend(loc="outside lower center", title="area under the ROC curve", frameon=False)
    return figure


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

    Takes what `metrics.compute_metrics` takes, raises what it raises, and shows the average precisions that it returns.
    A dot at the left edge is the class's share of the images: the precision of guessing. A class without images, or
    with all of them, has no curve.
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
            better = "larger" if METRICS[score].higher_is_better else "smaller"
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
