"""Figures of a training and of its evaluation. Each function returns a matplotlib Figure; whoever calls it saves it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import roc_curve

from ..drawing import colour_and_line, figure_style, slant_names
from ..errors import SkyclassError
from .metrics import auroc_macro, auroc_per_class, labelled_rows

LOSSES = {"train_loss": "training", "val_loss": "validation"}
SCORES = {
    "train_accuracy": "training accuracy",
    "val_accuracy": "validation accuracy",
    "val_balanced_accuracy": "validation balanced accuracy",
    "val_macro_f1": "validation macro F1",
    "val_auroc": "validation AUROC",
}
RATES = {"learning_rate": ""} | {f"learning_rate_{part}": part for part in ("early", "middle", "late", "head")}


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

    Takes what `metrics.evaluate` takes, raises what it raises, and shows the AUROCs that it returns. A class without
    images, or with all of them, has no curve.
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


def curves_figure(history: pd.DataFrame, best_epoch: float | None = None) -> Figure:
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


def class_balance_figure(counts: pd.DataFrame) -> Figure:
    """Number of images of each class in each split, as bars.

    counts : index class, a column a split, values >= 0. Errors: SkyclassError for an empty table.
    """
    if counts.empty:
        raise SkyclassError("no class to count", fix="give a table with a row a class and a column a split")
    n_classes, n_splits = counts.shape
    thickness = 0.8 / n_splits
    with figure_style():
        figure = Figure(
            figsize=(6.4, 0.8 + 0.3 * (n_splits > 1) + max(0.19 * n_splits, 0.3) * n_classes * 1.25),
            layout="constrained",
        )
        axes = figure.subplots()
        for k, split in enumerate(counts.columns):
            where = np.arange(n_classes) + (k - (n_splits - 1) / 2) * thickness
            bars = axes.barh(where, counts[split], height=thickness, color=colour_and_line(k)[0], label=str(split))
            axes.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=8)
        axes.set_yticks(range(n_classes), [str(name) for name in counts.index])
        axes.set_ylim(n_classes - 0.4, -0.6)  # first class on top
        axes.margins(x=0.12)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set(xlabel="images", ylabel="class")
        if n_splits > 1:
            figure.legend(loc="outside upper right", ncols=n_splits, frameon=False)
    return figure


def rates_figure(rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, suggestion: float) -> Figure:
    """A learning-rate range test: the loss of each batch and its smoothed course, with a mark at the suggested rate.

    rates : (n,) > 0; losses, smoothed : (n,). Errors: SkyclassError where there is no loss to draw.
    """
    if not len(losses):
        raise SkyclassError("no loss to draw", fix="give the losses of a range test")
    with figure_style():
        figure = Figure(figsize=(5.4, 4.1), layout="constrained")
        axes = figure.subplots()
        axes.plot(rates, losses, "o", color="0.6", markersize=3, label="each batch")
        axes.plot(rates, smoothed, color=colour_and_line(0)[0], label="smoothed")
        axes.axvline(suggestion, color="0.3", linewidth=1.0, linestyle=":", label=f"steepest fall: {suggestion:.2g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        # The divergence at the end would press the fall before it flat.
        top = 1.5 * max(float(losses[0]), float(smoothed[: int(smoothed.argmin()) + 1].max()))
        axes.set_ylim(top=min(top, 1.05 * float(losses.max())))
        axes.grid(True)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
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
