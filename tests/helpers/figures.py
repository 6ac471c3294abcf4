"""What a drawn figure shows."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

LONG = ["spiral_anticlockwise", "in_between_round_smooth", "edge_on_without_bulge"]


def save_blank(figure: Figure, target: Path | io.BytesIO, **_: Any) -> None:
    """What stands for `Figure.savefig` where pictures are not what is tested: a PNG of one pixel.

    The figure is composed, but not laid out and drawn, which takes matplotlib longer than a toy training takes.
    """
    Image.new("RGB", (1, 1)).save(target, "PNG")


def size_drawn(figure: Figure) -> tuple[int, int]:
    """(height, width) in pixels of the figure, drawn in full."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba")
    width, height = figure.canvas.get_width_height()
    assert len(buffer.getvalue()) == 4 * width * height
    return height, width


def fits(figure: Figure) -> bool:
    """Whether all that is drawn lies on the figure."""
    size_drawn(figure)
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return bool(min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) > -0.01)


def legend_of(figure: Figure) -> list[str]:
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    return [text.get_text() for legend in legends for text in legend.get_texts()]
