"""Figures of a tuning. Each function returns a matplotlib Figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullFormatter

from ...core.errors import SkyclassError
from ...core.plotting import COLOURS, figure_style, slant_names

MARKS = {"complete": ("o", COLOURS[0]), "pruned": ("x", COLOURS[3])}


@dataclass(frozen=True)
class Dimension:
    """A recipe key that was searched: the values that it could take (None: those of a range), and its scale."""

    key: str
    choices: Sequence[str | int | float | bool] | None = None
    log: bool = False


def history_figure(table: pd.DataFrame, metric: str, *, less_is_better: bool) -> Figure:
    """The metric of each trial, and the best one so far.

    table : a row a trial: number, state ("complete", "pruned"), and a column of the metric
    Errors: SkyclassError without a complete trial.
    """
    complete = _complete(table, metric).sort_values("number")
    best = complete[metric].cummin() if less_is_better else complete[metric].cummax()
    with figure_style():
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        axes = figure.subplots()
        _draw_trials(axes, table, table["number"], metric)
        axes.step(complete["number"], best, where="post", color=COLOURS[1], zorder=1.5, label="best so far")
        axes.set(xlabel="trial", ylabel=metric)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(True)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def importance_figure(shares: Mapping[str, float], metric: str) -> Figure:
    """Bars of each key's share of the variance of the metric that they explain together, the largest on top.

    shares : key -> share, 0 to 1. Errors: SkyclassError without a key.
    """
    if not shares:
        raise SkyclassError("no key to draw", fix="give the importance of at least one key")
    ordered = sorted(shares.items(), key=lambda item: item[1], reverse=True)
    with figure_style():
        figure = Figure(figsize=(6.4, 1.2 + 0.4 * len(ordered)), layout="constrained")
        axes = figure.subplots()
        bars = axes.barh([key for key, _ in ordered], [share for _, share in ordered], color=COLOURS[0], height=0.6)
        axes.bar_label(bars, fmt="{:.2f}", padding=3, fontsize=9)
        axes.invert_yaxis()
        axes.set(
            xlabel=f"share of what the keys explain of the variance of {metric}",
            xlim=(0.0, 1.1 * max(shares.values()) or 1.0),
        )
    return figure


def slices_figure(table: pd.DataFrame, dimensions: Sequence[Dimension], metric: str, *, less_is_better: bool) -> Figure:
    """The metric against each key, a panel a key; the best trial is ringed, and lists have the mean of each value.

    table : as `history_figure` takes it, with a column a key. Errors: SkyclassError without a complete trial or a key.
    """
    complete = _complete(table, metric)
    if not dimensions:
        raise SkyclassError("no key to draw", fix="give at least one key")
    ordered = complete.sort_values([metric, "number"], ascending=[less_is_better, True])
    columns = min(3, len(dimensions))
    rows = -(-len(dimensions) // columns)
    with figure_style():
        figure = Figure(figsize=(0.8 + 3.2 * columns, 0.6 + 3.1 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for axes in panels.flat[len(dimensions) :]:
            axes.set_axis_off()
        for axes, dimension in zip(panels.flat, dimensions, strict=False):
            x = _positions(axes, table, dimension)
            _draw_trials(axes, table, x, metric)
            if dimension.choices is not None:
                means = complete[metric].groupby(x[complete.index].round()).mean()
                axes.hlines(means, means.index - 0.3, means.index + 0.3, color="0.4", label="mean of complete trials")
            axes.plot(
                x[ordered.index[:1]],
                ordered[metric].iloc[:1],
                "o",
                ms=11,
                mfc="none",
                mec=COLOURS[1],
                mew=2,
                label="best",
            )
            axes.set_xlabel(dimension.key)
            axes.grid(True, axis="y")
        for axes in panels[:, 0]:
            axes.set_ylabel(metric)
        found: dict[str, Any] = {}
        for axes in panels.flat:
            handles, labels = axes.get_legend_handles_labels()
            found.update(zip(labels, handles, strict=True))
        figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=len(found), frameon=False)
    return figure


def _complete(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    complete = table[(table["state"] == "complete") & table[metric].notna()]
    if complete.empty:
        raise SkyclassError("no trial to draw", fix="give a table with at least one complete trial")
    return complete


def _draw_trials(axes: Axes, table: pd.DataFrame, x: pd.Series, metric: str) -> None:
    """A mark a trial, by its state."""
    for state, (mark, colour) in MARKS.items():
        rows = (table["state"] == state) & table[metric].notna()
        if rows.any():
            axes.plot(x[rows], table.loc[rows, metric], mark, color=colour, ms=5, alpha=0.8, label=f"{state} trial")


def _round_values(low: float, high: float) -> list[float]:
    """Round numbers for a logarithmic axis from low to high: fewer a decade, the more decades there are."""
    digits = (1, 2, 3, 5) if high < 10 * low else (1, 3) if high < 1000 * low else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [float(f"{digit}e{decade}") for decade in decades for digit in digits]


def _positions(axes: Axes, table: pd.DataFrame, dimension: Dimension) -> pd.Series:
    """The x position of each trial in its panel: its value, or for a list the index of its value, with some jitter."""
    values = table[dimension.key]
    if dimension.choices is None:
        if dimension.log:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(FixedLocator(_round_values(values.min(), values.max())))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        return values.astype(float)
    choices = list(dimension.choices)
    if all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices):
        choices = sorted(choices, key=lambda choice: float(str(choice)))
    names = [_short(str(choice)) for choice in choices]
    axes.set_xticks(range(len(choices)), names)
    if max(map(len, names)) * len(names) > 34:
        slant_names(axes)
    axes.set_xlim(-0.6, len(choices) - 0.4)
    place = {str(choice): float(k) for k, choice in enumerate(choices)}
    aside = np.random.default_rng(0).uniform(-0.18, 0.18, len(table))  # so that equal trials do not hide each other
    return values.map(lambda value: place[str(value)]).astype(float) + aside


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"
