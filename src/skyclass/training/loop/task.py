"""The one LightningModule: a step, and the scores of a validation."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase
from torch.optim.lr_scheduler import ReduceLROnPlateau

from ...core.distributed import all_gather, all_reduce_sum, broadcast_from_first, is_single_process, world_size
from ...core.errors import SkyclassError
from ...data.packs.loader import Batch
from ...evaluation.metrics import (
    accuracy,
    auroc_macro,
    auroc_per_class,
    balanced_accuracy,
    log_loss,
    macro_f1,
    recall_per_class,
)
from ...images.preprocess import network_input
from ...models.network import Network, NetworkOutput
from ...recipes.recipe import Recipe
from .checkpoints import RESUME_STATE
from .inputs import Inputs
from .losses import loss_terms, total_loss
from .optimizers import SCHEDULES, build_optimizer
from .segments import Plan

SPANNING = ("onecycle", "cosine")
"""Schedules that span a whole stage, and so start again with it."""

NEVER = 2**62
"""So many segments between two validations."""


class Task(LightningModule):
    """The network, the recipe, the bands' mean and deviation, and the outputs of the current validation.

    loss : of the last training batch
    scores : losses and scores of the last validation
    rates : learning rates of the last step, by group of parameters
    step_images : images of the last step, of all processes together
    """

    mean: Tensor
    std: Tensor
    class_weights: Tensor | None

    def __init__(self, network: Network, recipe: Recipe, plan: Plan, inputs: Inputs) -> None:
        super().__init__()
        self.network, self.recipe, self.plan = network, recipe, plan
        self.classes, self.names = inputs.classes, inputs.names
        self.register_buffer("mean", torch.tensor(inputs.normalisation[0]), persistent=False)
        self.register_buffer("std", torch.tensor(inputs.normalisation[1]), persistent=False)
        self.register_buffer("class_weights", inputs.class_weights, persistent=False)
        self.plateau: ReduceLROnPlateau | None = None
        self.loss = math.nan
        self.scores: dict[str, float] = {}
        self.rates: dict[str, float] = {}
        self.step_images = 0
        self._restored: dict[str, Any] = {}
        self._sums = [0.0, 0.0, 0.0]  # loss, hits and number of the training images since the last validation
        self._outputs: list[tuple[NetworkOutput, Tensor]] = []
        self._rows: deque[Tensor] = deque(maxlen=recipe.training.accumulate)  # of the batches of the last step

    def prepared(self, images: Tensor) -> Tensor:
        """Stored or augmented pixels (n, C, h, w) as the network takes them."""
        x = network_input(images, self.mean, self.std, torch.float32)
        return x.contiguous(memory_format=torch.channels_last) if self.recipe.training.channels_last else x

    def forward_output(self, images: Tensor) -> NetworkOutput:
        """The output of the network for stored or augmented pixels (n, C, h, w)."""
        return self.network.head_output(self.network.features(self.prepared(images)))

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The loss of one batch. Errors: SkyclassError when it is no longer finite.

        Of several processes each has a share of the batch. The mean of what they return, which is what the mean of
        their gradients belongs to, is the loss of the whole batch.
        """
        output = self.forward_output(batch.images)
        terms, divisors = loss_terms(output, batch.labels, self.class_weights, self.recipe.training)
        hits = (output.logits.argmax(1) == batch.labels).sum()
        counts = torch.stack([hits.to(terms.dtype), terms.new_tensor(len(batch.labels))])
        total = all_reduce_sum(torch.cat([divisors, divisors * terms, counts]))
        over, joined = total[: len(terms)], total[len(terms) : -2]
        value, right, n = torch.stack([(joined / over).sum(), *total[-2:]]).tolist()  # one wait for the device
        if not math.isfinite(value):
            self._refuse(value, terms, batch, batch_index)
        self.loss, self.step_images = value, int(n)
        self._rows.append(batch.rows)
        self._sums = [one + other for one, other in zip(self._sums, (n * value, right, n), strict=True)]
        return (terms * (world_size() * divisors / over)).sum()

    def _refuse(self, loss: float, terms: Tensor, batch: Batch, batch_index: int) -> None:
        """Raise with the images of the batch whose loss is not finite, or of the step that left weights that are not.

        Of a batch that is shared, those of the processes in which it is no number.
        """
        done = self.plan.segment(self.current_epoch).start + batch_index
        epoch, step = divmod(done, self.plan.n_batches)
        what, whose = f"the loss is {loss:g} at epoch {epoch + 1}, step {step + 1}", "this step"
        rows = batch.rows if not bool(terms.isfinite().all()) else batch.rows[:0]
        broken = [name for name, one in self.network.named_parameters() if not bool(torch.isfinite(one).all())]
        if broken and self._rows:
            what += f", as the step before left no finite weights in {broken[0]}"
            rows, whose = torch.cat(list(self._rows)), "that step"
        rows = torch.cat(all_gather(rows))
        which = ", ".join(f"row {row}" if self.names is None else str(self.names[row]) for row in rows[:8].tolist())
        fix = f"lower training.learning_rate, or look at the images of {whose}: {which}, ..."
        raise SkyclassError(what, where="training", fix=fix)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Collect the output of the network for the batch."""
        self._outputs.append((self.forward_output(batch.images), batch.labels))

    def on_after_backward(self) -> None:
        """Let the running statistics of batch normalisations be those of all processes: the mean of theirs."""
        if is_single_process():
            return
        norms = [one for one in self.network.modules() if isinstance(one, _NormBase) and one.training]
        buffers = [buffer for norm in norms for buffer in (norm.running_mean, norm.running_var) if buffer is not None]
        if buffers:
            means = all_reduce_sum(torch.cat(buffers)) / world_size()
            for buffer, mean in zip(buffers, means.split([len(buffer) for buffer in buffers]), strict=True):
                buffer.copy_(mean)

    def on_train_epoch_start(self) -> None:
        """Dropout and the like start from (seed, segment, device), so that a resumed segment repeats the lost one."""
        parts = [self.recipe.seed, self.current_epoch, self.global_rank]  # a zero at the end changes nothing
        torch.manual_seed(int(np.random.SeedSequence(parts).generate_state(1)[0]))
        # Lightning reads this number at the end of its epoch: this is how the plan decides.
        validates = self.plan.segment(self.current_epoch).validates
        self.trainer.check_val_every_n_epoch = 1 if validates else NEVER

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Note the rates: those after the last step of a schedule would be of no step."""
        self.rates = {group["name"]: float(group["lr"]) for group in optimizer.param_groups}

    def on_validation_epoch_start(self) -> None:
        """Clear the outputs of the last validation."""
        self._outputs.clear()

    def on_validation_epoch_end(self) -> None:
        """Loss and accuracy over the training batches since the last validation, and all scores."""
        loss, hits, n = self._sums
        self._sums = [0.0, 0.0, 0.0]
        outputs = self._outputs if is_single_process() else _of_all(self._outputs)
        measured = broadcast_from_first(lambda: self._validation_scores(outputs))
        self.scores = {"train_loss": loss / max(1, n), "train_accuracy": hits / max(1, n), **measured}
        self._outputs.clear()
        if not math.isfinite(self.scores["val_loss"]):
            what = f"the validation loss is {self.scores['val_loss']:g}: the weights are no longer of use"
            raise SkyclassError(what, where="training", fix="lower training.learning_rate, or set training.clip=1")
        self.log_dict(self.scores)  # for those that monitor one of them

    def _validation_scores(self, outputs: list[tuple[NetworkOutput, Tensor]]) -> dict[str, float]:
        """All that a validation measures."""
        labels = torch.cat([other for _, other in outputs])
        output = _joined([one for one, _ in outputs])
        weights = self.class_weights if self.class_weights is None else self.class_weights.to(labels.device)
        loss = float(total_loss(output, labels, weights, self.recipe.training))
        truth, p = labels.cpu().numpy(), _softmax(output.logits)
        scores = {
            "val_loss": loss,
            "val_accuracy": accuracy(truth, p),
            "val_balanced_accuracy": balanced_accuracy(truth, p),
            "val_macro_f1": macro_f1(truth, p),
            "val_auroc": auroc_macro(truth, p),
            "val_log_loss": log_loss(truth, p),
        }
        if output.error_logits is not None:
            error_probability = torch.sigmoid(output.error_logits.detach().cpu().double()).numpy()
            wrong = (p.argmax(axis=1) != truth).astype(np.int64)
            scores["val_uncertainty"] = float(error_probability.mean())
            both = np.stack([1 - error_probability, error_probability], axis=1)  # (N, 2)
            scores["val_error_auroc"] = float(auroc_per_class(wrong, both)[1])
        per_class = zip(self.classes, recall_per_class(truth, p), strict=True)
        return scores | {f"val_accuracy_{name}": float(value) for name, value in per_class}

    def on_train_epoch_end(self) -> None:
        """Step the plateau once an epoch, before the checkpoint is written: Lightning would do so after it."""
        if self.plateau and self.plan.segment(self.current_epoch).ends_epoch:
            self.plateau.step(self.scores[self.recipe.training.plateau_monitor or self.recipe.training.monitor])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the progress of the training, the sums since the last validation, and the plateau's state."""
        stop = self.plan.segment(self.current_epoch).stop
        checkpoint[RESUME_STATE] = {"segment": self.current_epoch + 1, "batch": stop, "n_batches": self.plan.n_batches}
        checkpoint["sums"] = list(self._sums)
        if self.plateau:
            checkpoint["plateau"] = self.plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the sums back; `configure_optimizers`, which Lightning calls later, needs the rest."""
        self._sums = list(checkpoint["sums"])
        self._restored = checkpoint

    def configure_optimizers(self) -> Any:
        """The optimiser over what is trained, and its schedule."""
        training = self.recipe.training
        optimizer = build_optimizer(self.network, training)
        schedule = SCHEDULES[training.schedule](optimizer, training, max(1, self.plan.steps), self.plan.steps_per_epoch)
        restored, self._restored = self._restored, {}
        if restored and training.schedule in SPANNING and restored[RESUME_STATE]["segment"] == self.plan.first:
            self._keep_new_rates(restored, optimizer)
        if isinstance(schedule, ReduceLROnPlateau):
            self.plateau = schedule
            if restored:
                schedule.load_state_dict(restored["plateau"])
            return optimizer
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @staticmethod
    def _keep_new_rates(restored: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
        """At the start of a stage, restore the moments of the optimiser from the checkpoint, and none of its rates."""
        for saved, fresh in zip(restored["optimizer_states"][0]["param_groups"], optimizer.param_groups, strict=True):
            saved.update({name: value for name, value in fresh.items() if name != "params"})
        restored["lr_schedulers"].clear()


def _of_all(outputs: list[tuple[NetworkOutput, Tensor]]) -> list[tuple[NetworkOutput, Tensor]]:
    """The outputs of all processes, in their order, on the CPU."""
    own = [
        (NetworkOutput(one.logits.cpu(), None if one.error_logits is None else one.error_logits.cpu()), labels.cpu())
        for one, labels in outputs
    ]
    return [pair for share in all_gather(own) for pair in share]


def _joined(parts: list[NetworkOutput]) -> NetworkOutput:
    """The batches of a validation as one."""
    errors = [part.error_logits for part in parts if part.error_logits is not None]
    return NetworkOutput(torch.cat([part.logits for part in parts]), torch.cat(errors) if errors else None)


def _softmax(logits: Tensor) -> np.ndarray:
    """(N, K) -> (N, K) probabilities in float64."""
    return torch.softmax(logits.cpu().double(), dim=1).numpy()  # on the CPU: not every device has float64
