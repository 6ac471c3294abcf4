"""The network: a backbone, a head for the classes, and perhaps one for the chance of an error."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, NamedTuple

import timm
from torch import Tensor, nn

from ..core.errors import SkyclassError, did_you_mean, one_line
from ..recipes.model_settings import ModelSettings
from .heads import HEADS, Head, error_head
from .resnet_cifar import resnet20_cifar


def check_names(network: Network, names: Collection[str], where: str) -> None:
    """Errors: SkyclassError for a name that no module of the backbone has, with the nearest that one has."""
    modules = [name for name, _ in network.backbone.named_modules() if name]
    for name in names:
        if name not in modules:
            children = [child for child, _ in network.backbone.named_children()]
            hint = did_you_mean(name, modules) or f"it has {', '.join(children)}"
            raise SkyclassError(f"the backbone has no module {name!r}", where=where, fix=hint)


def inside(name: str, modules: Iterable[str]) -> bool:
    """Whether the module of this name is one of `modules` or lies in one; the empty name is the whole backbone."""
    return any(not module or name == module or name.startswith(f"{module}.") for module in modules)


def backbone_stages(network: Network) -> list[str]:
    """The modules after which the feature map has another size, by timm's `feature_info`, from the images on.

    Empty for a backbone without it.
    """
    stages = getattr(network.backbone, "feature_info", None) or ()
    return [str(one["module"]) for one in stages]


BATCH = 64
"""Images computed at a time, unless another number is asked for."""

OWN_BACKBONES: dict[str, Callable[[int], nn.Module]] = {"resnet20_cifar": resnet20_cifar}


class NetworkOutput(NamedTuple):
    """The output of a network for a batch."""

    logits: Tensor
    """(N, K) class scores in float32."""
    error_logits: Tensor | None
    """(N,) logits in float32 of the chance that the class with the highest score is wrong, where the network has an
    uncertainty head."""


class Network(nn.Module):
    """A backbone and its heads: `features` makes the map, `head_output` the class scores and the error logits.

    error_head : the uncertainty head, if there is one. Files of Skyclass 0.1 name it `doubt`

    frozen : names of the backbone's modules that are not trained
    still : names of the backbone's modules that stay in `eval()`: their statistics do not move
    adapted : names of the backbone's layers that have low-rank adapters
    """

    def __init__(self, backbone: nn.Module, head: Head, error_head: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.error_head = error_head
        self.frozen: tuple[str, ...] = ()
        self.still: tuple[str, ...] = ()
        self.adapted: tuple[str, ...] = ()
        self.register_load_state_dict_pre_hook(_rename_error_head)

    def features(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, F, h, w), the last feature map of the backbone."""
        backbone: Any = self.backbone  # of timm
        features: Tensor = backbone.forward_features(images)
        return features

    def head_output(self, features: Tensor) -> NetworkOutput:
        """(N, F, h, w) -> the logits of the classes and of an error. Errors: SkyclassError of the heads."""
        refined = self._refined(features)
        logits = self.head.score(refined).float()
        error_logits = None if self.error_head is None else self.error_head(refined)[:, 0].float()  # (N, 1) -> (N,)
        return NetworkOutput(logits, error_logits)

    def classify(self, features: Tensor) -> Tensor:
        """(N, F, h, w) -> (N, K) logits in float32."""
        return self.head.score(self._refined(features)).float()

    def pooled(self, features: Tensor) -> Tensor:
        """(N, F, h, w) -> (N, G), what the backbone itself pools of its map, whatever the head takes."""
        backbone: Any = self.backbone
        pooled: Tensor = backbone.forward_head(features, True)
        return pooled

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K) logits in float32."""
        return self.classify(self.features(images))

    def train(self, mode: bool = True) -> Network:
        """As `nn.Module.train`, but what is frozen keeps its running statistics: it stays in `eval()`."""
        super().train(mode)
        for name in self.still:
            self.backbone.get_submodule(name).eval()
        return self

    def _refined(self, features: Tensor) -> Tensor:
        x = features if self.head.takes_map else self.pooled(features)  # (N, G)
        return self.head.refine(x)


def _rename_error_head(network: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Rename the tensors of the uncertainty head, which Skyclass 0.1 wrote as `doubt`."""
    old = f"{prefix}doubt."
    for name in [name for name in state if name.startswith(old)]:
        state[f"{prefix}error_head.{name.removeprefix(old)}"] = state.pop(name)


def build_network(settings: ModelSettings, n_bands: int, n_classes: int, architecture: str | None = None) -> Network:
    """A network with random weights.

    `architecture` is the plain timm name behind an `hf_hub:` backbone, so that a saved classifier needs no network.
    Errors: SkyclassError for a backbone that timm does not know, with near names.
    """
    name = architecture or settings.backbone
    if name in OWN_BACKBONES:
        backbone = OWN_BACKBONES[name](n_bands)
    else:
        check_backbone(name)
        backbone = _timm_backbone(name, n_bands)
    head = HEADS[settings.head](_n_features(backbone, settings.head), n_classes, settings.dropout)
    return Network(backbone, head, error_head(head.n_refined, settings.dropout) if settings.uncertainty else None)


def _n_features(backbone: Any, head: str) -> int:
    """Channels of the map, or of what the backbone pools from it, which some families widen on the way."""
    pooled = getattr(backbone, "head_hidden_size", None) or backbone.num_features
    return int(backbone.num_features if HEADS[head].takes_map else pooled)


def _timm_backbone(name: str, n_bands: int) -> nn.Module:
    try:
        backbone: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, in_chans=n_bands)
    except Exception as error:  # the Hub client raises its own family of network errors
        if not name.startswith("hf_hub:"):
            raise
        what = f"{name} could not be read from the Hub ({one_line(error)[:100]})"
        fix = "take a timm name, and a local file of weights: skyclass train RECIPE PACK --set model.weights=FILE"
        raise SkyclassError(what, where="model.backbone", fix=fix) from None
    return backbone


def check_backbone(name: str) -> None:
    """Errors: SkyclassError where neither timm nor Skyclass has a backbone of that name."""
    if name.startswith("hf_hub:") or name in OWN_BACKBONES or timm.is_model(name):
        return
    near = timm.list_models(f"*{name.split('_')[0][:6]}*")[:5]
    hint = f"near names are {', '.join(near)}" if near else "timm.list_models() lists the names"
    raise SkyclassError(f"no backbone is called {name!r}", where="model.backbone", fix=hint)


def architecture_of(network: Network, settings: ModelSettings) -> str:
    """The name that rebuilds this backbone without a network."""
    if settings.backbone in OWN_BACKBONES:
        return settings.backbone
    config: Any = getattr(network.backbone, "pretrained_cfg", None) or {}
    return str(config.get("architecture", settings.backbone))
