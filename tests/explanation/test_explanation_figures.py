"""Figures of explanations: the panels hold what they say, for any bands and for images that are not square."""

import io
from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from skyclass.classifier.run import Run
from skyclass.core.errors import SkyclassError
from skyclass.core.files.replacing import new_contents
from skyclass.explanation.figures import (
    beside_overlay,
    class_sheet,
    enlargement,
    explanation_figure,
    half_contour,
    overlay,
)
from skyclass.explanation.output import LIST, ON_SHEET, ExplanationFolder, Sheet, listed_files, remove_listed
from skyclass.reports.examples import explanations_section
from skyclass.reports.scores import OF_CLASSES, class_rows


def image_and_heatmap(n_bands: int = 3, height: int = 24, width: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    heatmap = np.zeros((height, width), dtype=np.float32)
    heatmap[5:10, 20:35] = np.linspace(0.1, 1.0, 15)
    return rng.integers(0, 256, (n_bands, height, width), dtype=np.uint8), heatmap


@pytest.mark.parametrize("n_bands", [1, 2, 3, 5])
def test_an_overlay_is_the_image_where_it_is_cold_and_tinted_where_it_is_hot(n_bands: int) -> None:
    image, heatmap = image_and_heatmap(n_bands)
    times = enlargement(heatmap.shape)
    every = overlay(image, heatmap)
    assert every.shape == (times * 24, times * 40, 3)
    assert every.dtype == np.float32
    blended = every[times // 2 :: times, times // 2 :: times]
    shown = {1: [0, 0, 0], 3: [0, 1, 2], 5: [4, 2, 0]}  # the band that is red, green, blue
    bands = image[shown[n_bands]] if n_bands in shown else image.mean(axis=0, keepdims=True).repeat(3, 0)
    picture = np.moveaxis(bands, 0, -1) / 255.0
    cold = (heatmap == 0) & (half_contour(heatmap) == 0)
    assert cold.sum() > 0.8 * cold.size
    np.testing.assert_allclose(blended[cold], picture[cold], atol=1e-6)
    hot = 0.55 * picture[7, 32] + 0.45 * np.array(mpl.colormaps["inferno"](0.85)[:3])
    np.testing.assert_allclose(blended[7, 32], hot, atol=0.1)  # its heat is 0.87
    assert every.min() >= 0.0
    assert every.max() <= 1.0


def disk_of_heat(size: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian of heat, and how far each pixel is from its centre."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return np.exp(-(x**2 + y**2) / (0.05 * size**2)).astype(np.float32), np.hypot(x, y)


@pytest.mark.parametrize("peak", [1.0, 0.4])
@pytest.mark.parametrize(("background", "colour"), [(0, 1.0), (255, 0.0)])
def test_the_contour_lies_at_half_of_the_peak_and_shows_on_any_background(
    peak: float, background: int, colour: float
) -> None:
    heat, radius = disk_of_heat()
    blended = overlay(np.full((1, *heat.shape), background, np.uint8), peak * heat)
    line = (np.abs(blended - colour) < 0.45).all(axis=2) & (radius < 80)
    half = np.sqrt(0.05 * 256**2 * np.log(2.0))
    assert line.sum() > 160
    assert np.abs(radius[line] - half).max() < 1.3


@pytest.mark.parametrize("size", [48, 64, 128, 256])
def test_the_contour_is_as_thin_on_small_images_as_on_large_ones(size: int) -> None:
    """A line of a pixel on an image of 48 is a ring that hides the object within."""
    heat, _ = disk_of_heat(size)
    blended = overlay(np.zeros((1, size, size), np.uint8), heat)
    assert blended.shape[0] >= 256
    assert 0.003 < (blended.mean(axis=2) > 0.5).mean() < 0.012
    assert blended.max() < 0.9  # what lies beneath it shines through


def test_an_enlarged_image_has_the_same_pixels_beside_its_overlay() -> None:
    image, heatmap = image_and_heatmap(3)
    pair = beside_overlay(image, 0 * heatmap)
    times, (_, height, width) = enlargement(image.shape[1:]), image.shape
    assert pair.shape[0] == times * height
    for side in (pair[:, : times * width], pair[:, -times * width :]):
        squares = side.reshape(height, times, width, times, 3)
        expected = np.moveaxis(image, 0, -1)[:, None, :, None] / 255.0
        np.testing.assert_allclose(squares, np.broadcast_to(expected, squares.shape), atol=1e-6)


def test_the_object_stays_visible_under_the_heat() -> None:
    """A spot at the peak keeps half of its contrast, and no heat changes nothing."""
    heat, radius = disk_of_heat()
    image = np.where(radius < 12, 230, 40).astype(np.uint8)[None]
    blended = overlay(image, heat).mean(axis=2)
    assert blended[radius < 8].mean() - blended[(radius > 16) & (radius < 24)].mean() > 0.5 * (230 - 40) / 255
    np.testing.assert_allclose(overlay(image, 0 * heat)[..., 0], image[0] / 255.0, atol=1e-6)
    np.testing.assert_array_equal(half_contour(np.ones((8, 9), np.float32)), 0.0)


def test_a_heatmap_of_another_size_is_refused() -> None:
    image, heatmap = image_and_heatmap()
    with pytest.raises(SkyclassError, match=r"\(40, 24\) does not fit an image of \(24, 40\)"):
        overlay(image, heatmap.T)


@pytest.mark.parametrize(("n_bands", "height", "width"), [(3, 24, 40), (1, 60, 36)])
def test_three_panels_original_overlay_heatmap(n_bands: int, height: int, width: int) -> None:
    image, heatmap = image_and_heatmap(n_bands, height, width)
    figure = explanation_figure(image, heatmap, title="spiral_anticlockwise, p = 0.97")
    original, over, alone, scale = figure.axes
    assert [axes.get_title() for axes in (original, over, alone)] == ["original", "overlay", "heatmap"]
    assert scale.get_ylabel() == "relative evidence"
    np.testing.assert_allclose(over.images[0].get_array(), overlay(image, heatmap))
    np.testing.assert_allclose(alone.images[0].get_array(), mpl.colormaps["inferno"](heatmap)[..., :3])
    assert original.images[0].get_array().shape[:2] == heatmap.shape
    assert figure.get_suptitle() == "spiral_anticlockwise, p = 0.97"
    figure.savefig(io.BytesIO())
    inside = figure.bbox.padded(1)
    for text in (original.title, scale.yaxis.label):
        box = text.get_window_extent()
        assert inside.contains(box.x0, box.y0)
        assert inside.contains(box.x1, box.y1)


def test_a_figure_without_a_title_is_lower() -> None:
    image, heatmap = image_and_heatmap()
    titled, untitled = explanation_figure(image, heatmap, "title"), explanation_figure(image, heatmap)
    assert untitled.get_figheight() < titled.get_figheight()


def test_a_sheet_holds_pairs_of_image_and_overlay() -> None:
    image, heatmap = image_and_heatmap(1)
    captions = ["spiral_anticlockwise", "edge_on", "merging"]
    figure = class_sheet([image] * 3, [heatmap] * 3, captions, columns=2, title="every class")
    figure.savefig(io.BytesIO())
    assert [axes.get_title() for axes in figure.axes] == [*captions, ""]
    assert figure.get_suptitle() == "every class"
    pair = figure.axes[1].images[0].get_array()
    width = 40 * enlargement(heatmap.shape)
    np.testing.assert_allclose(pair[:, -width:], overlay(image, heatmap), atol=1e-6)
    assert (pair[:, width:-width] == 1.0).all()
    assert pair[:, width:-width].shape[1] == width // 40
    one_column = class_sheet([image] * 3, np.stack([heatmap] * 3), captions, columns=1)
    assert one_column.get_figheight() > figure.get_figheight()
    assert one_column.get_figwidth() < figure.get_figwidth()


def test_a_sheet_that_does_not_fit_together_is_refused() -> None:
    image, heatmap = image_and_heatmap()
    with pytest.raises(SkyclassError, match="2 images, 1 heatmaps and 2 captions"):
        class_sheet([image] * 2, [heatmap], ["a", "b"])
    with pytest.raises(SkyclassError, match="0 images"):
        class_sheet([], [], [])


def draw(folder: Path, labels: list[str | None], predicted: list[str]) -> pd.DataFrame:
    """Explain toy images of these labels and predictions; returns `explanations.csv`."""
    image, heatmap = image_and_heatmap()
    n = len(labels)
    table = pd.DataFrame({"label": labels, "predicted": predicted, "confidence": 0.9}, dtype=object)
    table["explained"], table["method"] = table["predicted"], "gradcam"
    table["layer"], table["cells"] = None, "7x9"
    table["image_id"] = table["file"] = [f"image {k}" for k in range(n)]
    with new_contents(folder, LIST, lambda: listed_files(folder)) as new:
        pictures = ExplanationFolder(new, "predicted" if None in labels else "label")
        for part in (table[: n // 2], table[n // 2 :]):
            pictures.add(np.stack([image] * len(part)), np.stack([heatmap] * len(part)), part, None)
        pictures.finish(Sheet())
    return pd.read_csv(folder / "explanations.csv", dtype=str)


def test_a_sheet_takes_so_many_images_and_no_more() -> None:
    sheet, (image, heatmap) = Sheet(), image_and_heatmap()
    for number in range(ON_SHEET + 3):
        sheet.add(image, heatmap, str(number))
    assert sheet.captions == [str(number) for number in range(ON_SHEET)]
    assert len(sheet.images) == len(sheet.heatmaps) == ON_SHEET


@pytest.mark.slow
def test_classes_whose_names_make_one_file_name_have_two_sheets(tmp_path: Path) -> None:
    listed = draw(tmp_path / "explanations", ["a/b", "a b", "a/b", "0"], ["0"] * 4)
    assert listed["sheet"].tolist() == ["class-a_b.png", "class-a_b-1.png", "class-a_b.png", "class-0.png"]
    drawn = {path.name for path in (tmp_path / "explanations").glob("*.png")}
    assert drawn == {*listed["picture"], *listed["sheet"]}
    draw(tmp_path / "explanations", ["0", "0"], ["0"] * 2)  # another time, with fewer
    assert len(list((tmp_path / "explanations").glob("*.png"))) == 3
    with pytest.raises(ValueError, match="need at least one array"):
        draw(tmp_path / "explanations", [], [])  # and a third time, which fails: the second stays
    assert len(list((tmp_path / "explanations").glob("*.png"))) == 3
    remove_listed(tmp_path / "explanations")
    assert not list((tmp_path / "explanations").iterdir())


def shown_sheets(run: Run, classes: list[str]) -> list[str]:
    """Texts of the sheets that a report shows."""
    material = SimpleNamespace(run=run, metrics={"classes": classes})
    return [picture.text for picture in explanations_section(material)["sheets"]]  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_report_names_the_sheets_by_class_and_in_the_order_of_the_classes(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert shown_sheets(run, ["a"]) == []
    draw(run.explanations, ["a/b", "a b", "other", "0"], ["0"] * 4)
    words = "maps of the evidence in images of"
    assert shown_sheets(run, ["0", "a b", "a/b"]) == [f"{words} {name}" for name in ("0", "a b", "a/b", "other")]
    draw(run.explanations, [None, "a b"], ["a/b", "0"])  # not all labelled: sheets by prediction
    assert shown_sheets(run, ["0", "a b", "a/b"]) == [f"{words} {name}" for name in ("0", "a/b")]


def test_the_scores_of_a_class_in_a_report() -> None:
    values = {key: {"lens": 0.75, "none": 0.5, "never": None} for key in OF_CLASSES}
    metrics = {
        "classes": ["lens", "none", "never"],
        "confusion_matrix": [[6, 2, 0], [1, 9, 0], [1, 0, 0]],
        "intervals": {key: {"lens": [0.5, 0.9]} for key in OF_CLASSES},
        **values,
    }
    rows = class_rows(metrics)
    assert [(name, n) for name, n, _ in rows] == [("lens", 8), ("none", 10), ("never", 1)]
    assert [score.name for score in rows[0][2]] == list(OF_CLASSES.values())
    assert {(score.value, tuple(score.interval or ())) for score in rows[0][2]} == {(0.75, (0.5, 0.9))}
    assert {(score.value, score.interval) for score in rows[2][2]} == {(None, None)}
