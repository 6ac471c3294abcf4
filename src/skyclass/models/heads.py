"""What turns pooled features (N, F) into class scores (N, K)."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def linear(n_features: int, n_classes: int, dropout: float) -> nn.Module:
    """Dropout and one linear layer."""
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(n_features, n_classes))


HEADS: dict[str, Callable[[int, int, float], nn.Module]] = {"linear": linear}
