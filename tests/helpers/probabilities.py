"""Labels and probabilities that are calibrated, or not, by construction."""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax, softmax


def labels_drawn_from(p: np.ndarray, seed: int = 0) -> np.ndarray:
    """Labels (N,) labels_drawn_from from probabilities (N, K): those are calibrated by construction."""
    cuts = p.cumsum(axis=1)[:, :-1]
    return (cuts < np.random.default_rng(seed).random((len(p), 1))).sum(axis=1)


def calibrated_answers(n: int, n_classes: int = 3, seed: int = 0, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """ln p (n, K) and labels labels_drawn_from from p."""
    scores = np.random.default_rng([seed, 1]).normal(size=(n, n_classes)) * spread
    return log_softmax(scores, axis=1), labels_drawn_from(softmax(scores, axis=1), seed)


def sharpened_answers(n: int, n_classes: int, seed: int = 0, sharper: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from probabilities, which are then made too sharp (above 1) or too flat; 1 is calibrated."""
    rng = np.random.default_rng(seed)
    true = rng.dirichlet(np.full(n_classes, 0.7), n)
    labels = (true.cumsum(axis=1) < rng.random(n)[:, None]).sum(axis=1).clip(max=n_classes - 1)
    p = true**sharper
    return labels, p / p.sum(axis=1, keepdims=True)
