"""Calibration of probabilities by a map of log-probabilities that is fitted on held-out images.

All maps are softmax(scale * ln p + bias). Temperature scaling has one scale 1/T and no bias (Guo et al. 2017, ICML,
section 4.2); softmax does not see a constant added to all classes, so ln p serves as well as the logits, and the mean
of an ensemble can be calibrated like a network. Vector scaling has a scale and a bias for each class (same section).
There the constant matters: with ln p in the place of logits it is Dirichlet calibration with a diagonal matrix (Kull et
al. 2019, NeurIPS, section 3), and does not depend on the unknowable offset of the logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from ...core.errors import SkyclassError

CalibrationMethod = Literal["none", "temperature", "vector"]
Wanted = Literal["auto", "none", "temperature", "vector"]

MIN_IMAGES = 30
"""With fewer images than this, a fitted temperature is worse than T = 1."""
FOLDS = 5
MIN_PER_CLASS = FOLDS
"""Vector scaling needs so many images of every class: one in each part of the cross-validation."""
FLOOR = -700.0
"""ln p is not taken below this: p = 0, which float64 rounds to near exp(-745), stays a number."""


@dataclass(frozen=True)
class Calibration:
    """The map softmax(scale * ln p + bias).

    method : none (the identity), temperature or vector
    scale : (1,) or (K,), > 0; 1/T for temperature scaling
    bias : (K,), or empty where there is none
    n : images that it was fitted on
    """

    method: CalibrationMethod = "none"
    scale: tuple[float, ...] = (1.0,)
    bias: tuple[float, ...] = ()
    n: int = 0

    def apply(self, log_p: np.ndarray) -> np.ndarray:
        """ln p (N, K) -> calibrated probabilities (N, K) float64; rows of NaN stay so."""
        if self.method == "none":
            return np.exp(log_p, dtype=np.float64)
        scores = np.asarray(self.scale) * np.maximum(log_p, FLOOR)
        return softmax(scores + np.asarray(self.bias) if self.bias else scores, axis=1)

    def to_json(self) -> dict[str, Any]:
        """For `classifier.json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any] | None, where: str | Path = "classifier.json") -> Calibration:
        """What `to_json` gave; the identity for a classifier that has none.

        Errors: SkyclassError where a key is missing or unknown, or a scale is not a positive number.
        """
        try:
            read = {**(content or asdict(cls()))}
            scale, bias = (tuple(map(float, read.pop(name))) for name in ("scale", "bias"))
            calibration = cls(scale=scale, bias=bias, **read)
            good = calibration.method in ("none", "temperature", "vector") and all(
                0.0 < value < math.inf for value in calibration.scale
            )
            good = good and bool(calibration.scale) and all(map(math.isfinite, calibration.bias))
        except (KeyError, TypeError, ValueError):
            good = False
        if not good:
            raise SkyclassError("damaged calibration", where=where, fix="copy the classifier again")
        return calibration

    def __str__(self) -> str:
        if self.method == "none":
            return "none"
        if self.method == "temperature":
            return f"temperature {1.0 / self.scale[0]:.3f}"
        return f"vector, temperatures {1.0 / max(self.scale):.3f} to {1.0 / min(self.scale):.3f}"


class Fit(NamedTuple):
    """A calibration, and a sentence that gives the reason for its choice."""

    calibration: Calibration
    reason: str


def fit_calibration(log_p: np.ndarray, labels: np.ndarray, method: Wanted = "auto") -> Fit:
    """The map that makes held-out images most probable, out of as many parameters as they bear.

    log_p : (N, K) ln p of images that the network was not trained on; labels : (N,) integers in [0, K)
    method : `auto` takes vector scaling where cross-validation (5 parts, each class spread over them) finds its log
        loss smaller than temperature scaling's by more than the standard error of the difference; else temperature.
        Vector scaling moves the borders between classes, so a few predicted classes may change; temperature none.

    With fewer than `MIN_IMAGES` images the map is the identity, with fewer than `MIN_PER_CLASS` of a class there is no
    vector scaling, and the reason states it.
    """
    n, n_classes = log_p.shape
    if method == "none":
        return Fit(Calibration(), "not wanted")
    if n_classes < 2:
        return Fit(Calibration(), "a single class has nothing to calibrate")
    if n < MIN_IMAGES:
        return Fit(Calibration(), f"{n} validation images are too few, {MIN_IMAGES} are needed")
    if method == "temperature":
        return Fit(temperature_scaling(log_p, labels), "as asked for")
    rarest = int(np.bincount(labels, minlength=n_classes).min())
    if rarest < MIN_PER_CLASS:
        reason = f"{rarest} validation images of a class are too few for vector scaling, {MIN_PER_CLASS} are needed"
        return Fit(temperature_scaling(log_p, labels), reason)
    if method == "vector":
        return Fit(vector_scaling(log_p, labels), "as asked for")
    gain, error = _gain_of_vector(log_p, labels)
    reason = f"in cross-validation vector scaling changes the log loss by {-gain:+.4f} ± {error:.4f}"
    return Fit(FITTED["vector" if gain > error else "temperature"](log_p, labels), reason)


def temperature_scaling(log_p: np.ndarray, labels: np.ndarray) -> Calibration:
    """The scale 1/T that minimises the log loss (Guo et al. 2017, section 4.2).

    ln T has a standard normal prior: where all images are right the log loss alone would let T fall to zero, and with
    a hundred images or more the prior is not felt.

    log_p : (N, K); labels : (N,) integers in [0, K)
    """
    log_scale = _minimise(log_p, labels, 1, biased=False)
    return Calibration("temperature", tuple(np.exp(log_scale).tolist()), n=len(labels))


def vector_scaling(log_p: np.ndarray, labels: np.ndarray) -> Calibration:
    """A scale and a bias for each class that minimise the log loss, on ln p (Kull et al. 2019, section 3).

    The logarithm of each scale and each bias have a standard normal prior.

    log_p : (N, K); labels : (N,) integers in [0, K)
    """
    n_classes = log_p.shape[1]
    found = _minimise(log_p, labels, n_classes, biased=True)
    scale, bias = np.exp(found[:n_classes]), found[n_classes:]
    return Calibration("vector", tuple(scale.tolist()), tuple(bias.tolist()), n=len(labels))


def _minimise(log_p: np.ndarray, labels: np.ndarray, n_scales: int, *, biased: bool) -> np.ndarray:
    """The logarithms of the scales, and the biases, at the smallest penalised log loss."""
    scores = np.maximum(log_p, FLOOR).astype(np.float64)
    n, n_classes = scores.shape
    hot = np.eye(n_classes)[labels]  # (N, K)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale, bias = np.exp(parameters[:n_scales]), parameters[n_scales:] if biased else 0.0
        log_q = log_softmax(scale * scores + bias, axis=1)
        slope = (np.exp(log_q) - hot) / n  # (N, K), of the log loss by the scaled scores
        by_scale = (slope * scores).sum(axis=0)  # (K,)
        gradient = scale * (by_scale if n_scales > 1 else by_scale.sum())
        if biased:
            gradient = np.concatenate([gradient, slope.sum(axis=0)])
        value = -float((log_q * hot).sum()) / n + 0.5 * float(parameters @ parameters) / n
        return value, gradient + parameters / n

    start = np.zeros(n_scales + (n_classes if biased else 0))
    # Temperatures between 1/150 and 150: a map that needs more is none.
    bounds = [(-5.0, 5.0)] * n_scales + [(None, None)] * (len(start) - n_scales)
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"gtol": 1e-9}).x)


def out_of_fold(log_p: np.ndarray, labels: np.ndarray, method: CalibrationMethod) -> np.ndarray:
    """Calibrated probabilities (N, K) of images that their own map was not fitted on, by `FOLDS` parts.

    They represent the probabilities of new images, where a threshold is fitted on the images of the calibration. In
    simulations (200 images, 10 classes, vector scaling) prediction sets for 90 % with thresholds from probabilities of
    the map's own images held the truth in 88.2 %, with these in 90.1 %. Half the images for the map and half for the
    thresholds keep the coverage too, but it then varies as of half as many.
    """
    part = np.empty(len(labels), dtype=int)
    part[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % FOLDS
    p = np.exp(log_p, dtype=np.float64)
    if method != "none":
        fitted = FITTED[method]
        for fold in range(FOLDS):
            fitted_on, held_out = part != fold, part == fold
            p[held_out] = fitted(log_p[fitted_on], labels[fitted_on]).apply(log_p[held_out])
    return p


def _gain_of_vector(log_p: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """By how much vector scaling lowers temperature scaling's log loss on images that neither was fitted on.

    Returns the mean over the images and its standard error.
    """
    one, other = (_log_losses(out_of_fold(log_p, labels, method), labels) for method in ("temperature", "vector"))
    gain = one - other
    return float(gain.mean()), float(gain.std(ddof=1) / math.sqrt(len(gain)))


def _log_losses(p: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-ln p (N,) of the true classes."""
    return -np.log(np.maximum(p[np.arange(len(p)), labels], math.exp(FLOOR)))


FITTED: dict[str, Callable[[np.ndarray, np.ndarray], Calibration]] = {
    "temperature": temperature_scaling,
    "vector": vector_scaling,
}
