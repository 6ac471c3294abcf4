"""Figures of calibration and of prediction sets: functions that return a matplotlib Figure; the caller saves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...core.errors import SkyclassError
from ...core.plotting import COLOURS, figure_style
from ..calibration.error import expected_calibration_error, reliability_bins
from ..calibration_report import CalibrationReport

AFTER, BEFORE = COLOURS[0], COLOURS[1]
WRONG = COLOURS[3]


def calibration_figures(report: CalibrationReport) -> dict[str, Figure]:
    """The reliability diagram, and the figure of the prediction sets if there are any, by the names of their files."""
    scores, sets = report.scores["calibration"], report.scores["prediction_sets"]
    by_chance = [scores[when]["ece"]["by_chance"] for when in ("after", "before") if scores[when]]
    figures = {"reliability.png": reliability_figure(report.labels, report.after, report.before, by_chance)}
    if report.sets is not None:
        drawn = prediction_sets_figure(report.sets.members, report.sets.labels, sets, sets["target"])
        figures["prediction_sets.png"] = drawn
    return figures


def reliability_figure(
    labels: np.ndarray, after: np.ndarray, before: np.ndarray | None = None, by_chance: Sequence[float] = ()
) -> Figure:
    """Reliability diagram: accuracy against confidence in bins of equal mass, above a histogram of the confidences.

    Bars are 95 % Wilson intervals; on the dashed line confidence and accuracy agree (DeGroot & Fienberg 1983, The
    Statistician 32, 12; Guo et al. 2017, figure 1).

    labels : (N,) integers in [0, K), N > 0; after, before : (N, K) probabilities, calibrated and not; by_chance : the
    ECE of a perfectly calibrated classifier with the probabilities of each, after first, which is shown beside theirs.
    Errors: SkyclassError without an image.
    """
    if not len(labels):
        raise SkyclassError("no labelled image for a reliability diagram", fix="give labelled predictions")
    after_name = "probabilities" if before is None else "after calibration"
    chance = [*(f" (by chance {value:.3f})" for value in by_chance), "", ""]
    kinds = [
        (f"{after_name}: ECE {{:.3f}}{chance[0]}", after, AFTER, "o", "-"),
        (f"before calibration: ECE {{:.3f}}{chance[1]}", before, BEFORE, "s", "--"),
    ]
    shown = [(name, p, *style) for name, p, *style in kinds if p is not None]
    with figure_style():
        figure = Figure(figsize=(5.2, 6.2), layout="constrained")
        axes, counts = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": (3, 1)})
        axes.plot([0, 1], [0, 1], color="0.5", linewidth=1.0, linestyle=(0, (4, 4)), label="perfect")
        low = 1.0
        for name, p, colour, marker, line in reversed(shown):
            style: dict[str, Any] = {"color": colour, "linestyle": line}
            _draw_reliability(axes, labels, p, name, {**style, "fmt": marker})
            confidence = p.max(axis=1)
            low = min(low, float(confidence.min()))
            counts.hist(confidence, bins=np.linspace(0.0, 1.0, 41), histtype="step", linewidth=1.4, **style)
        axes.set(ylabel="accuracy (share that is right)", ylim=(-0.02, 1.02))
        counts.set(xlabel="confidence (probability of the predicted class)", ylabel="images")
        counts.set_xlim(max(0.0, low - 0.05), 1.01)
        counts.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
        for one in (axes, counts):
            one.grid(True)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", frameon=False, ncols=1)
    return figure


def _draw_reliability(axes: Axes, labels: np.ndarray, p: np.ndarray, name: str, style: dict[str, Any]) -> None:
    """Accuracy against confidence with the intervals; `name` has a place for the ECE, `style` goes to `errorbar`."""
    bins, error = reliability_bins(labels, p), expected_calibration_error(labels, p)
    bars = np.stack([bins.accuracy - bins.accuracy_low, bins.accuracy_high - bins.accuracy]).clip(0.0)
    label = name.format(error)
    axes.errorbar(bins.confidence, bins.accuracy, bars, linewidth=1.2, markersize=5, capsize=2, label=label, **style)


def prediction_sets_figure(
    members: np.ndarray, labels: np.ndarray, scores: dict[str, Any], target: float | None
) -> Figure:
    """How many classes the sets hold, and the coverage of each class with its 95 % interval.

    members : (N, K) bool; labels : (N,) integers in [0, K), -1 where unknown; scores : what `set_scores` gives
    target : the promised coverage in (0, 1), None where it is not known
    """
    known = labels >= 0
    hit = known.copy()
    hit[known] = members[np.flatnonzero(known), labels[known]]
    size = members.sum(axis=1)
    n_classes = members.shape[1]
    covered = [*scores["coverage_per_class"].items(), ("all classes", scores["coverage"])]
    covered = [(name, one) for name, one in covered if one["n"]]
    with figure_style():
        rows = max(len(covered), 1)
        figure = Figure(figsize=(8.6 if covered else 4.4, max(3.6, 1.6 + 0.32 * rows)), layout="constrained")
        panels = figure.subplots(1, 2 if covered else 1, squeeze=False)[0]
        bottom = np.zeros(n_classes + 1)
        kinds = [("true class is in the set", hit, AFTER, None), ("it is not", known & ~hit, WRONG, "///")]
        for name, chosen, colour, hatch in [*kinds, ("no label", ~known, "0.6", "...")]:
            count = np.bincount(size[chosen], minlength=n_classes + 1)
            if count.any():
                panels[0].bar(
                    range(n_classes + 1), count, 0.8, bottom, color=colour, hatch=hatch, edgecolor="white", label=name
                )
            bottom += count
        for row, total in enumerate(bottom.astype(int)):
            panels[0].annotate(f"{total:,}", (row, total), (0, 2), textcoords="offset points", ha="center", fontsize=8)
        panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
        panels[0].margins(y=0.1)
        panels[0].set(xlabel="classes in the set", ylabel="images", xlim=(-0.6, n_classes + 0.6))
        panels[0].legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, ncols=3)
        if covered:
            _draw_coverage(panels[1], covered, target)
    return figure


def _draw_coverage(axes: Axes, covered: Sequence[tuple[str, dict[str, Any]]], target: float | None) -> None:
    """Coverage a row with its interval, the target as a line, and what is expected around it as a band."""
    band = "expected (95 %)"
    for row, (_, one) in enumerate(covered):
        low, high = one["interval"]
        if one["expected"]:
            start, end = one["expected"]
            axes.fill_betweenx([row - 0.4, row + 0.4], start, end, color="0.88", zorder=0.5, label=band)
            band = "_again"
        colour = "black" if row == len(covered) - 1 else AFTER
        bars = [[one["share"] - low], [high - one["share"]]]
        axes.errorbar(one["share"], row, xerr=bars, fmt="o", color=colour, markersize=5, capsize=3)
    if target is not None:
        axes.axvline(target, color="0.3", linewidth=1.0, linestyle=(0, (4, 4)), label=f"target {target:g}")
    axes.set_yticks(range(len(covered)), [f"{name} ({one['n']:,})" for name, one in covered])
    axes.set_ylim(len(covered) - 0.4, -0.6)
    axes.set(xlabel="coverage (share with the true class)", ylabel="class (images)")
    axes.grid(True, axis="x")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False, ncols=2)
