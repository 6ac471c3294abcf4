"""Several answers about one image: of the members of an ensemble, by dropout, and by the orientations of the image."""

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
from ..images.dihedral import orientations_of, turned
from ..models.network import Judgement, Network
from .novelty import Novelty


class Samples(NamedTuple):
    """S answers about n images."""

    log_p: np.ndarray
    """(S, n, K) float64, ln of the class probabilities."""
    doubt: np.ndarray | None
    """(S, n) float64, the chance that the class with the highest probability is wrong, where a head tells it."""
    pooled: np.ndarray | None = None
    """(M, n, F) float32, the pooled features of the images as they are, of each of the M networks that answer."""


class Look(NamedTuple):
    """What the networks tell of n images."""

    log_p: np.ndarray
    """(n, K) float64, ln of the mean of the probabilities of an ensemble's members, and of the orientations."""
    doubt: np.ndarray | None
    """(n,) float64 in [0, 1], the mean chance that the most probable class is wrong, where there is a head for it."""
    novelty: np.ndarray | None
    """(n,) float64, the distance from the training images, above 1 for images unlike them, where it is measured."""


def ask(networks: Sequence[Network], images: Tensor, swapped: np.ndarray | None, dropout: int, seed: int) -> Samples:
    """The samples of every network, one after the other: of Monte Carlo dropout where `dropout` is not 0, else of the
    orientations. Errors: as `mc_dropout`."""
    if dropout:
        taken = [mc_dropout(network, images, dropout, seed + row) for row, network in enumerate(networks)]
    else:
        taken = [orientation_samples(network, images, swapped) for network in networks]
    doubts = [one.doubt for one in taken if one.doubt is not None]
    pooled = [one.pooled for one in taken if one.pooled is not None]
    return Samples(
        np.concatenate([one.log_p for one in taken]),
        np.concatenate(doubts) if doubts else None,
        np.concatenate(pooled) if pooled else None,
    )


def pooled_answers(samples: Samples, novelty: Novelty | None) -> Look:
    """The mean of the samples, and how far their images lie from those of the training."""
    log_p = logsumexp(samples.log_p, axis=0) - math.log(len(samples.log_p))  # (S, n, K) -> (n, K)
    doubt = None if samples.doubt is None else samples.doubt.mean(axis=0)
    if novelty is None or samples.pooled is None:
        return Look(log_p, doubt, None)
    return Look(log_p, doubt, novelty.score(samples.pooled))


@torch.inference_mode()
def orientation_samples(network: Network, images: Tensor, swapped: np.ndarray | None) -> Samples:
    """An answer about each orientation of the network input (n, C, h, w); where `swapped` is None, about it as it is.

    swapped : (K,) the class that each class turns into in a mirror, by which the answers about mirror images are named
        for the images themselves
    """
    height, width = images.shape[-2:]
    log_p, doubts = [], []
    pooled: list[np.ndarray] = []
    for orientation in orientations_of(height, width)[: None if swapped is not None else 1]:
        view = turned(images, orientation).contiguous(memory_format=torch.channels_last)
        features = network.features(view)
        if not pooled:
            pooled.append(network.pooled(features).float().cpu().numpy())
        p, doubt = _answer(network.judge(features))
        log_p.append(p[:, swapped] if swapped is not None and orientation.mirrored else p)
        doubts += [] if doubt is None else [doubt]
    return Samples(np.stack(log_p), np.stack(doubts) if doubts else None, np.stack(pooled))


@torch.inference_mode()
def mc_dropout(network: Network, images: Tensor, n: int, seed: int) -> Samples:
    """n answers about the network input (N, C, h, w) with dropout at work and all else, as batch normalisation, at
    rest: Monte Carlo dropout (Gal & Ghahramani 2016, arXiv:1506.02142, section 4).

    The random numbers of torch outside are left as they were.
    Errors: SkyclassError for a network without dropout.
    """
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices), _dropping_out(network) as in_backbone:
        torch.manual_seed(seed)
        features = None if in_backbone else network.features(images)
        answers = [_answer(network.judge(network.features(images) if features is None else features)) for _ in range(n)]
    doubts = [doubt for _, doubt in answers if doubt is not None]
    return Samples(np.stack([p for p, _ in answers]), np.stack(doubts) if doubts else None)


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


def _answer(judgement: Judgement) -> tuple[np.ndarray, np.ndarray | None]:
    """ln p (n, K) and the doubt (n,) in float64, computed on the CPU: not every device has float64."""
    log_p = torch.log_softmax(judgement.logits.cpu().double(), dim=1).numpy()
    return log_p, None if judgement.doubt is None else torch.sigmoid(judgement.doubt.cpu().double()).numpy()
