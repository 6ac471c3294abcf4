"""The learning-rate range test (Smith 2017, arXiv:1506.01186, section 3.3): which rate makes the loss fall fastest.

A short training of a copy, in which the rate grows geometrically from step to step. The loss is flat while the rate is
too small, falls, and rises again where it is too large.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

from ..classifier.run import Run
from ..core.console import progress
from ..core.devices import pick_precision
from ..core.errors import SkyclassError
from ..core.files.csv_files import write_csv
from ..core.plotting import save_figure
from ..data.packs.loader import Batch
from ..images.preprocess import network_input
from ..models.network import Network
from ..recipes.recipe import Recipe
from ..recipes.training_settings import TrainingSettings
from .figures import rates_figure
from .loop.inputs import Inputs, Stream
from .loop.losses import total_loss
from .loop.optimizers import build_optimizer

logger = logging.getLogger(__name__)

LOWEST, HIGHEST, STEPS = 1e-7, 1.0, 100
DIVERGED = 4.0  # times the best loss
DECAY = 0.9  # of the running mean by which divergence is detected
CLEAR = 3.0  # deviations of the smoothed losses at small rates: a fall that is no accident
LEFT = 0.1  # of the whole fall: so much of it is behind when the level of the beginning is left
WIDTH = 4.0  # steps: the deviation of the Gaussian that smooths the losses, centred, so that they do not lag


class RateSearch(NamedTuple):
    """What the range test found, one number a step."""

    rates: np.ndarray
    """(n,) rates in place of `training.learning_rate`; the parts of the network keep their ratios to it."""
    losses: np.ndarray
    """(n,) loss of each batch at its rate, less what sets it apart from the others for the untrained network."""
    smoothed: np.ndarray
    """(n,) the same without the rest of the noise."""
    suggestion: float
    """The rate at which the smoothed loss falls most steeply, for `training.learning_rate`."""


def find_rate(
    network: Network,
    batches: Iterable[Batch],
    to_input: Callable[[Tensor], Tensor],
    settings: TrainingSettings,
    class_weights: Tensor | None,
    device: torch.device,
) -> RateSearch:
    """The range test over 100 batches at most, with the recipe's optimiser, loss and precision.

    network : as a training begins with it; it and the random state are left as they are
    batches : on the device; started again where they end
    to_input : (n, C, h, w) stored pixels -> the network's input
    class_weights : (K,) on the device, or None

    Errors: SkyclassError where there is no batch, or where the loss falls at no rate.
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        trained = copy.deepcopy(network).to(device).train()
        losses = _losses(trained, _endless(batches), to_input, settings, class_weights, device)
    rates = np.geomspace(LOWEST, HIGHEST, STEPS)[: len(losses)]
    smoothed, suggestion = suggest_rate(rates, losses)
    return RateSearch(rates, losses, smoothed, suggestion)


def find_learning_rate(
    run: Run, recipe: Recipe, network: Network, train: Stream, inputs: Inputs, device: torch.device
) -> Recipe:
    """Do the range test for a run, draw it, and write the recipe with the rate that it suggests into the run.

    The batches are those of a training, each epoch in another order: the same ones again and again would beat in time.
    Returns the recipe. Errors: as `find_rate`.
    """
    mean, std = (torch.tensor(values, device=device) for values in inputs.normalisation)
    weights = None if inputs.class_weights is None else inputs.class_weights.to(device)

    def to_input(images: Tensor) -> Tensor:
        return network_input(images, mean, std, torch.float32)

    search = find_rate(network, train.stream(0, STEPS), to_input, recipe.training, weights, device)
    table = pd.DataFrame({"learning_rate": search.rates, "loss": search.losses, "smoothed": search.smoothed})
    write_csv(table, run.rates_file)
    picture = run.rates_file.with_suffix(".png")
    save_figure(rates_figure(*search), picture)
    rate, before = float(f"{search.suggestion:.3g}"), recipe.training.learning_rate
    logger.info(f"Learning rate: {rate:g} instead of {before:g}, for there the loss falls most steeply: {picture}")
    found = with_rate(recipe, rate)
    run.write_learning_rate(found)
    return found


