"""Figures of graded explanations: curves of deletion and insertion, stability and randomisation, localisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..core.plotting import COLOURS, colour_and_line, figure_style
from .faithfulness import EVERY, RANDOM


def deletion_insertion_figure(curves: Mapping[str, Mapping[str, np.ndarray]], n_images: int) -> Figure:
    """Deletion and insertion side by side: the mean score of the explained class, a line a method, random maps dashed.

    curves : deletion and insertion -> method -> (N, S) scores in [0, 1]
    """
    with figure_style():
        figure = Figure(figsize=(9.0, 3.8), layout="compressed")
        for axes, (name, methods) in zip(figure.subplots(1, 2, sharey=True), curves.items(), strict=True):
            for k, (method, scores) in enumerate(methods.items()):
                mean = scores.mean(axis=0)
                shares = np.linspace(0.0, 1.0, len(mean))
                colour, line = ("black", "--") if method == RANDOM else colour_and_line(k)
                area = float(np.trapezoid(mean, shares))
                axes.plot(shares, mean, color=colour, linestyle=line, label=f"{method} ({area:.2f})")
            better = {"deletion": "lower is better", "insertion": "higher is better"}[name]
            done = {"deletion": "deleted", "insertion": "made sharp"}[name]
            axes.set(title=f"{name}: {better}", xlabel=f"share of the pixels {done}, hottest first")
            axes.set(xlim=(0.0, 1.0), ylim=(0.0, 1.0))
            axes.grid(True)
            axes.legend(title="method (area)", title_fontsize=9)
        figure.axes[0].set_ylabel("probability of the explained class")
        figure.suptitle(f"Do the hottest pixels matter to the network? Mean of {n_images} images")
    return figure


def sanity_figure(table: pd.DataFrame, stays: float, changes: float) -> Figure:
    """Bars a method and class: correlation over the orientations, and with the maps of random networks.

    table : as `grading.grade_table` gives it; stays, changes : the correlations at which a check is passed
    """
    with figure_style():
        figure = Figure(figsize=(9.0, 3.8), layout="compressed")
        left, right = figure.subplots(1, 2)
        classes = list(dict.fromkeys(table["class"]))
        for axes, column, limit in ((left, "stability", stays), (right, "randomised_network", changes)):
            _bars(axes, table, column, classes)
            axes.axhline(limit, color="black", linestyle=":", linewidth=1.2)
            axes.set_ylim(min(-0.1, axes.get_ylim()[0]), 1.0)
        left.set(title=f"Same map in all orientations?\n(from {stays:g}, dotted, it is)")
        left.set_ylabel("correlation with the maps turned back")
        right.set(title=f"Another map from a random network?\n(below {changes:g}, dotted, it is)")
        right.set_ylabel("rank correlation with its maps")
        _legend(figure, left)
    return figure


def localisation_figure(table: pd.DataFrame) -> Figure:
    """Bars a method and class: shares of heat and of maxima near the substructure, beyond that of the Einstein ring.

    table : as `grading.grade_table` gives it, of lenses with substructure; classes without are left out
    """
    known = table[table["n_localised"] > 0]
    with figure_style():
        figure = Figure(figsize=(9.0, 3.8), layout="compressed")
        for axes, name in zip(figure.subplots(1, 2, sharey=True), ("heat", "peak"), strict=True):
            _bars(axes, known, f"{name}_near", list(dict.fromkeys(table["class"])), ("ring_near", "area_near"))
            what = {"heat": "heat", "peak": "maxima of the maps"}[name]
            axes.set(title=f"Share of the {what}", ylabel="share near the substructure")
            axes.set_ylim(0.0, 1.0)
        _legend(figure, figure.axes[0])
        figure.suptitle("Do the maps point at subhalos and vortex lines?")
    return figure


def _bars(axes: Axes, table: pd.DataFrame, column: str, classes: Sequence[str], chance: tuple[str, ...] = ()) -> None:
    """A group of bars a method, one a class, and marks for what chance gives; `classes` keep their colours."""
    methods, shown = list(dict.fromkeys(table["method"])), [name for name in classes if name in set(table["class"])]
    width = 0.8 / len(shown)
    marks = {"ring_near": ("D", "a map of the Einstein ring"), "area_near": ("_", "share of the area (random maps)")}
    for k, name in enumerate(shown):
        rows = table[table["class"] == name].set_index("method").reindex(methods)
        place = np.arange(len(methods)) + (k - (len(shown) - 1) / 2.0) * width
        colour = "0.35" if name == EVERY else COLOURS[classes.index(name) % len(COLOURS)]
        axes.bar(place, rows[column], 0.92 * width, color=colour, label=name)
        for mark in chance:
            sign, text = marks[mark]
            axes.plot(place, rows[mark], sign, color="black", markersize=4, label=text if not k else None, linestyle="")
    axes.set_xticks(np.arange(len(methods)), [name.replace("-", "\n") for name in methods])
    axes.axhline(0.0, color="black", linewidth=0.8)


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6))
