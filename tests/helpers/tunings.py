"""Tunings whose trainings take no time: `from tunings import curve, tuned, without_training`."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from skyclass.classifier.run import Run
from skyclass.commands.steps import tune
from skyclass.core.errors import SkyclassError
from skyclass.data.packs.training_rows import TrainingRows
from skyclass.recipes.recipe import Recipe
from skyclass.training.loop.callbacks import write_history
from skyclass.training.loop.inputs import OnValidation
from skyclass.training.tuning import worker

BEST = {"val_auroc": 1e-3, "val_loss": 1e-2}  # the learning rates that each metric likes best


def curve(recipe: Recipe) -> list[dict[str, float]]:
    """The scores of each epoch of a training that only the learning rate decides."""
    rate = math.log10(recipe.training.learning_rate)
    away = {metric: abs(rate - math.log10(best)) for metric, best in BEST.items()}
    return [
        {"val_auroc": 0.9 - 0.05 * away["val_auroc"] + 0.01 * epoch, "val_loss": 1.0 + away["val_loss"] - 0.01 * epoch}
        for epoch in range(1, recipe.training.epochs + 1)
    ]


def without_training(monkeypatch: pytest.MonkeyPatch, *, figures: bool = False) -> list[int]:
    """Let the runs of a tuning take their scores from `curve`; returns the list of the trials that were trained.

    A learning rate above 1 diverges. Figures, which take longer than all else, are drawn where they are asked for.
    """
    trained: list[int] = []

    def finish_run(
        run: Run, rows: TrainingRows | None = None, device: str = "auto", on_validation: OnValidation | None = None
    ) -> None:
        recipe, history = run.recipe(), []
        trained.append(int(run.path.name))
        if recipe.training.learning_rate > 1.0:
            raise SkyclassError("the loss is nan", where="training", fix="lower training.learning_rate")
        for folder in (run.checkpoints, run.classifier):
            folder.mkdir()
        for epoch, scores in enumerate(curve(recipe), 1):
            history.append({name: repr(value) for name, value in {"epoch": epoch, "step": epoch, **scores}.items()})
            write_history(run.history_file, history)
            if on_validation:
                on_validation(float(epoch), scores)
        run.predictions_file.touch()

    monkeypatch.setattr(worker, "finish_run", finish_run)
    if not figures:
        monkeypatch.setattr(tune, "write_figures", lambda tuning: [])
    return trained


def tuned(folder: Path) -> pd.DataFrame:
    """The table of a tuning."""
    return pd.read_csv(folder / "tuning.csv", keep_default_na=False, na_values=[""])
