"""What lies where in a run: the only file that knows."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from .artefact_tables import read_own_csv
from .documents import read_document
from .errors import SkyclassError
from .files import new_folder, write_json, write_text
from .recipe import Recipe, dump_recipe, load_recipe
from .replacing import finish_replacing, new_contents
from .run_documents import Cost, EnvironmentDocument, LegDocument, RunDocument
from .run_lock import holder_of


@dataclass(frozen=True)
class Leg:
    """A part of a training that was asked for at once: the first one, or epochs added to a run that had ended.

    segment, batch, step : segments, training batches and optimiser steps done when it began
    epochs : the epoch that it goes to, counted from the beginning of the training
    checkpoint : name of the file that it began from; None for the first leg
    asked : the epochs to add and the checkpoint that were asked for, by which a repeated command is known
    """

    segment: int = 0
    batch: int = 0
    step: int = 0
    epochs: int = 0
    checkpoint: str | None = None
    asked: tuple[int, str | None] | None = None


def to_resume(path: Path) -> str:
    """The way out where a run has not ended."""
    if holder := holder_of(path):
        return f"wait for it: it is being trained by {holder}"
    return f"continue it with `skyclass train --resume {shlex.quote(str(path))}`, or name another folder"


AGAIN = "copy the run's folder again, or train a new run"


@dataclass(frozen=True)
class Run:
    """The folder that a training leaves."""

    path: Path

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe, every default written out."""
        return self.path / "recipe.yaml"

    @property
    def origin_file(self) -> Path:
        """The pack trained on, its hash, the classes, and the legs of the training."""
        return self.path / "run.json"

    @property
    def environment_file(self) -> Path:
        """Versions, machine and command."""
        return self.path / "environment.json"

    @property
    def history_file(self) -> Path:
        """Losses, scores and learning rates, one row a validation."""
        return self.path / "history.csv"

    @property
    def curves_file(self) -> Path:
        """The training curves as a picture."""
        return self.path / "curves.png"

    @property
    def checkpoints(self) -> Path:
        """`last.ckpt`, the best ones, and those of every so many epochs."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """The state after the last finished segment, from which a killed training goes on."""
        return self.checkpoints / "last.ckpt"

    @property
    def log(self) -> Path:
        """TensorBoard's events."""
        return self.path / "log"

    @property
    def training_file(self) -> Path:
        """Time and memory that the training took: a `Cost`."""
        return self.path / "training.json"

    @property
    def rates_file(self) -> Path:
        """The learning-rate range test, where one was asked for; its picture is `learning_rates.png`."""
        return self.path / "learning_rates.csv"

    @property
    def classifier(self) -> Path:
        """The classifier's folder: the best weights, and the model card `README.md`."""
        return self.path / "classifier"

    @property
    def predictions_file(self) -> Path:
        """Predictions of the validation and test images."""
        return self.path / "predictions.parquet"

    @property
    def member_paths(self) -> list[Path]:
        """The folders of an ensemble's members, each a run; none of a run that is no ensemble."""
        n = self.n_members
        return [self.path / "members" / str(number) for number in range(1, n + 1)] if n > 1 else []

    @property
    def ensemble_path(self) -> Path | None:
        """The folder of the ensemble that this run is a member of, if it is one."""
        above = self.path.absolute().parent
        return above.parent if above.name == "members" and is_run(above.parent) else None

    @property
    def n_members(self) -> int:
        """How many networks are trained: 1, or the members of an ensemble."""
        return self._document()[1].members

    @property
    def begun(self) -> bool:
        """Whether something is trained already that can be gone on with."""
        return self.last_checkpoint.is_file() or any(Run(path).begun for path in self.member_paths if is_run(path))

    @property
    def evaluation(self) -> Path:
        """Metrics and their figures."""
        return self.path / "evaluation"

    @property
    def explanations(self) -> Path:
        """Maps of where the classifier looks, sheets of them, and their grades."""
        return self.path / "explanations"

    @property
    def report_file(self) -> Path:
        """The page that tells it all."""
        return self.path / "report.html"

    @property
    def finished(self) -> bool:
        """Whether the training came to its end."""
        return self.predictions_file.is_file()

    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return load_recipe(self.recipe_file, stored=True)

    def origin(self) -> dict[str, Any]:
        """`pack` (path), `pack_hash`, `classes`."""
        return self._document()[0]

    def _document(self) -> tuple[dict[str, Any], RunDocument]:
        """What run.json holds. Errors: SkyclassError where it is damaged."""
        return read_document(self.origin_file, "run", RunDocument, AGAIN)

    def environment(self) -> dict[str, Any]:
        """Versions, machine and command. Errors: SkyclassError where the file is damaged."""
        return read_document(self.environment_file, "environment", EnvironmentDocument, AGAIN)[0]

    def history(self, *scores: str) -> pd.DataFrame:
        """Losses, `scores` and learning rates, one row a validation. Errors: SkyclassError for a damaged file."""
        numbers = ("epoch", "step", *scores)
        return read_own_csv(self.history_file, "history of a training", AGAIN, numbers=numbers)

    def legs(self) -> list[Leg]:
        """The legs of the training, in order; one at least."""
        found = self._document()[1].legs or [LegDocument(epochs=self.recipe().training.epochs)]
        legs = [{field.name: getattr(leg, field.name) for field in fields(Leg)} for leg in found]
        return [Leg(**{**leg, "asked": tuple(leg["asked"]) if leg["asked"] else None}) for leg in legs]

    def cost(self) -> Cost | None:
        """What the training took so far; None where nothing is known of it."""
        if not self.training_file.is_file():
            return None
        return read_document(self.training_file, "cost of a training", Cost, AGAIN)[1]

    def turned_to(self) -> str | None:
        """Name of the checkpoint that the run is about to go on from, while that is not carried out."""
        return self._document()[1].turning_to

    def turn(self, legs: list[Leg], checkpoint: str | None) -> None:
        """Write the legs, and the checkpoint that the last one is still to go on from, in one step."""
        origin = {**self.origin(), "legs": [asdict(leg) for leg in legs]}
        write_json(self.origin_file, {**origin, "turning_to": checkpoint})

    def wants_rate(self) -> bool:
        """Whether the learning rate is still to be found."""
        return self._document()[1].find_rate

    def take_rate(self, recipe: Recipe) -> None:
        """Write the recipe with the learning rate that was found."""
        write_text(self.recipe_file, dump_recipe(recipe))
        write_json(self.origin_file, {**self.origin(), "find_rate": False})

    @classmethod
    def create(cls, path: Path, recipe: Recipe, origin: dict[str, Any], environment: dict[str, Any]) -> Run:
        """Start a run in an empty folder. Errors: SkyclassError where something is there already."""
        run = cls(path)
        finish_replacing(path)
        fix = "its run has ended: name another folder" if run.finished else to_resume(path)
        new_folder(path, overwrite=False, fix=fix)
        with new_contents(path, run.origin_file.name) as folder:  # so that a folder is a run or is empty
            new = cls(folder)
            write_text(new.recipe_file, dump_recipe(recipe))
            write_json(new.environment_file, environment)
            write_json(new.origin_file, {**origin, "legs": [asdict(Leg(epochs=recipe.training.epochs))]})
        return run

    def create_member(self, path: Path, recipe: Recipe) -> Run:
        """Start a member of this ensemble, on the same pack."""
        origin = {key: value for key, value in self.origin().items() if key not in ("members", "legs")}
        return Run.create(path, recipe, origin, self.environment())

    @classmethod
    def open(cls, path: Path) -> Run:
        """A run that exists. Errors: SkyclassError where the folder is no run."""
        run = cls(path)
        finish_replacing(path)
        if not run.origin_file.is_file():
            raise SkyclassError("this folder is no run", where=path, fix="give the folder that `skyclass train` made")
        return run


def is_run(path: Path) -> bool:
    """Whether a folder was made by `skyclass train`."""
    finish_replacing(path)
    return (path / "run.json").is_file()


def predictions_of(path: Path) -> Path:
    """The predictions file of a run that has ended; any other path names such a file itself.

    Errors: SkyclassError for a run that has not ended.
    """
    if not is_run(path):
        return path
    run = Run.open(path)
    if not run.finished:
        raise SkyclassError("the run has not ended: it has no predictions", where=path, fix=to_resume(path))
    return run.predictions_file
