"""The style of figures: colours for the colour-blind, legible fonts, thumbnails, and how figures are saved."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image as pillow

from .errors import SkyclassError
from .files.atomic_files import written_whole

# Okabe & Ito 2008, "Color Universal Design", without black (kept for averages); pale yellow comes last.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442")
LINES = ("-", "--", ":", "-.")
THUMBNAIL = 192  # pixels of the longer side: sharp at the size a page shows it, and about 10 kB

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


def slant_names(axes: Axes) -> None:
    """Turn the names along the x axis, which are too long to fit side by side."""
    axes.tick_params(axis="x", rotation=45)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")


def displayed(image: np.ndarray) -> np.ndarray:
    """An image as matplotlib shows it.

    image : (C, H, W) of any dtype. One band is grey, two are averaged to grey, three are red, green and blue. Of more
    the last, the middle and the first are red, green and blue, because astronomers order bands by wavelength.

    uint8 is shown as it is; other values are mapped from their 0.5 to 99.5 percentile to [0, 1], so that one hot pixel
    does not darken the rest: over all bands, but each band by itself where there are more than three, as their units
    and brightness differ. Pixels that are not finite are black; one of two bands that is not finite is left out.

    Returns (H, W) or (H, W, 3) float32 in [0, 1]. Errors: SkyclassError for another number of axes, or no band.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[0] == 0:
        raise SkyclassError(
            f"an image of shape {image.shape} cannot be drawn", fix="give (bands, height, width) with at least one band"
        )
    n_bands = len(image)
    if n_bands > 3:
        image = image[[-1, (n_bands - 1) // 2, 0]]
    values = image.astype(np.float32)
    if n_bands == 2:
        values = _mean_of_finite(values)
    if image.dtype == np.uint8:
        scaled = values / 255.0
    else:
        scaled = np.concatenate([_scaled(group) for group in (values[:, None] if n_bands > 3 else [values])])
    return scaled[0] if len(scaled) == 1 else np.moveaxis(scaled, 0, -1)  # (H, W) or (H, W, 3)


def _mean_of_finite(values: np.ndarray) -> np.ndarray:
    """(C, H, W) -> (1, H, W), the mean of the finite values of each pixel; NaN where there are none."""
    good = np.isfinite(values)
    count = good.sum(axis=0, keepdims=True)
    total = np.where(good, values, 0.0).sum(axis=0, keepdims=True, dtype=np.float64)
    return np.where(count, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _scaled(values: np.ndarray) -> np.ndarray:
    """Map the 0.5 to 99.5 percentile of (C, H, W) to [0, 1], clipped, float32; what is not finite becomes 0."""
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 0.0)
    if high <= low and finite.size:  # nearly empty: fewer than 1 pixel in 200 differs
        low, high = finite.min(), finite.max()
    values = np.where(np.isfinite(values), values, low)
    return np.clip((values - low) / (high - low or 1.0), 0.0, 1.0).astype(np.float32)


def show_picture(axes: Axes, picture: np.ndarray, caption: str, font_size: float) -> None:
    """Draw a picture, (H, W) or (H, W, 3) in [0, 1], without ticks, under its caption."""
    axes.imshow(picture, cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
    axes.set_title(caption, fontsize=font_size)
    axes.set(xticks=[], yticks=[])  # the layout measures ticks even where the axis is off: a third of the time
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
    layout = ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.05, wspace=0.02, hspace=0.02)
    longest = max(len(line) for caption in captions for line in caption.split("\n"))
    font_size = float(np.clip(72.0 * width / (0.6 * max(longest, 1)), 5.0, 8.0))  # a letter is about 0.6 of its size
    caption_height = (1.2 * font_size * caption_lines + 6.0) / 72.0  # inches; the last 6 points are a gap
    height = rows * ((width - 0.08) * min(aspect, 2.0) + caption_height + 0.12) + (0.35 if title else 0.0)
    with figure_style():
        figure = Figure(figsize=(columns * width, height), layout=layout)
        for axes in figure.subplots(rows, columns, squeeze=False).flat:
            axes.set_axis_off()
        for axes, picture, caption in zip(figure.axes, pictures, captions, strict=False):
            show_picture(axes, picture, caption, font_size)
        if title:
            figure.suptitle(title, fontsize=11)
    return figure


def save_figure(figure: Figure, target: Path | io.BytesIO) -> None:
    """Write a figure as PNG, a file whole or not at all.

    Letters of a class name that no font has (Chinese, say) become boxes, without a warning.
    """
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        # Synced like every other file: 5 to 10 ms beside the 100 and more that drawing the picture takes.
        figure.savefig(stack.enter_context(written_whole(target)) if isinstance(target, Path) else target, format="png")


def thumbnail(image: np.ndarray) -> np.ndarray:
    """A small copy of an image for pages and sheets, reduced by areas, never enlarged.

    image : (C, H, W), as `displayed` takes it. Returns (h, w) or (h, w, 3) uint8, the longer side at most `THUMBNAIL`.
    """
    picture = pillow.fromarray(np.rint(255.0 * displayed(image)).astype(np.uint8))
    share = min(1.0, THUMBNAIL / max(picture.size))
    width, height = (max(1, round(share * side)) for side in picture.size)
    return np.asarray(picture.resize((width, height), pillow.Resampling.BOX))  # (h, w) or (h, w, 3)
