"""Checkpoints: written whole or not at all, the best ones, every so many epochs, and the last one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from torch import Tensor

from ...core.errors import SkyclassError, one_line
from ...core.files.atomic_files import written_whole
from ...recipes.training_settings import TrainingSettings
from .checkpoint_hash import SUFFIX, add_hash, check_checkpoint, other_than
from .segments import Plan

RESUME_STATE = "skyclass"
"""The key of a checkpoint that holds its `ResumeState`."""


@dataclass(frozen=True)
class ResumeState:
    """The progress of the training at a checkpoint: segments, stream batches and optimiser steps done."""

    segment: int
    batch: int
    step: int
    n_batches: int
    """Batches in an epoch."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint, on the CPU, of which every byte was compared with the hash that was written with it.

    Errors: SkyclassError where the file is missing, damaged or another program's.
    """
    check_checkpoint(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways
        what = f"the checkpoint cannot be read ({one_line(error)[:100]})"
        raise SkyclassError(what, where=path, fix=other_than(path)) from None
    try:
        resume_state(checkpoint), best_names(checkpoint)
    except (AttributeError, KeyError, StopIteration, TypeError):
        raise SkyclassError("this is no checkpoint of `skyclass train`", where=path, fix=other_than(path)) from None
    return checkpoint


def resume_state(checkpoint: dict[str, Any]) -> ResumeState:
    """The progress of the training at a checkpoint."""
    return ResumeState(step=checkpoint["global_step"], **checkpoint[RESUME_STATE])


def best_names(checkpoint: dict[str, Any]) -> list[str]:
    """File names of the best checkpoints in the state of this one, the best one first."""
    key = next(key for key in checkpoint["callbacks"] if key.startswith(BestCheckpoints.__name__))
    state = checkpoint["callbacks"][key]
    names = [Path(path).name for path in (state["best_model_path"], *state["best_k_models"]) if path]
    return list(dict.fromkeys(names))


class CheckpointIO(TorchCheckpointIO):
    """Lightning's writes a temporary file elsewhere and moves it; this one is `written_whole` beside the target."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write the checkpoint whole."""
        with written_whole(Path(path)) as part:
            with part.open("wb") as stream:
                torch.save(checkpoint, stream)
            add_hash(part)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Errors: as `read_checkpoint`."""
        return read_checkpoint(Path(path))


class BestCheckpoints(ModelCheckpoint):
    """Lightning's best checkpoints, chosen after each validation; they are found again in a run that was moved."""

    def __init__(self, folder: Path, settings: TrainingSettings, plan: Plan) -> None:
        super().__init__(
            dirpath=folder,
            monitor=settings.monitor,
            mode=settings.monitor_mode,
            save_top_k=settings.keep_best,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.plan = plan

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the segment with the best ones, if it ended with a validation."""
        if self.plan.segment(trainer.current_epoch).validates:
            super().on_train_epoch_end(trainer, pl_module)

    def format_checkpoint_name(
        self,
        metrics: dict[str, Tensor],
        filename: str | None = None,
        ver: int | None = None,
        prefix: str | None = None,
    ) -> str:
        """Such as epoch=2.25-step=18-val_loss=0.1234.ckpt."""
        epochs = self.plan.epochs_at(self.plan.segment(int(metrics["epoch"])).stop)
        score = f"{self.monitor}={float(metrics[str(self.monitor)]):.4f}"
        name = f"epoch={epochs:.2f}-step={int(metrics['step'])}-{score}{SUFFIX}"
        return str(Path(self.dirpath or "") / name)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the saved paths as names in the current folder of the run; files that no longer exist are dropped."""
        self.current_score = state_dict["current_score"]
        folder = Path(self.dirpath or "")
        there = {str(folder / Path(path).name): score for path, score in state_dict["best_k_models"].items()}
        self.best_k_models = {path: score for path, score in there.items() if Path(path).is_file()}
        best, worst = (min, max) if self.mode == "min" else (max, min)  # the first of equals, as Lightning takes
        if self.best_k_models:
            self.best_model_path = best(self.best_k_models, key=self._score)
            self.best_model_score = self.best_k_models[self.best_model_path]
        if len(self.best_k_models) == self.save_top_k:
            self.kth_best_model_path = worst(self.best_k_models, key=self._score)
            self.kth_value = self.best_k_models[self.kth_best_model_path]

    def _score(self, path: str) -> float:
        return float(self.best_k_models[path])


class EpochCheckpoints(Checkpoint):
    """A checkpoint every so many epochs, which is kept: at the first end of a segment there or after it."""

    def __init__(self, folder: Path, every: int, plan: Plan) -> None:
        self.folder, self.every, self.plan = folder, every, plan

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write, such as epoch-010.ckpt."""
        segment = self.plan.segment(trainer.current_epoch)
        period = self.every * self.plan.n_batches
        if segment.stop // period > segment.start // period:
            epoch = segment.stop // period * self.every
            trainer.save_checkpoint(self.folder / f"epoch-{epoch:03d}{SUFFIX}")


class LastCheckpoint(Checkpoint):
    """The state after each segment, from which a training resumes; written last, it names the best ones."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write it."""
        trainer.save_checkpoint(self.path)
