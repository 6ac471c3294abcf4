"""Novelty: the distance of an image from the training images, by the features before the head.

The features of each class are taken for a Gaussian about the class's mean, all with one covariance; an image's distance
is that to the nearest class in units of this covariance, the Mahalanobis distance of Lee et al. 2018 (arXiv:1807.03888,
section 2.1). The covariance is shrunk towards a sphere (Ledoit & Wolf 2004, Journal of Multivariate Analysis 88, 365),
so that it can be inverted for fewer images than features, and for features that never light up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.linalg import solve_triangular
from sklearn.covariance import ledoit_wolf

QUANTILE = 0.99
"""Share of the validation images that are less far than the limit."""
MOST_IMAGES = 20_000
"""Training images that the Gaussians are fitted to, at most."""


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Those of one network's features.

    means : (k, F) float32, of the classes that have training images, in whitened coordinates
    whitening : (F, F) float32; features (n, F) times it have unit covariance within the classes
    """

    means: np.ndarray
    whitening: np.ndarray

    def distances(self, features: np.ndarray) -> np.ndarray:
        """(n,) float32 Mahalanobis distances of features (n, F) to the nearest class's mean."""
        white = features @ self.whitening  # (n, F)
        nearest = [np.linalg.norm(white - mean, axis=1) for mean in self.means]
        return np.asarray(np.min(nearest, axis=0))


def fit_gaussians(features: np.ndarray, labels: np.ndarray) -> Gaussians:
    """features : (N, F) of training images; labels : (N,) integers."""
    found, place = np.unique(labels, return_inverse=True)
    x = features.astype(np.float64)
    means = np.stack([x[place == k].mean(axis=0) for k in range(len(found))])  # (k, F)
    covariance, _ = ledoit_wolf(x - means[place], assume_centered=True)
    # Where nothing varies at all, any covariance serves: the distance is that of an image that does.
    floor = max(1e-6 * np.trace(covariance) / len(covariance), 1e-12)
    lower = np.linalg.cholesky(covariance + floor * np.eye(len(covariance)))  # covariance = lower lower^T
    whitening = solve_triangular(lower, np.eye(len(lower)), lower=True).T  # its inverse = whitening whitening^T
    return Gaussians((means @ whitening).astype(np.float32), whitening.astype(np.float32))


@dataclass(frozen=True, eq=False)
class Novelty:
    """The Gaussians of each network of a classifier, and what is far.

    limit : the distance that a share `QUANTILE` of the validation images stays below; 1 until it is known
    n_train, n_val : images that both were taken from
    """

    gaussians: Sequence[Gaussians] = field(repr=False)
    limit: float = 1.0
    n_train: int = 0
    n_val: int = 0

    def score(self, features: np.ndarray) -> np.ndarray:
        """(n,) float64: the mean distance over the networks in units of the limit, above 1 where unlike the training.

        features : (M, n, F), of each network
        """
        every = [own.distances(x) for own, x in zip(self.gaussians, features, strict=True)]
        return np.asarray(np.mean(every, axis=0, dtype=np.float64) / self.limit)

    def limited(self, distances: np.ndarray) -> Novelty:
        """The same with the limit that the distances (n,), n > 0, of the validation images give."""
        limit = max(float(np.quantile(distances, QUANTILE)), 1e-12)
        return replace(self, limit=limit, n_val=len(distances))


def fit_novelty(features: np.ndarray, labels: np.ndarray) -> Novelty:
    """features : (M, N, F) of training images, of each network; labels : (N,) integers. The limit is still to come."""
    return Novelty([fit_gaussians(own, labels) for own in features], n_train=len(labels))
