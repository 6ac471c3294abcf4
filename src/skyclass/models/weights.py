"""Weights to start from: ImageNet through timm, a local file, or another classifier."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import timm
import torch
from huggingface_hub import constants, try_to_load_from_cache
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import SkyclassError, one_line
from ..recipe import ModelRecipe
from ..replacing import finish_replacing
from .network import OWN_BACKBONES, Network

OFFLINE = (
    "give a local file with --set model.weights=FILE (safetensors or a torch state dict), "
    "or start at random with --set model.weights=none"
)


@dataclass(frozen=True)
class LoadedWeights:
    """Tensor names: loaded, skipped (no such tensor here, or another shape) and missing (still random).

    stem : how the first convolution was adapted to another number of bands, or None
    """

    source: str
    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    missing: tuple[str, ...]
    stem: str | None

    def __str__(self) -> str:
        """Two or three lines for the person who trains."""
        stem = f"; stem: {self.stem}" if self.stem else ""
        lines = [f"Weights from {self.source}: {len(self.loaded)} tensors loaded{stem}"]
        for word, names in (("skipped", self.skipped), ("missing, left at random", self.missing)):
            if names:
                shown = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
                lines.append(f"  {word}: {len(names)} ({shown})")
        return "\n".join(lines)


def load_weights(network: Network, recipe: ModelRecipe, n_bands: int) -> LoadedWeights | None:
    """Fill the backbone as `model.weights` says; None when it says `none`.

    Errors: SkyclassError that names the offline way where a download fails, and the file where one cannot be used.
    """
    if recipe.weights == "none":
        return None
    if recipe.weights == "imagenet":
        state, source = _download(recipe), f"timm's pretrained {recipe.backbone}"
    else:
        state, source = read_state(Path(recipe.weights).expanduser()), recipe.weights
    return fill(network.backbone, state, source, n_bands)


def fill(backbone: nn.Module, state: dict[str, Tensor], source: str, n_bands: int) -> LoadedWeights:
    """Copy what fits of `state` into `backbone`, adapting its first convolution to `n_bands`.

    Errors: SkyclassError when nothing fits.
    """
    own = backbone.state_dict()
    stem_note = _adapt_stem(backbone, own, state, n_bands)
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if not any(value.ndim > 1 for value in fitting.values()):
        fix = "check that model.backbone is the architecture of that file"
        raise SkyclassError("none of its tensors fit the backbone", where=source, fix=fix)
    backbone.load_state_dict(fitting, strict=False)
    return LoadedWeights(
        source=source,
        loaded=tuple(fitting),
        skipped=tuple(name for name in state if name not in fitting),
        missing=tuple(name for name in own if name not in fitting and not name.endswith("num_batches_tracked")),
        stem=stem_note,
    )


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, a `weights_only` torch file, or a classifier's or run's folder.

    Prefixes that wrappers leave (`module.`, `model.`, `backbone.`) are removed.
    Errors: SkyclassError for a missing file, a damaged one, or one that holds pickled objects.
    """
    if path.is_dir():
        for folder in (path, path / "classifier"):
            finish_replacing(folder)
        inside = [path / "model.safetensors", path / "classifier" / "model.safetensors"]
        path = next((file for file in inside if file.is_file()), path)
    if not path.is_file():
        raise SkyclassError("no such weight file", where=path, fix="give the path of a safetensors or torch file")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise SkyclassError(f"damaged safetensors file: {error}", where=path, fix="copy it again") from None
    except Exception as error:  # torch.load raises many types for a foreign or pickled file
        fix = "save its state_dict() with safetensors.torch.save_file"
        raise SkyclassError(f"not a file of plain tensors ({one_line(error)[:80]})", where=path, fix=fix) from None
    return _plain_names(state, path)


def _plain_names(state: object, path: Path) -> dict[str, Tensor]:
    while isinstance(state, dict) and not any(isinstance(value, Tensor) for value in state.values()):
        state = next((state[key] for key in ("state_dict", "model", "model_state_dict") if key in state), None)
    if not isinstance(state, dict):
        raise SkyclassError("it holds no tensors", where=path, fix="save the network's state_dict()")
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    for prefix in ("module.", "network.", "model.", "backbone."):
        if any(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _adapt_stem(backbone: nn.Module, own: dict[str, Tensor], state: dict[str, Tensor], n_bands: int) -> str | None:
    """Adapt the first convolution in `state` to `n_bands` where it has another number; returns what was done."""
    config = getattr(backbone, "pretrained_cfg", None) or {}
    names = config.get("first_conv") or "conv1"
    done = None
    for stem in (names,) if isinstance(names, str) else names:
        key = f"{stem}.weight"
        # Where a stem rearranges pixels into bands, its inputs are not the image's bands: it is reported as skipped.
        if key not in own or key not in state or state[key].ndim != 4 or own[key].shape[1] != n_bands:
            continue
        if state[key].shape[1] != n_bands:
            state[key], done = adapt_bands(state[key], n_bands)
    return done


def adapt_bands(weight: Tensor, n_bands: int) -> tuple[Tensor, str]:
    """A convolution's weights (F, C, h, w) for `n_bands` inputs, and what was done in words.

    The rule of timm's adapt_input_conv for any C: for one band they are summed; for others repeated (R, G, B, R, G) or
    cut off, and scaled by C / n_bands, so that the response keeps its size.
    """
    before = weight.shape[1]
    told = f"{before} {'band' if before == 1 else 'bands'} -> {n_bands}, weights"
    if n_bands == 1:
        return weight.sum(1, keepdim=True), f"{told} summed"
    repeated = weight.repeat(1, -(-n_bands // before), 1, 1)[:, :n_bands] * (before / n_bands)
    how = "repeated" if n_bands > before else f"of the first {n_bands} kept"
    return repeated, f"{told} {how} and scaled by {before}/{n_bands}"


def _download(recipe: ModelRecipe) -> dict[str, Tensor]:
    """The pretrained tensors of a timm backbone, from the Hub client's cache or through timm from the Hub."""
    if recipe.backbone in OWN_BACKBONES:
        fix = "use none or a file"
        raise SkyclassError(f"{recipe.backbone} has no ImageNet weights", where="model.weights", fix=fix)
    hub_id = recipe.backbone.removeprefix("hf_hub:")
    if hub_id == recipe.backbone:
        hub_id = timm.get_pretrained_cfg_value(recipe.backbone, "hf_hub_id") or hub_id
    repository, _, revision = hub_id.partition("@")
    cached = try_to_load_from_cache(repository, "model.safetensors", revision=revision or None)
    if isinstance(cached, str):
        return load_file(cached)
    problem = _unreachable(constants.ENDPOINT)  # asked first, because the Hub client retries for most of a minute
    if problem is None:
        try:
            return dict(timm.create_model(recipe.backbone, pretrained=True, num_classes=0).state_dict())
        except Exception as error:  # the Hub client raises its own family of network errors
            problem = one_line(error)[:100]
    what = f"the weights of {recipe.backbone} could not be downloaded ({problem})"
    raise SkyclassError(what, where="model.weights=imagenet", fix=OFFLINE)


def _unreachable(endpoint: str) -> str | None:
    """Why no connection to the Hub's address can be made, or None when it can."""
    address = urlsplit(endpoint)
    if address.scheme in getproxies():
        return None  # a proxy answers for it: only the download itself can tell
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname or "", port), timeout=5.0).close()
    except OSError as error:
        return f"no connection to {address.hostname}: {error.strerror or error}"
    return None
