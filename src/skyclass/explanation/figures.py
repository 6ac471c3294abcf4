"""Figures of explanations: an image beside its heatmap, for one image or for sheets of them."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from scipy.ndimage import zoom

from ..drawing import displayed, figure_style, picture_grid, show_picture
from ..errors import SkyclassError

# Even steps in lightness, and legible to the colour-blind, which the usual "jet" is not.
HEAT = "inferno"
COLOURS = (0.3, 0.85)  # the part of it that an overlay shows: neither the black nor the pale end, which hide and vanish
STRONGEST = 0.45  # opacity of the overlay where the heat is 1; it falls with the heat, to none where there is none
HALF = 0.5  # of the peak, where the contour lies
LINE = 0.75  # opacity of the contour
DRAWN_AT = 256  # pixels of the longer side at least: on fewer, a line of a pixel or two would hide the object


def overlay(image: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """The heatmap laid over the image: clear where there is no heat, a tint through which the object shows where there
    is, and a thin contour at half of the peak, white on dark images and black on bright ones.

    Small images are enlarged by a whole number k first (`enlargement`), their pixels staying squares.

    image : (C, H, W), any dtype; heatmap : (H, W) in [0, 1]. Returns (k H, k W, 3) float32 in [0, 1].
    Errors: SkyclassError where the sizes differ.
    """
    picture = displayed(image)
    if heatmap.shape != picture.shape[:2]:
        raise SkyclassError(
            f"a heatmap of {heatmap.shape} does not fit an image of {picture.shape[:2]} (height, width)",
            fix="enlarge it with `heatmaps(maps, size)` first",
        )
    opacity = STRONGEST * heatmap[:, :, None]  # (H, W, 1)
    low, high = COLOURS
    heat = mpl.colormaps[HEAT](low + (high - low) * heatmap)[:, :, :3]  # (H, W, 3)
    times = enlargement(heatmap.shape)
    tinted = _enlarged((1.0 - opacity) * _coloured(picture) + opacity * heat, times)  # (k H, k W, 3)
    smooth = zoom(heatmap, times, order=1, mode="nearest", grid_mode=True)  # (k H, k W)
    line = LINE * half_contour(smooth)[:, :, None]  # (k H, k W, 1)
    bright = line.any() and np.average(tinted.mean(axis=2), weights=line[:, :, 0]) > 0.5
    return ((1.0 - line) * tinted + line * (0.0 if bright else 1.0)).astype(np.float32)


def enlargement(size: Sequence[int]) -> int:
    """The whole number of times by which a picture of (height, width) is enlarged before it is drawn upon."""
    return max(1, -(-DRAWN_AT // max(size)))


def _enlarged(picture: np.ndarray, times: int) -> np.ndarray:
    """(H, W, 3) -> (k H, k W, 3), each pixel a square of k x k."""
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def half_contour(heatmap: np.ndarray) -> np.ndarray:
    """How far each pixel is covered by the line, about a pixel wide, on which a heatmap has half of its peak.

    Parameters
    ----------
    heatmap : (H, W), not negative

    Returns
    -------
    (H, W) in [0, 1]; zero everywhere for a map without heat, or without a place below half of its peak.
    """
    level = HALF * float(heatmap.max())
    above = np.pad(heatmap, 1, mode="edge") - level  # (H + 2, W + 2)
    inside = above >= 0.0
    if level <= 0.0 or inside.all():
        return np.zeros(heatmap.shape, np.float32)
    slope = np.hypot(*np.gradient(above))
    distance = np.abs(above) / np.maximum(slope, 1e-12)  # in pixels, to the first order
    line = np.clip(1.25 - distance, 0.0, 1.0)[1:-1, 1:-1]
    near = np.zeros(heatmap.shape, bool)  # beside a pixel on the other side of the line: flat places are none of it
    centre = inside[1:-1, 1:-1]
    for neighbour in (inside[:-2, 1:-1], inside[2:, 1:-1], inside[1:-1, :-2], inside[1:-1, 2:]):
        near |= neighbour != centre
    return np.where(near, line, 0.0).astype(np.float32)


def beside_overlay(image: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """The image and its overlay side by side, parted by a white gap: (k H, W', 3) float32 in [0, 1].

    Takes, enlarges and refuses what `overlay` does.
    """
    over = overlay(image, heatmap)
    return _side_by_side(_enlarged(_coloured(displayed(image)), enlargement(heatmap.shape)), over)


def explanation_figure(image: np.ndarray, heatmap: np.ndarray, title: str = "") -> Figure:
    """Three panels: the image, the heatmap laid over it, the heatmap alone with its scale.

    image : (C, H, W), any dtype; heatmap : (H, W) in [0, 1]. Errors: as `overlay`.
    """
    blended = overlay(image, heatmap)
    height, width = heatmap.shape
    with figure_style():
        panel = float(np.clip(2.9 * height / width, 1.2, 5.0))
        figure = Figure(figsize=(9.6, panel + (0.75 if title else 0.45)), layout="compressed")
        original, over, alone = figure.subplots(1, 3)
        show_picture(original, displayed(image), "original", 10.0)
        show_picture(over, blended, "overlay", 10.0)
        show_picture(alone, mpl.colormaps[HEAT](heatmap)[:, :, :3], "heatmap", 10.0)
        scale = ScalarMappable(norm=mpl.colors.Normalize(0.0, 1.0), cmap=HEAT)
        figure.colorbar(scale, ax=alone, label="relative evidence", fraction=0.05, pad=0.03)
        if title:
            figure.suptitle(title)
    return figure


def class_sheet(
    images: Sequence[np.ndarray],
    heatmaps: Sequence[np.ndarray] | np.ndarray,
    captions: Sequence[str],
    columns: int = 3,
    title: str = "",
) -> Figure:
    """A sheet of pairs, image and overlay side by side, `columns` pairs in a row.

    images : (C, H, W) each, any dtype; heatmaps : (H, W) in [0, 1] each; captions : one a pair.
    Errors: SkyclassError when there is no image, no column, another number of captions, or as `overlay`.
    """
    if not len(images) == len(heatmaps) == len(captions):
        raise SkyclassError(
            f"{len(images)} images, {len(heatmaps)} heatmaps and {len(captions)} captions", fix="give as many of each"
        )
    pairs = [beside_overlay(image, heatmap) for image, heatmap in zip(images, heatmaps, strict=True)]
    return picture_grid(pairs, captions, columns, title, width=3.2)


def _coloured(picture: np.ndarray) -> np.ndarray:
    """A grey (H, W) picture as (H, W, 3); a coloured one as it is."""
    return np.repeat(picture[:, :, None], 3, axis=2) if picture.ndim == 2 else picture


def _side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two (H, W, 3) pictures in one, parted by a white gap."""
    height, width, _ = left.shape
    gap = np.ones((height, max(width // 40, 1), 3), dtype=np.float32)
    return np.concatenate([left, gap, right], axis=1)  # (H, 2 W + gap, 3)
