from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from astropy import visualization
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.make_data import random_pixels, toy_image
from skyclass.core.errors import SkyclassError
from skyclass.images.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    apply_settings,
    bad_pixel_fraction,
    centre,
    channel_statistics,
    convert,
    network_input,
    preprocess,
    resolve_normalisation,
    select_bands,
    unit_scale,
)
from skyclass.images.resize import area_weights, linear_weights, resize
from skyclass.recipes.data_settings import PixelSettings, TrainingPixels

RGB = ("red", "green", "blue")
SIZE = (20, 28)


def recipe(**settings: Any) -> PixelSettings:
    return PixelSettings.model_validate(settings)


# Bands


def test_bands_are_chosen_by_name_and_order() -> None:
    pixels = random_pixels(0, SIZE)
    got, bands = preprocess(pixels, RGB, [recipe(bands=("blue", "red"))])
    np.testing.assert_array_equal(got, pixels[[2, 0]])
    assert bands == ("blue", "red")


def test_grey_and_colour_turn_into_each_other() -> None:
    grey = random_pixels(1, SIZE, 1)
    colours = apply_settings(grey, ("grey",), recipe(bands=RGB))
    np.testing.assert_array_equal(colours, np.repeat(grey, 3, axis=0))
    np.testing.assert_array_equal(apply_settings(colours, RGB, recipe(bands=("grey",))), grey)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_luminance_is_rec_601(dtype: str) -> None:
    pixels = random_pixels(2, SIZE, 3, dtype)
    got = select_bands(pixels, RGB, ("grey",))
    expected = cv2.cvtColor(np.ascontiguousarray(pixels.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY)
    assert got.dtype == dtype
    assert np.abs(got[0].astype(int) - expected).max() <= (1 if dtype == "uint8" else 4)  # OpenCV's integer weights


def test_numbered_bands_are_taken_in_order_where_there_are_as_many_as_wanted() -> None:
    pixels = random_pixels(3, SIZE)
    numbered = ("band_1", "band_2", "band_3")
    np.testing.assert_array_equal(apply_settings(pixels, numbered, recipe(bands=RGB)), pixels)
    np.testing.assert_array_equal(apply_settings(pixels, numbered, recipe(bands=("band_3",))), pixels[2:])
    with pytest.raises(SkyclassError, match="has the bands band_1, band_2, band_3, the recipe wants g, r"):
        apply_settings(pixels, numbered, recipe(bands=("g", "r")))
    with pytest.raises(SkyclassError, match="has the bands u, g, r"):
        apply_settings(pixels, ("u", "g", "r"), recipe(bands=RGB))


def test_absent_bands_are_named() -> None:
    with pytest.raises(SkyclassError, match=r"has the bands g, r, the recipe wants g, i; leave it out, or set"):
        apply_settings(np.zeros((2, 4, 6)), ("g", "r"), recipe(bands=("g", "i")))
    with pytest.raises(SkyclassError, match="shape"):
        apply_settings(np.zeros((2, 4, 6)), ("grey",), recipe())


# Bad pixels


@pytest.mark.parametrize(("fill", "expected"), [("zero", 0.0), ("min", 2.0), ("median", 3.0)])
def test_bad_pixels_are_filled_band_by_band(fill: str, expected: float) -> None:
    pixels = np.array([[[np.nan, 2, 3, 9]], [[np.inf, -np.inf, np.nan, np.nan]], [[1, 2, 3, 4]]], np.float32)
    got = apply_settings(pixels, ("a", "b", "c"), recipe(fill_nan=fill))
    np.testing.assert_array_equal(got, [[[expected, 2, 3, 9]], [[0, 0, 0, 0]], [[1, 2, 3, 4]]])
    assert bad_pixel_fraction(pixels) == pytest.approx(5 / 12)
    assert np.isnan(pixels).sum() == 3  # the input is not touched
    assert bad_pixel_fraction(random_pixels(0, SIZE)) == 0.0


# Interval and stretch

CURVES = {
    "linear": (None, lambda x: x),
    "sqrt": (None, np.sqrt),
    "log": (50.0, lambda x: np.log(50 * x + 1) / np.log(51)),
    "asinh": (0.02, lambda x: np.arcsinh(x / 0.02) / np.arcsinh(50)),
}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
@pytest.mark.parametrize("curve", list(CURVES))
@pytest.mark.parametrize("interval", ["minmax", "percentile", "zscale"])
@pytest.mark.parametrize("per_band", [False, True])
def test_stretch_against_its_formula(interval: str, curve: str, dtype: str, per_band: bool) -> None:
    pixels = random_pixels(3, SIZE, 3, "float32") * np.float32([1, 5, 30])[:, None, None] + 100
    pixels = np.clip(pixels, 0, 255).astype(dtype)
    softening, formula = CURVES[curve]
    options = {"interval": interval, "percentile": 90.0, "per_band": per_band, "stretch": curve}
    got = apply_settings(pixels, RGB, recipe(**options, softening=softening))
    expected = np.empty(pixels.shape)
    for part in np.arange(3)[:, None] if per_band else [np.arange(3)]:
        values = pixels[part].astype(float)
        low, high = {
            "minmax": lambda v: (v.min(), v.max()),
            "percentile": lambda v: np.percentile(v, [5, 95]),
            "zscale": visualization.ZScaleInterval().get_limits,
        }[interval](values)
        expected[part] = formula(np.clip((values - low) / (high - low), 0, 1))
    np.testing.assert_allclose(got, expected, atol=2e-6)
    assert got.dtype == np.float32


def test_default_softening_is_astropys() -> None:
    pixels = np.linspace(0, 1, 24, dtype=np.float32).reshape(1, 4, 6)
    for name, curve in (("log", visualization.LogStretch()), ("asinh", visualization.AsinhStretch())):
        got = apply_settings(pixels, ("grey",), recipe(stretch=name))
        np.testing.assert_allclose(got, curve(pixels), atol=1e-6)


def test_without_an_interval_the_curve_acts_on_unit_scaled_values() -> None:
    pixels = random_pixels(4, SIZE)
    got = apply_settings(pixels, RGB, recipe(stretch="sqrt"))
    np.testing.assert_allclose(got, np.sqrt(pixels / 255), atol=1e-6)
    beyond = np.array([[[-2.0, 0.25, 7.0]]], np.float32)
    np.testing.assert_allclose(apply_settings(beyond, ("grey",), recipe(stretch="sqrt")), [[[0, 0.5, 1]]])


@pytest.mark.parametrize("interval", ["minmax", "percentile", "zscale"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_an_empty_interval_does_not_divide_by_zero(interval: str, dtype: str) -> None:
    constant = np.full((1, *SIZE), 7, dtype)
    assert not apply_settings(constant, ("grey",), recipe(interval=interval, stretch="log")).any()
    constant[0, 3, 5] = 9  # one pixel above an interval that is empty for all but minmax
    got = apply_settings(constant, ("grey",), recipe(interval="percentile", percentile=90))
    assert got.sum() == got[0, 3, 5] == 1


@pytest.mark.parametrize(("stretch", "softening"), [("asinh", 1e-320), ("log", 1e-30)])
def test_a_softening_that_cannot_be_used_is_refused(stretch: str, softening: float) -> None:
    with pytest.raises(SkyclassError, match="softening"):
        apply_settings(random_pixels(5, SIZE), RGB, recipe(stretch=stretch, softening=softening))


# Geometry


def test_crop_keeps_the_centre_and_pads_what_is_smaller() -> None:
    pixels = random_pixels(6, SIZE)
    np.testing.assert_array_equal(apply_settings(pixels, RGB, recipe(crop=(10, 8))), pixels[:, 5:15, 10:18])
    got = apply_settings(pixels, RGB, recipe(crop=(30, 8)))
    assert got.shape == (3, 30, 8)
    np.testing.assert_array_equal(got[:, 5:25], pixels[:, :, 10:18])
    assert not got[:, :5].any()
    assert not got[:, 25:].any()


def test_fit_of_another_aspect_ratio() -> None:
    pixels = random_pixels(7, (20, 40))
    stretched, cut, padded = (
        apply_settings(pixels, RGB, recipe(size=(10, 10), fit=fit)) for fit in ("distort", "crop", "pad")
    )
    np.testing.assert_array_equal(stretched, resize(pixels, (10, 10), "area"))
    np.testing.assert_array_equal(cut, resize(pixels[:, :, 10:30], (10, 10), "area"))
    np.testing.assert_array_equal(padded[:, 2:7], resize(pixels, (5, 10), "area"))
    assert not padded[:, :2].any()
    assert not padded[:, 7:].any()


def test_pad_of_the_right_size_changes_nothing() -> None:
    pixels = random_pixels(8, SIZE)
    np.testing.assert_array_equal(apply_settings(pixels, RGB, recipe(size=SIZE, fit="pad")), pixels)


SHRINKINGS = [
    ((48, 64), (12, 16)),
    ((48, 64), (24, 16)),
    ((50, 33), (17, 9)),
    ((423, 423), (128, 96)),
    ((31, 20), (31, 7)),
]


@pytest.mark.parametrize(("old", "new"), SHRINKINGS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_area_is_opencvs(old: tuple[int, int], new: tuple[int, int], dtype: str) -> None:
    pixels = random_pixels(9, old, 3, dtype)
    interleaved = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    expected = cv2.resize(interleaved, new[::-1], interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
    got = resize(pixels, new, "area")
    assert got.dtype == dtype
    tolerance = 1e-5 if dtype == "float32" else 1
    np.testing.assert_allclose(got.astype(float), expected.astype(float), rtol=0, atol=tolerance)


@pytest.mark.parametrize(("old", "new"), [*SHRINKINGS, ((12, 16), (48, 64)), ((9, 21), (20, 13)), ((1, 5), (3, 1))])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_bilinear_is_torchs(old: tuple[int, int], new: tuple[int, int], dtype: str) -> None:
    pixels = random_pixels(10, old, 3, dtype)
    image = torch.from_numpy(pixels)[None].double()
    expected = torch.nn.functional.interpolate(image, new, mode="bilinear", align_corners=False)[0].numpy()
    got = resize(pixels, new, "bilinear")
    np.testing.assert_allclose(got.astype(float), expected, rtol=0, atol=0.5 + 1e-3 if dtype == "uint8" else 1e-5)


def test_area_grows_an_axis_linearly() -> None:
    pixels = random_pixels(11, SIZE)
    grown = (50, 60)
    np.testing.assert_array_equal(resize(pixels, grown, "area"), resize(pixels, grown, "bilinear"))
    mixed = resize(pixels.astype(np.float32), (50, 14), "area")
    expected = resize(resize(pixels.astype(np.float32), (20, 14), "area"), (50, 14), "bilinear")
    np.testing.assert_allclose(mixed, expected, atol=1e-4)


def test_resize_of_a_batch_is_that_of_each_image() -> None:
    batch = np.stack([random_pixels(i, (37, 50)) for i in range(4)]).reshape(2, 2, 3, 37, 50)
    got = resize(batch, (13, 17), "area")
    assert got.shape == (2, 2, 3, 13, 17)
    for place in np.ndindex(2, 2):
        np.testing.assert_array_equal(got[place], resize(batch[place], (13, 17), "area"))


@given(n_in=st.integers(1, 90), n_out=st.integers(1, 90))
def test_weights_sum_to_one_and_use_every_pixel_alike(n_in: int, n_out: int) -> None:
    linear = linear_weights(n_in, n_out)
    np.testing.assert_allclose(linear.sum(1), 1, atol=1e-6)
    assert linear.min() >= 0
    if n_out <= n_in:
        area = area_weights(n_in, n_out)
        np.testing.assert_allclose(area.sum(1), 1, atol=1e-6)
        np.testing.assert_allclose(area.sum(0), n_out / n_in, atol=1e-5)


@given(height=st.integers(1, 8), width=st.integers(1, 8), factor=st.integers(1, 5), seed=st.integers(0, 99))
@settings(deadline=None)
def test_area_keeps_the_mean(height: int, width: int, factor: int, seed: int) -> None:
    pixels = random_pixels(seed, (height * factor, width * factor), 2, "float32")
    got = resize(pixels, (height, width), "area")
    np.testing.assert_allclose(got.mean((1, 2)), pixels.mean((1, 2)), atol=1e-5)


# Types


def test_types() -> None:
    small, deep = np.uint8([[[0, 1, 255]]]), np.uint16([[[0, 257, 65535]]])
    np.testing.assert_array_equal(convert(small, "uint16"), deep)
    np.testing.assert_array_equal(convert(deep, "uint8"), small)
    np.testing.assert_allclose(convert(small, "float32"), [[[0, 1 / 255, 1]]], rtol=1e-6)
    np.testing.assert_allclose(convert(deep, "float16"), [[[0, 1 / 255, 1]]], rtol=1e-3)
    floats = np.float32([[[-3, 0.5, 7]]])
    np.testing.assert_array_equal(convert(floats, "uint8"), [[[0, 128, 255]]])
    np.testing.assert_array_equal(convert(floats, "float16"), floats)
    assert convert(small, None) is small
    with pytest.raises(SkyclassError, match="float16"):
        convert(np.float32([[[1e6]]]), "float16")


def test_a_stretched_uint8_survives_storage() -> None:
    pixels = random_pixels(12, SIZE)
    pixels.flat[:2] = (0, 255)
    np.testing.assert_array_equal(apply_settings(pixels, RGB, recipe(interval="minmax", dtype="uint8")), pixels)


# The whole path

DTYPES = ("uint8", "uint16", "float16", "float32")
RECIPES = st.fixed_dictionaries(
    {
        "bands": st.sampled_from([None, ("a",), ("b", "a")]),
        "fill_nan": st.sampled_from(["zero", "min", "median"]),
        "interval": st.sampled_from(["none", "minmax", "percentile", "zscale"]),
        "percentile": st.floats(51, 100),
        "per_band": st.booleans(),
        "stretch": st.sampled_from(["linear", "sqrt", "log", "asinh"]),
        "softening": st.one_of(st.none(), st.floats(0.001, 1)),
        "crop": st.one_of(st.none(), st.tuples(st.integers(1, 20), st.integers(1, 20))),
        "size": st.one_of(st.none(), st.tuples(st.integers(1, 20), st.integers(1, 20))),
        "fit": st.sampled_from(["distort", "crop", "pad"]),
        "interpolation": st.sampled_from(["area", "bilinear"]),
        "dtype": st.sampled_from([None, *DTYPES]),
    }
).map(lambda options: recipe(**options))


@st.composite
def images(draw: st.DrawFn) -> np.ndarray:
    shape = (2, draw(st.integers(1, 16)), draw(st.integers(1, 16)))
    dtype = draw(st.sampled_from(DTYPES))
    pixels = random_pixels(draw(st.integers(0, 999)), shape[1:], 2, dtype)
    if dtype.startswith("float"):
        pixels *= np.array(draw(st.sampled_from([0, 1e-3, 1, 1e3])), dtype)
        if dtype == "float32":
            pixels *= np.float32(draw(st.sampled_from([1e-30, 1, 1e30])))
        for value in (np.nan, np.inf, -np.inf):
            pixels[np.random.default_rng(0).random(shape) < draw(st.sampled_from([0, 0.1, 1]))] = value
    return pixels


@given(pixels=images(), settings_=RECIPES)
@example(pixels=np.full((2, 1, 1), np.nan, np.float32), settings_=recipe(interval="zscale"))
@settings(deadline=None, max_examples=300)
def test_every_image_and_recipe_gives_finite_pixels_of_the_right_shape(
    pixels: np.ndarray, settings_: PixelSettings
) -> None:
    before = pixels.copy()
    try:
        got = apply_settings(pixels, ("a", "b"), settings_)
    except SkyclassError as refusal:
        assert "float16" in refusal.what  # noqa: PT017
        return
    stretched = settings_.interval != "none" or settings_.stretch != "linear"
    as_it_was = pixels.dtype if pixels.dtype.kind == "u" and not stretched else np.dtype("float32")
    assert got.dtype == (settings_.dtype or as_it_was)
    assert got.shape == (len(settings_.bands or "ab"), *(settings_.size or settings_.crop or pixels.shape[1:]))
    assert got.flags.c_contiguous
    assert np.isfinite(got).all()
    if stretched and got.dtype.kind == "f":
        assert got.min() >= 0
        assert got.max() <= 1.000001
    np.testing.assert_array_equal(pixels, before)
    np.testing.assert_array_equal(apply_settings(pixels, ("a", "b"), settings_), got)


@given(pixels=images(), size=st.tuples(st.integers(1, 20), st.integers(1, 20)), crop=st.integers(1, 20))
@settings(deadline=None)
def test_geometry_and_type_are_idempotent(pixels: np.ndarray, size: tuple[int, int], crop: int) -> None:
    for options in ({"size": size, "fit": "pad"}, {"crop": (crop, 5)}, {"dtype": "uint8"}):
        once = apply_settings(pixels, ("a", "b"), recipe(**options))
        np.testing.assert_array_equal(apply_settings(once, ("a", "b"), recipe(**options)), once)


def test_a_chain_of_recipes_is_one_after_the_other() -> None:
    pixels = random_pixels(13, SIZE, 3, "float32")
    pack = recipe(bands=("red", "blue"), interval="percentile", stretch="asinh", size=(12, 16), dtype="uint8")
    training = TrainingPixels.model_validate({"bands": ("blue",), "size": (6, 9)})
    got, bands = preprocess(pixels, RGB, [pack, training])
    np.testing.assert_array_equal(got, apply_settings(apply_settings(pixels, RGB, pack), ("red", "blue"), training))
    assert (got.shape, got.dtype, bands) == ((1, 6, 9), np.uint8, ("blue",))
    assert preprocess(pixels, RGB, [])[1] == RGB


BASE = {"file_bands": RGB, "bands": RGB, "interval": "percentile", "percentile": 90.0, "stretch": "asinh"}
BASE |= {"size": (10, 9)}
CHANGES: dict[str, Any] = {
    "file_bands": ("blue", "green", "red"),
    "bands": ("red",),
    "fill_nan": "median",
    "interval": "minmax",
    "percentile": 60.0,
    "per_band": True,
    "stretch": "sqrt",
    "softening": 0.5,
    "crop": (12, 12),
    "size": (7, 7),
    "fit": "distort",
    "interpolation": "bilinear",
    "dtype": "uint8",
}


@pytest.mark.parametrize("option", list(PixelSettings.model_fields))
def test_every_option_changes_something(option: str) -> None:
    pixels = toy_image("blob", 0, SIZE) * np.float32([1, 3, 9])[:, None, None] + 1
    pixels[:, 9:11, 13:15] = np.nan
    numbered = ("band_1", "band_2", "band_3")
    plain = apply_settings(pixels, numbered, recipe(**BASE))
    changed = apply_settings(pixels, numbered, recipe(**(BASE | {option: CHANGES[option]})))
    assert plain.shape != changed.shape or plain.dtype != changed.dtype or np.abs(plain - changed).max() > 1e-3


# The network's input


@pytest.mark.parametrize("stored", DTYPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_network_input(stored: str, dtype: torch.dtype) -> None:
    batch = np.stack([random_pixels(i, SIZE, 3, stored) for i in range(2)])
    got = network_input(torch.from_numpy(batch), torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD), dtype)
    scale = {"uint8": 255, "uint16": 65535}.get(stored, 1)
    mean, std = (np.array(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    expected = (batch.astype(float) / scale - mean) / std
    assert got.dtype == dtype
    np.testing.assert_allclose(got.double().numpy(), expected, rtol=1e-5 if dtype == torch.float32 else 4e-3, atol=1e-5)


def test_network_input_keeps_the_memory_order() -> None:
    batch = torch.zeros(2, 3, 5, 7, dtype=torch.uint8).to(memory_format=torch.channels_last)
    got = network_input(batch, torch.zeros(3), torch.ones(3), torch.float32)
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_unit_scale() -> None:
    assert unit_scale(np.dtype("uint8")) == unit_scale(torch.uint8) == 1 / 255
    assert unit_scale(np.dtype("uint16")) == unit_scale(torch.uint16) == 1 / 65535
    assert unit_scale(np.dtype("float16")) == unit_scale(torch.float32) == 1
    with pytest.raises(SkyclassError, match="int64"):
        unit_scale(torch.int64)


@pytest.mark.parametrize("stored", DTYPES)
def test_channel_statistics_are_numpys(stored: str) -> None:
    images = np.stack([random_pixels(i, (5, 7), 2, stored) for i in range(150)])
    rows = np.random.default_rng(0).permutation(150)[:137]
    mean, std = channel_statistics(images, rows)
    unit = images[rows].astype(float) * unit_scale(images.dtype)
    np.testing.assert_allclose(mean, unit.mean((0, 2, 3)), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(std, unit.std((0, 2, 3)), rtol=1e-9)


def test_channel_statistics_of_a_large_mean_and_of_a_constant_band() -> None:
    images = random_pixels(0, (100, 700), 2, "float32").reshape(100, 2, 20, 35)
    images[:, 0] += 4096
    images[:, 1] = 0.1
    mean, std = channel_statistics(images, np.arange(100))
    assert mean[0] == pytest.approx(4096, abs=0.02)
    assert std[0] == pytest.approx(images[:, 0].astype(float).std(), rel=1e-9)
    assert std[1] == 1.0
    with pytest.raises(SkyclassError, match="no images"):
        channel_statistics(images, np.arange(0))


def test_resolve_normalisation() -> None:
    found = ((0.1, 0.2), (0.3, 0.4))
    assert resolve_normalisation("none", 2, found) == ((0, 0), (1, 1))
    assert resolve_normalisation("dataset", 2, found) == found
    assert resolve_normalisation("imagenet", 3, None) == (IMAGENET_MEAN, IMAGENET_STD)
    mean, std = resolve_normalisation("imagenet", 1, None)
    assert mean == pytest.approx([np.mean(IMAGENET_MEAN)])
    assert std == pytest.approx([np.mean(IMAGENET_STD)])
    with pytest.raises(SkyclassError, match="normalise: dataset"):
        resolve_normalisation("imagenet", 5, None)
    with pytest.raises(SkyclassError, match="not known"):
        resolve_normalisation("dataset", 2, None)


def test_centre_of_a_batch() -> None:
    batch = random_pixels(14, (6, 9), 4).reshape(2, 2, 6, 9)
    np.testing.assert_array_equal(centre(batch, (4, 5)), batch[:, :, 1:5, 2:7])
