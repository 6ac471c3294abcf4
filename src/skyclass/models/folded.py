"""Batch normalisations that were folded into their convolutions, set apart again so that they can be trained.

Weights exported for inference often hold identities where the batch normalisations were: mean 0, variance 1, gain 1.
In evaluation such a network is right, but a training step would normalise what is normalised already, and throw the
pretrained function away. Given some images, each identity is replaced by a normalisation with the statistics that its
input really has and a gain and bias that undo it: the same function, and one that training mode leaves as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def folded_norms(module: nn.Module, loaded: Collection[str]) -> list[_BatchNorm]:
    """The batch normalisations that were loaded as identities up to their bias; those at random are identities too."""
    return [
        one
        for name, one in module.named_modules()
        if isinstance(one, _BatchNorm) and f"{name}.running_mean" in loaded and _is_identity(one)
    ]


def _is_identity(norm: _BatchNorm) -> bool:
    if norm.running_mean is None or norm.running_var is None or norm.weight is None:
        return False
    # An export writes a variance or a gain a little off 1 to make up for epsilon.
    gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    flat = bool((norm.running_var == norm.running_var[0]).all()) and bool(((gain - 1).abs() < 1e-4).all())
    return flat and bool((norm.running_mean == 0).all())


def set_apart(backbone: nn.Module, loaded: Collection[str], images: Tensor) -> int:
    """Replace the folded batch normalisations of `backbone`; returns how many there were.

    loaded : names of the tensors that came from a file
    images : (N, C, H, W) network input, some dozens of training images
    """
    norms = folded_norms(backbone, loaded)
    if not norms:
        return 0
    measured: dict[_BatchNorm, tuple[Tensor, Tensor]] = {}

    def measuring(norm: _BatchNorm) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            x = inputs[0].float()
            measured[norm] = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), unbiased=False)  # (N, F, h, w) -> (F,)

        return hook

    hooks = [norm.register_forward_pre_hook(measuring(norm)) for norm in norms]
    training = backbone.training
    try:
        with torch.no_grad():
            backbone.eval()(images)
    finally:
        backbone.train(training)
        for hook in hooks:
            hook.remove()
    for norm, (mean, variance) in measured.items():
        _replace(norm, mean, variance)
    return len(measured)


@torch.no_grad()
def _replace(norm: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """x + bias, written as gain (x - mean) / deviation + (bias + mean)."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_(torch.sqrt(variance + norm.eps))
    norm.bias.add_(mean)
