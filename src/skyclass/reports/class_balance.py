"""How many images each class and each split has, as a figure."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..core.errors import SkyclassError
from ..core.plotting import colour_and_line, figure_style


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
