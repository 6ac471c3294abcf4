"""Batch normalisations that were folded into their convolutions, set apart again so that they can be trained.

Weights exported for inference often hold identities where the batch normalisations were: mean 0, variance 1, gain 1.
In evaluation such a network is right, but a training step would normalise what is normalised already, and throw the
pretrained function away. Given some images, each identity is replaced by a normalisation with the statistics that its
input really has and a gain and bias that undo it: the same function, and one that training mode leaves as it is.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode

from .network import inside


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


def unfold_batchnorm(backbone: nn.Module, loaded: Collection[str], images: Tensor) -> int:
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


Module = TypeVar("Module", bound=nn.Module)

CONVOLUTIONS = (nn.Conv2d, Conv2dSame)  # and no subclass, which may change its weights on the way
TOLERANCE = 1e-3  # of the largest logit: what rounding cannot explain


class _Uses(TorchFunctionMode):
    """Counts the functions that compute anything of each tensor; keeps the tensors, so that no id is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[int] = Counter()
        self.kept: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor | tuple | list) and not isinstance(result, torch.Size):
            flat = [one for arg in (*args, *(kwargs or {}).values()) for one in (arg if _is_list(arg) else (arg,))]
            taken = [one for one in flat if isinstance(one, Tensor)]
            self.counts.update(id(one) for one in taken)
            self.kept += taken
        return result


@torch.no_grad()
def folded(network: Module, image: Tensor, keep: str | None = None) -> Module:
    """A copy of a network in eval mode whose batch normalisations are folded, as many as can be.

    image : (1, C, H, W) network input that shows which normalisation follows which convolution, and that the copy
        gives the same scores; where it does not, the network itself is returned
    keep : name of a module that shall be there in the copy, and give what it gave
    """
    fast = copy.deepcopy(network)
    for convolution, norm in _pairs(fast, image):
        if keep is not None and _changes(keep, convolution, norm):
            continue
        _fold(fast.get_submodule(convolution), fast.get_submodule(norm))
        place, _, name = norm.rpartition(".")
        setattr(fast.get_submodule(place), name, _rest(fast.get_submodule(norm)))
    expected, found = network(image), fast(image)
    is_same = (found - expected).abs().max() <= TOLERANCE * expected.abs().max()
    return fast if bool(is_same) else network


def _pairs(network: nn.Module, image: Tensor) -> list[tuple[str, str]]:
    """Names of each convolution and the normalisation that alone takes its result."""
    made: dict[int, str] = {}
    pairs: list[tuple[str, str, Tensor]] = []
    calls: Counter[str] = Counter()

    def after(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            calls[name] += 1
            made[id(output)] = name

        return hook

    def before(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            calls[name] += 1
            if id(inputs[0]) in made:
                pairs.append((made[id(inputs[0])], name, inputs[0]))

        return hook

    hooks = []
    for name, module in network.named_modules():
        if type(module) in CONVOLUTIONS:
            hooks.append(module.register_forward_hook(after(name)))
        elif type(module) in (nn.BatchNorm2d, BatchNormAct2d) and module.running_mean is not None:
            hooks.append(module.register_forward_pre_hook(before(name)))
    try:
        with _Uses() as uses:
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        (one, other) for one, other, tensor in pairs if uses.counts[id(tensor)] == 1 and calls[one] == calls[other] == 1
    ]


def _fold(convolution: Any, norm: Any) -> None:
    statistics = (norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)
    convolution.weight, convolution.bias = fuse_conv_bn_weights(convolution.weight, convolution.bias, *statistics)


def _rest(norm: nn.Module) -> nn.Module:
    """What a normalisation still does: timm's have the activation in them."""
    return nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()


def _changes(layer: str, convolution: str, norm: str) -> bool:
    """Whether this pair, folded, would leave the module `layer` with another output, or without its name."""
    parted = inside(convolution, [layer]) and not inside(norm, [layer])
    return parted or (layer != norm and inside(layer, [norm]))


def _is_list(value: Any) -> bool:
    return isinstance(value, tuple | list)
