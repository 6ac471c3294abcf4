"""Uncertainty scores that need the networks of a run again: ensemble members, dropout, orientations."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from ..core.console import progress
from ..core.errors import SkyclassError
from ..data.packs.resize import resize_for_training
from ..evaluation.uncertainty import scores_of_samples
from ..models.network import BATCH
from .classifier import Classifier
from .run import Run
from .sampling import dropout_layers
from .training_data import data_of

logger = logging.getLogger(__name__)

DROPOUT_SAMPLES = 30


def sampled_scores(run: Run, image_ids: Sequence[str], seed: int = 0, device: str = "auto") -> dict[str, np.ndarray]:
    """name -> (n,), the scores of `evaluation.uncertainty` of some images of the run's pack.

    The disagreement of an ensemble's members; the mean of `DROPOUT_SAMPLES` samples of Monte Carlo dropout and their
    disagreement, where the networks have dropout; those of the orientations of each image. Every sample is calibrated
    as the classifier's own, so that the scores differ only by the networks.
    Errors: SkyclassError for a pack that is missing or has changed.
    """
    model = Classifier.load(run.path, device)
    data, _ = data_of(run)
    place = {name: row for row, name in enumerate(data.catalog["image_id"])}
    unknown = [name for name in image_ids if name not in place]
    if unknown:
        what = f"the predictions name {unknown[0]!r}, which the run's pack does not hold"
        raise SkyclassError(what, where=run.predictions_file, fix="predict again")
    rows = np.array([place[name] for name in image_ids])
    images = resize_for_training(data, run.recipe().pixels)
    has_dropout = any(dropout_layers(network) for network in model.networks)
    if not has_dropout:
        logger.warning("Monte Carlo dropout is left out: the network has no dropout (model.dropout)")
    parts = []
    with progress("Sampling the networks", len(rows)) as advance:
        for start in range(0, len(rows), BATCH):
            stored = images[rows[start : start + BATCH]]
            parts.append(_scores(model, stored, DROPOUT_SAMPLES if has_dropout else 0, seed + start))
            advance(len(stored))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _scores(model: Classifier, images: np.ndarray, dropout: int, seed: int) -> dict[str, np.ndarray]:
    """The scores of a batch (n, C, h, w); `dropout` samples of each network, or none."""
    members = len(model.networks)
    every = model.samples(images, orientations=True).log_p
    every = every.reshape(members, -1, *every.shape[1:])  # (M * V, n, K) -> (M, V, n, K), of V orientations
    scores: dict[str, np.ndarray] = {}
    if members > 1:
        scores |= scores_of_samples(_calibrated(model, every[:, 0]), "ensemble")
        del scores["ensemble_entropy"]  # that of the prediction itself
    if dropout:
        dropped = model.samples(images, dropout=dropout, seed=seed).log_p
        scores |= scores_of_samples(_calibrated(model, dropped), "mc_dropout")
    of_views = np.logaddexp.reduce(every, axis=0) - np.log(members)  # (V, n, K)
    return scores | scores_of_samples(_calibrated(model, of_views), "orientations")


def _calibrated(model: Classifier, log_p: np.ndarray) -> np.ndarray:
    """ln p of S samples (S, n, K) as the probabilities that the classifier would give out."""
    return np.stack([model.calibration.apply(one) for one in log_p])
