"""Pieces of HTML: escaped, and whole."""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
from PIL import Image as pillow

from skyclass.core.html import facts, jpeg_uri, pictures, small_table


def test_names_and_values_are_escaped() -> None:
    html = facts("a <b>", {"<i>": "<script>", "none": None, "zero": 0})
    assert "<b>" not in html
    assert "<i>" not in html
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "none" not in html
    assert ">0<" in html


def test_without_rows_there_is_no_table() -> None:
    assert "<table" not in facts("title", {})


def test_a_table_has_escaped_names() -> None:
    assert "&lt;x&gt;" in small_table(pd.DataFrame({"<x>": [1]}))


def test_a_picture_comes_back() -> None:
    pixels = np.full((4, 6, 3), 128, np.uint8)
    content = base64.b64decode(jpeg_uri(pixels).partition(",")[2])
    assert np.abs(np.asarray(pillow.open(io.BytesIO(content))).astype(int) - 128).max() <= 1
    html = pictures([jpeg_uri(pixels)], ['"quoted"'], 100)
    assert html.count("<img") == 1
    assert 'alt="&quot;quoted&quot;"' in html
