"""Colour pictures after Lupton et al. 2004: astropy's own on known values, any unit, colours kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from astropy import visualization
from astropy.stats import sigma_clipped_stats
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.make_data import random_pixels, toy_image
from skyclass.core.errors import SkyclassError
from skyclass.images.preprocess import apply_settings
from skyclass.images.stretch import NOISE_UNITS
from skyclass.recipes.data_settings import PixelSettings

IRG = ("i", "r", "g")
SIZE = (40, 56)


def lupton(pixels: np.ndarray, **changes: Any) -> np.ndarray:
    return apply_settings(pixels, IRG, PixelSettings.model_validate({"stretch": "lupton", **changes}))


def sky(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(3, H, W) float32: a red source of 1000 times the noise of 1, on backgrounds of 100, 50 and 20."""
    colours = np.array([1000.0, 600.0, 100.0])[:, None, None]
    levels = np.array([100.0, 50.0, 20.0])[:, None, None]
    y, x = np.mgrid[: size[0], : size[1]]
    light = np.exp(-((y - 15.0) ** 2 + (x - 30.0) ** 2) / 18.0)
    return (colours * light + levels + random_pixels(seed, size, 3, "float32")).astype(np.float32)


@pytest.mark.parametrize("softening", [None, 3.0, 30.0])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_without_an_interval_it_is_astropys_in_units_of_the_noise(softening: float | None, dtype: str) -> None:
    pixels = np.clip(sky(), 0, 255).astype(dtype)
    bands = pixels.astype(float)
    background = [sigma_clipped_stats(band)[1] for band in bands]
    noise = sigma_clipped_stats((bands - np.array(background)[:, None, None]).mean(0))[2]
    with np.errstate(invalid="ignore"):  # astropy divides 0 by 0 where there is no light
        expected = visualization.make_lupton_rgb(
            *bands, minimum=background, stretch=NOISE_UNITS * noise, Q=softening or 8, output_dtype=np.float64
        )
    got = lupton(pixels, softening=softening)
    assert (got.shape, got.dtype) == ((3, *SIZE), np.float32)
    np.testing.assert_allclose(np.moveaxis(got, 0, -1), expected, atol=1e-6)


@pytest.mark.parametrize("interval", ["minmax", "percentile", "zscale"])
@pytest.mark.parametrize("per_band", [False, True])
def test_an_interval_is_the_range_from_black_to_white(interval: str, per_band: bool) -> None:
    pixels, q = sky(), 5.0
    got = lupton(pixels, interval=interval, percentile=95.0, per_band=per_band, softening=q)
    values = np.empty((3, *SIZE))
    for part in np.arange(3)[:, None] if per_band else [np.arange(3)]:
        low, high = {
            "minmax": lambda v: (v.min(), v.max()),
            "percentile": lambda v: np.percentile(v, [2.5, 97.5]),
            "zscale": visualization.ZScaleInterval().get_limits,
        }[interval](pixels[part].astype(float))
        values[part] = (pixels[part].astype(float) - low) / (high - low)
    # Lupton et al. 2004, eq. 2 to 4, by hand.
    intensity = values.mean(0)
    factor = np.where(
        intensity > 0, np.arcsinh(q * intensity) / np.arcsinh(q) / np.where(intensity > 0, intensity, 1), 0
    )
    colours = np.clip(values * factor, 0, None)
    np.testing.assert_allclose(got, colours / np.maximum(colours.max(0), 1), atol=1e-5)


def test_colours_do_not_depend_on_brightness() -> None:
    pixels = sky()
    light = pixels - np.array([100, 50, 20], np.float32)[:, None, None]
    bright = light.min(0) > 10  # the noise is a tenth of the faintest band here
    assert bright.sum() > 30
    got = lupton(pixels)
    np.testing.assert_allclose((got[1, bright] / got[0, bright]), light[1, bright] / light[0, bright], rtol=0.05)
    np.testing.assert_allclose((got[2, bright] / got[0, bright]), light[2, bright] / light[0, bright], rtol=0.15)
    assert got[0].max() > 0.9
    assert 0.02 < np.median(got.mean(0)[~bright]) < 0.15  # the noise of the sky is just visible


