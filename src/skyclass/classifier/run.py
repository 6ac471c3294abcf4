"""A run directory: how it is made and opened, and its documents."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..core.errors import SkyclassError
from ..core.files.atomic_files import new_folder, write_json, write_text
from ..core.files.json_documents import read_document
from ..core.files.replacing import finish_replacing, new_contents
from ..core.html import facts
from ..core.text import listed
from ..recipes.recipe import Recipe, dump_recipe, load_recipe
from .run_documents import Cost, EnvironmentDocument, RunDocument, StageDocument
from .run_paths import AGAIN, resume_hint
from .run_results import RunResults


@dataclass(frozen=True)
class Stage:
    """A stage of a training: the first one, or epochs added to a run that had ended.

    segment, batch, step : segments, training batches and optimiser steps done when it began
    epochs : the epoch that it goes to, counted from the beginning of the training
    checkpoint : name of the file that it resumed from; None for the first stage
    asked : the epochs to add and the checkpoint that were requested, by which a repeated command is recognised
    """

    segment: int = 0
    batch: int = 0
    step: int = 0
    epochs: int = 0
    checkpoint: str | None = None
    asked: tuple[int, str | None] | None = None


@dataclass(frozen=True)
class Run(RunResults):
    """The folder that a training writes: its paths, its documents, and its results as tables and figures."""

    def __repr__(self) -> str:
        """The folder and the state, of the names of files alone."""
        return f"Run({str(self.path)!r}, {self._state()})"

    def _repr_html_(self) -> str:
        """For notebooks: the recipe, the state, and the main scores where it has been evaluated."""
        try:
            about = self._facts()
        except SkyclassError as error:
            about = {"damaged": error}
        return facts(f"Run {self.path.name}", {"folder": self.path.absolute(), "state": self._state(), **about})

    def _facts(self) -> dict[str, object]:
        recipe, (_, document), cost = self.recipe(), self._document(), self.cost()
        return {
            "recipe": recipe.name,
            "question": recipe.about.question or None,
            "backbone": recipe.model.backbone,
            "members": document.members if document.members > 1 else None,
            "pack": document.pack,
            "classes": listed(document.classes),
            "training": f"{cost.epochs:g} epochs in {cost}, {cost.device}" if cost else None,
            **self._main_scores(),
        }

    def _state(self) -> str:
        """Ended, or whether a checkpoint is there to resume from."""
        if self.finished:
            return "ended"
        try:
            return "resumable" if self.resumable else "without a checkpoint"
        except SkyclassError:
            return "damaged"

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
    def resumable(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return self.last_checkpoint.is_file() or any(Run(path).resumable for path in self.member_paths if is_run(path))

    def recipe(self) -> Recipe:
        """The resolved recipe."""
        return load_recipe(self.recipe_file, stored=True)

    def provenance(self) -> dict[str, Any]:
        """`pack` (path), `pack_hash`, `classes`."""
        return self._document()[0]

    def _document(self) -> tuple[dict[str, Any], RunDocument]:
        """The content of run.json. Errors: SkyclassError where it is damaged."""
        return read_document(self.provenance_file, "run", RunDocument, AGAIN)

    def environment(self) -> dict[str, Any]:
        """Versions, machine and command. Errors: SkyclassError where the file is damaged."""
        return read_document(self.environment_file, "environment", EnvironmentDocument, AGAIN)[0]

    def stages(self) -> list[Stage]:
        """The stages of the training, in order; at least one."""
        found = self._document()[1].legs or [StageDocument(epochs=self.recipe().training.epochs)]
        stages = [{field.name: getattr(stage, field.name) for field in fields(Stage)} for stage in found]
        return [Stage(**{**stage, "asked": tuple(stage["asked"]) if stage["asked"] else None}) for stage in stages]

    def cost(self) -> Cost | None:
        """Time and memory that the training took so far; None where they are unknown."""
        if not self.training_file.is_file():
            return None
        return read_document(self.training_file, "cost of a training", Cost, AGAIN)[1]

    def resume_checkpoint(self) -> str | None:
        """Name of the checkpoint that a requested resume starts from, until it is applied."""
        return self._document()[1].turning_to

    def write_stages(self, stages: list[Stage], checkpoint: str | None) -> None:
        """Write the stages, and the checkpoint that the last one is still to resume from, in one step.

        Parameters
        ----------
        stages : list of Stage
            In order.
        checkpoint : str or None
            The name of its file.
        """
        provenance = {**self.provenance(), "legs": [asdict(stage) for stage in stages]}
        write_json(self.provenance_file, {**provenance, "turning_to": checkpoint})

    def needs_learning_rate(self) -> bool:
        """Whether the learning-rate range test is still to be run."""
        return self._document()[1].find_rate

    def write_learning_rate(self, recipe: Recipe) -> None:
        """Write the recipe with the learning rate that was found.

        Parameters
        ----------
        recipe : Recipe
            The resolved one.
        """
        write_text(self.recipe_file, dump_recipe(recipe))
        write_json(self.provenance_file, {**self.provenance(), "find_rate": False})

    @classmethod
    def create(cls, path: Path, recipe: Recipe, provenance: dict[str, Any], environment: dict[str, Any]) -> Run:
        """Start a run in an empty folder.

        Parameters
        ----------
        path : Path
            The folder.
        recipe : Recipe
            The resolved one.
        provenance : dict
            `pack` (path), `pack_hash` and `classes`.
        environment : dict
            Versions, machine and command.

        Returns
        -------
        Run
            Without a checkpoint.

        Raises
        ------
        SkyclassError
            Where something is there already.
        """
        run = cls(path)
        finish_replacing(path)
        fix = "its run has ended: name another folder" if run.finished else resume_hint(path)
        new_folder(path, overwrite=False, fix=fix)
        with new_contents(path, run.provenance_file.name) as folder:  # so that a folder is a run or is empty
            new = cls(folder)
            write_text(new.recipe_file, dump_recipe(recipe))
            write_json(new.environment_file, environment)
            write_json(new.provenance_file, {**provenance, "legs": [asdict(Stage(epochs=recipe.training.epochs))]})
        return run

    def create_member(self, path: Path, recipe: Recipe) -> Run:
        """Start a member of this ensemble, on the same pack.

        Parameters
        ----------
        path : Path
            Its folder.
        recipe : Recipe
            The resolved one, with its own seed.

        Returns
        -------
        Run
            As `create`.

        Raises
        ------
        SkyclassError
            Where something is there already.
        """
        provenance = {key: value for key, value in self.provenance().items() if key not in ("members", "legs")}
        return Run.create(path, recipe, provenance, self.environment())

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Open a run.

        Parameters
        ----------
        path : str or Path
            The folder that `skyclass train` made.

        Returns
        -------
        Run
            Ended or not.

        Raises
        ------
        SkyclassError
            Where the folder is no run.
        """
        path = Path(path)
        run = cls(path)
        finish_replacing(path)
        if not run.provenance_file.is_file():
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
        raise SkyclassError("the run has not ended: it has no predictions", where=path, fix=resume_hint(path))
    return run.predictions_file
