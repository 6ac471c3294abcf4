"""Figures of an evaluation: what they show, and that they can be drawn for awkward input without a warning."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import jinja2
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image as pillow

from helpers.figures import LONG, fits, legend_of, size_drawn
from skyclass.core.errors import SkyclassError
from skyclass.core.plotting import THUMBNAIL, colour_and_line, displayed, picture_grid, save_figure, thumbnail
from skyclass.evaluation import metrics
from skyclass.evaluation.figures.scores import confusion_figure, roc_figure
from skyclass.evaluation.figures.training import training_curves_figure
from skyclass.reports.class_balance import class_balance_figure
from skyclass.reports.pages import Picture, figure_picture, file_picture, page, sheet_picture, thumbnail_picture


def sample_sheet(images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 6, title: str = "") -> Figure:
    return picture_grid([displayed(image) for image in images], captions, columns, title)


@pytest.mark.parametrize("classes", [["lens", "none"], LONG, [f"{LONG[0]}_{k}" for k in range(10)]])
def test_confusion_cells_hold_counts_and_shares_of_the_true_class(classes: list[str]) -> None:
    matrix = np.eye(len(classes), dtype=int) * 3
    matrix[0, 1] = 1
    figure = confusion_figure(matrix.tolist(), classes)
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert cells[:2] == ["3\n75.0 %", "1\n25.0 %"]
    assert cells[-1] == "3\n100.0 %"
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == classes
    assert (figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()) == ("predicted class", "true class")
    assert fits(figure)


def test_a_class_without_images_has_no_shares() -> None:
    figure = confusion_figure([[2, 0], [0, 0]], ["a", "b"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["2\n100.0 %", "0\n0.0 %", "0", "0"]
    with pytest.raises(SkyclassError, match=r"shape \(2, 2\) does not fit 3 classes"):
        confusion_figure([[2, 0], [0, 0]], ["a", "b", "c"])


@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_roc_legend_holds_the_areas_of_the_evaluation(n_classes: int) -> None:
    rng = np.random.default_rng(0)
    classes = [f"{LONG[0]}_{k}" for k in range(n_classes)]
    labels = np.array(classes)[np.arange(80) % n_classes]
    p = rng.dirichlet(np.ones(n_classes), 80)
    result = metrics.compute_metrics(labels, p, classes)
    figure = roc_figure(labels, p, classes)
    shown = dict(text.rsplit(": ", 1) for text in legend_of(figure))
    assert shown.pop("chance") == "0.5000"
    assert shown.pop("mean of classes") == f"{result['auroc_macro']:.4f}"
    assert shown == {name: f"{area:.4f}" for name, area in result["auroc_per_class"].items()}
    assert fits(figure)


def test_the_mean_roc_curve_has_the_mean_area() -> None:
    rng = np.random.default_rng(1)
    labels, p = np.array(["a", "b", "c"] * 40), rng.dirichlet(np.ones(3), 120)
    lines = {
        line.get_label().split(":")[0]: line.get_xydata() for line in roc_figure(labels, p, list("abc")).axes[0].lines
    }
    mean = lines["mean of classes"]
    result = metrics.compute_metrics(labels, p, list("abc"))
    assert np.trapezoid(mean[:, 1], mean[:, 0]) == pytest.approx(result["auroc_macro"], abs=2e-3)
    assert np.trapezoid(lines["a"][:, 1], lines["a"][:, 0]) == pytest.approx(result["auroc_per_class"]["a"])


def test_roc_leaves_out_classes_without_a_curve() -> None:
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.3, 0.4, 0.3]])
    assert [text.split(":")[0] for text in legend_of(roc_figure(["a", "b", "a"], p, list("abc")))] == [
        "a",
        "b",
        "mean of classes",
        "chance",
    ]
    assert legend_of(roc_figure(["a", "a", None], p, list("abc"))) == ["chance: 0.5000"]


def history(n_epochs: int = 5) -> pd.DataFrame:
    falling = np.linspace(1.0, 0.2, n_epochs)
    names = ["train_loss", "val_loss", "train_accuracy", "val_accuracy", "val_balanced_accuracy", "val_auroc"]
    return pd.DataFrame({"epoch": range(n_epochs), **dict.fromkeys(names, falling), "learning_rate": 1e-3 * falling})


def test_curves_of_a_full_history() -> None:
    figure = training_curves_figure(history())
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "score", "learning rate"]
    assert [len(axes.lines) for axes in figure.axes] == [2, 4, 1]
    assert figure.axes[2].get_yscale() == "log"
    assert fits(figure)


def test_the_best_epoch_is_marked() -> None:
    for axes in training_curves_figure(history(), best_epoch=3).axes:
        assert axes.lines[-1].get_xdata() == [3, 3]
        assert axes.get_legend().get_texts()[-1].get_text() == "best epoch: 3"


def test_curves_with_gaps_and_absent_columns() -> None:
    table = history().assign(val_auroc=np.nan)[["epoch", "val_loss", "train_loss", "val_auroc"]]
    table.loc[[1, 3], "val_loss"] = np.nan
    (axes,) = training_curves_figure(table).axes
    assert [line.get_label() for line in axes.lines] == ["training", "validation"]
    assert list(axes.lines[1].get_xdata()) == [0, 2, 4]


def test_curves_of_one_epoch_and_of_none() -> None:
    figure = training_curves_figure(history(1).assign(learning_rate=0.0))
    assert size_drawn(figure)
    assert figure.axes[2].get_yscale() == "linear"
    with pytest.raises(SkyclassError, match="no curve to draw from the columns epoch;"):
        training_curves_figure(history()[["epoch"]])
    with pytest.raises(SkyclassError, match="no curve"):
        training_curves_figure(history().drop(columns="epoch"))


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


@pytest.mark.parametrize("n_bands", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "bool"])
def test_images_of_any_bands_and_type_are_drawn(n_bands: int, dtype: str) -> None:
    image = np.random.default_rng(0).integers(0, 200, (n_bands, 30, 20)).astype(dtype)
    picture = displayed(image)
    assert picture.shape == ((30, 20) if n_bands < 3 else (30, 20, 3))
    assert picture.dtype == np.float32
    assert 0.0 <= picture.min() < picture.max() <= 1.0


def test_how_values_become_brightness() -> None:
    grey = np.array([[[0, 51], [102, 255], [0, 0]]], dtype=np.uint8)
    np.testing.assert_allclose(displayed(grey), grey[0] / 255.0)
    np.testing.assert_allclose(displayed(np.concatenate([grey, 0 * grey])), grey[0] / 510.0)
    five = np.stack([np.full((2, 3), 51 * k, dtype=np.uint8) for k in range(5)])
    np.testing.assert_allclose(displayed(five)[0, 0], [0.8, 0.4, 0.0])  # the last band is the reddest

    ramp = np.linspace(-5.0, 20.0, 2000, dtype=np.float32).reshape(1, 40, 50)
    plain = displayed(ramp)
    hot = ramp.copy()
    hot[0, 0, 0] = 1e6
    np.testing.assert_allclose(displayed(hot)[1:], plain[1:], atol=2e-3)  # one hot pixel changes little
    hot[0, 0, :2] = np.nan, np.inf
    assert displayed(hot)[0, 0] == displayed(hot)[0, 1] == 0.0
    np.testing.assert_allclose(displayed(1e-9 * ramp + 3e-9), plain, atol=1e-3)


def test_flat_empty_and_nearly_empty_images_are_drawn() -> None:
    assert (displayed(np.full((1, 4, 6), 3.0)) == 0.0).all()
    assert (displayed(np.full((3, 4, 6), np.nan)) == 0.0).all()
    point = np.zeros((1, 40, 50))
    point[0, 7, 9] = 5.0
    assert displayed(point)[7, 9] == 1.0
    with pytest.raises(SkyclassError, match=r"shape \(4, 6\) cannot be drawn"):
        displayed(np.zeros((4, 6)))
    with pytest.raises(SkyclassError, match="at least one band"):
        displayed(np.zeros((0, 4, 6)))


def test_a_sheet_of_images_of_many_sizes() -> None:
    images = [np.zeros((1, 30, 20)), np.zeros((3, 16, 48), dtype=np.uint8), np.zeros((2, 20, 20))]
    captions = ["edge_on_without_bulge\nas in_between_round_smooth 0.91", "b", "c"]
    figure = sample_sheet(images, captions, columns=2, title="mistakes")
    assert [axes.get_title() for axes in figure.axes] == [*captions, ""]
    assert figure.get_suptitle() == "mistakes"
    assert fits(figure)
    tall, wide = size_drawn(sample_sheet(images, captions, columns=1)), size_drawn(sample_sheet(images, captions))
    assert tall[0] > wide[0]
    assert tall[1] < wide[1]
    untitled = sample_sheet(images, captions, columns=2)
    assert size_drawn(untitled)[0] < size_drawn(figure)[0]


@pytest.mark.parametrize(("n_images", "n_captions", "columns"), [(0, 0, 3), (2, 1, 3), (2, 2, 0)])
def test_a_sheet_that_cannot_be_laid_out_is_refused(n_images: int, n_captions: int, columns: int) -> None:
    with pytest.raises(SkyclassError, match=f"{n_images} images and {n_captions} captions .* {columns} columns"):
        sample_sheet([np.zeros((1, 3, 4))] * n_images, ["a"] * n_captions, columns)


@pytest.mark.parametrize("caption", ["edge_on", "spiral_anticlockwise\npredicted edge_on_without_bulge 91%\nmap for x"])
def test_a_sheet_has_little_empty_paper(caption: str) -> None:
    figure = sample_sheet([np.zeros((1, 24, 32))] * 7, [caption] * 7, columns=3)
    size_drawn(figure)
    drawn = [box for axes in figure.axes if (box := axes.get_tightbbox()) is not None]
    top, bottom = max(box.y1 for box in drawn), min(box.y0 for box in drawn)
    assert top - bottom > 0.93 * figure.bbox.height
    assert fits(figure)


def test_a_thumbnail_is_the_mean_over_areas() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 4 * THUMBNAIL, 2 * THUMBNAIL), dtype=np.uint8)
    small = thumbnail(image)
    assert small.shape == (THUMBNAIL, THUMBNAIL // 2, 3)
    means = image.reshape(3, THUMBNAIL, 4, THUMBNAIL // 2, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(small, np.moveaxis(means, 0, -1), atol=1.01)
    np.testing.assert_array_equal(thumbnail(image[:1, :24, :32]), image[0, :24, :32])  # never enlarged
    assert thumbnail(np.zeros((1, 3, 5000))).shape == (1, THUMBNAIL)


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


def test_letters_that_no_font_has_are_drawn_without_a_word(tmp_path: Path) -> None:
    """Matplotlib warns of each of them, which fails a test."""
    save_figure(confusion_figure([[1, 0], [0, 1]], ["\u6e26", "blob"]), tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_a_sheet_of_noise_is_small_in_a_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (3, 224, 224), dtype=np.uint8) for _ in range(6)]
    sample_sheet(images, ["a"] * 6).savefig(tmp_path / "sheet.png")
    assert len(sheet_picture(tmp_path / "sheet.png", "noise").uri) < 0.5 * (tmp_path / "sheet.png").stat().st_size


def test_a_page_wants_all_that_its_template_names() -> None:
    with pytest.raises(jinja2.UndefinedError, match="'name' is undefined"):
        page("inspect.html.j2", {})


def test_curves_of_28_classes_differ() -> None:
    assert len({colour_and_line(k) for k in range(28)}) == 28


def test_the_users_own_settings_neither_matter_nor_change() -> None:
    with mpl.rc_context({"font.size": 40, "axes.spines.top": True}):
        figure = class_balance_figure(pd.DataFrame({"train": [1, 2]}, index=["a", "b"]))
        assert mpl.rcParams["font.size"] == 40
    assert figure.axes[0].xaxis.label.get_size() == 10
    assert not figure.axes[0].spines["top"].get_visible()
