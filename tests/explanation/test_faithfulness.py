"""Grades of maps on models whose answer is known: one that looks at a corner, ones that look nowhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from torch import nn

from skyclass.explanation.faithfulness import (
    area,
    correlation,
    deletion,
    insertion,
    random_maps,
    randomise,
    rank_correlation,
    relevance_order,
    revealed,
    stability,
    weighted_layers,
)
from skyclass.images.dihedral import orient, orient_back, orientations_of

RNG = np.random.default_rng(0)


def test_the_hottest_pixels_come_first_and_equal_ones_in_random_order() -> None:
    heatmap = np.zeros((4, 6))
    heatmap[2, 5], heatmap[0, 1] = 1.0, 0.5
    order = relevance_order(heatmap, seed=0)
    assert order[:2].tolist() == [17, 1]
    assert sorted(order.tolist()) == list(range(24))
    assert order[2:].tolist() != sorted(order[2:].tolist())
    assert relevance_order(heatmap, seed=1)[2:].tolist() != order[2:].tolist()


def test_pixels_are_replaced_share_by_share() -> None:
    below, above = RNG.random((2, 4, 6)), RNG.random((2, 4, 6)) + 5.0
    order = RNG.permutation(24)
    series = revealed(below, above, order, steps=6)
    assert series.shape == (7, 2, 4, 6)
    np.testing.assert_array_equal(series[0], below)
    np.testing.assert_array_equal(series[-1], above)
    for step, one in enumerate(series):
        replaced = (one >= 5.0).reshape(2, -1)
        assert replaced[0].tolist() == replaced[1].tolist()
        assert set(np.flatnonzero(replaced[0])) == set(order[: 4 * step])


def test_deletion_ends_in_the_sky_and_insertion_begins_with_a_blurred_image() -> None:
    image = RNG.random((2, 20, 30)).astype(np.float32)
    deleted = deletion(image, np.arange(600))
    np.testing.assert_array_equal(deleted[0], image)
    for band, gone in zip(image, deleted[-1], strict=True):
        np.testing.assert_allclose(gone, sorted(band.ravel())[299:301][0], atol=0.01)
        assert np.ptp(gone) == 0.0
    inserted = insertion(image, np.arange(600))
    np.testing.assert_array_equal(inserted[-1], image)
    assert inserted[0].std() < 0.3 * image.std()
    assert deleted.dtype == inserted.dtype == np.float32


def test_areas_are_those_under_the_curves() -> None:
    curve = RNG.random((3, 21))
    np.testing.assert_allclose(area(curve), np.trapezoid(curve, np.linspace(0, 1, 21), axis=1))
    assert area(np.ones(5)) == 1.0


def corner_score(images: np.ndarray) -> np.ndarray:
    """A model that looks at the upper left quarter alone: how much detail is in it."""
    height, width = images.shape[-2:]
    corner = images[:, 0, : height // 2, : width // 2]
    return np.abs(np.diff(corner, axis=2)).mean(axis=(1, 2))


def test_a_map_of_the_corner_is_better_than_chance_for_a_model_that_looks_at_a_corner() -> None:
    image = RNG.random((1, 24, 32)).astype(np.float32)
    right, wrong = np.zeros((24, 32)), np.zeros((24, 32))
    right[:12, :16] = 1.0
    wrong[12:, 16:] = 1.0
    areas = {}
    for name, heatmap in {"right": right, "wrong": wrong, "random": random_maps(1, (24, 32), 0)[0]}.items():
        order = relevance_order(heatmap, seed=0)
        down = corner_score(deletion(image, order))
        up = corner_score(insertion(image, order))
        areas[name] = float(area(down) / down[0]), float(area(up) / up[-1])
    assert areas["right"][0] < areas["random"][0] < areas["wrong"][0]
    assert areas["right"][1] > areas["random"][1] > areas["wrong"][1]
    assert areas["right"][0] < 0.3
    assert areas["wrong"][0] > 0.6


def test_random_maps_are_smooth_and_all_differ() -> None:
    maps = random_maps(20, (28, 56), seed=3)
    assert maps.shape == (20, 28, 56)
    assert maps.dtype == np.float32
    assert maps.min() >= 0
    assert maps.max() <= 1
    assert np.abs(np.diff(maps, axis=2)).max() < 0.3
    assert np.abs(correlation(maps[:-1], maps[1:])).mean() < 0.3
    np.testing.assert_array_equal(maps, random_maps(20, (28, 56), seed=3))
    assert not np.array_equal(maps, random_maps(20, (28, 56), seed=4))


def test_correlations_are_scipys_and_zero_of_flat_maps() -> None:
    one, other = RNG.random((5, 6, 7)), RNG.random((5, 6, 7))
    one[0].flat[:20] = 0.0  # ties
    other += one
    pairs = list(zip(one.reshape(5, -1), other.reshape(5, -1), strict=True))
    np.testing.assert_allclose(correlation(one, other), [pearsonr(a, b).statistic for a, b in pairs])
    np.testing.assert_allclose(rank_correlation(one, other), [spearmanr(a, b).statistic for a, b in pairs])
    flat = np.zeros_like(one)
    assert correlation(one, flat).tolist() == rank_correlation(flat, flat).tolist() == [0.0] * 5


def test_layers_get_weights_that_know_nothing() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    nn.init.constant_(network[1].running_mean, 5.0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    layers = weighted_layers(network)
    assert layers == [network[0], network[1], network[4]]
    state = torch.get_rng_state()
    randomise(layers[-1:], seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(network[0].weight, before["0.weight"])
    first = network[4].weight.clone()
    assert not torch.equal(first, before["4.weight"])
    randomise(layers, seed=1)
    assert not torch.equal(network[0].weight, before["0.weight"])
    assert float(network[1].running_mean.abs().max()) == 0.0
    randomise(layers[-1:], seed=2)
    assert not torch.equal(network[4].weight, first)
    randomise(layers[-1:], seed=1)
    assert torch.equal(network[4].weight, first)


@pytest.mark.parametrize("shape", [(8, 8), (6, 9)])
def test_every_orientation_is_turned_back(shape: tuple[int, int]) -> None:
    images = torch.arange(2.0 * shape[0] * shape[1]).reshape(2, *shape)
    for orientation in orientations_of(*shape):
        assert torch.equal(orient_back(orient(images, orientation), orientation), images)


@pytest.mark.parametrize("shape", [(16, 16), (12, 20)])
def test_maps_that_turn_with_the_image_are_stable_and_those_that_look_at_a_place_are_not(
    shape: tuple[int, int],
) -> None:
    images = RNG.random((3, 2, *shape)).astype(np.float32)
    seen: list[bool] = []

    def of_the_image(view: np.ndarray, mirrored: bool) -> np.ndarray:
        seen.append(mirrored)
        return view.sum(axis=1)

    def of_a_place(view: np.ndarray, _: bool) -> np.ndarray:
        maps = np.zeros((len(view), *view.shape[2:]), np.float32)
        maps[:, :4, :4] = 1.0
        return maps

    np.testing.assert_allclose(stability(of_the_image, images, images.sum(axis=1)), 1.0, atol=1e-6)
    n = len(orientations_of(*shape))
    assert (len(seen), sum(seen)) == (n - 1, n // 2)
    place = of_a_place(images, False)
    assert stability(of_a_place, images, place).max() < 0.3
