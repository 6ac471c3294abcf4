"""How figures look: colours that the colour-blind can tell apart, type legible in a report, images as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from .errors import SkyclassError

# Okabe & Ito 2008, "Color Universal Design", without black (kept for averages); pale yellow comes last.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442")
LINES = ("-", "--", ":", "-.")

RC: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": "0.9",
    "axes.axisbelow": True,
    "figure.dpi": 150,
    "figure.facecolor": "white",
}


def figure_style() -> AbstractContextManager[None]:
    """Matplotlib's defaults with our sizes on top, whatever the user's own settings, which come back afterwards."""
    return mpl.style.context(["default", RC])


def colour_and_line(k: int) -> tuple[str, str]:
    """The colour and the line style of curve number k; the first 28 all differ."""
    return COLOURS[k % len(COLOURS)], LINES[k // len(COLOURS) % len(LINES)]


def displayed(image: np.ndarray) -> np.ndarray:
    """An image as matplotlib shows it.

    image : (C, H, W) of any dtype. One band is grey, two are averaged to grey, of more than three the first three are
    red, green and blue. uint8 is shown as it is; other values are mapped from their 0.5 to 99.5 percentile over all
    bands to [0, 1], so that one hot pixel does not darken the rest. Pixels that are not finite are black.

    Returns (H, W) or (H, W, 3) float32 in [0, 1]. Errors: SkyclassError for another number of axes, or no band.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[0] == 0:
        raise SkyclassError(
            f"an image of shape {image.shape} cannot be drawn", fix="give (bands, height, width) with at least one band"
        )
    values = image.astype(np.float32)
    values = values.mean(axis=0, keepdims=True) if len(values) == 2 else values[:3]
    if image.dtype == np.uint8:
        scaled = values / 255.0
    else:
        finite = values[np.isfinite(values)]
        low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 0.0)
        if high <= low and finite.size:  # nearly empty: fewer than 1 pixel in 200 differs
            low, high = finite.min(), finite.max()
        values = np.where(np.isfinite(values), values, low)
        scaled = np.clip((values - low) / (high - low or 1.0), 0.0, 1.0).astype(np.float32)
    return scaled[0] if len(scaled) == 1 else np.moveaxis(scaled, 0, -1)  # (H, W) or (H, W, 3)


def show_picture(axes: Axes, picture: np.ndarray, caption: str, font_size: float) -> None:
    """Draw a picture, (H, W) or (H, W, 3) in [0, 1], without ticks, under its caption."""
    axes.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    axes.set_title(caption, fontsize=font_size)
    axes.set_axis_off()


def picture_grid(
    pictures: Sequence[np.ndarray], captions: Sequence[str], columns: int, title: str, width: float = 1.7
) -> Figure:
    """Pictures in rows of `columns`, each `width` inches wide with its caption above it.

    pictures : (H, W) or (H, W, 3) each, in [0, 1]; sizes may differ. captions : one each; lines are parted by newlines.

    Errors: SkyclassError when there is no picture, no column, or another number of captions.
    """
    if not len(pictures) or columns < 1 or len(captions) != len(pictures):
        raise SkyclassError(
            f"{len(pictures)} images and {len(captions)} captions cannot be laid out in {columns} columns",
            fix="give at least one image, one caption an image and at least one column",
        )
    rows = -(-len(pictures) // columns)
    columns = min(columns, len(pictures))
    aspect = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    caption_lines = max(caption.count("\n") + 1 for caption in captions)
    height = rows * (width * min(aspect, 2.0) + 0.14 + 0.16 * caption_lines) + (0.4 if title else 0.0)
    layout = ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.05, wspace=0.02, hspace=0.02)
    longest = max(len(line) for caption in captions for line in caption.split("\n"))
    font_size = float(np.clip(72.0 * width / (0.6 * max(longest, 1)), 5.0, 8.0))  # a letter is about 0.6 of its size
    with figure_style():
        figure = Figure(figsize=(columns * width, height), layout=layout)
        for axes in figure.subplots(rows, columns, squeeze=False).flat:
            axes.set_axis_off()
        for axes, picture, caption in zip(figure.axes, pictures, captions, strict=False):
            show_picture(axes, picture, caption, font_size)
        if title:
            figure.suptitle(title, fontsize=11)
    return figure
