"""Bands by name from end to end: files that number theirs, names from the recipe, order, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helpers.make_data import random_pixels, write_image
from helpers.paths import PROJECT
from skyclass.core.errors import SkyclassError
from skyclass.images.decode import decode_files
from skyclass.images.formats.arrays import Image
from skyclass.images.formats.read import read_image
from skyclass.images.preprocess import apply_settings, named_bands, preprocess, select_bands, stored_bands
from skyclass.recipes.data_settings import PixelSettings
from skyclass.recipes.recipe import dump_recipe, load_recipe, parse_pixels, parse_recipe

MULTIBAND = PROJECT.parent / "shared" / "data" / "multiband"
HSC = ("g", "r", "i", "z", "y")
NUMBERED = ("band_1", "band_2", "band_3", "band_4", "band_5")
RGB = ("red", "green", "blue")
SIZE = (20, 28)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_numbered_bands_are_named_then_chosen_and_ordered(dtype: str) -> None:
    pixels = random_pixels(0, SIZE, 5, dtype)
    settings = PixelSettings(file_bands=HSC, bands=("i", "r", "g"))
    got, bands = preprocess(pixels, NUMBERED, [settings])
    np.testing.assert_array_equal(got, pixels[[2, 1, 0]])
    assert bands == stored_bands(NUMBERED, settings) == ("i", "r", "g")


def test_without_a_choice_the_bands_are_those_of_the_files() -> None:
    pixels = random_pixels(1, SIZE, 5)
    got, bands = preprocess(pixels, NUMBERED, [PixelSettings(file_bands=HSC)])
    np.testing.assert_array_equal(got, pixels)
    assert bands == HSC


def test_names_come_before_the_order_of_numbered_bands() -> None:
    """Five wanted of five numbered bands are not simply taken in order once their names are known."""
    pixels = random_pixels(2, SIZE, 5)
    settings = PixelSettings(file_bands=HSC, bands=HSC[::-1])
    np.testing.assert_array_equal(apply_settings(pixels, NUMBERED, settings), pixels[::-1])


def test_a_file_that_names_its_bands_keeps_its_names() -> None:
    pixels = random_pixels(3, SIZE)
    settings = PixelSettings(file_bands=("blue", "green", "red"), bands=RGB)
    np.testing.assert_array_equal(apply_settings(pixels, RGB, settings), pixels)
    np.testing.assert_array_equal(apply_settings(pixels, ("band_1", "band_2", "band_3"), settings), pixels[::-1])
    assert named_bands(("u", "g"), HSC) == ("u", "g")
    assert named_bands(RGB, HSC) == RGB


def test_a_grey_image_takes_a_single_name() -> None:
    pixels = random_pixels(4, SIZE, 1)
    assert preprocess(pixels, ("grey",), [PixelSettings(file_bands=("r",))])[1] == ("r",)
    np.testing.assert_array_equal(
        apply_settings(pixels, ("grey",), PixelSettings(file_bands=("r",), bands=("r",))), pixels
    )
    assert named_bands(("grey",), RGB) == ("grey",)
    colours = apply_settings(pixels, ("grey",), PixelSettings(file_bands=RGB, bands=RGB))
    np.testing.assert_array_equal(colours, np.repeat(pixels, 3, axis=0))


def test_another_number_of_bands_and_absent_names_are_refused() -> None:
    with pytest.raises(SkyclassError, match=r"has 5 bands and pixels\.file_bands names 2: g, r; name every band"):
        apply_settings(random_pixels(5, SIZE, 5), NUMBERED, PixelSettings(file_bands=("g", "r")))
    with pytest.raises(SkyclassError, match="has the bands g, r, i, z, y, the recipe wants i, u"):
        apply_settings(random_pixels(5, SIZE, 5), NUMBERED, PixelSettings(file_bands=HSC, bands=("i", "u")))
    with pytest.raises(SkyclassError, match="has the bands grey, the recipe wants i, r"):
        apply_settings(random_pixels(5, SIZE, 1), ("grey",), PixelSettings(file_bands=HSC, bands=("i", "r")))


@pytest.mark.parametrize("key", ["bands", "file_bands"])
def test_names_that_repeat_and_empty_lists_are_refused_by_the_recipe(tmp_path: Path, key: str) -> None:
    for names, words in (
        ("[g, r, g]", "each band can be named once, and g is named again"),
        ("[]", "at least one band"),
    ):
        with pytest.raises(SkyclassError, match=rf"{key}=.*{words}"):
            parse_pixels(PixelSettings(), [f"{key}={names}"])
        file = tmp_path / "recipe.yaml"
        file.write_text(f"pixels:\n  size: 64\n  {key}: {names}\n")
        with pytest.raises(SkyclassError, match=rf"recipe\.yaml:3: pixels\.{key}: {words}"):
            load_recipe(file)


def test_the_names_are_saved_with_the_recipe(tmp_path: Path) -> None:
    recipe = parse_recipe({"pixels": {"file_bands": list(HSC), "bands": ["i", "r", "g"], "stretch": "lupton"}})
    file = tmp_path / "recipe.yaml"
    file.write_text(dump_recipe(recipe))
    assert load_recipe(file).pixels == recipe.pixels
    again = PixelSettings.model_validate(PixelSettings(file_bands=HSC).model_dump(mode="json"))
    assert again.file_bands == HSC


def test_a_pack_and_a_training_one_after_the_other() -> None:
    pixels = random_pixels(6, SIZE, 5)
    pack = PixelSettings(file_bands=HSC, bands=("z", "i", "r", "g"))
    training = PixelSettings(file_bands=HSC, bands=("g", "z"))  # a pack's bands have names: nothing to name again
    got, bands = preprocess(pixels, NUMBERED, [pack, training])
    np.testing.assert_array_equal(got, pixels[[0, 3]])
    assert bands == ("g", "z")
    late, bands = preprocess(pixels, NUMBERED, [PixelSettings(bands=NUMBERED), training])
    np.testing.assert_array_equal(late, pixels[[0, 3]])
    assert bands == ("g", "z")


def decoded(file: Path, pixel_settings: list[PixelSettings]) -> Image:
    """What is made of one file."""
    (image,) = decode_files([file], pixel_settings)
    return image


@pytest.mark.parametrize("suffix", ["fits", "npy", "npz"])
def test_files_that_number_their_bands(tmp_path: Path, suffix: str) -> None:
    pixels = random_pixels(7, SIZE, 5, "float32")
    file = write_image(tmp_path / f"five.{suffix}", pixels)
    got = decoded(file, [PixelSettings(file_bands=HSC, bands=("i", "r", "g"))])
    assert (got.error, got.warning, got.bad) == (None, None, 0.0)
    np.testing.assert_array_equal(got.pixels, pixels[[2, 1, 0]])
    unknown = decoded(file, [PixelSettings(bands=HSC)])  # of the right number, but in which order?
    assert unknown.error is not None
    assert "name the file's bands in order by pixels.file_bands" in str(unknown.error)
    assert decoded(file, [PixelSettings(file_bands=HSC, bands=HSC)]).warning is None
    refused = decoded(file, [PixelSettings(file_bands=("g", "r"))])
    assert refused.error is not None
    assert "has 5 bands and pixels.file_bands names 2" in str(refused.error)


def test_a_real_cube_of_five_bands() -> None:
    file = MULTIBAND / "Cut_HSC.fits"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    whole = read_image(file).pixels
    got = decoded(file, [PixelSettings(file_bands=HSC, bands=("y", "g"))])
    np.testing.assert_array_equal(got.pixels, whole[[4, 0]])
    picture = decoded(file, [PixelSettings(file_bands=HSC, bands=("i", "r", "g"), stretch="lupton", dtype="uint8")])
    assert picture.error is None
    assert (picture.pixels.shape, picture.pixels.dtype) == ((3, 50, 50), np.uint8)
    assert picture.pixels.max() > 100


def test_capitals_tell_bands_apart_only_where_nothing_else_does() -> None:
    pixels = random_pixels(0, (4, 6), 3, "float32")
    np.testing.assert_array_equal(select_bands(pixels, ("G", "R", "I"), ("i", "g")), pixels[[2, 0]])
    np.testing.assert_array_equal(select_bands(pixels, ("y", "Y", "J"), ("Y", "J")), pixels[[1, 2]])
    with pytest.raises(SkyclassError, match="wants y, j"):
        select_bands(pixels, ("y", "Y", "J"), ("y", "j"))


def test_three_numbered_bands_stand_for_a_colour_image_and_for_nothing_else(tmp_path: Path) -> None:
    pixels = random_pixels(3, SIZE, 3, "float32")
    file = write_image(tmp_path / "three.npy", pixels)
    colours = decoded(file, [PixelSettings(bands=("red", "green", "blue"))])
    assert colours.warning == "the file does not name its bands: taken in order as red, green, blue"
    np.testing.assert_array_equal(colours.pixels, pixels)
    assert decoded(file, [PixelSettings(bands=("i", "r", "g"))]).error is not None
