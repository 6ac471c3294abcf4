"""Heat near the substructure of simulated lenses, by the simulation's own truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from skyclass.data.simulation.lensing import PSF_FWHM, SUBSTRUCTURE, draw_truth, pixel_scale, render
from skyclass.explanation.localisation import beyond_chance, near, ring_map, substructure_mask

SIZE = (48, 64)
SCALE = pixel_scale(SIZE)


def grid() -> tuple[np.ndarray, np.ndarray]:
    """x and y of the pixel centres, written out again."""
    x = [(column - 31.5) * SCALE for column in range(64)]
    y = [(row - 23.5) * SCALE for row in range(48)]
    return np.meshgrid(x, y)


def test_near_a_subhalo_is_within_reach_of_any() -> None:
    truth = draw_truth(3, "sphere", seed=0)
    mask = substructure_mask(truth, SIZE, SCALE, 0.2)
    x, y = grid()
    expected = np.zeros(SIZE, bool)
    for x0, y0 in zip(truth["sub_x"], truth["sub_y"], strict=True):
        expected |= (x - x0) ** 2 + (y - y0) ** 2 <= 0.04
    assert mask is not None
    np.testing.assert_array_equal(mask, expected)
    assert 0.02 < mask.mean() < 0.3


def test_near_a_vortex_line_is_within_reach_of_one_of_its_points() -> None:
    truth = draw_truth(5, "vort", seed=0)
    mask = substructure_mask(truth, SIZE, SCALE, 0.15)
    x, y = grid()
    angle, half = np.radians(truth["vort_angle"]), truth["vort_half_length"]
    nearest = np.full(SIZE, np.inf)
    for along in np.linspace(-half, half, 2001):
        there = truth["vort_x"] + along * np.cos(angle), truth["vort_y"] + along * np.sin(angle)
        nearest = np.minimum(nearest, np.hypot(x - there[0], y - there[1]))
    assert mask is not None
    assert (mask == (nearest <= 0.15)).mean() > 0.999


@pytest.mark.parametrize("label", ["sphere", "vort"])
def test_the_mask_lies_where_the_light_of_an_image_changes(label: str) -> None:
    """A lens with and without one heavy substructure differs most near it, rows and columns not swapped."""
    size = (150, 150)
    with_it = {**draw_truth(7, label, seed=1), "source_x": 0.05, "source_y": 0.0}
    if label == "sphere":
        with_it |= {"sub_x": [1.2], "sub_y": [-0.3], "sub_mass": [1e10]}
    else:
        with_it |= {"vort_x": 1.2, "vort_y": -0.3, "vort_angle": 100.0, "vort_half_length": 0.3, "vort_mass": 1e10}
    empty = {**draw_truth(7, "no", seed=1), "source_x": 0.05, "source_y": 0.0}
    first, second = (render(pd.DataFrame([row]), size, seed=None)[0, 0].numpy() for row in (with_it, empty))
    mask = substructure_mask(with_it, size, 0.05, 0.5)
    found = near(np.abs(first - second), mask)
    assert mask is not None
    assert found.heat > 3 * mask.mean()
    assert found.peak == 1.0
    swapped = near(np.abs(first - second).T, mask)
    assert swapped.peak == 0.0


def test_a_lens_without_substructure_has_no_mask() -> None:
    assert substructure_mask(draw_truth(0, "no", seed=0), SIZE, SCALE, 0.2) is None
    assert set(SUBSTRUCTURE) <= set(draw_truth(0, "no", seed=0))
    assert PSF_FWHM == 0.087


def test_the_ring_lies_at_the_einstein_radius() -> None:
    heat = ring_map({"theta_E": 1.3}, SIZE, SCALE, 0.1)
    radius = np.hypot(*grid())
    assert heat.shape == SIZE
    assert abs(float(radius.flat[heat.argmax()]) - 1.3) < SCALE
    np.testing.assert_allclose(heat, np.exp(-0.5 * ((radius - 1.3) / 0.1) ** 2), atol=1e-6)


def test_shares_of_heat_and_of_maxima() -> None:
    mask = np.zeros((4, 5), bool)
    mask[:2] = True
    heat = np.zeros((4, 5))
    heat[0, 0], heat[3, 4], heat[1, 1] = 3.0, 3.0, 2.0
    assert near(heat, mask) == (5 / 8, 0.5)
    heat[3] = np.nan  # never seen
    assert near(heat, mask) == (1.0, 1.0)
    assert near(np.zeros((4, 5)), mask) == (0.0, 0.0)
    assert beyond_chance(0.6, 0.2) == pytest.approx(0.5)
    assert beyond_chance(0.2, 0.2) == 0.0
    assert beyond_chance(1.0, 0.9) == pytest.approx(1.0)
    assert beyond_chance(0.0, 0.5) == -1.0
