"""The weights of a network, or of the members of an ensemble, in one safetensors file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from ..core.files.atomic_files import written_whole


def save_networks(path: Path, networks: Sequence[nn.Module]) -> None:
    """Write the tensors of a network under their own names; those of several begin with `1.`, `2.` and so on."""
    tensors = {
        f"{prefix}{name}": value.detach().cpu().contiguous()
        for prefix, network in zip(_prefixes(len(networks)), networks, strict=True)
        for name, value in network.state_dict().items()
    }
    with written_whole(path) as part:
        save_file(tensors, part, metadata={"format": "pt"})


def load_networks(path: Path, networks: Sequence[nn.Module]) -> None:
    """Give the networks the tensors that `save_networks` has written of as many."""
    tensors = load_file(path)
    for prefix, network in zip(_prefixes(len(networks)), networks, strict=True):
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        network.load_state_dict(own)


def _prefixes(n: int) -> list[str]:
    return [""] if n == 1 else [f"{number}." for number in range(1, n + 1)]
