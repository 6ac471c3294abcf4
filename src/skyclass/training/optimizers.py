"""Optimisers and learning-rate schedules."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import optim
from torch.nn import Parameter
from torch.optim import lr_scheduler

from ..recipe import TrainingRecipe


def adam(parameters: Iterable[Parameter], recipe: TrainingRecipe) -> optim.Optimizer:
    """Kingma & Ba 2015 (arXiv:1412.6980); the weight decay is an L2 term in the gradient."""
    return optim.Adam(parameters, recipe.learning_rate, recipe.betas, recipe.eps, recipe.weight_decay)


def adamw(parameters: Iterable[Parameter], recipe: TrainingRecipe) -> optim.Optimizer:
    """Loshchilov & Hutter 2019 (arXiv:1711.05101); the weight decay acts on the weights themselves."""
    return optim.AdamW(parameters, recipe.learning_rate, recipe.betas, recipe.eps, recipe.weight_decay)


OPTIMIZERS: dict[str, Callable[[Iterable[Parameter], TrainingRecipe], optim.Optimizer]] = {
    "adam": adam,
    "adamw": adamw,
}


def none(optimizer: optim.Optimizer, recipe: TrainingRecipe, steps: int) -> None:
    """The rate stays."""


def plateau(optimizer: optim.Optimizer, recipe: TrainingRecipe, steps: int) -> lr_scheduler.LRScheduler:
    """The rate falls when the monitored quantity has made no progress for some epochs."""
    return lr_scheduler.ReduceLROnPlateau(
        optimizer, mode=recipe.monitor_mode, factor=recipe.plateau_factor, patience=recipe.plateau_patience
    )


def onecycle(optimizer: optim.Optimizer, recipe: TrainingRecipe, steps: int) -> lr_scheduler.LRScheduler:
    """Up and down once in cosines over all `steps` (Smith & Topin 2018, arXiv:1708.07120)."""
    return lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=recipe.learning_rate,
        total_steps=steps,
        pct_start=recipe.warmup,
        div_factor=recipe.start_divisor,
        final_div_factor=recipe.end_divisor,
    )


SCHEDULES: dict[str, Callable[[optim.Optimizer, TrainingRecipe, int], lr_scheduler.LRScheduler | None]] = {
    "none": none,
    "plateau": plateau,
    "onecycle": onecycle,
}
