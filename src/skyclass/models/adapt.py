"""Which part of a backbone is trained."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..errors import SkyclassError, did_you_mean
from .network import Network


def freeze(network: Network, names: Sequence[str]) -> None:
    """Take the backbone's modules of these names out of the training: no gradient, and `eval()` for good.

    Errors: SkyclassError for a name that the backbone does not have.
    """
    modules = dict(network.backbone.named_modules())
    for name in names:
        if name not in modules:
            children = [child for child, _ in network.backbone.named_children()]
            hint = did_you_mean(name, modules) or f"it has {', '.join(children)}"
            raise SkyclassError(f"the backbone has no module {name!r}", where="model.freeze", fix=hint)
        modules[name].requires_grad_(False)
    network.frozen = tuple(names)
    network.train(network.training)


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """(trained, all) numbers of parameters."""
    total = sum(parameter.numel() for parameter in module.parameters())
    trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    return trained, total


def describe_trained(network: Network) -> str:
    """One line: how many parameters are trained, and what is frozen."""
    trained, total = count_parameters(network)
    frozen = f"; frozen: {', '.join(network.frozen)}" if network.frozen else ""
    return f"Training {trained:,} of {total:,} parameters ({trained / total:.1%}){frozen}"
