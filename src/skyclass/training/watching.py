"""What happens between the epochs of a training: what a person sees, the history table, checkpoints, the early stop."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from rich.progress import Progress, TaskID

from ..console import progress_bar, say
from ..files import written_whole

# What the line of an epoch shows, in words that leave it shorter than 80 columns.
SHOWN = {"train_loss": "loss", "val_loss": "val", "val_balanced_accuracy": "balanced acc.", "val_auroc": "AUROC"}


class ProgressCallback(Callback):
    """A rich bar that counts training images over all epochs, and prints the metrics of each."""

    def __init__(self, images_per_epoch: int) -> None:
        self.images_per_epoch = images_per_epoch
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the bar, with the epochs of an interrupted run already done."""
        self._bar = progress_bar()
        self._task = self._bar.add_task(
            "Training",
            total=self.images_per_epoch * (trainer.max_epochs or 0),
            completed=self.images_per_epoch * trainer.current_epoch,
            unit="images",
        )
        self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch."""
        if self._bar:
            self._bar.update(self._task, advance=len(batch.rows), description=f"Epoch {trainer.current_epoch + 1}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """One line of metrics."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        parts = [
            f"{word} {values[name]:.4f}" for name, word in SHOWN.items() if math.isfinite(values.get(name, math.nan))
        ]
        say(f"epoch {trainer.current_epoch + 1:3d}/{trainer.max_epochs}  {'  '.join(parts)}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the bar away, also after an error."""
        if self._bar:
            self._bar.stop()
            self._bar = None


class HistoryCallback(Callback):
    """Writes `history.csv`, one row an epoch; a resumed run goes on behind the rows that its checkpoint knows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep what earlier processes wrote of the epochs before this one."""
        if self.path.is_file():
            history = pd.read_csv(self.path)
            self.rows = history[history["epoch"] <= trainer.current_epoch].to_dict("records")  # type: ignore[assignment]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Append this epoch's losses, metrics and the learning rate at its end."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.rows.append({"epoch": trainer.current_epoch + 1, **values, "learning_rate": rate})
        with written_whole(self.path) as part:
            pd.DataFrame(self.rows).to_csv(part, index=False)


class Checkpoints(ModelCheckpoint):
    """Lightning's, but it finds its files again in a run that was moved before it is resumed."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Read the saved paths as names in the folder where the run lies now."""

        def here(path: str) -> str:
            return str(Path(self.dirpath or "") / Path(path).name) if path else path

        paths = {name: here(state_dict[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        best = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": best, "dirpath": self.dirpath})


class EarlyStop(EarlyStopping):
    """Lightning's, but a run that had stopped early trains no further epoch when it is resumed."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once where the resumed checkpoint was the last."""
        trainer.should_stop = self.stopped_epoch > 0
