"""Checks of the first training step: trained parameters have a gradient, and frozen ones do not move."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from ...core.errors import SkyclassError
from ...core.text import listed
from ...models.network import Network
from .task import Task

logger = logging.getLogger(__name__)

REPORT = "this is a fault of Skyclass: please report it with the recipe"


class FirstStepCheck(Callback):
    """Checks the gradients of the first step of each session, and which parameters they moved.

    Frozen tensors are copied to the CPU for that step. Parameters whose gradient is zero, and is so again in the second
    step, are reported: in the first, those behind a factor that begins with zero (adapters, residual branches) have
    none yet.
    """

    def __init__(self) -> None:
        self._first = 0
        self._copies: dict[str, Tensor] = {}
        self._zero: list[str] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the frozen tensors."""
        self._first, self._zero = trainer.global_step, []
        if isinstance(pl_module, Task):
            self._copies = {
                name: value.detach().cpu().clone() for name, value in frozen_tensors(pl_module.network).items()
            }

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Errors: SkyclassError for a trained parameter without a gradient, or a frozen one with one."""
        step = trainer.global_step - self._first
        if step > 1 or not isinstance(pl_module, Task):
            return
        if step == 0:
            check_gradients(pl_module.network)
            self._zero = zero_gradients(pl_module.network)
            return
        dead = [name for name in zero_gradients(pl_module.network) if name in self._zero]
        if dead and trainer.is_global_zero:
            logger.warning(
                f"Warning: the gradient of {listed(dead, 4)} is zero in the first two steps: the loss does not see it"
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Compare the copies after the first step, and drop them. Errors: SkyclassError if one has changed."""
        if not self._copies or trainer.global_step == self._first or not isinstance(pl_module, Task):
            return
        now = frozen_tensors(pl_module.network)
        moved = [name for name, value in self._copies.items() if not torch.equal(value, now[name].detach().cpu())]
        self._copies = {}
        if moved:
            raise SkyclassError(
                f"{listed(moved, 4)} moved in the first step, and is frozen", where="training", fix=REPORT
            )


def frozen_tensors(network: Network) -> dict[str, Tensor]:
    """By name, the tensors that a step must not change: frozen parameters, and the buffers of modules in `still`."""
    found: dict[str, Tensor] = {name: value for name, value in network.named_parameters() if not value.requires_grad}
    for name in network.still:
        module = network.backbone.get_submodule(name)
        found |= {f"backbone.{name}.{inner}": value for inner, value in module.named_buffers()}
    return found


def check_gradients(network: Network) -> None:
    """After a backward pass: every trained parameter has a gradient, and no frozen one has.

    Errors: SkyclassError that names those of which this is not true.
    """
    absent = [name for name, one in network.named_parameters() if one.requires_grad and one.grad is None]
    if absent:
        modules = [name.removeprefix("backbone.").rpartition(".")[0] for name in absent if name.startswith("backbone.")]
        frozen = ", ".join(dict.fromkeys([*network.frozen, *filter(None, modules)]))
        fix = f"freeze what is not used with --set 'model.freeze=[{frozen}]'"
        if network.adapted or not all(modules) or not modules:
            fix = "take another head or backbone"
        what = f"{listed(absent, 4)} shall be trained, and takes no part in the loss"
        raise SkyclassError(what, where="training", fix=fix)
    present = [name for name, one in network.named_parameters() if not one.requires_grad and one.grad is not None]
    if present:
        raise SkyclassError(f"{listed(present, 4)} has a gradient, and is frozen", where="training", fix=REPORT)


def zero_gradients(network: Network) -> list[str]:
    """Names of the trained parameters whose gradient is zero everywhere."""
    named = [(name, one.grad) for name, one in network.named_parameters() if one.grad is not None]
    if not named:
        return []
    nonzero = torch.stack([gradient.any() for _, gradient in named]).tolist()  # one wait for the device
    return [name for (name, _), some in zip(named, nonzero, strict=True) if not some]
