"""Pictures of images of any bands and type, sheets of them, and thumbnails."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.figure import Figure

from helpers.figures import fits, size_drawn
from helpers.make_data import random_pixels, toy_image
from skyclass.core.errors import SkyclassError
from skyclass.core.plotting import THUMBNAIL, colour_and_line, displayed, picture_grid, thumbnail

SIZE = (30, 44)


@pytest.mark.parametrize(("n_bands", "shown"), [(4, (3, 1, 0)), (5, (4, 2, 0)), (6, (5, 2, 0)), (7, (6, 3, 0))])
def test_of_many_bands_the_last_is_red_and_the_first_is_blue(n_bands: int, shown: tuple[int, ...]) -> None:
    image = random_pixels(0, SIZE, n_bands)
    np.testing.assert_allclose(displayed(image), np.moveaxis(image[list(shown)], 0, -1) / 255, atol=1e-6)
    assert thumbnail(image).shape == (*SIZE, 3)


def test_three_bands_are_red_green_and_blue() -> None:
    image = random_pixels(1, SIZE)
    np.testing.assert_allclose(displayed(image), np.moveaxis(image, 0, -1) / 255, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_units_of_many_bands_do_not_matter(dtype: str) -> None:
    image = (100 * toy_image("blob", 0, SIZE, 5)).astype(dtype)
    factors = np.array([1, 7, 50, 9, 300], dtype)[:, None, None]
    picture = displayed(image * factors)
    np.testing.assert_allclose(picture, displayed(image), atol=1e-5)
    assert (picture.max(axis=(0, 1)) == 1).all()


def test_a_missing_band_of_many_leaves_the_others() -> None:
    image = toy_image("ring", 0, SIZE, 5)
    whole = displayed(image)
    image[4] = np.nan
    image[0, 3, 5] = np.inf
    picture = displayed(image)
    assert not picture[..., 0].any()
    np.testing.assert_array_equal(picture[..., 1], whole[..., 1])
    assert picture[3, 5, 2] == 0
    assert picture[..., 2].max() == 1


def test_of_two_bands_what_is_not_finite_is_left_out() -> None:
    image = toy_image("bar", 0, SIZE, 2)
    np.testing.assert_allclose(displayed(image), displayed(image.mean(axis=0, keepdims=True)), atol=1e-6)
    image[1] = np.nan
    np.testing.assert_array_equal(displayed(image), displayed(image[:1]))
    image[0, 2, 3] = np.inf
    assert displayed(image)[2, 3] == 0
    assert (displayed(np.full((2, *SIZE), np.nan)) == 0).all()


def sample_sheet(images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 6, title: str = "") -> Figure:
    return picture_grid([displayed(image) for image in images], captions, columns, title)


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


def test_curves_of_28_classes_differ() -> None:
    assert len({colour_and_line(k) for k in range(28)}) == 28
