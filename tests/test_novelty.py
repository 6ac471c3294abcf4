"""The distance of an image from all that a classifier has seen, against scikit-learn's Mahalanobis distance."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from skyclass.evaluation.novelty import Gaussians, fit_gaussians, fit_novelty


def features_of(n: int, seed: int, n_classes: int = 3, n_features: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian classes with correlated features of very different spread."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    mixing = np.random.default_rng(0).normal(size=(n_features, n_features)) * np.logspace(-2, 1, n_features)
    centres = np.random.default_rng(1).normal(0, 20, (n_classes, n_features))
    return (random.normal(size=(n, n_features)) @ mixing + centres[labels]).astype(np.float32), labels


def test_distances_are_scikit_learns() -> None:
    x, labels = features_of(300, seed=2)
    new, _ = features_of(40, seed=3)
    means = np.stack([x[labels == k].mean(axis=0, dtype=np.float64) for k in range(3)])
    oracle = LedoitWolf(assume_centered=True).fit(x - means[labels])
    expected = np.sqrt(np.min([oracle.mahalanobis(new - mean) for mean in means], axis=0))
    np.testing.assert_allclose(fit_gaussians(x, labels).distances(new), expected, rtol=2e-3)


def test_fewer_images_than_features_and_features_that_never_light_up() -> None:
    x, labels = features_of(20, seed=2, n_features=40)
    x[:, 7] = 0.0
    fitted = fit_gaussians(x, labels)
    near, far = x[:1].copy(), x[:1].copy()
    far[0, 7] = 1e3
    assert np.isfinite(fitted.distances(x)).all()
    assert fitted.distances(far) > 3 * fitted.distances(near)


def test_features_that_do_not_vary_leave_a_finite_distance() -> None:
    ones = np.ones((1, 6, 4), np.float32)
    fitted = fit_novelty(ones, np.arange(6) % 2)
    fitted = fitted.limited(fitted.score(ones))
    assert np.isfinite(fitted.score(np.ones((1, 2, 4), np.float32))).all()
    assert (fitted.score(2 * np.ones((1, 2, 4), np.float32)) > 1).all()


def test_a_class_without_training_images_has_no_mean() -> None:
    x, labels = features_of(60, seed=2)
    some = labels != 1
    assert fit_gaussians(x[some], labels[some]).means.shape == (2, 6)
    assert fit_gaussians(x[some], labels[some]).distances(x[labels == 1]).min() > 3


def test_one_in_a_hundred_validation_images_is_beyond_the_limit() -> None:
    (x, labels), (val, _), (new, _) = (features_of(n, seed) for n, seed in ((900, 2), (1000, 3), (5000, 4)))
    fitted = fit_novelty(x[None], labels)
    fitted = fitted.limited(fitted.score(val[None]))
    assert (fitted.score(val[None]) > 1).sum() == 10
    assert (fitted.score(new[None]) > 1).mean() == pytest.approx(0.01, abs=0.006)
    assert (fitted.score(new[None] + 50.0) > 1).all()
    assert (fitted.n_train, fitted.n_val) == (900, 1000)


def test_an_ensembles_distance_is_the_mean_of_its_members() -> None:
    x, labels = features_of(90, seed=2)
    both = np.stack([x, np.tanh(x)])
    fitted = fit_novelty(both, labels)
    one, other = (own.distances(seen) for own, seen in zip(fitted.gaussians, both, strict=True))
    np.testing.assert_allclose(fitted.score(both), (one + other) / 2, rtol=1e-6)
    assert all(isinstance(own, Gaussians) for own in fitted.gaussians)
