"""Pictures of images with more bands than a screen has colours."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.make_data import random_pixels, toy_image
from skyclass.core.plotting import displayed, thumbnail

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
