"""Gradient checkpointing (Chen et al. 2016, arXiv:1604.06174): blocks keep their input alone, and run again backwards.

The second run must leave no trace: random numbers repeat, and batch normalisations do not count the batch twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..core.errors import SkyclassError
from .network import Network


def checkpoint_blocks(network: Network) -> int:
    """Let the backbone's residual blocks compute their activations again in the backward pass; returns how many.

    The gradients, outputs and buffers stay what they were. It acts in training mode with gradients only, and adapters
    are put in before or after it.
    Errors: SkyclassError for a backbone in which no block is found.
    """
    blocks = residual_blocks(network.backbone)
    for block in blocks:
        # A bound method, so that a copy of the block runs its own layers.
        block.forward = MethodType(_checkpointed, block)
    if not blocks:
        what, fix = "no residual blocks were found in this backbone", "set training.gradient_checkpointing=false"
        raise SkyclassError(what, where="training.gradient_checkpointing", fix=fix)
    return len(blocks)


def residual_blocks(backbone: nn.Module) -> list[nn.Module]:
    """The innermost modules of two weighted layers or more in sequence: in a Sequential, a list or a stage."""
    rows = [
        module
        for module in backbone.modules()
        if isinstance(module, nn.Sequential | nn.ModuleList) or type(module).__name__.endswith("Stage")
    ]
    candidates = [
        module
        for row in rows
        for module in row.children()
        if not isinstance(module, nn.Sequential | nn.ModuleList) and _n_weighted(module) >= 2
    ]
    return [one for one in candidates if not any(other is not one and other in one.modules() for other in candidates)]


def _n_weighted(module: nn.Module) -> int:
    return sum(isinstance(one, nn.Conv2d | nn.Linear) for one in module.modules())


def _checkpointed(block: nn.Module, *inputs: Any, **options: Any) -> Any:
    """The block's own `forward`, with only its input kept until the backward pass."""
    forward = partial(type(block).forward, block)
    if not (block.training and torch.is_grad_enabled()):
        return forward(*inputs, **options)
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=partial(_contexts, block), **options)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """What surrounds the first run and the second."""
    return nullcontext(), _statistics_held(block)


@contextmanager
def _statistics_held(block: nn.Module) -> Iterator[None]:
    """A batch that comes by again leaves the running statistics as they are."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