def with_rate(recipe: Recipe, rate: float) -> Recipe:
    """The recipe with another `training.learning_rate`; the parts' own rates keep their ratios to it."""
    training, factor = recipe.training, rate / recipe.training.learning_rate
    own = {part: factor * value for part, value in training.rates.model_dump().items() if value is not None}
    changes = {"learning_rate": rate, "rates": training.rates.model_copy(update=own)}
    return recipe.model_copy(update={"training": training.model_copy(update=changes)})


def suggest_rate(rates: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, float]:
    """The smoothed losses (n,), and the rate of their steepest fall on the way from the level they begin at to the
    least.

    rates : (n,) rising geometrically; losses : (n,)

    The way begins where they leave that level for good: before, a fall is only the noise from batch to batch.
    Errors: SkyclassError where they do not clearly fall below it.
    """
    if not len(losses):
        raise _no_fall()
    smoothed = gaussian_filter1d(losses, WIDTH, mode="mirror")
    least = int(smoothed.argmin())
    early = slice(0, least // 2 + 1)
    level = float(np.median(smoothed[early]))
    fall = level - float(smoothed[least])
    if not fall > CLEAR * float(np.std(smoothed[early])):
        raise _no_fall()
    left = int(np.flatnonzero(smoothed[: least + 1] >= level - LEFT * fall).max(initial=0))
    slope = np.gradient(smoothed, np.log10(rates))
    return smoothed, float(rates[left + int(slope[left : least + 1].argmin())])


def _no_fall() -> SkyclassError:
    fix = "take larger batches, look at the images and labels, or try another optimizer"
    return SkyclassError("the loss falls at no learning rate", where="learning-rate finder", fix=fix)


def _losses(
    network: Network,
    batches: Iterator[Batch],
    to_input: Callable[[Tensor], Tensor],
    settings: TrainingSettings,
    class_weights: Tensor | None,
    device: torch.device,
) -> np.ndarray:
    """(n,) the loss at each rate, up to the one at which the training diverges.

    Batches differ in difficulty, often by more than the whole fall. So each is also given to the network as it began
    (with the same dropout), and what sets it apart there from the mean of the batches is taken off.
    """
    initial = copy.deepcopy(network)
    optimizer = build_optimizer(network, settings)
    ratios = [group["lr"] / settings.learning_rate for group in optimizer.param_groups]
    half = pick_precision(settings.precision, device) == torch.bfloat16
    losses: list[float] = []
    first: list[float] = []  # of the network as it began

    def loss_of(network: Network, batch: Batch) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            output = network.head_output(network.features(to_input(batch.images)))
        return total_loss(output, batch.labels, class_weights, settings)

    mean, best = 0.0, math.inf
    with progress("Learning rates", STEPS, unit="steps") as advance:
        for step, rate in enumerate(np.geomspace(LOWEST, HIGHEST, STEPS).tolist()):
            for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
                group["lr"] = ratio * rate
            batch = next(batches)
            with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
                before = loss_of(initial, batch).item()
            loss = loss_of(network, batch)
            mean = DECAY * mean + (1.0 - DECAY) * loss.item()
            running = mean / (1.0 - DECAY ** (step + 1))  # without the zero that it began with
            best = min(best, running)
            if not running <= DIVERGED * best:  # nor a number
                break
            losses.append(loss.item())
            first.append(before)
            optimizer.zero_grad()
            loss.backward()
            if settings.clip is not None:
                nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
            optimizer.step()
            advance(1)
    return np.array(losses) - np.array(first) + np.mean(first) if losses else np.array([])


def _endless(batches: Iterable[Batch]) -> Iterator[Batch]:
    while True:
        count = 0
        for batch in batches:
            count += 1
            yield batch
        if not count:
            fix = "give a loader, which can be gone through again"
            raise SkyclassError("there are no more batches", where="learning-rate finder", fix=fix)
