"""The files of a classifier's folder; `classifier.json` has the hash of each binary one. Nothing is pickled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ..core.errors import SkyclassError
from ..core.files.atomic_files import sha256_of, written_whole
from ..core.files.json_documents import Document, read_document
from ..core.files.replacing import finish_replacing, new_contents
from ..recipes.model_settings import ModelSettings
from ..recipes.recipe import StoredPixels
from .novelty import Gaussians, Novelty
from .run import Run, is_run

if TYPE_CHECKING:
    from ..models.network import Network

META = "classifier.json"
WEIGHTS = "model.safetensors"
NOVELTY = "novelty.safetensors"

AGAIN = "copy the classifier's folder again from its source"
MOST_MEMBERS = 1000


class NoveltyDocument(Document):
    """What `read_novelty` relies on."""

    limit: float
    n_train: int
    n_val: int
    sha256: str


class ClassifierDocument(Document):
    """What `Classifier.load` relies on in classifier.json; older classifiers lack what has a default."""

    architecture: str
    bands: list[str] = Field(min_length=1)
    classes: list[str] = Field(min_length=1)
    made_from: dict[str, Any]
    mean: list[float]
    members: int = Field(ge=1, le=MOST_MEMBERS)
    mirror_swaps: list[list[str]]
    model: ModelSettings
    pixels: list[StoredPixels]
    precision: Literal["float32", "bfloat16"]
    std: list[float]
    weights_sha256: str
    calibration: dict[str, Any] | None = None
    prediction_sets: dict[str, Any] | None = None
    novelty: NoveltyDocument | None = None

    @model_validator(mode="after")
    def _parts_fit(self) -> ClassifierDocument:
        if not len(self.mean) == len(self.std) == len(self.bands):
            raise ValueError(f"{len(self.mean)} means and {len(self.std)} deviations for {len(self.bands)} bands")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("a class is named twice")
        if any(len(pair) != 2 or not set(pair) <= set(self.classes) for pair in self.mirror_swaps):
            raise ValueError("mirror_swaps are no pairs of its classes")
        return self


def read_classifier(folder: Path) -> tuple[dict[str, Any], ClassifierDocument]:
    """What classifier.json holds, as it is and as `ClassifierDocument` describes it.

    Errors: SkyclassError where it is damaged, or was changed after it was written.
    """
    finish_replacing(folder)
    return read_document(folder / META, "classifier", ClassifierDocument, AGAIN)


def check_classifier(folder: Path) -> None:
    """Compare all files of a classifier with their hashes. Errors: SkyclassError where one is not its own."""
    _, document = read_classifier(folder)
    _checked(folder / WEIGHTS, document.weights_sha256)
    if document.novelty:
        _checked(folder / NOVELTY, document.novelty.sha256)


def classifier_folder(path: Path) -> Path:
    """The folder of a classifier, or of the one in a run. Errors: SkyclassError for a folder that is neither."""
    folder = Run.open(path).classifier if is_run(path) else path
    finish_replacing(folder)
    if not (folder / META).is_file():
        what = "an unfinished run: it has no classifier yet" if is_run(path) else "this is no classifier"
        raise SkyclassError(what, where=path, fix="give the folder that `skyclass train` made, once it has ended")
    return folder


@contextmanager
def classifier_contents(folder: Path) -> Iterator[Path]:
    """A hidden folder in `folder`, whose classifier takes the place of the old one when the block ends well.

    At any moment the one or the other can be read by `classifier_folder`; files of other names stay.
    """
    with new_contents(folder, META, lambda: (META, WEIGHTS, NOVELTY)) as new:
        yield new


def write_weights(folder: Path, networks: Sequence[Network]) -> str:
    """Write the weights of all networks; returns the hash of the file."""
    from ..models.weight_files import save_networks  # torch, which nothing else here needs

    save_networks(folder / WEIGHTS, networks)
    return sha256_of(folder / WEIGHTS)


def read_weights(folder: Path, sha256: str, networks: Sequence[Network]) -> None:
    """Give the networks their weights. Errors: SkyclassError for a file that is missing, damaged or another's."""
    from ..models.weight_files import load_networks

    path = _checked(folder / WEIGHTS, sha256)
    try:
        load_networks(path, networks)
    except (RuntimeError, SafetensorError):
        raise SkyclassError("the weights do not fit what classifier.json describes", where=path, fix=AGAIN) from None


def write_novelty(folder: Path, novelty: Novelty | None) -> dict[str, Any] | None:
    """Write the Gaussians of each network; returns what `classifier.json` says of them."""
    if novelty is None:
        return None
    path = folder / NOVELTY
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


def read_novelty(folder: Path, document: NoveltyDocument | None) -> Novelty | None:
    """Read what `write_novelty` wrote. Errors: SkyclassError for a file that is missing, damaged or another's."""
    if document is None:
        return None
    path = _checked(folder / NOVELTY, document.sha256)
    try:
        tensors = load_file(path)
        numbers = range(1, len(tensors) // 2 + 1)
        gaussians = [Gaussians(tensors[f"{number}.means"], tensors[f"{number}.whitening"]) for number in numbers]
    except (KeyError, SafetensorError):
        raise SkyclassError("the file does not hold what tells novelties", where=path, fix=AGAIN) from None
    return Novelty(gaussians, document.limit, document.n_train, document.n_val)


def _checked(path: Path, sha256: str) -> Path:
    if not path.is_file() or sha256_of(path) != sha256:
        what = "the weights are not those" if path.name == WEIGHTS else "the file is not the one"
        raise SkyclassError(f"{what} that classifier.json names", where=path, fix=AGAIN)
    return path
