"""The paths of a run directory."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from ..core.files.locks import holder_of

AGAIN = "copy the run's folder again, or train a new run"


def resume_hint(path: Path) -> str:
    """The way out where a run has not ended."""
    if holder := holder_of(path):
        return f"wait for it: it is being trained by {holder}"
    return f"continue it with `skyclass train --resume {shlex.quote(str(path))}`, or name another folder"


@dataclass(frozen=True)
class RunPaths:
    """Where the files of a run are, written or not."""

    path: Path

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe, every default written out."""
        return self.path / "recipe.yaml"

    @property
    def provenance_file(self) -> Path:
        """The pack trained on, its hash, the classes, and the stages of the training."""
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
        """The state after the last finished segment, from which a killed training resumes."""
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
        """The learning-rate range test, if one was requested; its picture is `learning_rates.png`."""
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
    def evaluation(self) -> Path:
        """Metrics and their figures."""
        return self.path / "evaluation"

    @property
    def explanations(self) -> Path:
        """Explanation maps, sheets of them, and their grades."""
        return self.path / "explanations"

    @property
    def report_file(self) -> Path:
        """The report as one page."""
        return self.path / "report.html"

    @property
    def finished(self) -> bool:
        """Whether the training has ended."""
        return self.predictions_file.is_file()
