"""Averages of the weights over the training steps (EMA, SWA), validated and saved in place of the weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from ...recipes.training_settings import TrainingSettings

# The share that the weights after optimiser step n (from 0, over all stages) get in the average, which keeps the rest.
Share = Callable[[int], float]


def ema(decay: float) -> Share:
    """Exponential: the average keeps min(decay, (1 + n) / (10 + n)) of itself.

    The ramp gives the random weights of the start little influence (as in TensorFlow's ExponentialMovingAverage
    with `num_updates`).
    """
    return lambda n: 1.0 - min(decay, (1 + n) / (10 + n))


def swa(begin: int) -> Share:
    """Stochastic weight averaging (Izmailov et al. 2018, arXiv:1803.05407): the mean of the weights after step `begin`
    and all later ones; until then the weights themselves.
    """
    return lambda n: 1.0 / (max(0, n - begin) + 1)


class Averaging(WeightAveraging):
    """Lightning's, which validates with the average and saves both it and the weights, with a `Share`.

    Buffers are averaged with the weights, so that batch normalisation has statistics to its weights; those that are
    whole numbers (batches counted) are copied.
    """

    def __init__(self, share: Share) -> None:
        def average(averages: list[Tensor], currents: list[Tensor], n: Tensor | int) -> None:
            if averages[0].is_floating_point():
                # a + w (c - a): what is frozen stays as it is, to the last bit.
                torch._foreach_lerp_(averages, currents, share(int(n)))
            else:
                torch._foreach_copy_(averages, currents)

        super().__init__(use_buffers=True, multi_avg_fn=average)


def averaging_of(settings: TrainingSettings, first_step: int, steps: int) -> Averaging | None:
    """The callback for a stage of `steps` optimiser steps that begins after `first_step`; None without averaging."""
    shares = {"ema": ema(settings.ema_decay), "swa": swa(first_step + int(settings.swa_start * steps))}
    return Averaging(shares[settings.averaging]) if settings.averaging in shares else None
