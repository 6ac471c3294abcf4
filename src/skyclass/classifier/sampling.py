"""Several predictions of one image: of the members of an ensemble, by dropout, and of the orientations of the image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import logsumexp
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from ..core.errors import SkyclassError
from ..images.dihedral import AS_IT_IS, orient, orientations_of
from ..models.network import Network, NetworkOutput
from .novelty import Novelty


class Samples(NamedTuple):
    """S predictions of n images."""

    log_p: np.ndarray
    """(S, n, K) float64, ln of the class probabilities."""
    error_probability: np.ndarray | None
    """(S, n) float64, the chance that the class with the highest probability is wrong, with an uncertainty head."""
    pooled: np.ndarray | None = None
    """(M, n, F) float32, the pooled features of the images as they are, of each of the M networks."""


class ClassifierOutput(NamedTuple):
    """The output of a classifier's networks for n images, before the calibration."""

    log_p: np.ndarray
    """(n, K) float64, ln of the mean of the probabilities of an ensemble's members, and of the orientations."""
    error_probability: np.ndarray | None
    """(n,) float64 in [0, 1], the mean chance that the most probable class is wrong, where there is a head for it."""
    novelty: np.ndarray | None
    """(n,) float64, the distance from the training images, above 1 for images unlike them, where it is measured."""


def sample_networks(
    networks: Sequence[Network], images: Tensor, swapped: np.ndarray | None, dropout: int, seed: int
) -> Samples:
    """The samples of every network, one after the other: of Monte Carlo dropout where `dropout` is not 0, else of the
    orientations. Errors: as `mc_dropout`."""
    if dropout:
        taken = [mc_dropout(network, images, dropout, seed + row) for row, network in enumerate(networks)]
    else:
        taken = [orientation_samples(network, images, swapped) for network in networks]
    errors = [one.error_probability for one in taken if one.error_probability is not None]
    pooled = [one.pooled for one in taken if one.pooled is not None]
    return Samples(
        np.concatenate([one.log_p for one in taken]),
        np.concatenate(errors) if errors else None,
        np.concatenate(pooled) if pooled else None,
    )


def mean_output(samples: Samples, novelty: Novelty | None) -> ClassifierOutput:
    """The mean of the samples, and how far their images lie from those of the training."""
    log_p = logsumexp(samples.log_p, axis=0) - math.log(len(samples.log_p))  # (S, n, K) -> (n, K)
    error = None if samples.error_probability is None else samples.error_probability.mean(axis=0)
    if novelty is None or samples.pooled is None:
        return ClassifierOutput(log_p, error, None)
    return ClassifierOutput(log_p, error, novelty.score(samples.pooled))


@torch.inference_mode()
def orientation_samples(network: Network, images: Tensor, swapped: np.ndarray | None) -> Samples:
    """A sample of each orientation of the network input (n, C, h, w); where `swapped` is None, of the input as it is.

    swapped : (K,) the class that each class turns into in a mirror, by which the predictions of mirror images
        become those of the images themselves
    """
    height, width = images.shape[-2:]
    log_p, errors = [], []
    pooled: list[np.ndarray] = []
    for orientation in [AS_IT_IS] if swapped is None else orientations_of(height, width):
        view = images if orientation == AS_IT_IS else orient(images, orientation)
        view = view.contiguous(memory_format=torch.channels_last)
        features = network.features(view)
        if not pooled:
            pooled.append(network.pooled(features).float().cpu().numpy())
        p, error = _probabilities(network.head_output(features))
        log_p.append(p[:, swapped] if swapped is not None and orientation.mirrored else p)
        errors += [] if error is None else [error]
    return Samples(np.stack(log_p), np.stack(errors) if errors else None, np.stack(pooled))


@torch.inference_mode()
def mc_dropout(network: Network, images: Tensor, n: int, seed: int) -> Samples:
    """n samples of the network input (N, C, h, w) with the dropout layers alone in training mode: Monte Carlo dropout
    (Gal & Ghahramani 2016, arXiv:1506.02142, section 4).

    The random numbers of torch outside are left as they were.
    Errors: SkyclassError for a network without dropout.
    """
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices), _dropping_out(network) as in_backbone:
        torch.manual_seed(seed)
        features = None if in_backbone else network.features(images)
        found = [
            _probabilities(network.head_output(network.features(images) if features is None else features))
            for _ in range(n)
        ]
    errors = [error for _, error in found if error is not None]
    return Samples(np.stack([p for p, _ in found]), np.stack(errors) if errors else None)


@contextmanager
def _dropping_out(network: Network) -> Iterator[bool]:
    """Dropout layers in training mode; yields whether the backbone has any."""
    layers = dropout_layers(network)
    if not layers:
        fix = "train with dropout: skyclass train RECIPE PACK --out RUN --set model.dropout=0.2"
        raise SkyclassError("this network has no dropout to take samples of", fix=fix)
    modes = [layer.training for layer in layers]
    try:
        for layer in layers:
            layer.train()
        yield bool(dropout_layers(network.backbone))
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.train(mode)


def dropout_layers(module: nn.Module) -> list[_DropoutNd]:
    """The layers of a network that drop anything."""
    return [layer for layer in module.modules() if isinstance(layer, _DropoutNd) and layer.p > 0.0]


def _probabilities(output: NetworkOutput) -> tuple[np.ndarray, np.ndarray | None]:
    """ln p (n, K) and the chance of an error (n,) in float64, computed on the CPU: not every device has float64."""
    log_p = torch.log_softmax(output.logits.cpu().double(), dim=1).numpy()
    return log_p, None if output.error_logits is None else torch.sigmoid(output.error_logits.cpu().double()).numpy()
