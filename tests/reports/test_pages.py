"""The pieces of a page: pictures, sheets and the balance of the classes."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import jinja2
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image as pillow

from helpers.figures import LONG, fits, legend_of
from skyclass.core.errors import SkyclassError
from skyclass.core.plotting import displayed, picture_grid
from skyclass.reports.class_balance import class_balance_figure
from skyclass.reports.pages import Picture, figure_picture, file_picture, page, sheet_picture, thumbnail_picture


def test_class_balance_bars_are_the_counts() -> None:
    counts = pd.DataFrame({"train": [80, 1200, 0], "val": [10, 20, 1]}, index=LONG)
    figure = class_balance_figure(counts)
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [80, 1200, 0, 10, 20, 1]
    assert [text.get_text() for text in axes.texts] == ["80", "1,200", "0", "10", "20", "1"]
    assert [label.get_text() for label in axes.get_yticklabels()] == LONG
    assert legend_of(figure) == ["train", "val"]
    assert axes.patches[0].get_y() < axes.patches[3].get_y()
    assert axes.yaxis_inverted()  # the first class is on top
    assert fits(figure)
    with pytest.raises(SkyclassError, match="no class to count"):
        class_balance_figure(counts.iloc[:0])


def test_bars_of_one_column_need_no_legend() -> None:
    figure = class_balance_figure(pd.DataFrame({"all": [80, 1200, 3]}, index=LONG))
    assert legend_of(figure) == []
    assert fits(figure)


def decoded(picture: Picture, kind: str) -> np.ndarray:
    head, content = picture.uri.split(",")
    assert head == f"data:image/{kind};base64"
    with pillow.open(io.BytesIO(base64.b64decode(content))) as opened:
        assert opened.format == kind.upper()
        return np.asarray(opened.convert("RGB"))


def test_pictures_in_a_page_are_what_they_were(tmp_path: Path) -> None:
    figure = class_balance_figure(pd.DataFrame({"train": [1, 2]}, index=["a", "b"]))
    figure.savefig(tmp_path / "bars.png")
    as_figure, as_file = figure_picture(figure, "bars"), file_picture(tmp_path / "bars.png", "bars")
    assert as_figure == as_file
    assert as_file.text == "bars"
    as_sheet = decoded(sheet_picture(tmp_path / "bars.png", "bars"), "webp")
    with pillow.open(tmp_path / "bars.png") as saved:
        assert np.array_equal(decoded(as_file, "webp"), saved.convert("RGB"))
        assert np.abs(as_sheet.astype(int) - np.asarray(saved.convert("RGB"))).mean() < 2.0
    assert len(as_file.uri) < 0.8 * (tmp_path / "bars.png").stat().st_size
    ramp = np.linspace(0, 255, 24 * 32).reshape(24, 32).astype(np.uint8)
    assert np.abs(decoded(thumbnail_picture(ramp, "ramp"), "jpeg")[..., 0].astype(int) - ramp).max() <= 4


def test_a_sheet_of_noise_is_small_in_a_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (3, 224, 224), dtype=np.uint8) for _ in range(6)]
    picture_grid([displayed(image) for image in images], ["a"] * 6, 6, "").savefig(tmp_path / "sheet.png")
    assert len(sheet_picture(tmp_path / "sheet.png", "noise").uri) < 0.5 * (tmp_path / "sheet.png").stat().st_size


def test_a_page_wants_all_that_its_template_names() -> None:
    with pytest.raises(jinja2.UndefinedError, match="'name' is undefined"):
        page("inspect.html.j2", {})


def test_the_users_own_settings_neither_matter_nor_change() -> None:
    with mpl.rc_context({"font.size": 40, "axes.spines.top": True}):
        figure = class_balance_figure(pd.DataFrame({"train": [1, 2]}, index=["a", "b"]))
        assert mpl.rcParams["font.size"] == 40
    assert figure.axes[0].xaxis.label.get_size() == 10
    assert not figure.axes[0].spines["top"].get_visible()
