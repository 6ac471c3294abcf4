"""The TensorBoard log of a training. Nothing here draws random numbers, or changes what is trained."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from ...core.devices import peak_memory
from ...core.errors import SkyclassError
from ...core.plotting import thumbnail
from ...core.text import plain
from ...data.packs.loader import Batch
from ...explanation.figures import beside_overlay
from ...explanation.gradcam import grad_cam, heatmaps
from ...models.fine_tuning import parameter_groups
from ...models.network import Network
from .task import Task

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

HISTOGRAMS = 64  # tensors at most
BINS = 64
VALUES = 2**16  # of a tensor, at most


class TensorBoardCallback(Callback):
    """Writes events into `folder`; those of a run that is resumed take the place of those that were given up.

    Every `every` optimiser steps: the mean loss of the batches since the last row, the learning rate of each group, the
    norm of the gradient before it is clipped, whole and by part of the network, and the most memory so far (GB). After
    each validation: the scores. In it, with averaged weights where there are such: histograms of the trained weights,
    and `shown` beside their Grad-CAM for the predicted class.

    It must be before `Averaging`, which removes the averaged weights at the end of a validation.
    """

    def __init__(self, folder: Path, every: int, shown: Batch | None, names: list[str] | None) -> None:
        self.folder, self.every, self.shown, self.names = folder, every, shown, names
        self._writer: SummaryWriter | None = None
        self._hook: Callable[[threading.ExceptHookArgs], object] | None = None
        self._losses: list[float] = []
        self._parts: dict[str, list[torch.nn.Parameter]] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the file."""
        if not (trainer.is_global_zero and isinstance(pl_module, Task)):
            return
        from torch.utils.tensorboard import SummaryWriter  # half a second to import

        self._parts = parts_of(pl_module.network)
        self._hook, threading.excepthook = threading.excepthook, self._on_thread_error
        self._writer = SummaryWriter(str(self.folder), purge_step=trainer.global_step + 1)

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the loss of the batch."""
        if self._writer and isinstance(pl_module, Task):
            self._losses.append(pl_module.loss)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """The row of a step."""
        step = trainer.global_step + 1
        if not self._writer or step % self.every:
            return
        row = {"loss": sum(self._losses) / len(self._losses)}
        row |= {f"learning_rate/{group['name']}": float(group["lr"]) for group in optimizer.param_groups}
        row |= {f"gradient_norm/{name}": value for name, value in gradient_norms(self._parts).items()}
        row["peak_memory_gb"] = peak_memory(pl_module.device) / 1e9
        self._losses.clear()
        self._write(row, step)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Weights and maps."""
        if not (self._writer and isinstance(pl_module, Task)):
            return
        for name, values in sampled_weights(pl_module.network).items():
            self._writer.add_histogram(f"weights/{name}", values, trainer.global_step, bins=BINS)
        if self.shown is not None:
            try:
                self._show_maps(self._writer, trainer.global_step, pl_module, self.shown)
            except SkyclassError as error:  # a backbone without a feature map
                logger.warning(f"TensorBoard shows no Grad-CAM: {error}")
                self.shown = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The scores."""
        if self._writer and isinstance(pl_module, Task):
            self._write(pl_module.scores, trainer.global_step)
            self._writer.flush()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the file."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the file; if that fails too, it is the disk, which the exception tells of."""
        with suppress(OSError):
            self._close()

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        try:
            if writer:
                writer.close()
        finally:
            if self._hook:
                threading.excepthook, self._hook = self._hook, None

    def _on_thread_error(self, failed: threading.ExceptHookArgs) -> None:
        """Print no traceback of a full disk in the writer's thread: the writer's next call raises the error here."""
        if self._hook and not isinstance(failed.exc_value, OSError):
            self._hook(failed)

    def _write(self, row: dict[str, float], step: int) -> None:
        assert self._writer
        for tag, value in row.items():
            if not math.isnan(value):
                self._writer.add_scalar(tag, value, step)

    def _show_maps(self, writer: SummaryWriter, step: int, task: Task, shown: Batch) -> None:
        """One picture an image, and a table of what was predicted."""
        network = task.network
        result = grad_cam(network.features, network.classify, task.prepared(shown.images.to(task.device)))
        if not bool(torch.isfinite(result.logits).all()):
            return  # the task is about to refuse the weights
        pictures = [small(image) for image in shown.images.numpy()]
        chances = torch.softmax(result.logits.float(), dim=1).amax(dim=1).tolist()
        lines = ["| image | label | map for | its probability |", "|---|---|---|---:|"]
        for k, picture in enumerate(pictures):
            heat = heatmaps(result.maps[k : k + 1], (picture.shape[1], picture.shape[2]))[0].cpu().numpy()
            row = int(shown.rows[k])
            name = self.names[row] if self.names else f"row {row}"
            writer.add_image(f"grad_cam/{name}", beside_overlay(picture, heat), step, dataformats="HWC")
            label, target = task.classes[int(shown.labels[k])], task.classes[int(result.targets[k])]
            lines.append(f"| {plain(name)} | {plain(label)} | {plain(target)} | {chances[k]:.3f} |")
        writer.add_text("grad_cam", "\n".join(lines), step)


def parts_of(network: Network) -> dict[str, list[torch.nn.Parameter]]:
    """The trained parameters by part: early, middle, late, head; backbone and head where it cannot be divided."""
    try:
        return parameter_groups(network)
    except SkyclassError:
        parts: dict[str, list[torch.nn.Parameter]] = {"backbone": [], "head": []}
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                parts["backbone" if name.startswith("backbone.") else "head"].append(parameter)
        return {name: parameters for name, parameters in parts.items() if parameters}


def gradient_norms(parts: dict[str, list[torch.nn.Parameter]]) -> dict[str, float]:
    """The Euclidean norm of the gradient of each part, and of the whole as `all`."""
    squares = torch.stack([torch.stack([_square(one) for one in some]).sum() for some in parts.values()]).tolist()
    norms = {name: math.sqrt(square) for name, square in zip(parts, squares, strict=True)}
    return {"all": math.sqrt(sum(squares)), **norms}


def _square(parameter: torch.nn.Parameter) -> Tensor:
    if parameter.grad is None:
        return torch.zeros((), device=parameter.device)
    return torch.linalg.vector_norm(parameter.grad, dtype=torch.float32).square()


def sampled_weights(network: Network) -> dict[str, np.ndarray]:
    """Values of the trained weights by name: of up to 64 matrices and kernels, evenly chosen, up to 65,536 values each.

    Biases and normalisation layers, and tensors with values that are not finite, are left out.
    """
    trained = [(name, one) for name, one in network.named_parameters() if one.requires_grad and one.ndim > 1]
    chosen = trained[:: -(-len(trained) // HISTOGRAMS)] if trained else []
    values = {name: one.detach().flatten()[:: -(-one.numel() // VALUES)].float().cpu().numpy() for name, one in chosen}
    return {name: some for name, some in values.items() if np.isfinite(some).all()}


def small(image: np.ndarray) -> np.ndarray:
    """(C, H, W), any dtype -> (c, h, w) uint8 with one band or three, as small as a thumbnail."""
    picture = thumbnail(image)  # (h, w) or (h, w, 3)
    return picture[None] if picture.ndim == 2 else np.moveaxis(picture, -1, 0)
