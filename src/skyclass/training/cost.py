"""What a training takes: time, speed, memory and parameters, in the run's `training.json`."""

from __future__ import annotations

import time

from lightning import Callback, LightningModule, Trainer

from ..files import write_json
from ..models.adapt import count_parameters
from ..models.hardware import describe, forget_peak_memory, peak_memory
from ..models.network import Network
from ..run import Run
from ..run_documents import Cost
from .plan import Plan
from .task import Task


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
        forget_peak_memory(pl_module.device)
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
            device=describe(pl_module.device),
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
