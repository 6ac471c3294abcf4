"""The modules of a backbone by their names, such as `layer3` or `blocks.4`."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ..errors import SkyclassError, did_you_mean
from .network import Network


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


def stages(network: Network) -> list[str]:
    """The modules after which the feature map has another size, by timm's `feature_info`, from the images on.

    Empty for a backbone that does not tell.
    """
    told = getattr(network.backbone, "feature_info", None) or ()
    return [str(one["module"]) for one in told]
