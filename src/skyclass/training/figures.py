"""The figure of the learning-rate range test; that of the curves is in `evaluation.figures.training`."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from ..core.errors import SkyclassError
from ..core.plotting import colour_and_line, figure_style


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
