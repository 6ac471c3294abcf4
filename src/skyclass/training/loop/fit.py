"""Fit a network with a Lightning Trainer."""

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
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy

from ...classifier.run import Run
from ...core.devices import device_name, pick_precision
from ...core.distributed import is_single_process, launcher, nodes, rank, world_size
from ...core.errors import SkyclassError
from ...data.packs.loader import Batch
from ...models.network import Network
from ...recipes.recipe import Recipe
from .callbacks import CostCallback, EarlyStop, HistoryCallback, ProgressCallback, write_history, write_no_cost
from .checkpoints import BestCheckpoints, CheckpointIO, EpochCheckpoints, LastCheckpoint, read_checkpoint, resume_state
from .first_step import FirstStepCheck
from .inputs import Inputs, OnValidation, Stream
from .segments import Plan, plan_of
from .task import Task
from .tensorboard import TensorBoardCallback
from .weight_averaging import averaging_of

logger = logging.getLogger(__name__)

# Lightning's messages of every run, and its warnings that do not apply here.
QUIET = (
    ".*does not have many workers.*",  # the batches lie on the device already
    ".*smaller than the logging interval.*",
    ".*exists and is not empty.*",  # a resumed run keeps its checkpoints
    ".*lr_scheduler.step.*optimizer.step.*",
    ".*LeafSpec.*",
    ".*sync_dist=True.*",  # the scores are those of all processes already
    ".*broadcast_buffers.*deprecated.*",  # what takes its place is not in every torch, and would do no harm or good
    ".*in eval mode at the start of training.*",  # frozen modules are
)


@dataclass(frozen=True)
class Fitted:
    """The best checkpoint, whose weights the network now has, and the end of the training.

    best_epoch : epochs done when it was written, such as 2.25; 0 where nothing was trained
    best_score : its monitored score
    epochs : epochs done at the end
    """

    best_epoch: float
    best_score: float
    epochs: float


