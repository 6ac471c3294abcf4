"""Lightning callbacks: history, progress, cost (`training.json`) and early stopping."""

from __future__ import annotations

import csv
import logging
import math
import time
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping

from ...classifier.run import Run
from ...classifier.run_documents import Cost
from ...core.console import ShownProgress
from ...core.devices import device_name, peak_memory, reset_peak_memory
from ...core.errors import SkyclassError
from ...core.files.atomic_files import write_json, written_whole
from ...models.fine_tuning import count_parameters
from ...models.network import Network
from ...recipes.training_settings import TrainingSettings
from .inputs import OnValidation
from .segments import Plan
from .task import Task

logger = logging.getLogger(__name__)


class CostCallback(Callback):
    """Adds this session's time and images to those of the sessions before, at the end of each segment.

    n_images : training images in an epoch, of all processes
    """

    def __init__(self, run: Run, plan: Plan, n_images: int) -> None:
        self.run, self.plan, self.n_images = run, plan, n_images
        self.before = run.cost()
        self._start = 0.0
        self._begin = self._stop = 0  # stream batches

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        reset_peak_memory(pl_module.device)
        self._start = time.monotonic()
        self._begin = self._stop = self.plan.segment(trainer.current_epoch).start

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write, before the checkpoints: where one is, its time is known."""
        self._stop = self.plan.segment(trainer.current_epoch).stop
        self._write(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write once more, with the time of the last checkpoint."""
        self._write(trainer, pl_module)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Task):
            return
        seconds = time.monotonic() - self._start
        images = round(self.n_images * self.plan.epochs_at(self._stop - self._begin))
        peak = peak_memory(pl_module.device)
        if self.before:
            seconds, images = seconds + self.before.seconds, images + self.before.images
            peak = max(peak, self.before.peak_memory_bytes)
        trained, total = count_parameters(pl_module.network)
        cost = Cost(
            seconds=seconds,
            images=images,
            images_per_second=images / seconds,
            peak_memory_bytes=peak,
            trained_parameters=trained,
            total_parameters=total,
            epochs=self.plan.epochs_at(self._stop),
            device=device_name(pl_module.device),
        )
        write_json(self.run.training_file, cost.model_dump())


def write_no_cost(run: Run, network: Network, device: str) -> None:
    """The cost of a run in which nothing is trained."""
    cost = Cost(
        seconds=0.0,
        images=0,
        images_per_second=None,
        peak_memory_bytes=0,
        trained_parameters=0,
        total_parameters=count_parameters(network)[1],
        epochs=0.0,
        device=device,
    )
    write_json(run.training_file, cost.model_dump())


# What the line of a validation calls its scores, in words that leave it shorter than 80 columns.
SHOWN = {
    "train_loss": "loss",
    "val_loss": "val",
    "val_accuracy": "accuracy",
    "val_balanced_accuracy": "balanced acc.",
    "val_macro_f1": "macro F1",
    "val_auroc": "AUROC",
    "val_log_loss": "log loss",
}


def shown_scores(monitor: str) -> list[str]:
    """The scores of that line: the losses, the monitored score, and of the balanced accuracy and AUROC what it leaves
    room for.
    """
    usual = ["train_loss", "val_loss", "val_balanced_accuracy", "val_auroc"]
    return usual if monitor in usual else [*usual[:2], monitor, usual[3]]


