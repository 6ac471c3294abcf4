"""Which part of a network is trained: frozen modules, low-rank adapters, and parts with learning rates of their own.

A low-rank adapter (Hu et al. 2022, arXiv:2106.09685, equation 3) adds the product of two thin matrices to a layer's
frozen weights, W + alpha / rank * B A. PEFT puts the adapters in and computes the sum; `merge_lora` leaves a plain
network. alpha is divided by the layer's own rank, also where it has another one than the rest: so the size of an update
hardly depends on the rank (section 4.1).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

from timm.layers import Conv2dSame, RmsNorm
from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ..core.errors import SkyclassError
from ..recipes.model_settings import LoraSettings, ModelSettings
from .network import Network, check_names, inside

logger = logging.getLogger(__name__)

PARTS = ("early", "middle", "late", "head")
NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, RmsNorm)
ADAPTABLE = (nn.Linear, nn.Conv2d, Conv2dSame)


def adapt(network: Network, settings: ModelSettings) -> None:
    """Freeze, or put in low-rank adapters, as the settings require; the head is always trained.

    Errors: SkyclassError for a name that the backbone does not have, or that holds nothing to adapt.
    """
    if settings.lora is None:
        freeze(network, settings.freeze)
    else:
        add_lora(network, settings.lora)


def freeze(network: Network, names: Sequence[str]) -> None:
    """Take the backbone's modules of these names out of the training: no gradient, and `eval()` for good.

    Errors: SkyclassError for a name that the backbone does not have.
    """
    check_names(network, names, "model.freeze")
    for name in names:
        network.backbone.get_submodule(name).requires_grad_(False)
    network.frozen = network.still = tuple(names)
    network.train(network.training)


def add_lora(network: Network, settings: LoraSettings) -> None:
    """Freeze the backbone and put low-rank adapters on its convolutions and linear layers.

    Layers that have no such adapter stay frozen, and are logged: grouped and dilated convolutions, and those that
    reparametrise their weights.
    Errors: SkyclassError for a name that the backbone does not have, or that holds nothing to adapt.
    """
    from peft import LoraConfig, inject_adapter_in_model  # seconds to import

    layers = _layers_to_adapt(network, settings)
    ranks = {name: rank for name in layers if (rank := _rank_of(name, settings)) != settings.rank}
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # PEFT only divides it
        lora_dropout=settings.dropout,
        target_modules="|".join(re.escape(name) for name in layers),  # matched whole
        rank_pattern={f"^{re.escape(name)}": rank for name, rank in ranks.items()},
    )
    backbone = network.backbone.requires_grad_(False)
    inject_adapter_in_model(config, backbone)
    norms = [name for name, module in backbone.named_modules() if isinstance(module, NORMS)]
    for name in (*settings.train_also, *(norms if settings.train_norms else ())):
        backbone.get_submodule(name).requires_grad_(True)
    kept = () if settings.train_norms else tuple(name for name in norms if not inside(name, settings.train_also))
    network.adapted, network.still = tuple(layers), kept
    network.train(network.training)


def _layers_to_adapt(network: Network, settings: LoraSettings) -> list[str]:
    """Names of the backbone's layers that get an adapter."""
    for key in ("targets", "ranks", "train_also"):
        check_names(network, getattr(settings, key), f"model.lora.{key}")
    weighted = {
        name: module
        for name, module in network.backbone.named_modules()
        if isinstance(module, ADAPTABLE) and not inside(name, settings.train_also)
    }
    able = [name for name, module in weighted.items() if _adaptable(module)]
    wanted = settings.targets or ("",)
    layers = [name for name in able if inside(name, wanted)]
    for key, parts, among in (("targets", wanted, able), ("ranks", settings.ranks, layers)):
        for part in parts:
            if not any(inside(name, [part]) for name in among):
                what = f"no layer of {part or 'the backbone'} {'gets' if key == 'ranks' else 'can have'} an adapter"
                fix = f"choose among {_first_names([name for name in among if name != part])}"
                raise SkyclassError(what, where=f"model.lora.{key}", fix=fix)
    skipped = [name for name in weighted if inside(name, wanted) and name not in layers]
    if skipped:
        logger.warning(
            f"No adapters for {len(skipped)} grouped, dilated or reparametrised layers: {_first_names(skipped)}"
        )
    return layers


def _adaptable(module: nn.Module) -> bool:
    """Whether an adapter is the same linear map in other clothes: its product can be added to the layer's weights."""
    if type(module) is nn.Linear:
        return True
    if type(module) not in ADAPTABLE or not isinstance(module, nn.Conv2d):
        return False
    return module.groups == 1 and set(module.dilation) == {1} and module.padding_mode == "zeros"


def _rank_of(layer: str, settings: LoraSettings) -> int:
    """The rank of the longest name in `ranks` that the layer lies in, else the general one."""
    names = [name for name in settings.ranks if inside(layer, [name])]
    return settings.ranks[max(names, key=len)] if names else settings.rank


def merge_lora(network: Network) -> bool:
    """Add every adapter to the weights below it and put the plain layers back; False where there was none.

    The output stays the same (in `eval()`), and the names of the tensors are those of the plain network. Everything can
    be trained again.
    """
    if not network.adapted:
        return False
    for name in network.adapted:
        layer: Any = network.backbone.get_submodule(name)
        base, device = layer.get_base_layer(), layer.weight.device
        layer.cpu().merge()  # a GPU would round the product of a convolution, which is one itself, to TF32
        parent, _, child = name.rpartition(".")
        setattr(network.backbone.get_submodule(parent), child, base.to(device))
    network.adapted = network.still = ()
    network.requires_grad_(True)
    network.train(network.training)
    return True


def parameter_groups(network: Network) -> dict[str, list[nn.Parameter]]:
    """The trained parameters by part: early, middle, late and head; a part in which nothing is trained is left out.

    The backbone's parts are thirds of timm's coarse grouping: group g of G (stem, stages, ...) is in third
    floor(3 g / G).
    Errors: SkyclassError for a backbone that has no such grouping.
    """
    matcher = getattr(network.backbone, "group_matcher", None)
    if matcher is None:
        what, fix = "this backbone cannot be divided into parts", "leave training.rates empty"
        raise SkyclassError(what, where="training.rates", fix=fix)
    names = group_parameters(network.backbone, matcher(coarse=True))
    part_of = {name: PARTS[3 * g // len(names)] for g, group in names.items() for name in group}
    parts: dict[str, list[nn.Parameter]] = {part: [] for part in PARTS}
    for name, parameter in network.named_parameters():
        inside = name.removeprefix("backbone.")
        part = part_of[inside] if inside != name else "head"
        if parameter.requires_grad:
            parts[part].append(parameter)
    return {part: parameters for part, parameters in parts.items() if parameters}


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """(trained, all) numbers of parameters; adapters are not among all, for they vanish in the weights."""
    named = list(module.named_parameters())
    total = sum(parameter.numel() for name, parameter in named if ".lora_" not in name)
    trained = sum(parameter.numel() for _, parameter in named if parameter.requires_grad)
    return trained, total


def describe_trained(network: Network) -> str:
    """One line: how many parameters are trained, as a share of the plain network, and what is frozen or adapted."""
    trained, total = count_parameters(network)
    note = f"; frozen: {', '.join(network.frozen)}" if network.frozen else ""
    if network.adapted:
        note = f"; low-rank adapters on {len(network.adapted)} layers"
    return f"Training {trained:,} of {total:,} parameters ({trained / total:.1%}){note}"


def _first_names(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
