"""Lenses: deflections against independent formulas, and images that depend on nothing but (seed, index)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate, special
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from skyclass.core.errors import SkyclassError
from skyclass.data.simulation import batches, deflection, lensing, light, telescope

LABELS = [lensing.CLASSES[i % 3] for i in range(10)]


def exact(value):
    return torch.tensor(value, dtype=torch.float64)


def plane(height=31, width=44, reach=2.0):
    """Positions off every centre and axis, (H, W) float64, not square."""
    y, x = np.meshgrid(
        np.linspace(-reach, reach, height) + 0.013, np.linspace(-reach, reach, width) + 0.017, indexing="ij"
    )
    return torch.from_numpy(x), torch.from_numpy(y)


def gathered(*args, **kwargs):
    parts = list(lensing.simulate(*args, workers=1, **kwargs))
    return np.concatenate([images for images, _ in parts]), pd.concat([truth for _, truth in parts], ignore_index=True)


def divergence(bend, x, y, step=1e-4):
    along_x = (bend(x + step, y)[0] - bend(x - step, y)[0]) / (2 * step)
    along_y = (bend(x, y + step)[1] - bend(x, y - step)[1]) / (2 * step)
    return along_x + along_y


# ---- deflections


@pytest.mark.parametrize(("e", "angle"), [(0.05, 0.0), (0.12, 0.7), (0.5, -1.1)])
def test_sie_agrees_with_the_elliptical_power_law(e, angle):
    """Tessore & Metcalf (2015, A&A 580, A79), eq. 13, with slope t = 1: a hypergeometric series."""
    x, y = plane()
    q, theta_E = (1 - e) / (1 + e), 1.3
    z = (x.numpy() + 1j * y.numpy()) * np.exp(-1j * angle)
    elliptical = q * z.real + 1j * z.imag
    turned = elliptical / abs(elliptical)
    series = special.hyp2f1(1.0, 0.5, 1.5, -(1 - q) / (1 + q) * turned**2)
    expected = 2 * theta_E * np.sqrt(q) / (1 + q) * turned * series * np.exp(1j * angle)
    alpha_x, alpha_y = deflection.sie(x, y, exact(theta_E), exact(e), exact(angle))
    np.testing.assert_allclose(alpha_x.numpy() + 1j * alpha_y.numpy(), expected, rtol=0, atol=1e-7)


def test_divergence_of_the_sie_is_twice_its_convergence():
    x, y = plane()
    e, angle, theta_E = 0.2, 0.4, 1.2
    q = (1 - e) / (1 + e)
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    kappa = theta_E / (2 * torch.sqrt(q * u**2 + v**2 / q))
    found = divergence(lambda a, b: deflection.sie(a, b, exact(theta_E), exact(e), exact(angle)), x, y)
    far = torch.hypot(x, y) > 0.3
    np.testing.assert_allclose(found[far], 2 * kappa[far], rtol=1e-4)


def test_sie_becomes_the_sphere_and_is_finite_at_its_centre():
    x, y = plane()
    round_one = deflection.sie(x, y, exact(1.4), exact(0.0), exact(0.3))
    sphere = deflection.sis(x, y, exact(1.4))
    for a, b in zip(round_one, sphere, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=5e-6)
    np.testing.assert_allclose(torch.hypot(*sphere), 1.4, rtol=1e-9)
    middle = torch.zeros(1, 1)
    one = torch.ones(1, 1, 1)
    for bend in (deflection.sie(middle, middle, one, 0.1 * one, one), deflection.sis(middle, middle, one)):
        assert all(float(part.abs().max()) == 0.0 for part in bend)


def test_shear_has_no_divergence_and_stretches_along_its_angle():
    x, y = plane()
    angle = 0.6
    found = divergence(lambda a, b: deflection.shear(a, b, exact(0.1), exact(angle)), x, y)
    np.testing.assert_allclose(found, 0.0, atol=1e-9)
    along_x, along_y = deflection.shear(exact(np.cos(angle)), exact(np.sin(angle)), exact(0.1), exact(angle))
    np.testing.assert_allclose([along_x, along_y], 0.1 * np.array([np.cos(angle), np.sin(angle)]), rtol=1e-12)


def test_point_mass_bends_by_its_einstein_radius_there_and_masses_add_up():
    x, y = telescope.pixel_grid((9, 14), 0.4)
    masses, x0, y0 = torch.tensor([0.3, 0.0, 0.7]), torch.tensor([0.21, 1.0, -0.5]), torch.tensor([-0.43, 0.0, 0.11])
    together = deflection.point_mass(x, y, masses, x0, y0)
    for found, offset, centre in zip(together, (x, y), (x0, y0), strict=True):
        # The mass of zero lies on a pixel: it does nothing there either.
        expected = sum(masses[k] * (offset - centre[k]) / ((x - x0[k]) ** 2 + (y - y0[k]) ** 2) for k in (0, 2))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    theta_E = 0.37
    on_ring = deflection.point_mass(
        exact([[0.5 + theta_E]]), exact([[0.2]]), exact([theta_E**2]), exact([0.5]), exact([0.2])
    )
    np.testing.assert_allclose([float(part) for part in on_ring], [theta_E, 0.0], atol=1e-9)


def projected_nfw_mass(radius):
    """Mass within a cylinder of this radius (scale radius 1), by shells of the density 1 / (r (1 + r)^2)."""
    inner, _ = integrate.quad(lambda r: r / (1 + r) ** 2, 0, radius)
    # Of a shell of radius r > R the cylinder holds the share 1 - sqrt(1 - R^2 / r^2).
    outer, _ = integrate.quad(lambda r: r / (1 + r) ** 2 * (1 - np.sqrt(1 - (radius / r) ** 2)), radius, np.inf)
    return inner + outer


@pytest.mark.parametrize("t", [0.05, 0.4, 0.99999, 1.0, 1.3, 6.0])
def test_nfw_agrees_with_the_integral_of_its_density(t):
    R_s, alpha_Rs = 0.8, 0.25
    expected = alpha_Rs * projected_nfw_mass(t) / projected_nfw_mass(1.0) / t
    alpha_x, alpha_y = deflection.nfw(exact(0.6 * t * R_s), exact(-0.8 * t * R_s), exact(R_s), exact(alpha_Rs))
    np.testing.assert_allclose([alpha_x, alpha_y], [0.6 * expected, -0.8 * expected], rtol=1e-5)


@pytest.mark.parametrize(("number", "tolerance"), [(100, 1e-2), (10_000, 5e-7)])
def test_vortex_is_the_limit_of_point_masses_on_a_line(number, tolerance):
    x, y = plane(15, 22)
    strength, x0, y0, angle, half_length = 0.05, 0.2, -0.1, 0.9, 0.7
    along = half_length * (2 * (np.arange(number) + 0.5) / number - 1)
    points = [exact(x0 + along * np.cos(angle)), exact(y0 + along * np.sin(angle))]
    expected = deflection.point_mass(x, y, exact(np.full(number, strength / number)), *points)
    found = deflection.vortex(x, y, *map(exact, (strength, x0, y0, angle, half_length)))
    # Right beside the line the points show one by one.
    off_line = torch.hypot(x[..., None] - points[0][::10], y[..., None] - points[1][::10]).amin(-1) > 0.03
    for a, b in zip(found, expected, strict=True):
        assert float((a - b)[off_line].abs().max()) < tolerance


# ---- light and telescope


@pytest.mark.parametrize("n", [1.0, 1.5, 4.0])
def test_half_the_light_of_a_sersic_profile_is_within_R_e(n):
    def brightness(radius):
        one = exact(1.0)
        return float(light.sersic(exact(radius), exact(0.0), 3.0, 2.0 * one, n * one, one, 0.0 * one))

    assert brightness(2.0) == pytest.approx(3.0)
    within, _ = integrate.quad(lambda r: r * brightness(r), 0, 2.0)
    total, _ = integrate.quad(lambda r: r * brightness(r), 0, 2000.0, limit=400, points=(2.0, 20.0, 200.0))
    assert within / total == pytest.approx(0.5, abs=2e-3)


def test_sersic_ellipse_keeps_its_light_and_lies_along_its_angle():
    x, y = telescope.pixel_grid((200, 256), 0.1)
    one = torch.tensor(1.0)
    flat = light.sersic(x, y, 1.0, one, one, 0.4 * one, 0.5 * one)
    full = light.sersic(x, y, 1.0, one, one, one, 0.5 * one)
    assert float(flat.sum() / full.sum()) == pytest.approx(1.0, abs=1e-3)
    xy = float((flat * x * y).sum() / flat.sum())
    xx, yy = float((flat * x * x).sum() / flat.sum()), float((flat * y * y).sum() / flat.sum())
    assert 0.5 * np.arctan2(2 * xy, xx - yy) == pytest.approx(0.5, abs=0.01)
    assert light.sersic(0 * x, 0 * y, 1.0, one, one, one, one).max() == pytest.approx(np.exp(1.9992 - 0.3271), rel=1e-5)


@pytest.mark.parametrize("fwhm", [0.4, 1.74, 3.0])
def test_psf_agrees_with_a_two_dimensional_convolution(fwhm):
    size, radius = (13, 18), telescope.kernel_radius(fwhm)
    x, y = telescope.pixel_grid(size, 1.0, margin=radius)
    sky = torch.rand(2, 1, y.shape[0], x.shape[1], generator=torch.Generator().manual_seed(0))
    kernel = torch.tensor(telescope.gaussian_kernel(fwhm))
    expected = torch.nn.functional.conv2d(sky, torch.outer(kernel, kernel)[None, None])[..., : size[1]]
    np.testing.assert_allclose(telescope.blur(sky, fwhm, size), expected, atol=1e-6)
    offset = np.arange(-radius, radius + 1)
    # A pixel adds the variance of its own box, 1/12, where the Gaussian is wide enough to be sampled.
    assert fwhm < 1 or (kernel.numpy() * offset**2).sum() == pytest.approx((fwhm / 2.3548) ** 2 + 1 / 12, rel=0.01)


def test_noise_has_the_variance_of_photons_and_background():
    flux = torch.full((2, 1, 200, 300), 0.04)
    normal = torch.randn(flux.shape, generator=torch.Generator().manual_seed(1))
    exposure = torch.tensor([1000.0, 4000.0])[:, None, None, None]
    noisy = telescope.add_noise(flux.clone(), normal, exposure, 0.003)
    for image, t in zip(noisy, (1000.0, 4000.0), strict=True):
        assert float(image.var()) == pytest.approx(0.04 / t + 0.003**2, rel=0.02)


# ---- images


@pytest.fixture(scope="module")
def reference():
    return gathered(LABELS, (37, 53), seed=4)


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_an_image_does_not_depend_on_its_batch(reference, batch_size):
    images, truth = gathered(LABELS, (37, 53), seed=4, batch_size=batch_size)
    assert np.array_equal(images, reference[0])
    pd.testing.assert_frame_equal(truth, reference[1])


@pytest.mark.parametrize("size", [75, (41, 50)])
def test_an_image_does_not_depend_on_the_images_beside_it_or_on_threads(size):
    images, _ = gathered(LABELS, size, seed=4)
    for i in (1, 5, 8):
        alone, _ = gathered([LABELS[i]], size, seed=4, first_index=i)
        assert np.array_equal(alone[0], images[i])
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        again, _ = gathered(LABELS, size, seed=4)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(again, images)


@pytest.mark.slow
def test_processes_make_the_same_images_in_the_same_order(reference):
    parts = list(lensing.simulate(LABELS, (37, 53), seed=4, batch_size=4, workers=2))
    assert [len(images) for images, _ in parts] == [4, 4, 2]
    assert np.array_equal(np.concatenate([images for images, _ in parts]), reference[0])
    truth = pd.concat([truth for _, truth in parts], ignore_index=True)
    pd.testing.assert_frame_equal(truth, reference[1])


def test_small_jobs_start_no_processes(monkeypatch):
    monkeypatch.setattr(batches, "_in_processes", lambda make, jobs, processes: processes)
    monkeypatch.setattr(batches, "available_cores", lambda: 6)
    assert not isinstance(lensing.simulate(LABELS, 32), int)
    assert lensing.simulate(["no"] * 16, 32, batch_size=1) == 6
    assert lensing.simulate(["no"] * 16, 32, batch_size=8, workers=5) == 2


def test_images_are_single_band_float32_from_0_to_1(reference):
    images, truth = reference
    assert images.shape == (10, 1, 37, 53)
    assert images.dtype == np.float32
    assert (images.min((1, 2, 3)) == 0.0).all()
    assert (images.max((1, 2, 3)) == 1.0).all()
    assert truth["index"].tolist() == list(range(10))
    assert truth["label"].tolist() == LABELS


@pytest.mark.parametrize("change", [{"seed": 5}, {"difficulty": 3.0}, {"first_index": 3}])
def test_every_option_changes_the_images(reference, change):
    images, truth = gathered(LABELS, (37, 53), **({"seed": 4} | change))
    changed = [not np.array_equal(a, b) for a, b in zip(images, reference[0], strict=True)]
    assert all(was for was, label in zip(changed, LABELS, strict=True) if label != "no" or "difficulty" not in change)
    if "difficulty" in change:
        assert not any(was for was, label in zip(changed, LABELS, strict=True) if label == "no")
        np.testing.assert_allclose(
            np.sum(truth["sub_mass"].tolist()[1]), 1.5 * np.sum(reference[1]["sub_mass"].tolist()[1])
        )


def test_size_changes_the_sampling_and_not_the_sky():
    _, truth = gathered(LABELS[:3], 150, seed=2)
    fine = lensing.render(truth, (150, 150), seed=None).numpy()
    coarse = lensing.render(truth, (75, 75), seed=None).numpy()
    binned = fine.reshape(3, 1, 75, 2, 75, 2).mean((3, 5))
    binned /= binned.max((1, 2, 3), keepdims=True)
    assert np.abs(binned - coarse).mean() < 0.01
    wide = lensing.render(truth, (75, 101), seed=None).numpy()
    np.testing.assert_allclose(wide[..., 13:88], coarse, atol=2e-5)
    assert lensing.pixel_scale((150, 150)) == pytest.approx(0.05)
    assert gathered(["no"], (75, 101))[1]["pixel_scale"].tolist() == [0.1]


def test_a_source_behind_a_round_lens_is_a_ring_of_the_einstein_radius():
    _, truth = gathered(["no"], 32)
    truth = truth.assign(theta_E=1.5, sie_e=0.0, shear=0.0, source_x=0.0, source_y=0.0, source_e=0.0)
    image = lensing.render(truth, (150, 170), seed=None)[0, 0].numpy()
    y, x = np.indices(image.shape)
    radius = np.hypot(y - 74.5, x - 84.5) * 0.05
    profile = [image[np.abs(radius - r) < 0.025].mean() for r in np.arange(0.5, 3.0, 0.05)]
    assert np.arange(0.5, 3.0, 0.05)[np.argmax(profile)] == pytest.approx(1.5, abs=0.051)


@pytest.mark.parametrize("label", ["sphere", "vort"])
def test_without_its_substructure_a_lens_is_the_one_that_has_none(label):
    image, truth = gathered([label], 60, seed=8, first_index=21)
    plain_image, plain_truth = gathered(["no"], 60, seed=8, first_index=21)
    drawn = lensing.render(truth, (60, 60), seed=8).numpy()
    assert np.array_equal(drawn, image)
    assert not np.array_equal(image, plain_image)
    bare = truth.copy()
    for name in ("sub_x", "sub_y", "sub_mass"):
        bare[name] = [[]]
    bare["vort_mass"] = np.nan
    assert np.array_equal(lensing.render(bare, (60, 60), seed=8).numpy(), plain_image)
    same = ["theta_E", "sie_e", "sie_angle", "shear", "shear_angle", "source_x", "source_y", "source_Re", "exposure"]
    pd.testing.assert_frame_equal(truth[same], plain_truth[same])


def test_a_subhalo_changes_the_image_where_the_truth_says():
    _, truth = gathered(["no"], 32, seed=1)
    one = truth.copy()
    # On the arc above the centre, far from everything else.
    one["sub_x"], one["sub_y"], one["sub_mass"] = [[0.3]], [[truth["theta_E"][0]]], [[1e10]]
    with_it, without = (lensing.render(rows, (150, 150), seed=None).numpy()[0, 0] for rows in (one, truth))
    change = np.abs(with_it - without)
    row, column = np.unravel_index(change.argmax(), change.shape)
    assert (column - 74.5) * 0.05 == pytest.approx(0.3, abs=0.3)
    assert (row - 74.5) * 0.05 == pytest.approx(truth["theta_E"][0], abs=0.3)


def test_noise_is_an_option_of_render_and_lists_may_differ_in_length():
    _, truth = gathered(["sphere", "sphere"], 32, seed=3)
    clean, noisy = (lensing.render(truth, (32, 40), seed=seed) for seed in (None, 3))
    assert not torch.equal(clean, noisy)
    fewer = truth.copy()
    for name in ("sub_x", "sub_y", "sub_mass"):
        fewer[name] = [truth[name][0], truth[name][1][:4]]
    found = lensing.render(fewer, (32, 40), seed=3)
    assert torch.equal(found[0], noisy[0])
    assert not torch.equal(found[1], noisy[1])


def test_truth_follows_the_preset():
    rows = pd.DataFrame([lensing.draw_truth(i, lensing.CLASSES[i % 3], 0, 2.0) for i in range(600)])
    ranges = {
        "theta_E": (1.0, 1.6),
        "sie_e": (0, 0.12),
        "shear": (0, 0.2),
        "sie_angle": (0, 6.3),
        "source_Re": (0.4, 0.55),
        "source_n": (1, 1.5),
        "source_e": (0, 0.17),
    }
    for name, (low, high) in ranges.items():
        assert low <= rows[name].min() < low + 0.02 * (high - low), name
        assert high - 0.02 * (high - low) < rows[name].max() <= high, name
    assert (rows["sie_angle"] == rows["shear_angle"]).all()
    assert np.hypot(rows["source_x"], rows["source_y"]).max() <= 0.45
    assert rows["exposure"].between(10**3, 10**3.5).all()
    sphere, vort = (rows[rows["label"] == label] for label in ("sphere", "vort"))
    mass = np.concatenate(sphere["sub_mass"].tolist()) / 2.0
    assert mass.min() > 1e6
    assert mass.max() < 1e10
    assert (mass**0.1).mean() == pytest.approx((1e6**0.1 + 10) / 2, rel=0.01)
    radius = np.hypot(np.concatenate(sphere["sub_x"].tolist()), np.concatenate(sphere["sub_y"].tolist()))
    assert radius.min() > 0.25
    assert radius.max() < 2.0
    assert (sphere["sub_x"].map(len) == 25).all()
    assert (rows.loc[rows["label"] != "sphere", "sub_mass"].map(len) == 0).all()
    assert (vort["vort_mass"] == 6e10).all()
    assert vort["vort_half_length"].between(0.4, 1.5).all()
    assert vort["vort_x"].std() == pytest.approx(0.25, rel=0.2)
    assert rows.loc[rows["label"] != "vort", "vort_mass"].isna().all()


def radial_statistics(images):
    """Mean and deviation of the brightness in 16 rings: what a classifier that sees no structure could use."""
    height, width = images.shape[-2:]
    y, x = np.indices((height, width))
    radius = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) / (min(height, width) / 2)
    ring = np.minimum((radius * 15).astype(int), 15)
    parts = [images[:, 0, ring == k] for k in range(16)]
    return np.stack([f(part) for part in parts for f in (lambda a: a.mean(1), lambda a: a.std(1))], axis=1)


def test_radial_brightness_alone_does_not_sort_the_lenses():
    labels = [lensing.CLASSES[i % 3] for i in range(900)]
    images, _ = gathered(labels, 50, seed=5)
    features, target = radial_statistics(images), np.arange(900) % 3
    model = HistGradientBoostingClassifier(max_iter=60, random_state=0).fit(features[:600], target[:600])
    found = roc_auc_score(target[600:], model.predict_proba(features[600:]), multi_class="ovr")
    assert found < 0.80


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["no", "spere"]}, r"labels\[1\]: 'spere' .* use no, sphere, vort"),
        ({"size": (4, 90)}, "4x90"),
        ({"difficulty": 0.0}, "difficulty"),
        ({"difficulty": float("nan")}, "difficulty"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"workers": 0}, "workers 0"),
        ({"seed": -1}, "seed -1"),
        ({"first_index": -1}, "first_index -1"),
    ],
)
def test_bad_requests_are_refused_at_once(change, message):
    with pytest.raises(SkyclassError, match=message):
        lensing.simulate(**({"labels": ["no"], "size": 32} | change))


def test_no_labels_give_no_chunks():
    assert list(lensing.simulate([], 32)) == []


@pytest.mark.parametrize("size", [(25, 31), (75, 75)])
def test_a_pixel_on_the_very_centre_shows_no_central_image(size: tuple[int, int]) -> None:
    truth = pd.DataFrame([lensing.draw_truth(index, "no", seed=0) for index in range(20)])
    images = lensing.render(truth, size, seed=None)[:, 0].numpy()
    row, column = images.shape[1] // 2, images.shape[2] // 2
    around = images[:, row - 1 : row + 2, column - 1 : column + 2].copy()
    around[:, 1, 1] = 0.0
    assert (images[:, row, column] <= around.max(axis=(1, 2)) * 1.05 + 1e-3).all()