class ProgressCallback(Callback):
    """Counts training images over all epochs, and prints the scores of each validation, `monitor` among them."""

    def __init__(self, plan: Plan, images_per_epoch: int, monitor: str) -> None:
        self.plan, self.images_per_epoch = plan, images_per_epoch
        self.names = shown_scores(monitor)
        self._shown: ShownProgress | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin, with what an interrupted run has already done."""
        done = self.plan.epochs_at(self.plan.segment(trainer.current_epoch).start)
        total = self.images_per_epoch * self.plan.epochs
        self._shown = ShownProgress("Training", total, done=round(self.images_per_epoch * done))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch."""
        if self._shown:
            epoch = (self.plan.segment(trainer.current_epoch).start + batch_idx) // self.plan.n_batches + 1
            n = pl_module.step_images if isinstance(pl_module, Task) else len(batch.rows)
            self._shown.advance(n, f"Epoch {epoch}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """One line of scores, where there was a validation."""
        segment = self.plan.segment(trainer.current_epoch)
        if not segment.validates or not isinstance(pl_module, Task):
            return
        scores = pl_module.scores
        parts = [
            f"{SHOWN[name]} {scores[name]:.4f}" for name in self.names if math.isfinite(scores.get(name, math.nan))
        ]
        logger.info(f"epoch {in_words(self.plan.epochs_at(segment.stop)):>3}/{self.plan.epochs}  {'  '.join(parts)}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Show nothing more."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Show nothing more: what is said of the error stands below the bar."""
        self._stop()

    def _stop(self) -> None:
        if self._shown:
            self._shown.stop()
            self._shown = None


def in_words(epochs: float) -> str:
    """Epochs done, such as 3 or 2.25."""
    return f"{epochs:.2f}".removesuffix(".00")


class HistoryCallback(Callback):
    """Writes `history.csv`, one row a validation, and calls `on_validation`.

    A resumed run appends to the rows up to its checkpoint.
    """

    def __init__(self, path: Path, plan: Plan, on_validation: OnValidation | None) -> None:
        self.path, self.plan, self.on_validation = path, plan, on_validation
        self.rows: list[dict[str, str]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what was written of the steps before this one."""
        self.rows = cut_history(self.path, trainer.global_step)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Append this validation's epoch, optimiser steps, losses and scores, and the last step's rates."""
        segment = self.plan.segment(trainer.current_epoch)
        if not segment.validates or not isinstance(pl_module, Task):
            return
        epochs = self.plan.epochs_at(segment.stop)
        rates = pl_module.rates
        alone = len(rates) == 1
        rates = {"learning_rate" if alone else f"learning_rate_{name}": rate for name, rate in rates.items()}
        row = {"epoch": epochs, "step": trainer.global_step, **pl_module.scores, **rates}
        self.rows.append({name: _cell(value) for name, value in row.items()})
        write_history(self.path, self.rows)
        if self.on_validation:
            self.on_validation(epochs, dict(pl_module.scores))


def cut_history(path: Path, step: int) -> list[dict[str, str]]:
    """The rows of a history up to that optimiser step, as they were written."""
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return [row for row in csv.DictReader(stream) if int(row["step"]) <= step]
    except (KeyError, TypeError, ValueError, csv.Error):  # among them those of decoding
        fix = "remove the file: it is written anew from here on"
        raise SkyclassError("damaged history of a training", where=path, fix=fix) from None


def write_history(path: Path, rows: list[dict[str, str]]) -> None:
    """Write the rows; without one, the names of the first columns."""
    with written_whole(path) as part, part.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]) if rows else ["epoch", "step"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _cell(value: float) -> str:
    """The shortest text that is this number; a number that is none is an empty cell."""
    return "" if math.isnan(value) else repr(value)


class EarlyStop(EarlyStopping):
    """Lightning's early stopping, after each validation; a run that stopped early stays stopped when it is resumed.

    A new stage has all its patience again.
    """

    def __init__(self, settings: TrainingSettings, plan: Plan) -> None:
        patience = plan.validations_in(settings.early_stopping or 0)
        super().__init__(settings.monitor, mode=settings.monitor_mode, patience=patience, check_on_train_epoch_end=True)
        self.plan, self.stopped = plan, False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once where the resumed checkpoint was the last."""
        if trainer.current_epoch == self.plan.first:
            self.wait_count, self.stopped = 0, False
        trainer.should_stop = self.stopped

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the segment, if it ended with a validation."""
        if self.plan.segment(trainer.current_epoch).validates:
            super().on_train_epoch_end(trainer, pl_module)
            self.stopped = trainer.should_stop

    def state_dict(self) -> dict[str, Any]:
        """Lightning's, and whether the training was stopped."""
        return {**super().state_dict(), "stopped": self.stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        super().load_state_dict(state_dict)
        self.stopped = state_dict["stopped"]
