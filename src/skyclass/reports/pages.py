"""HTML pages from templates, and the pictures that they hold."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from matplotlib.figure import Figure
from PIL import Image as pillow

from ..core.errors import SkyclassError
from ..core.html import data_uri, jpeg_uri
from ..core.plotting import save_figure

TEMPLATES = Path(__file__).parent / "templates"


class Picture(NamedTuple):
    """An image inside a page: its data URI, and what it shows in words."""

    uri: str
    text: str


def figure_picture(figure: Figure, text: str) -> Picture:
    """A figure inside a page."""
    stream = io.BytesIO()
    save_figure(figure, stream)
    return _webp(stream, text, lossless=True)


def file_picture(path: Path, text: str) -> Picture:
    """A saved figure inside a page, as lossless WebP: its flat colours make the PNG two to three times as large."""
    return _webp(path, text, lossless=True)


def sheet_picture(path: Path, text: str) -> Picture:
    """A saved sheet of images inside a page, as WebP: their noise makes the PNG five to ten times as large."""
    return _webp(path, text, quality=88)


def _webp(file: Path | io.BytesIO, text: str, **how: Any) -> Picture:
    stream = io.BytesIO()
    try:
        with pillow.open(file) as opened:
            opened.convert("RGB").save(stream, format="webp", **how)
    except (OSError, SyntaxError, ValueError):  # of Pillow, for damaged files
        where = file if isinstance(file, Path) else None
        raise SkyclassError("a picture of ours is gone or damaged", where=where, fix="make it again") from None
    return Picture(data_uri("webp", stream.getvalue()), text)


def thumbnail_picture(pixels: np.ndarray, text: str) -> Picture:
    """A thumbnail, (h, w) or (h, w, 3) uint8, inside a page."""
    return Picture(jpeg_uri(pixels), text)


def page(template: str, content: Mapping[str, Any]) -> str:
    """A page from one of our templates, of HTML where its name ends so, else of plain text.

    A name that the template wants and `content` lacks is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=jinja2.select_autoescape(("html.j2",)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(content)
