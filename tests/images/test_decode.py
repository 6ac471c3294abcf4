"""Images judged and taken through the pixel path: bad pixels counted, saturation told, no bad file costs a good one."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from helpers.make_data import random_pixels, toy_image, write_image
from helpers.paths import PROJECT
from skyclass.images.decode import (
    SATURATED,
    check_pixels,
    decode_files,
    decode_rows,
    preprocess_image,
    saturated_shares,
)
from skyclass.images.formats.read import Image, read_image
from skyclass.images.preprocess import apply_settings
from skyclass.recipes.data_settings import PixelSettings

SHARED = PROJECT.parent / "shared" / "data"
RGB = ("red", "green", "blue")
SIZE = (20, 30)


def image_of(pixels: np.ndarray, warning: str | None = None) -> Image:
    bands = {1: ("grey",), 3: RGB}.get(len(pixels), tuple(f"band_{k + 1}" for k in range(len(pixels))))
    return Image(pixels, bands, "array", warning)


# Bad pixels


def test_the_fraction_of_bad_pixels_is_given(tmp_path: Path) -> None:
    pixels = random_pixels(0, SIZE, 2, "float32")
    pixels[0, 0, :9], pixels[1, 3, :3] = np.nan, -np.inf
    file = write_image(tmp_path / "some.npy", pixels)
    (got,) = decode_files([file], [PixelSettings(fill_nan="min")])
    assert got.bad == pytest.approx(12 / 1200)
    assert got.error is None
    assert "1.00% of the pixels are NaN or infinite" in str(got.warning)
    assert "the least finite value" in str(got.warning)
    assert np.isfinite(got.pixels).all()


def test_the_fraction_of_good_blank_and_unreadable_images(tmp_path: Path) -> None:
    write_image(tmp_path / "good.png", random_pixels(1, SIZE))
    write_image(tmp_path / "blank.npy", np.full((1, *SIZE), np.nan, np.float32))
    (tmp_path / "text.png").write_text("<html>")
    files = [tmp_path / name for name in ("good.png", "blank.npy", "text.png")]
    good, blank, text = decode_files(files, [PixelSettings()])
    assert (good.bad, good.error) == (0.0, None)
    assert (blank.bad, blank.error, blank.pixels.size) == (1.0, "blank: every pixel is NaN or infinite", 0)
    assert (text.bad, text.pixels.size) == (0.0, 0)
    assert "not an image" in str(text.error)


def test_rows_of_a_pack_are_not_judged_again() -> None:
    images = np.stack([random_pixels(k, SIZE) for k in range(3)])
    images[1] = 255
    settings = PixelSettings(size=(10, 15))
    for row, got in zip((2, 1), decode_rows(images, (2, 1), RGB, [settings]), strict=True):
        np.testing.assert_array_equal(got.pixels, apply_settings(images[row], RGB, settings))
        assert (got.error, got.warning, got.bad) == (None, None, 0.0)


# Warnings


def test_what_the_decoder_found_odd_comes_first() -> None:
    pixels = random_pixels(2, SIZE, 1, "float32")
    assert check_pixels(image_of(pixels, "cut over the edge"), []) == (None, "cut over the edge")
    pixels[0, 0] = np.nan
    error, warning = check_pixels(image_of(pixels, "cut over the edge"), [])
    assert error is None
    assert str(warning).startswith("cut over the edge; 5.00% of the pixels are NaN")


@pytest.mark.parametrize("stretch", ["linear", "lupton"])
def test_floats_become_integers_where_something_scales_them(stretch: str) -> None:
    pixels = 1e4 * toy_image("blob", 0, SIZE)
    got = preprocess_image(image_of(pixels), [PixelSettings(stretch=stretch, dtype="uint8")])
    assert (got.error is None) == (stretch == "lupton")
    assert (got.error is not None) == (stretch == "linear") == (not got.pixels.size)


# Saturation


def plateau(dtype: str, share: float, bands: int = 1) -> np.ndarray:
    """(bands, 20, 30) of noise in the lower half of the type's range, with a share of each band at its maximum."""
    pixels = random_pixels(3, SIZE, bands, "uint8") // 2
    top = 255
    if dtype == "uint16":
        pixels, top = pixels.astype(dtype) * 257, 65535
    elif dtype.startswith("float"):
        pixels, top = (pixels + random_pixels(4, SIZE, bands, "float32")).astype(dtype), 60_000
    pixels.reshape(bands, -1)[:, : round(share * SIZE[0] * SIZE[1])] = top
    return pixels


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_saturated_images_are_told(dtype: str) -> None:
    assert check_pixels(image_of(plateau(dtype, 0.12)), []) == (
        None,
        "saturated: 12% of the pixels are at the largest value",
    )
    assert check_pixels(image_of(plateau(dtype, 0.03, 3)), []) == (
        None,
        "saturated: 3% of the pixels are at the largest value of red",
    )
    assert check_pixels(image_of(plateau(dtype, SATURATED / 2, 3)), []) == (None, None)


