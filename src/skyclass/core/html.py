"""Small pieces of HTML for notebooks: tables and pictures that take the colours of the page around them."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from PIL import Image as pillow

_CELL = "text-align: left; vertical-align: top; padding: 0.1em 1em 0.1em 0"


def data_uri(kind: str, content: bytes) -> str:
    """A picture of the format `kind`, such as jpeg, as the address of an `<img>`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def jpeg_uri(pixels: np.ndarray, quality: int = 90) -> str:
    """Pixels (h, w) or (h, w, 3) uint8 as the address of an `<img>`."""
    stream = io.BytesIO()
    pillow.fromarray(pixels).save(stream, format="jpeg", quality=quality, subsampling=0)
    return data_uri("jpeg", stream.getvalue())


def facts(title: str, rows: Mapping[str, object]) -> str:
    """A title above a table of names and their values, one a row; a value that is None is left out.

    Without rows there is no table.
    """
    lines = "".join(
        f'<tr><th scope="row" style="{_CELL}; font-weight: normal; opacity: 0.7">{html.escape(name)}</th>'
        f'<td style="{_CELL}">{html.escape(str(value))}</td></tr>'
        for name, value in rows.items()
        if value is not None
    )
    table = f'<table style="border-collapse: collapse">{lines}</table>' if lines else ""
    return f"<p><strong>{html.escape(title)}</strong></p>{table}"


def small_table(table: pd.DataFrame) -> str:
    """A small table with the names of its rows and columns, as pandas draws it, without a border."""
    drawn: str = table.to_html(border=0, na_rep="")
    return drawn


def pictures(uris: Sequence[str], captions: Sequence[str], width: int) -> str:
    """Pictures of `width` pixels in a row that wraps, each above its caption."""
    figures = "".join(
        f'<figure style="margin: 0; width: {width}px"><img src="{uri}" alt="{html.escape(text)}" '
        f'style="width: 100%"><figcaption style="font-size: 85%">{html.escape(text)}</figcaption></figure>'
        for uri, text in zip(uris, captions, strict=True)
    )
    return f'<div style="display: flex; flex-wrap: wrap; gap: 0.8em">{figures}</div>'
