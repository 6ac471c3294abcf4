"""Optimisers and learning-rate schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import optim
from torch.nn import Parameter
from torch.optim import lr_scheduler

from ...core.errors import SkyclassError
from ...models.fine_tuning import parameter_groups
from ...models.network import Network
from ...recipes.training_settings import TrainingSettings, score_mode

Parameters = Iterable[Parameter] | Iterable[dict[str, Any]]
"""Parameters of one rate, or groups of them with a rate each."""


def adam(parameters: Parameters, settings: TrainingSettings) -> optim.Optimizer:
    """Kingma & Ba 2015 (arXiv:1412.6980); the weight decay is an L2 term in the gradient."""
    return optim.Adam(parameters, settings.learning_rate, settings.betas, settings.eps, settings.weight_decay)


def adamw(parameters: Parameters, settings: TrainingSettings) -> optim.Optimizer:
    """Loshchilov & Hutter 2019 (arXiv:1711.05101); the weight decay acts on the weights themselves."""
    return optim.AdamW(parameters, settings.learning_rate, settings.betas, settings.eps, settings.weight_decay)


def sgd(parameters: Parameters, settings: TrainingSettings) -> optim.Optimizer:
    """Stochastic gradient descent with momentum, Nesterov's on request; the weight decay is an L2 term.

    Errors: SkyclassError for Nesterov's momentum of 0.
    """
    if settings.nesterov and settings.momentum == 0.0:
        fix = "set training.momentum, such as 0.9, or nesterov to false"
        raise SkyclassError("Nesterov's momentum needs a momentum above 0", where="training.nesterov", fix=fix)
    return optim.SGD(
        parameters,
        settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.nesterov,
    )


OPTIMIZERS: dict[str, Callable[[Parameters, TrainingSettings], optim.Optimizer]] = {
    "adam": adam,
    "adamw": adamw,
    "sgd": sgd,
}


def build_optimizer(network: Network, settings: TrainingSettings) -> optim.Optimizer:
    """The recipe's optimiser over what is trained, in groups with a `name` and an `lr`.

    One group `all` where `training.rates` is empty; else a group for each part that is trained (early, middle, late,
    head), with its own rate or `training.learning_rate`.
    Errors: SkyclassError for the rate of a part in which nothing is trained.
    """
    rates = {part: rate for part, rate in settings.rates.model_dump().items() if rate is not None}
    if not rates:
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        return OPTIMIZERS[settings.optimizer]([{"params": trained, "name": "all"}], settings)
    parts = parameter_groups(network)
    for part in rates:
        if part not in parts:
            what = f"a learning rate for the part {part!r}, of which nothing is trained"
            fix = f"leave it out: {', '.join(parts)} {'is' if len(parts) == 1 else 'are'} trained"
            raise SkyclassError(what, where=f"training.rates.{part}", fix=fix)
    groups = [
        {"params": parameters, "name": part, "lr": rates.get(part, settings.learning_rate)}
        for part, parameters in parts.items()
    ]
    return OPTIMIZERS[settings.optimizer](groups, settings)


def none(optimizer: optim.Optimizer, settings: TrainingSettings, steps: int, steps_per_epoch: float) -> None:
    """The rate stays."""


def plateau(
    optimizer: optim.Optimizer, settings: TrainingSettings, steps: int, steps_per_epoch: float
) -> lr_scheduler.LRScheduler:
    """The rate falls when what is watched has made no progress for some epochs; stepped with its value."""
    mode = score_mode(settings.plateau_monitor or settings.monitor)
    return lr_scheduler.ReduceLROnPlateau(
        optimizer, mode=mode, factor=settings.plateau_factor, patience=settings.plateau_patience
    )


def onecycle(
    optimizer: optim.Optimizer, settings: TrainingSettings, steps: int, steps_per_epoch: float
) -> lr_scheduler.LRScheduler:
    """Up and down once in cosines over all `steps` (Smith & Topin 2018, arXiv:1708.07120).

    Each group rises to its own rate. The momentum falls and rises against it, from 0.95 to 0.85 and back; SGD with a
    momentum of 0 is left without one.
    """
    groups = optimizer.param_groups
    return lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in groups],
        total_steps=steps,
        pct_start=settings.warmup,
        div_factor=settings.start_divisor,
        final_div_factor=settings.end_divisor,
        cycle_momentum=groups[0].get("momentum") != 0.0,
    )


def cosine(
    optimizer: optim.Optimizer, settings: TrainingSettings, steps: int, steps_per_epoch: float
) -> lr_scheduler.LRScheduler:
    """Down to 0 in half a cosine over all `steps` (Loshchilov & Hutter 2017, arXiv:1608.03983, without restarts)."""
    return lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, steps))


def step(
    optimizer: optim.Optimizer, settings: TrainingSettings, steps: int, steps_per_epoch: float
) -> lr_scheduler.LRScheduler:
    """The rate falls by `step_factor` every `step_epochs` epochs."""
    size = max(1, round(settings.step_epochs * steps_per_epoch))
    return lr_scheduler.StepLR(optimizer, step_size=size, gamma=settings.step_factor)


Schedule = Callable[[optim.Optimizer, TrainingSettings, int, float], lr_scheduler.LRScheduler | None]
SCHEDULES: dict[str, Schedule] = {
    "none": none,
    "plateau": plateau,
    "onecycle": onecycle,
    "cosine": cosine,
    "step": step,
}
"""Each takes the optimiser, the recipe, the optimiser's steps in all, and its steps in an epoch (a fraction, maybe)."""