def test_one_saturated_band_and_its_name() -> None:
    pixels = random_pixels(5, SIZE, 5, "float32")
    pixels[3, :4] = 1e5
    warning = "saturated: 20% of the pixels are at the largest value of "
    assert check_pixels(image_of(pixels), [])[1] == f"{warning}band_4"
    named = PixelSettings(file_bands=("g", "r", "i", "z", "y"))
    assert check_pixels(image_of(pixels), [named])[1] == f"{warning}z"


def test_bad_pixels_do_not_hide_saturation() -> None:
    pixels = plateau("float32", 0.5)
    pixels[0, -1] = np.inf
    pixels[0, -2] = np.nan
    assert saturated_shares(pixels) == [0.5]
    assert "saturated: 50%" in str(check_pixels(image_of(pixels), [])[1])
    assert saturated_shares(np.full((2, *SIZE), np.nan, np.float32)) == [0.0, 0.0]


@pytest.mark.parametrize(("rows", "columns"), [(slice(20, 31), slice(None)), (slice(None), slice(50, 57))])
@pytest.mark.parametrize("size", [(400, 300), (500, 90)])
def test_the_plateau_of_a_large_image_is_found_and_measured(size: tuple[int, int], rows: slice, columns: slice) -> None:
    band = random_pixels(6, size, 1, "uint16")[0] // 2
    band[rows, columns] = 40_000
    share = float((band == 40_000).mean())
    assert saturated_shares(band[None]) == [share if share > SATURATED else 0.0]


def test_what_is_not_saturated() -> None:
    photons = np.random.default_rng(0).poisson(1.0, (1, *SIZE)).astype(np.uint8)
    assert check_pixels(image_of(np.minimum(photons, 3)), []) == (None, None)
    empty_band = np.concatenate([toy_image("ring", 0, SIZE, 2), np.full((1, *SIZE), 7, np.float32)])
    assert check_pixels(image_of(empty_band), []) == (None, None)
    for shape in ("ring", "bar", "gradient"):
        toy = np.rint(255 * toy_image(shape, 1, (48, 64))).astype(np.uint8)
        assert check_pixels(image_of(toy // 2), []) == (None, None)


def test_real_images_are_not_flagged() -> None:
    files = (
        sorted((SHARED / "galaxies" / "images").glob("*"))[::60] + sorted((SHARED / "radio" / "png").glob("*"))[::30]
    )
    if not files:
        pytest.skip(f"{SHARED} is not there")
    warnings = [check_pixels(read_image(file), [])[1] for file in files]
    assert not [warning for warning in warnings if warning and "saturated" in warning]


# Faults of ours


def test_a_bug_in_the_pixel_path_is_raised_and_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> NoReturn:
        raise TypeError("a bug of ours")

    write_image(tmp_path / "good.png", random_pixels(1, SIZE))
    (tmp_path / "text.png").write_text("<html>")
    monkeypatch.setattr("skyclass.images.preprocess.stretch", bug)
    results = decode_files([tmp_path / "text.png", tmp_path / "good.png"], [PixelSettings()])
    assert "not an image" in str(next(results).error)  # a bad file is a row's text as ever
    with pytest.raises(TypeError, match="a bug of ours") as caught:
        next(results)
    assert caught.value.__notes__ == [f"while decoding {tmp_path / 'good.png'}"]


def test_an_image_too_large_for_its_settings_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> NoReturn:
        raise MemoryError("Unable to allocate 8 TiB")

    monkeypatch.setattr("skyclass.images.preprocess.stretch", full)
    (got,) = decode_files([write_image(tmp_path / "a.png", random_pixels(1, SIZE))], [PixelSettings()])
    assert got.error == "cannot be decoded: Unable to allocate 8 TiB"
