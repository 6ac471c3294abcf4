"""The one place where a Lightning Trainer is made and run."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from ..errors import SkyclassError
from ..models.hardware import pick_precision
from ..models.network import Network
from ..pixels import Statistics
from ..recipe import Recipe
from ..run import Run
from .task import Batch, Task
from .watching import Checkpoints, EarlyStop, HistoryCallback, ProgressCallback

# What Lightning says on every run, and what it warns of for reasons that do not hold here.
QUIET = (
    ".*does not have many workers.*",  # the batches lie on the device already
    ".*smaller than the logging interval.*",
    ".*exists and is not empty.*",  # a resumed run keeps its checkpoints
    ".*lr_scheduler.step.*optimizer.step.*",
    ".*LeafSpec.*",
    ".*in eval mode at the start of training.*",  # frozen modules are
)


@dataclass(frozen=True)
class Fitted:
    """The epoch (from 1) and score of the best checkpoint, whose weights the network now has."""

    best_epoch: int
    best_score: float
    epochs: int


def fit(
    network: Network,
    recipe: Recipe,
    run: Run,
    train: Iterable[Batch],
    val: Iterable[Batch],
    *,
    images_per_epoch: int,
    batches_per_epoch: int,
    normalisation: Statistics,
    class_weights: Tensor | None,
    device: torch.device,
) -> Fitted:
    """Train `network` in place and leave it with the weights of its best epoch, in `eval()`.

    A run that has a last checkpoint goes on from there. Errors: SkyclassError for a loss that is no longer finite, or
    a checkpoint that does not fit.
    """
    steps = batches_per_epoch * recipe.training.epochs
    task = Task(network, recipe, normalisation, class_weights, steps)
    if recipe.training.channels_last:
        task.network.to(memory_format=torch.channels_last)
    best, last = _checkpoints(recipe, run)
    resumed = run.last_checkpoint if run.last_checkpoint.is_file() else None
    with quiet_lightning():
        callbacks = [HistoryCallback(run.history_file), best, last, ProgressCallback(images_per_epoch)]
        trainer = _trainer(recipe, run, device, callbacks)
        with stopped_by_hand(trainer):
            trainer.fit(task, train, val, ckpt_path=resumed, weights_only=True)
    checkpoint = _load(best.best_model_path)
    task.load_state_dict(checkpoint["state_dict"])
    network.eval()
    score = float(best.best_model_score) if best.best_model_score is not None else float("nan")
    return Fitted(int(checkpoint["epoch"]) + 1, score, trainer.current_epoch)


def _checkpoints(recipe: Recipe, run: Run) -> tuple[Checkpoints, Checkpoints]:
    """The best epochs, and the last one, which is written after them and remembers them.

    Two, because Lightning's `save_last` writes nothing in an epoch that is not among the best.
    """
    best = Checkpoints(
        dirpath=run.checkpoints,
        filename=f"{{epoch:03d}}-{{{recipe.training.monitor}:.4f}}",
        monitor=recipe.training.monitor,
        mode=recipe.training.monitor_mode,
        save_top_k=recipe.training.keep_best,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    last = Checkpoints(
        dirpath=run.checkpoints,
        filename=run.last_checkpoint.stem,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    return best, last


def _trainer(recipe: Recipe, run: Run, device: torch.device, callbacks: list[Callback]) -> Trainer:
    training = recipe.training
    if training.early_stopping:
        stop = EarlyStop(training.monitor, mode=training.monitor_mode, patience=training.early_stopping)
        callbacks = [*callbacks, stop]
    half = pick_precision(training.precision, device) == torch.bfloat16
    return Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=[device.index or 0] if device.type == "cuda" else 1,
        max_epochs=training.epochs,
        precision="bf16-mixed" if half else "32-true",
        callbacks=callbacks,
        logger=TensorBoardLogger(run.path, name="log", version=""),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
    )


def _load(path: str) -> dict:
    if not path:
        raise SkyclassError("no epoch was finished, so there is no best one", where="training", fix="train for longer")
    return torch.load(Path(path), map_location="cpu", weights_only=True)


@contextmanager
def stopped_by_hand(trainer: Trainer) -> Iterator[None]:
    """Ctrl-C is a KeyboardInterrupt to the caller, and works again afterwards: Lightning ignores it and exits."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        if not trainer.interrupted:
            raise
        raise KeyboardInterrupt from None
    finally:
        if main and handler:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's greetings and its known false alarms off the terminal."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in QUIET:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
