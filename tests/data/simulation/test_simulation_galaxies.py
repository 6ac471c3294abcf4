"""Galaxies: the classes can be told by their shape, the spirals by their winding, and an image by (seed, index)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.visualization import make_lupton_rgb
from scipy.ndimage import map_coordinates

from skyclass.core.errors import SkyclassError
from skyclass.data.simulation import galaxies, galaxy_parts, telescope

LABELS = [galaxies.CLASSES[i % 4] for i in range(9)]


def gathered(*args, **kwargs):
    parts = list(galaxies.simulate(*args, workers=1, **kwargs))
    return np.concatenate([images for images, _ in parts]), pd.concat([truth for _, truth in parts], ignore_index=True)


def chirality(image):
    """Above 0 where arms turn anticlockwise outwards, as displayed: phase steps of the ring harmonics m = 2 to 4."""
    grey = image.astype(float).mean(0)
    middle_y, middle_x = (np.array(grey.shape) - 1) / 2
    radius = np.arange(4.0, min(grey.shape) / 2 - 8, 0.5)
    theta = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    rows = middle_y + radius[:, None] * np.sin(theta)
    columns = middle_x + radius[:, None] * np.cos(theta)
    harmonics = np.fft.fft(map_coordinates(grey, [rows, columns], order=1), axis=1)[:, 2:5]
    return float((harmonics[1:] * harmonics[:-1].conj()).imag.sum())


def axis_ratio(image):
    """Minor over major axis by the second moments of the light above the sky, within half the image."""
    grey = image.astype(float).mean(0)
    y, x = np.indices(grey.shape) - ((np.array(grey.shape) - 1) / 2)[:, None, None]
    grey = np.where(np.hypot(x, y) < min(grey.shape) * 0.3, np.clip(grey - 25, 0, None), 0)
    moments = [(grey * a * b).sum() / grey.sum() for a, b in ((x, x), (x, y), (y, y))]
    least, most = np.linalg.eigvalsh([[moments[0], moments[1]], [moments[1], moments[2]]])
    return np.sqrt(least / most)


@pytest.fixture(scope="module")
def spirals():
    return gathered(["unbarred_spiral"] * 120, seed=2)


@pytest.fixture(scope="module")
def reference():
    return gathered(LABELS, (48, 61), seed=4)


def test_winding_is_told_by_the_image(spirals):
    images, truth = spirals
    clockwise = (truth["winding"] == "clockwise").to_numpy()
    assert 40 < clockwise.sum() < 80
    told = np.array([chirality(image) > 0 for image in images])
    assert (told == clockwise).mean() > 0.95


def test_a_mirror_turns_the_winding(spirals):
    images, _ = spirals
    found = np.array([chirality(image) for image in images])
    sideways = np.array([chirality(image[:, :, ::-1]) for image in images])
    upside_down = np.array([chirality(image[:, ::-1]) for image in images])
    np.testing.assert_allclose(sideways, -found, rtol=1e-6)
    np.testing.assert_allclose(upside_down, -found, rtol=1e-6)
    turned = np.array([chirality(np.rot90(image, axes=(1, 2))) for image in images])
    np.testing.assert_allclose(turned, found, rtol=1e-6)


def test_arms_of_the_other_winding_are_the_mirror_image():
    u, v = torch.meshgrid(torch.linspace(-3, 3, 40), torch.linspace(-3, 3, 50), indexing="xy")
    arms = galaxy_parts.Arms(number=2, pitch=0.3, start=0.8, winding="clockwise", R_e=1.2, q=0.7)
    mirrored = arms._replace(winding="anticlockwise", start=-0.8)
    found = galaxy_parts.spiral_arms(u, v, arms)
    torch.testing.assert_close(galaxy_parts.spiral_arms(u, -v, mirrored), found)
    assert not torch.allclose(galaxy_parts.spiral_arms(u, v, mirrored), found)


def test_clumps_lie_on_the_arms():
    arms = galaxy_parts.Arms(number=3, pitch=0.35, start=2.0, winding="anticlockwise", R_e=10.0, q=0.6)
    u, v = galaxy_parts.clump_positions(np.random.default_rng(0), 400, arms)
    density = galaxy_parts.spiral_arms(torch.from_numpy(u), torch.from_numpy(v), arms)
    strewn = galaxy_parts.spiral_arms(torch.from_numpy(u), torch.from_numpy(v), arms._replace(start=2.0 + np.pi / 3))
    assert density.mean() > 0.6
    assert strewn.mean() < 0.15


def test_blobs_are_gaussians():
    x, y = telescope.pixel_grid((20, 27), 1.0)
    x0, y0, sigma, peak = (np.array(values) for values in ([2.0, -5.0], [1.0, 3.0], [1.5, 2.5], [2.0, 1.0]))
    found = galaxy_parts.blobs(x, y, x0, y0, sigma, peak).numpy()
    grid_x, grid_y = x.numpy(), y.numpy()
    expected = sum(
        peak[k] * np.exp(-((grid_x - x0[k]) ** 2 + (grid_y - y0[k]) ** 2) / (2 * sigma[k] ** 2)) for k in range(2)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_classes_are_told_by_their_axis_ratio():
    ratios = {}
    for name in galaxies.CLASSES:
        images, _ = gathered([name] * 40, seed=6)
        ratios[name] = np.median([axis_ratio(image) for image in images])
    assert ratios["smooth_round"] > 0.85
    assert 0.35 < ratios["smooth_cigar"] < 0.65
    assert ratios["edge_on_disk"] < 0.45
    assert ratios["unbarred_spiral"] > 0.6


def test_spirals_are_bluer_than_smooth_galaxies(spirals):
    smooth, _ = gathered(["smooth_round"] * 20, seed=2)
    blue_over_red = [images[:, 2].mean() / images[:, 0].mean() for images in (spirals[0], smooth)]
    assert blue_over_red[0] > 1.0 > blue_over_red[1]


def test_edge_on_disk_is_exponential_and_its_warp_slight():
    u, v = torch.meshgrid(torch.linspace(-24, 24, 97), torch.linspace(-8, 8, 65), indexing="xy")
    flat, height = galaxy_parts.edge_on_disk(u, v, R_e=12.0, q=0.15, warp=0.0)
    assert float(flat[32, 72]) == pytest.approx(1.0, rel=1e-5)
    assert float(flat[32, 48] / flat[32, 72]) == pytest.approx(np.exp(galaxy_parts.SCALE_LENGTHS_PER_RE), rel=1e-4)
    assert float(height[64, 48]) == pytest.approx(8.0 / (0.15 * 12.0 / galaxy_parts.SCALE_LENGTHS_PER_RE), rel=1e-4)
    bent, _ = galaxy_parts.edge_on_disk(u, v, R_e=12.0, q=0.15, warp=0.03)
    ridge = v[bent.argmax(0), 0]
    assert float(ridge[-1]) == pytest.approx(0.03 * 24, abs=0.15)
    assert float(ridge[0]) == pytest.approx(-0.03 * 24, abs=0.15)
    _, truth = gathered(["edge_on_disk"] * 60, 16)
    assert truth["warp"].abs().max() <= 0.03


def test_dust_dims_the_middle_of_the_disk():
    u, height = torch.zeros(1, 3), torch.tensor([[-0.8, 0.2, 3.0]])
    depth = galaxy_parts.dust_lane(u, height, R_e=10.0, depth=1.5, offset=0.2)[0]
    assert float(depth[1]) == pytest.approx(1.5)
    assert depth[0] < 0.2
    assert depth[2] < 1e-6


@pytest.mark.parametrize(
    ("label", "names"),
    [
        ("smooth_round", ["x", "y", "R_e", "n", "q", "angle", "brightness", "colour", "psf_fwhm", "neighbours"]),
        ("edge_on_disk", ["R_e", "q", "angle", "colour", "bulge", "bulge_q", "warp", "dust", "dust_offset"]),
        ("unbarred_spiral", ["R_e", "n", "q", "angle", "colour", "bulge", "arms", "pitch", "contrast", "arm_angle"]),
    ],
)
def test_every_number_of_the_truth_shows_in_the_image(label, names):
    truth = galaxies.draw_truth(3, label, 1, (40, 48)) | {"bulge_q": 0.7, "q": 0.6, "dust_offset": 0.3}
    image = galaxies.render(truth, (40, 48), seed=1, noise=False)
    for name in names:
        value = 0.8 if name == "q" else truth[name] + 1 if name == "neighbours" else truth[name] * 1.5 + 1.0
        other = truth | {name: value}
        assert not torch.equal(galaxies.render(other, (40, 48), seed=1, noise=False), image), name


def test_noise_and_winding_change_the_image():
    truth = galaxies.draw_truth(3, "unbarred_spiral", 1, (40, 48))
    image = galaxies.render(truth, (40, 48), seed=1)
    other = {"clockwise": "anticlockwise", "anticlockwise": "clockwise"}[truth["winding"]]
    assert not torch.equal(galaxies.render(truth, (40, 48), seed=1, noise=False), image)
    assert not torch.equal(galaxies.render(truth | {"winding": other}, (40, 48), seed=1), image)


def test_images_are_colour_bytes_and_the_truth_says_what_a_class_has(reference):
    images, truth = reference
    assert images.shape == (9, 3, 48, 61)
    assert images.dtype == np.uint8
    assert truth["index"].tolist() == list(range(9))
    assert truth["label"].tolist() == LABELS
    spiral, edge_on = truth["label"] == "unbarred_spiral", truth["label"] == "edge_on_disk"
    assert truth.loc[spiral, "winding"].isin(galaxy_parts.WINDINGS).all()
    assert all(value is None for value in truth.loc[~spiral, "winding"])
    assert (truth["pitch"].notna() == spiral).all()
    assert (truth["warp"].notna() == edge_on).all()
    assert (truth["bulge"].notna() == (spiral | edge_on)).all()


@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_image_does_not_depend_on_its_batch(reference, batch_size):
    images, truth = gathered(LABELS, (48, 61), seed=4, batch_size=batch_size)
    assert np.array_equal(images, reference[0])
    pd.testing.assert_frame_equal(truth, reference[1])
    alone, _ = gathered([LABELS[7]], (48, 61), seed=4, first_index=7)
    assert np.array_equal(alone[0], images[7])
    drawn = galaxies.render(truth.iloc[7].to_dict(), (48, 61), seed=4)
    assert np.array_equal(drawn, images[7])


@pytest.mark.slow
def test_processes_make_the_same_images_in_the_same_order(reference):
    parts = list(galaxies.simulate(LABELS, (48, 61), seed=4, batch_size=4, workers=2))
    assert [len(images) for images, _ in parts] == [4, 4, 1]
    assert np.array_equal(np.concatenate([images for images, _ in parts]), reference[0])
    pd.testing.assert_frame_equal(pd.concat([truth for _, truth in parts], ignore_index=True), reference[1])


def test_seed_and_index_change_the_images(reference):
    for change in ({"seed": 5}, {"first_index": 4}):
        images, _ = gathered(LABELS, (48, 61), **({"seed": 4} | change))
        assert not any(np.array_equal(a, b) for a, b in zip(images, reference[0], strict=True))


def test_size_changes_the_sampling_and_not_the_galaxy():
    small, large = (galaxies.draw_truth(5, "smooth_cigar", 0, size) for size in ((64, 64), (128, 160)))
    for name in ("x", "y", "R_e", "psf_fwhm"):
        assert large[name] == pytest.approx(2 * small[name])
    images = [
        galaxies.render(truth | {"neighbours": 0}, size, seed=0, noise=False).float()
        for truth, size in ((small, (64, 64)), (large, (128, 160)))
    ]
    binned = images[1][:, :, 16:144].reshape(3, 64, 2, 64, 2).mean((2, 4))
    assert float((binned - images[0]).abs().mean()) < 1.0


def test_asinh_colours_agree_with_astropy_below_saturation():
    flux = torch.rand(3, 14, 19, generator=torch.Generator().manual_seed(0)) * 4
    ours = telescope.lupton_rgb(flux, stretch=5.0, Q=8.0).numpy()
    # astropy divides by asinh(Q): a scale of the whole picture.
    theirs = make_lupton_rgb(*flux.numpy(), stretch=5.0, Q=8.0, output_dtype=float).transpose(2, 0, 1)
    shade = ours / np.maximum(theirs, 1e-9)
    unsaturated = (ours.max(0) < 255) & (ours.min(0) > 20)
    assert unsaturated.any()
    assert np.ptp(shade[:, unsaturated]) < 0.05 * shade[:, unsaturated].mean()
    bright = telescope.lupton_rgb(100 * flux, stretch=5.0, Q=8.0)
    saturated = bright.amax(0) == 255
    assert saturated.float().mean() > 0.8
    assert not (bright == 255).all(0).any()
    share = bright[0].float() / bright.sum(0)
    torch.testing.assert_close(share[saturated], (flux[0] / flux.sum(0))[saturated], atol=0.01, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["spiral"]}, r"labels\[0\]: 'spiral' .* use smooth_round"),
        ({"size": 7}, "7x7"),
        ({"seed": -1}, "seed -1"),
        ({"workers": 0}, "workers 0"),
    ],
)
def test_bad_requests_are_refused_at_once(change, message):
    with pytest.raises(SkyclassError, match=message):
        galaxies.simulate(**({"labels": ["smooth_round"]} | change))