class Segments:
    """The data loader that Lightning gets: the batches of the next segment.

    It has no length, as segments differ; Lightning then reads one batch ahead to find the last one.
    """

    def __init__(self, train: Stream, plan: Plan) -> None:
        self.train, self.plan = train, plan
        self.trainer: Trainer | None = None

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the segment. Lightning calls this before it starts the epoch."""
        assert self.trainer is not None
        number = self.trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]
        segment = self.plan.segment(number)
        return self.train.stream(segment.start, segment.stop)


class WholeValidation:
    """The validation batches without their number: Lightning skips the validation in a process that has none of them,
    and the others would wait for it.
    """

    def __init__(self, val: Iterable[Batch]) -> None:
        self.val = val

    def __iter__(self) -> Iterator[Batch]:
        """The batches of this process."""
        return iter(self.val)


def fit(
    network: Network,
    recipe: Recipe,
    run: Run,
    inputs: Inputs,
    *,
    device: torch.device,
    on_validation: OnValidation | None = None,
) -> Fitted:
    """Train `network` in place and leave it with the weights of its best validation, in `eval()`.

    A run that has a last checkpoint resumes from it. Several processes in a `process_group` train together: their
    inputs are shares of the batches, and the first one alone writes into the run.
    Errors: SkyclassError for a loss that is no longer finite, or a checkpoint that does not fit.
    """
    if rank() == 0:
        _remove_partial_files(run)
    stage = run.stages()[-1]
    plan = plan_of(recipe.training, inputs.train.n_batches, stage.batch, stage.segment)
    if recipe.training.channels_last:
        network.to(memory_format=torch.channels_last)
    resumed = run.last_checkpoint.is_file()
    if not resumed and not plan.segments:
        if rank() == 0:
            write_history(run.history_file, [])
            write_no_cost(run, network, device_name(device))
        network.to(device).eval()
        return Fitted(0.0, float("nan"), 0.0)
    task, segments = Task(network, recipe, plan, inputs), Segments(inputs.train, plan)
    best = BestCheckpoints(run.checkpoints, recipe.training, plan)
    with quiet_lightning():
        callbacks = [*_callbacks(recipe, run, plan, inputs, on_validation), *_checkpoints(recipe, run, plan, best)]
        trainer = segments.trainer = _trainer(recipe, device, plan, callbacks)
        with keyboard_interrupts(trainer), located_mismatch(run):
            last = run.last_checkpoint if resumed else None
            trainer.fit(task, segments, WholeValidation(inputs.val), ckpt_path=last, weights_only=True)
    done = plan.segment(trainer.current_epoch - 1).stop if plan.segments else plan.stop
    with located_mismatch(run):
        return _best(task, best, run.last_checkpoint, done)


def _best(task: Task, best: BestCheckpoints, last: Path, batch: int) -> Fitted:
    """Give the network the weights of the best checkpoint; where none is left, of the last one."""
    path = Path(best.best_model_path or last)
    if path == last:
        logger.warning("The best checkpoint is gone: the last one takes its place")
    checkpoint = read_checkpoint(path)
    task.load_state_dict(checkpoint["state_dict"])
    task.network.eval()
    score = float(best.best_model_score) if best.best_model_score is not None else float("nan")
    plan = task.plan
    return Fitted(plan.epochs_at(resume_state(checkpoint).batch), score, plan.epochs_at(batch))


def _callbacks(
    recipe: Recipe, run: Run, plan: Plan, inputs: Inputs, on_validation: OnValidation | None
) -> list[Callback]:
    """All but those that write checkpoints, which Lightning calls behind these."""
    training = recipe.training
    callbacks: list[Callback] = [FirstStepCheck()]
    if rank() == 0:
        callbacks += [
            HistoryCallback(run.history_file, plan, on_validation),
            ProgressCallback(plan, inputs.n_images, recipe.training.monitor),
            CostCallback(run, plan, inputs.n_images),
            TensorBoardCallback(run.log, training.watch_every_steps, inputs.shown, inputs.names),
        ]
    averaging = averaging_of(training, run.stages()[-1].step, plan.steps)
    if averaging:
        callbacks.append(averaging)
    if training.early_stopping:
        callbacks.append(EarlyStop(training, plan))
    return callbacks


def _checkpoints(recipe: Recipe, run: Run, plan: Plan, best: BestCheckpoints) -> list[Callback]:
    """In this order, so that each checkpoint names the best one up to its segment, and the last one all."""
    every = recipe.training.keep_every
    kept: list[Callback] = [EpochCheckpoints(run.checkpoints, every, plan)] if every else []
    return [best, *kept, LastCheckpoint(run.last_checkpoint)]


def _trainer(recipe: Recipe, device: torch.device, plan: Plan, callbacks: list[Callback]) -> Trainer:
    training, strategy, n_nodes = recipe.training, _strategy(), nodes()
    on_one = [device.index or 0] if device.type == "cuda" else 1
    half = pick_precision(training.precision, device) == torch.bfloat16
    return Trainer(
        accelerator="gpu" if device.type == "cuda" else device.type,
        devices=world_size() // n_nodes if strategy else on_one,
        num_nodes=n_nodes,
        strategy=strategy or "auto",
        max_epochs=plan.after,
        precision="bf16-mixed" if half else "32-true",
        accumulate_grad_batches=training.accumulate,
        gradient_clip_val=training.clip,
        gradient_clip_algorithm="norm",
        callbacks=callbacks,
        # A single process ignores the environment of a cluster.
        plugins=[CheckpointIO()] if strategy else [CheckpointIO(), LightningEnvironment()],
        logger=False,  # TensorBoardCallback writes
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


def _strategy() -> Strategy | None:
    """Lightning's data parallelism, where several processes are joined.

    Each normalises over its own share of a batch, and the task averages the running statistics after each step.
    """
    environment = None if is_single_process() else launcher()
    return DDPStrategy(cluster_environment=environment, broadcast_buffers=False) if environment else None


def _remove_partial_files(run: Run) -> None:
    """Remove the partial files of a process that was killed."""
    for folder in (run.path, run.checkpoints):
        for part in folder.glob(".*.part"):
            part.unlink(missing_ok=True)


@contextmanager
def keyboard_interrupts(trainer: Trainer) -> Iterator[None]:
    """Raise KeyboardInterrupt on Ctrl-C, where Lightning exits, and restore the signal handler afterwards."""
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
def located_mismatch(run: Run) -> Iterator[None]:
    """Raise a SkyclassError for a checkpoint that does not fit the network."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if not str(error).startswith(("Error(s) in loading state_dict", "loaded state dict")):  # of torch
            raise
        what = "the checkpoint is of another network than the run's recipe describes"
        raise SkyclassError(what, where=run.recipe_file, fix="restore the recipe that the run began with") from None


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's greetings and its known false warnings."""
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
