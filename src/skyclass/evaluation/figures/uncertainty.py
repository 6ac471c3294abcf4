"""The figure that compares scores of uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...core.plotting import colour_and_line, figure_style
from ..uncertainty import IN_WORDS, best_risk_coverage, risk_coverage

MOST_POINTS = 2000  # of a curve: more than the figure has pixels


def uncertainty_figure(wrong: np.ndarray, scores: Mapping[str, np.ndarray], compared: Mapping[str, Any]) -> Figure:
    """Risk against coverage of each score, and beside it their AUROCs of errors with 95 % intervals.

    wrong : (N,) bool; scores : name -> (N,); compared : the result of `compare_scores`
    """
    with figure_style():
        height = max(4.0, 1.6 + 0.42 * len(scores))
        figure = Figure(figsize=(11.0, height + 0.25 * (len(scores) // 3 + 2)), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1.15, 1.0))
        _draw_curves(left, wrong, scores, compared)
        _draw_aurocs(right, compared)
        title = "area under the curve of risk against coverage"
        figure.legend(
            *left.get_legend_handles_labels(), loc="outside lower center", title=title, frameon=False, ncols=3
        )
    return figure


def _draw_curves(axes: Axes, wrong: np.ndarray, scores: Mapping[str, np.ndarray], compared: Mapping[str, Any]) -> None:
    shown = np.unique(np.linspace(0, len(wrong) - 1, MOST_POINTS).astype(int))
    for k, (name, score) in enumerate(scores.items()):
        curve, (colour, line) = risk_coverage(wrong, score), colour_and_line(k)
        area = compared["scores"][name]["aurc"]
        axes.plot(curve.coverage[shown], curve.risk[shown], line, color=colour, label=f"{IN_WORDS[name]}: {area:.4f}")
    best = best_risk_coverage(wrong)
    label = f"best possible: {compared['best_aurc']:.4f}"
    axes.plot(best.coverage[shown], best.risk[shown], color="0.4", linewidth=1.0, linestyle="--", label=label)
    axes.axhline(wrong.mean(), color="0.6", linewidth=0.8, linestyle=(0, (4, 4)), label=f"chance: {wrong.mean():.4f}")
    axes.set(xlabel="coverage: share of the images kept, the most certain first", ylabel="risk: share of them wrong")
    axes.set(xlim=(0.0, 1.0), ylim=(0.0, None))
    axes.grid(True)


def _draw_aurocs(axes: Axes, compared: Mapping[str, Any]) -> None:
    """One row a score, the first on top; its number beside the name."""
    rows = compared["scores"]
    names = []
    for k, (name, row) in enumerate(rows.items()):
        words = IN_WORDS[name]
        if row["auroc"] is None:
            names.append(f"{words}\nundefined")
            continue
        known = ""
        if row["auroc_interval"]:
            low, high = row["auroc_interval"]
            axes.plot([low, high], [k, k], color=colour_and_line(k)[0], linewidth=2.0)
            known = f" [{low:.3f}, {high:.3f}]"
        filled = "full" if name == compared["trust"] else "none"
        axes.plot(row["auroc"], k, "o", color=colour_and_line(k)[0], fillstyle=filled, markersize=7)
        names.append(f"{words}\n{row['auroc']:.3f}{known}")
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.axvline(0.5, color="0.6", linewidth=0.8, linestyle=(0, (4, 4)))
    trusted = "filled: the one to trust" if compared["trust"] else "none is to be trusted"
    axes.set(xlabel=f"AUROC of errors, with 95 % interval\n(chance: 0.5; {trusted})")
    axes.grid(True, axis="x")
