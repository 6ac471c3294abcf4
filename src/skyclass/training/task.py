"""The one LightningModule: a step, and the metrics at the end of an epoch."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ..errors import SkyclassError
from ..evaluation.metrics import accuracy, auroc_macro, balanced_accuracy
from ..models.network import Network
from ..pixels import Statistics, network_input
from ..recipe import Recipe
from .losses import LOSSES
from .optimizers import OPTIMIZERS, SCHEDULES


class Batch(Protocol):
    """What a loader yields: images, labels, and their rows in the pack."""

    @property
    def images(self) -> Tensor:
        """(n, C, h, w)."""

    @property
    def labels(self) -> Tensor:
        """(n,) int64."""

    @property
    def rows(self) -> Tensor:
        """(n,) int64."""


class Task(LightningModule):
    """Holds the network, the recipe, the bands' mean and deviation, and the outputs of the epoch that is running."""

    mean: Tensor
    std: Tensor
    class_weights: Tensor | None

    def __init__(
        self, network: Network, recipe: Recipe, normalisation: Statistics, class_weights: Tensor | None, steps: int
    ) -> None:
        super().__init__()
        self.network, self.recipe, self.steps = network, recipe, steps
        self.register_buffer("mean", torch.tensor(normalisation[0]), persistent=False)
        self.register_buffer("std", torch.tensor(normalisation[1]), persistent=False)
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.loss = LOSSES[recipe.training.loss]
        self.plateau: ReduceLROnPlateau | None = None
        self._saved_plateau: dict[str, Any] | None = None
        self._outputs: dict[str, list[tuple[Tensor, Tensor]]] = {"train": [], "val": []}

    def forward(self, images: Tensor) -> Tensor:
        """Stored or augmented pixels (n, C, h, w) -> logits (n, K)."""
        x = network_input(images, self.mean, self.std, torch.float32)
        if self.recipe.training.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.network(x)
        return logits

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The loss of one batch. Errors: SkyclassError when it is no longer finite."""
        loss = self._step(batch, "train")
        if not torch.isfinite(loss):
            what = f"the loss is {float(loss.detach()):g} at epoch {self.current_epoch + 1}, step {batch_index + 1}"
            rows = ", ".join(str(row) for row in batch.rows[:8].tolist())
            fix = f"lower training.learning_rate, or look at the pack's images in rows {rows}, ..."
            raise SkyclassError(what, where="training", fix=fix)
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Collects the batch's logits."""
        self._step(batch, "val")

    def _step(self, batch: Batch, stage: str) -> Tensor:
        logits = self(batch.images)
        self._outputs[stage].append((logits.detach(), batch.labels))
        return self.loss(logits, batch.labels, self.class_weights, self.recipe.training)

    def on_train_epoch_start(self) -> None:
        """Dropout and the like start from (seed, epoch), so that a resumed epoch repeats the one it replaces."""
        torch.manual_seed(int(np.random.SeedSequence([self.recipe.seed, self.current_epoch]).generate_state(1)[0]))
        self._outputs["train"].clear()

    def on_validation_epoch_start(self) -> None:
        """Forget the last validation."""
        self._outputs["val"].clear()

    def on_validation_epoch_end(self) -> None:
        """Loss and accuracy over the epoch's training images as they were seen, and all metrics over validation."""
        logits, labels, loss = self._collected("train")
        self.log_dict({"train_loss": loss, "train_accuracy": accuracy(labels, _softmax(logits))})
        logits, labels, loss = self._collected("val")
        p = _softmax(logits)
        metrics = {
            "val_loss": loss,
            "val_accuracy": accuracy(labels, p),
            "val_balanced_accuracy": balanced_accuracy(labels, p),
            "val_auroc": auroc_macro(labels, p),
        }
        self.log_dict(metrics)

    def on_train_epoch_end(self) -> None:
        """Step the plateau schedule here, before the checkpoint is written: Lightning would do so after it."""
        if self.plateau:
            self.plateau.step(float(self.trainer.callback_metrics[self.recipe.training.monitor]))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the plateau's state."""
        if self.plateau:
            checkpoint["plateau"] = self.plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the plateau's state back; the optimiser brings its own learning rate."""
        self._saved_plateau = checkpoint.get("plateau")

    def _collected(self, stage: str) -> tuple[Tensor, np.ndarray, float]:
        """Logits (N, K), labels (N,) and the loss over the whole epoch."""
        outputs = self._outputs[stage]
        logits = torch.cat([one for one, _ in outputs])
        labels = torch.cat([other for _, other in outputs])
        loss = self.loss(logits, labels, self.class_weights, self.recipe.training)
        return logits, labels.cpu().numpy(), float(loss)

    def configure_optimizers(self) -> Any:
        """The optimiser over what is trained, and its schedule."""
        training = self.recipe.training
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        optimizer = OPTIMIZERS[training.optimizer](trained, training)
        schedule = SCHEDULES[training.schedule](optimizer, training, self.steps)
        if isinstance(schedule, ReduceLROnPlateau):
            self.plateau = schedule
            if self._saved_plateau:
                schedule.load_state_dict(self._saved_plateau)
            return optimizer
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _softmax(logits: Tensor) -> np.ndarray:
    """(N, K) -> (N, K) probabilities in float64."""
    return torch.softmax(logits.cpu().double(), dim=1).numpy()  # on the CPU: not every device has float64
