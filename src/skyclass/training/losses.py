"""Losses: logits (N, K) and labels (N,) to one number."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import SkyclassError
from ..recipe import TrainingRecipe

Loss = Callable[[Tensor, Tensor, Tensor | None, TrainingRecipe], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None, recipe: TrainingRecipe) -> Tensor:
    """Mean cross-entropy with class weights (K,) and label smoothing."""
    return F.cross_entropy(logits, labels, weights, label_smoothing=recipe.label_smoothing)


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy}


def class_weights(labels: np.ndarray, classes: list[str], how: str) -> Tensor | None:
    """Weights (K,) of mean one over the training images, from their labels (N,) as class indices; None for `none`.

    balanced: N / (K n_c), as scikit-learn's; sqrt: its square root, which leaves rare classes some of their rarity.
    Errors: SkyclassError for a class without a training image.
    """
    counts = np.bincount(labels, minlength=len(classes)).astype(np.float64)
    for name, count in zip(classes, counts, strict=True):
        if count == 0:
            fix = f"add images, or leave the class out with --set 'data.exclude=[\"{name}\"]'"
            raise SkyclassError(f"class {name!r} has no training image", where="training split", fix=fix)
    if how == "none":
        return None
    weights = len(labels) / (len(classes) * counts)
    if how == "sqrt":
        weights = np.sqrt(weights)
    mean = float((weights * counts).sum() / counts.sum())
    return torch.tensor(weights / mean, dtype=torch.float32)
