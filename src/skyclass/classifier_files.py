"""A classifier's folder and its binary files, each known to `classifier.json` by its hash. Nothing is pickled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from .errors import SkyclassError
from .evaluation.novelty import Gaussians, Novelty
from .files import sha256_of, written_whole
from .models.network import Network
from .models.weight_files import load_networks, save_networks
from .run import Run, is_run

META = "classifier.json"
WEIGHTS = "model.safetensors"
NOVELTY = "novelty.safetensors"

# What `Classifier.load` relies on in classifier.json.
KEYS: tuple[str, ...] = ("architecture", "bands", "classes", "made_from", "mean", "members", "mirror_swaps")
KEYS += ("model", "pixels", "precision", "std", "weights_sha256")


def classifier_folder(path: Path) -> Path:
    """The folder of a classifier, or of the one in a run. Errors: SkyclassError for a folder that is neither."""
    folder = Run.open(path).classifier if is_run(path) else path
    if not (folder / META).is_file():
        what = "an unfinished run: it has no classifier yet" if is_run(path) else "this is no classifier"
        raise SkyclassError(what, where=path, fix="give the folder that `skyclass train` made, once it has ended")
    return folder


def write_weights(folder: Path, networks: Sequence[Network]) -> str:
    """Write the weights of all networks; returns the hash of the file."""
    save_networks(folder / WEIGHTS, networks)
    return sha256_of(folder / WEIGHTS)


def read_weights(folder: Path, sha256: str, networks: Sequence[Network]) -> None:
    """Give the networks their weights. Errors: SkyclassError for a file that is gone, damaged or another's."""
    load_networks(_checked(folder / WEIGHTS, sha256), networks)


def write_novelty(folder: Path, novelty: Novelty | None) -> dict[str, Any] | None:
    """Write the Gaussians of each network; returns what `classifier.json` says of them."""
    path = folder / NOVELTY
    if novelty is None:
        path.unlink(missing_ok=True)  # of another classifier that lay here
        return None
    tensors: dict[str, np.ndarray] = {}
    for number, own in enumerate(novelty.gaussians, 1):
        tensors |= {f"{number}.means": own.means, f"{number}.whitening": np.ascontiguousarray(own.whitening)}
    with written_whole(path) as part:
        save_file(tensors, part)
    return {
        "limit": novelty.limit,
        "n_train": novelty.n_train,
        "n_val": novelty.n_val,
        "sha256": sha256_of(path),
    }


def read_novelty(folder: Path, meta: Mapping[str, Any] | None) -> Novelty | None:
    """What `write_novelty` has written. Errors: SkyclassError for a file that is gone, damaged or another's."""
    if meta is None:
        return None
    tensors = load_file(_checked(folder / NOVELTY, meta["sha256"]))
    numbers = range(1, len(tensors) // 2 + 1)
    gaussians = [Gaussians(tensors[f"{number}.means"], tensors[f"{number}.whitening"]) for number in numbers]
    return Novelty(gaussians, meta["limit"], meta["n_train"], meta["n_val"])


def _checked(path: Path, sha256: str) -> Path:
    if not path.is_file() or sha256_of(path) != sha256:
        what = "the weights are not those" if path.name == WEIGHTS else "the file is not the one"
        raise SkyclassError(
            f"{what} that classifier.json names", where=path, fix="copy the classifier's folder again from its source"
        )
    return path
