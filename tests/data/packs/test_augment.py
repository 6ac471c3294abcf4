"""Augmentation: geometry against torch, OpenCV and SciPy, light against formulas, numbers against statistics."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from skyclass.core.errors import SkyclassError
from skyclass.data.packs.augment import (
    Draws,
    _mix,
    affine_matrices,
    augment,
    check_augmentation,
    draw,
    mirror_pairs,
    resample,
    swap_labels,
    to_unit,
    uniforms,
)
from skyclass.recipes.data_settings import AugmentSettings

ROWS = np.arange(6, dtype=np.int64)
FILLS = ("zeros", "border", "reflection")


def batch_of(n: int, channels: int, height: int, width: int) -> torch.Tensor:
    return torch.rand((n, channels, height, width), generator=torch.Generator().manual_seed(5))


def still(n: int, **changes: Any) -> Draws:
    """Parameters that change nothing, but for `changes`."""
    settings: dict[str, Any] = {
        "flip_horizontal": np.zeros(n, dtype=bool),
        "flip_vertical": np.zeros(n, dtype=bool),
        "angle": np.zeros(n),
        "scale": np.ones(n),
        "shift": np.zeros((n, 2)),
        "brightness": np.ones(n),
        "contrast": np.ones(n),
        "saturation": np.ones(n),
        "crop": np.zeros((n, 2)),
    }
    return Draws(**{**settings, **changes})


def moved(batch: torch.Tensor, out_size: tuple[int, int] | None = None, fill: str = "zeros", **changes: Any) -> Any:
    in_size = (batch.shape[2], batch.shape[3])
    out_size = out_size or in_size
    matrices = affine_matrices(still(len(batch), **changes), in_size, out_size)
    return resample(batch, matrices, out_size, fill)


# Random numbers


def test_uniforms_are_uniform_and_uncorrelated() -> None:
    u = uniforms(3, 7, np.arange(20_000), 4)
    assert u.shape == (20_000, 4)
    assert u.min() >= 0.0
    assert u.max() < 1.0
    for column in u.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-3
    neighbours = np.corrcoef(np.column_stack([u[:-1], u[1:]]), rowvar=False)
    assert np.abs(neighbours - np.eye(8)).max() < 0.03  # 4 sigma of 1/sqrt(20,000)


@pytest.mark.parametrize("other", [(4, 7), (3, 8), (7, 3)])
def test_uniforms_differ_with_seed_and_epoch(other: tuple[int, int]) -> None:
    rows = np.arange(20_000)
    first, second = uniforms(3, 7, rows, 1)[:, 0], uniforms(*other, rows, 1)[:, 0]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03
    assert not np.isin(first, second).any()


def test_uniforms_of_a_row_do_not_depend_on_its_batch() -> None:
    whole = uniforms(1, 2, np.arange(100), 5)
    some = np.array([70, 3, 41])
    np.testing.assert_array_equal(uniforms(1, 2, some, 5), whole[some])
    np.testing.assert_array_equal(uniforms(1, 2, some, 3), whole[some, :3])


def test_splitmix_agrees_with_its_reference_values() -> None:
    # The first outputs of Vigna's splitmix64.c from seed 1234567.
    gamma, seed = 0x9E3779B97F4A7C15, 1234567
    states = np.array([(seed + k * gamma) % 2**64 for k in range(3)], dtype=np.uint64)
    assert _mix(states).tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_draw_stays_in_the_ranges_of_the_recipe() -> None:
    settings = AugmentSettings(
        flip_horizontal=0.3, rotation=15, scale=(0.8, 1.5), shift=0.1, brightness=0.2, contrast=0.3, saturation=0.4
    )
    drawn = draw(settings, 0, 0, np.arange(5000))
    assert 0.27 < drawn.flip_horizontal.mean() < 0.33
    assert not drawn.flip_vertical.any()
    for values, low, high in [
        (drawn.angle, -15, 15),
        (drawn.scale, 0.8, 1.5),
        (drawn.shift[:, 0], -0.1, 0.1),
        (drawn.shift[:, 1], -0.1, 0.1),
        (drawn.brightness, 0.8, 1.2),
        (drawn.contrast, 0.7, 1.3),
        (drawn.saturation, 0.6, 1.4),
    ]:
        assert stats.kstest(values, "uniform", args=(low, high - low)).pvalue > 1e-3


def test_one_setting_leaves_the_numbers_of_the_others() -> None:
    alone = draw(AugmentSettings(rotation=30), 0, 0, ROWS)
    together = draw(AugmentSettings(rotation=30, flip_horizontal=0.5, brightness=0.5), 0, 0, ROWS)
    np.testing.assert_array_equal(alone.angle, together.angle)


# Geometry


def test_flips_are_those_of_torch() -> None:
    batch = batch_of(6, 3, 5, 8)
    both = augment(batch, AugmentSettings(flip_horizontal=1.0), (5, 8), 0, 0, ROWS)
    torch.testing.assert_close(both, batch.flip(3), atol=1e-5, rtol=0)
    both = augment(batch, AugmentSettings(flip_vertical=1.0), (5, 8), 0, 0, ROWS)
    torch.testing.assert_close(both, batch.flip(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns_are_rot90(turns: int) -> None:
    batch = batch_of(2, 2, 9, 9)
    turned = moved(batch, angle=np.full(2, 90.0 * turns))
    torch.testing.assert_close(turned, torch.rot90(batch, turns, (2, 3)), atol=1e-5, rtol=0)


def test_a_quarter_turn_does_not_shear_a_wide_image() -> None:
    batch = batch_of(1, 1, 6, 10)
    turned = moved(batch, angle=np.array([90.0]))
    middle = torch.rot90(batch[..., 2:8], 1, (2, 3))  # what the 6 x 10 window still shows of the turned image
    torch.testing.assert_close(turned[..., 2:8], middle, atol=1e-5, rtol=0)
    assert turned[..., :2].abs().max() < 1e-5
    assert turned[..., 8:].abs().max() < 1e-5


@pytest.mark.parametrize(
    ("fill", "mode"), [("zeros", "grid-constant"), ("border", "nearest"), ("reflection", "reflect")]
)
@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True)])
def test_composed_geometry_against_opencv_and_scipy(fill: str, mode: str, flips: tuple[bool, bool]) -> None:
    (height, width), (rows, columns) = (20, 31), (14, 25)
    angle, scale, shift, corner = 33.0, 1.2, (0.1, -0.2), (4, 2)
    image = batch_of(1, 1, height, width)
    result = moved(
        image,
        (rows, columns),
        fill,
        flip_horizontal=np.array([flips[0]]),
        flip_vertical=np.array([flips[1]]),
        angle=np.array([angle]),
        scale=np.array([scale]),
        shift=np.array([shift]),
        crop=np.array([[(corner[0] + 0.5) / 7, (corner[1] + 0.5) / 7]]),
    )
    # OpenCV composes the forward matrix (anticlockwise, magnified about the centre) and inverts it; SciPy samples.
    forward = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, scale)
    forward[:, 2] += shift[1] * width - corner[1], shift[0] * height - corner[0]
    inverse = cv2.invertAffineTransform(forward)[::-1]  # rows (y, x)
    source = image[0, 0].numpy().astype(np.float64)
    source = source[:, ::-1] if flips[0] else source
    source = source[::-1] if flips[1] else source
    expected = ndimage.affine_transform(
        source, inverse[:, 1::-1], inverse[:, 2], output_shape=(rows, columns), order=1, mode=mode
    )
    np.testing.assert_allclose(result[0, 0].numpy(), expected, atol=2e-5)


def test_crop_is_a_slice_and_every_place_comes_up() -> None:
    batch = batch_of(1, 2, 7, 9).expand(400, 2, 7, 9)
    settings = AugmentSettings(crop=(7, 9))
    rows = np.arange(400)
    cut = augment(batch, settings, (5, 6), 0, 0, rows)
    corners = np.floor(draw(settings, 0, 0, rows).crop * (3, 4)).astype(int)
    for result, image, (top, left) in zip(cut, batch, corners, strict=True):
        torch.testing.assert_close(result, image[:, top : top + 5, left : left + 6], atol=1e-5, rtol=0)
    counts = np.unique(corners, axis=0, return_counts=True)[1]
    assert len(counts) == 12
    assert stats.chisquare(counts).pvalue > 1e-3


# The batch


@pytest.mark.parametrize(
    ("dtype", "full"), [(torch.uint8, 255), (torch.uint16, 65535), (torch.float16, 1), (torch.float32, 1)]
)
def test_nothing_set_changes_nothing(dtype: torch.dtype, full: int) -> None:
    batch = (batch_of(6, 3, 4, 7) * (full if full > 1 else 3)).to(dtype)
    result = augment(batch, AugmentSettings(), (4, 7), 0, 0, ROWS)
    assert result.dtype == torch.float32
    assert torch.equal(result, batch.to(torch.float32) * (1 / full))
    assert torch.equal(result, to_unit(batch))


ALL = {
    "flip_horizontal": 0.5,
    "flip_vertical": 0.5,
    "rotation": 40.0,
    "scale": (0.7, 1.4),
    "shift": 0.2,
    "brightness": 0.3,
    "contrast": 0.3,
    "saturation": 0.3,
    "noise": 0.1,
    "crop": (10, 14),
}


@pytest.mark.parametrize("option", ALL)
def test_every_option_changes_the_images(option: str) -> None:
    size = (10, 14) if option == "crop" else (8, 12)
    batch = batch_of(6, 3, *size)
    changed = augment(batch, AugmentSettings(**{option: ALL[option]}), (8, 12), 0, 0, ROWS)
    assert changed.shape == (6, 3, 8, 12)
    assert not torch.allclose(changed, batch[..., :8, :12], atol=1e-3)


def test_fill_and_mirror_swaps_are_the_only_options_left() -> None:
    assert set(AugmentSettings.model_fields) == {*ALL, "fill", "mirror_swaps"}


def test_fill_changes_the_corners() -> None:
    batch = batch_of(6, 1, 8, 12)
    fills = [augment(batch, AugmentSettings(rotation=45, fill=fill), (8, 12), 0, 0, ROWS) for fill in FILLS]
    assert not torch.allclose(fills[0], fills[1])
    assert not torch.allclose(fills[1], fills[2])


def test_an_image_is_changed_alike_in_any_batch() -> None:
    settings = {name: value for name, value in ALL.items() if name != "noise"}  # noise belongs to the batch
    recipe = AugmentSettings(**settings)
    batch = batch_of(6, 3, 10, 14)
    whole = augment(batch, recipe, (8, 12), 1, 2, ROWS)
    order = np.array([4, 1])
    torch.testing.assert_close(augment(batch[order], recipe, (8, 12), 1, 2, order), whole[order])
    assert not torch.allclose(augment(batch, recipe, (8, 12), 1, 3, ROWS), whole)


def test_brightness_and_contrast_follow_their_formula() -> None:
    settings = AugmentSettings(brightness=0.4, contrast=0.6)
    batch = 5 * batch_of(6, 2, 4, 7)
    drawn = draw(settings, 0, 0, ROWS)
    result = augment(batch, settings, (4, 7), 0, 0, ROWS).numpy()
    for image, after, b, c in zip(batch.numpy(), result, drawn.brightness, drawn.contrast, strict=True):
        np.testing.assert_allclose(after, c * (b * image - b * image.mean()) + b * image.mean(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(after.mean(), b * image.mean(), rtol=1e-5)
        np.testing.assert_allclose(after.std(), b * c * image.std(), rtol=1e-4)


def test_saturation_scales_the_distance_from_grey() -> None:
    settings = AugmentSettings(saturation=0.8)
    batch = batch_of(6, 3, 4, 7)
    s = torch.from_numpy(draw(settings, 0, 0, ROWS).saturation).float()[:, None, None]
    result = augment(batch, settings, (4, 7), 0, 0, ROWS)
    torch.testing.assert_close(result.mean(1), batch.mean(1))
    torch.testing.assert_close(result[:, 0] - result[:, 2], s * (batch[:, 0] - batch[:, 2]))


def test_noise_has_its_deviation_and_comes_again() -> None:
    settings = AugmentSettings(noise=0.05)
    batch = torch.full((6, 1, 40, 50), 0.5)
    first = augment(batch, settings, (40, 50), 0, 0, ROWS)
    assert float((first - batch).std()) == pytest.approx(0.05, rel=0.03)
    assert torch.equal(first, augment(batch, settings, (40, 50), 0, 0, ROWS))
    for seed, epoch, rows in [(1, 0, ROWS), (0, 1, ROWS), (0, 0, ROWS + 1)]:
        assert not torch.equal(first, augment(batch, settings, (40, 50), seed, epoch, rows))


def test_integers_are_clipped_and_floats_are_not() -> None:
    settings = AugmentSettings(noise=0.5)
    batch = batch_of(6, 1, 8, 11)
    floats = augment(batch, settings, (8, 11), 0, 0, ROWS)
    integers = augment((batch * 255).to(torch.uint8), settings, (8, 11), 0, 0, ROWS)
    assert floats.min() < 0
    assert floats.max() > 1
    assert integers.min() == 0
    assert integers.max() == 1


@pytest.mark.parametrize(
    ("settings", "channels", "in_size", "message"),
    [
        ({"saturation": 0.1}, 1, (8, 12), "three bands"),
        ({}, 3, (8, 11), "8 x 11"),
        ({"crop": (10, 12)}, 3, (8, 12), "10 x 12"),
        ({"crop": (7, 12)}, 3, (7, 12), "does not fit"),
    ],
)
def test_misfits_are_refused(settings: dict[str, Any], channels: int, in_size: tuple[int, int], message: str) -> None:
    with pytest.raises(SkyclassError, match=message):
        check_augmentation(AugmentSettings(**settings), channels, in_size, (8, 12))


# Labels


def test_labels_swap_exactly_when_mirrored() -> None:
    settings = AugmentSettings(flip_horizontal=0.5, flip_vertical=0.5, mirror_swaps=(("cw", "acw"),))
    partner = mirror_pairs(settings, ["acw", "round", "cw"])
    assert partner.tolist() == [2, 1, 0]
    drawn = draw(settings, 0, 0, np.arange(300))
    assert (drawn.flip_horizontal & drawn.flip_vertical).any()
    labels = torch.arange(300) % 3
    swapped = swap_labels(labels, drawn.mirrored, partner)
    for before, after, left_right, up_down in zip(
        labels.tolist(), swapped.tolist(), drawn.flip_horizontal, drawn.flip_vertical, strict=True
    ):
        assert after == (before if left_right == up_down else {0: 2, 1: 1, 2: 0}[before])


def test_no_swaps_keep_every_class() -> None:
    assert mirror_pairs(AugmentSettings(), ["a", "b"]).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ((("spiral_cw", "spiral_acv"),), "did you mean 'spiral_acw'"),
        ((("spiral_cw", "xyz"),), "the classes are"),
        ((("spiral_cw", "spiral_acw"), ("round", "spiral_cw")), "stands twice"),
        ((("round", "round"),), "stands twice"),
    ],
)
def test_faulty_swaps_are_refused(pairs: Any, message: str) -> None:
    with pytest.raises(SkyclassError, match=message):
        mirror_pairs(AugmentSettings(mirror_swaps=pairs), ["round", "spiral_acw", "spiral_cw"])
