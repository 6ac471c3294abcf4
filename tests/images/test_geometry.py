"""Where the network's pixels lie in the image: against the pixel path itself, on images that tell their coordinates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skyclass.images.geometry import Axis, Placement, placement, put_back
from skyclass.images.preprocess import preprocess
from skyclass.recipes.data_settings import PixelSettings

SIDES = st.integers(6, 40)
SIZES = st.tuples(SIDES, SIDES)
RECIPES = st.builds(
    lambda crop, size, fit, interpolation: PixelSettings(
        crop=crop, size=size, fit=fit, interpolation=interpolation, dtype="float32"
    ),
    st.none() | SIZES,
    st.none() | SIZES,
    st.sampled_from(["distort", "crop", "pad"]),
    st.sampled_from(["area", "bilinear"]),
)


def coordinates(height: int, width: int) -> np.ndarray:
    """(3, H, W): each pixel's row, its column, and one."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([rows, columns, np.ones_like(rows)])


def windows(size: tuple[int, int], pixel_settings: list[PixelSettings]) -> Iterator[Placement]:
    """The image, and what each cropping left of it: resizing sees no pixel beyond, and repeats those at the edge."""
    yield placement(size, [])
    for count, recipe in enumerate(pixel_settings):
        yield placement(size, [*pixel_settings[:count], recipe.model_copy(update={"size": None})])
        yield placement(size, pixel_settings[: count + 1])


@settings(deadline=None, max_examples=60)
@example(size=(6, 11), pixel_settings=[PixelSettings(crop=(6, 6), size=(7, 10), fit="pad", interpolation="bilinear")])
@given(size=SIZES, pixel_settings=st.lists(RECIPES, min_size=1, max_size=2))
def test_each_pixel_lies_where_the_pixel_path_took_it_from(
    size: tuple[int, int], pixel_settings: list[PixelSettings]
) -> None:
    """An image of coordinates shows where its pixels went, but for the border: there, old pixels are repeated."""
    made, _ = preprocess(coordinates(*size), ("a", "b", "c"), pixel_settings)
    place = placement(size, pixel_settings)
    assert made.shape[1:] == place.size
    rows = place.rows.offset + place.rows.scale * np.arange(place.size[0])[:, None]
    columns = place.columns.offset + place.columns.scale * np.arange(place.size[1])[None, :]
    whole = (made[2] > 0.9999) & np.ones(place.size, bool)  # not padded, nor mixed with padding
    inside = np.ones(place.size, bool)
    for window in windows(size, pixel_settings):
        for at, seen, final, pixels in zip((rows, columns), window[1:], place[1:], window.size, strict=True):
            margin = 1.0 + max(1.0, final.scale)
            first = seen.offset - seen.scale / 2 + 0.5  # the pixel within the window's edge
            inside &= (at >= first + margin) & (at <= first + seen.scale * pixels - 1 - margin)
    # A second resizing repeats the border of the first's, so a margin of its pixels is left out too.
    inner = np.zeros(place.size, bool)
    inner[2:-2, 2:-2] = True
    chosen = whole & inside & inner
    # Area averages take a pixel for a square of one value: a part of one counts as its centre.
    is_linear = all(recipe.interpolation == "bilinear" for recipe in pixel_settings)
    for plane, expected, axis in zip(made[:2], (rows, columns), place[1:], strict=True):
        within = 2e-3 if is_linear else 0.2 * max(1.0, axis.scale)
        np.testing.assert_allclose(plane[chosen], np.broadcast_to(expected, place.size)[chosen], atol=within)


def test_by_hand() -> None:
    """41x30 pixels: the central 21x20 begin at row 10 and column 5; halved in height, doubled in width."""
    settings = PixelSettings(crop=(20, 20), size=(10, 40), fit="distort")
    place = placement((41, 30), [settings])
    assert place == Placement((10, 40), Axis(2.0, 10.5, 9.5, 29.5), Axis(0.5, 4.75, 4.5, 24.5))
    padded = placement((10, 40), [PixelSettings(size=(20, 20), fit="pad")])
    assert padded == Placement((20, 20), Axis(2.0, -13.5), Axis(2.0, 0.5))  # 5x20 pixels from row 7 on


@pytest.mark.parametrize(
    "settings",
    [
        PixelSettings(size=(24, 16)),
        PixelSettings(crop=(30, 40), size=(24, 16)),
        PixelSettings(size=(24, 24), fit="pad"),
        PixelSettings(size=(24, 24), fit="crop"),
        PixelSettings(crop=(90, 90)),
        PixelSettings(),
    ],
)
def test_the_maximum_comes_back_to_its_pixel(settings: PixelSettings) -> None:
    image = np.zeros((1, 60, 50), np.float32)
    image[0, 36:39, 21:24] = 1.0
    seen = preprocess(image, ("grey",), [settings])[0][0]
    back = put_back(seen, placement((60, 50), [settings]), (60, 50))
    assert back.shape == (60, 50)
    assert back.dtype == np.float32
    weights = np.nan_to_num(back)
    rows, columns = np.mgrid[:60, :50]
    assert (rows * weights).sum() / weights.sum() == pytest.approx(37, abs=0.4)
    assert (columns * weights).sum() / weights.sum() == pytest.approx(22, abs=0.4)


def test_what_was_cropped_away_is_not_a_number() -> None:
    settings = PixelSettings(crop=(30, 40))
    back = put_back(np.ones((30, 40)), placement((60, 50), [settings]), (60, 50))
    assert np.isfinite(back[15:45, 5:45]).all()
    assert np.isnan(back).sum() == 60 * 50 - 30 * 40
    same = put_back(np.arange(12.0).reshape(3, 4), placement((3, 4), []), (3, 4))
    np.testing.assert_array_equal(same, np.arange(12.0).reshape(3, 4))