def test_a_large_image_is_measured_on_some_of_its_pixels() -> None:
    large = np.tile(sky(), (1, 8, 8))  # the same sky and sources, 64 times
    np.testing.assert_allclose(lupton(large)[:, :40, :56], lupton(sky()), atol=0.02)


@pytest.mark.parametrize(("factor", "offset"), [(1e-20, 0.0), (1e-6, 1.0), (37.0, -1e3), (1e25, 0.0)])
def test_the_unit_and_the_background_do_not_matter(factor: float, offset: float) -> None:
    plain = sky()
    moved = (plain.astype(float) * factor + offset * factor).astype(np.float32)
    np.testing.assert_allclose(lupton(moved), lupton(plain), atol=5e-3)


def test_the_order_of_the_bands_is_that_of_the_colours() -> None:
    pixels = sky()
    got = apply_settings(pixels[::-1].copy(), IRG[::-1], PixelSettings(bands=IRG, stretch="lupton"))
    np.testing.assert_allclose(got, lupton(pixels), atol=1e-6)
    assert got[0].mean() > got[1].mean() > got[2].mean()


def test_per_band_gives_every_band_its_own_noise() -> None:
    pixels = sky() * np.float32([1, 50, 0.01])[:, None, None]
    got = lupton(pixels, per_band=True)
    np.testing.assert_allclose(got, lupton(sky(), per_band=True), atol=1e-4)
    assert np.abs(got - lupton(pixels)).max() > 0.1


def test_it_is_stored_as_any_type() -> None:
    plain = lupton(sky())
    stored = lupton(sky(), dtype="uint8", size=(20, 28))
    assert (stored.shape, stored.dtype) == ((3, 20, 28), np.uint8)
    np.testing.assert_array_equal(lupton(sky(), dtype="uint16"), np.rint(plain * np.float32(65535)))


@pytest.mark.parametrize("n_bands", [1, 2, 4, 5])
def test_another_number_of_bands_is_refused(n_bands: int) -> None:
    bands = tuple("grizy"[:n_bands])
    with pytest.raises(SkyclassError, match=rf"three bands, not of {n_bands}; choose them by pixels\.bands"):
        apply_settings(np.zeros((n_bands, 4, 6), np.float32), bands, PixelSettings(stretch="lupton"))
    with pytest.raises(ValueError, match=f"three bands, red first, and bands names {n_bands}"):
        PixelSettings(bands=bands, stretch="lupton")


def test_an_image_without_noise_is_drawn() -> None:
    pixels = np.zeros((3, *SIZE), np.uint8)
    assert not lupton(pixels).any()
    pixels[:, 10:14, 20:25] = np.array([200, 100, 50])[:, None, None]
    for changes in ({}, {"per_band": True}, {"interval": "zscale"}, {"interval": "percentile", "percentile": 60.0}):
        got = lupton(pixels, **changes)
        assert got[0, 12, 22] > 0.3
        assert not got[:, 0].any()


@given(
    seed=st.integers(0, 999),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    dtype=st.sampled_from(["uint8", "uint16", "float16", "float32"]),
    scale=st.sampled_from([0.0, 1e-35, 1.0, 1e35]),
    bad=st.sampled_from([0.0, 0.2, 1.0]),
    interval=st.sampled_from(["none", "minmax", "percentile", "zscale"]),
    per_band=st.booleans(),
    softening=st.sampled_from([None, 1e-12, 1.0, 1e12]),
)
@settings(deadline=None, max_examples=200)
def test_every_image_gives_a_finite_picture(
    seed: int,
    size: tuple[int, int],
    dtype: str,
    scale: float,
    bad: float,
    interval: str,
    per_band: bool,
    softening: float | None,
) -> None:
    pixels = random_pixels(seed, size, 3, dtype)
    if dtype == "float32":
        pixels = pixels * np.float32(scale)
    if dtype.startswith("float"):
        pixels[np.random.default_rng(seed).random(pixels.shape) < bad] = np.nan
    got = lupton(pixels, interval=interval, per_band=per_band, softening=softening)
    assert got.shape == (3, *size)
    assert np.isfinite(got).all()
    assert got.min() >= 0
    assert got.max() <= 1


def test_a_toy_is_brighter_than_its_sky() -> None:
    got = lupton(toy_image("blob", 0, SIZE))
    assert got.mean(0)[12:28, 18:38].max() > 5 * np.median(got)
