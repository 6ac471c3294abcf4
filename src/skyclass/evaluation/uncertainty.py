"""Uncertainty scores, and how well each separates wrong predictions from right ones.

A score is a number an image, larger where the classifier is less certain. Its AUROC of errors is the chance that a
wrong prediction scores higher than a right one. Its risk-coverage curve is the error rate of the images that remain
when only the most certain ones are kept (Geifman & El-Yaniv 2017, arXiv:1705.08500, section 2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.sample_sizes import LEAST_RANKED
from .intervals import LEVEL, affordable_resamples, bootstrap, ends, percentile_interval
from .metrics import entropy_uncertainty
from .weighted_sums import areas_under, curve_of

BASELINE = "max_probability"
IN_WORDS = {
    BASELINE: "largest probability",
    "entropy": "entropy of the probabilities",
    "uncertainty_head": "uncertainty head",
    "ensemble_disagreement": "ensemble, disagreement",
    "mc_dropout_entropy": "MC dropout, entropy",
    "mc_dropout_disagreement": "MC dropout, disagreement",
    "orientations_entropy": "8 orientations, entropy",
    "orientations_disagreement": "8 orientations, disagreement",
}
"""The scores that are compared, in this order."""


def scores_of_probabilities(p: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of the probabilities (N, K) alone: 1 - the largest one, and the normalised entropy; (N,) in [0, 1].

    The first is the sum of the others, which still ranks images of which the largest probability is stored as 1.
    """
    return {BASELINE: np.clip(p.sum(axis=1) - p.max(axis=1), 0.0, 1.0), "entropy": entropy_uncertainty(p)}


def scores_of_samples(p: np.ndarray, kind: str) -> dict[str, np.ndarray]:
    """Scores of several samples of the same images: the entropy of their mean, and their disagreement.

    The disagreement is the mutual information of class and answer, the entropy of the mean less the mean entropy
    (Houlsby et al. 2011, arXiv:1112.5745, equation 2; Depeweg et al. 2018, arXiv:1710.07283, equation 3): the part of
    the entropy that another training could remove.

    p : (S, N, K) probabilities; kind : the first word of the names. Both scores are over ln K, (N,) in [0, 1].
    """
    whole = entropy_uncertainty(p.mean(axis=0))
    inside = np.mean([entropy_uncertainty(one) for one in p], axis=0)
    return {f"{kind}_entropy": whole, f"{kind}_disagreement": np.maximum(whole - inside, 0.0)}


class RiskCoverage(NamedTuple):
    """The images by rising score: the k most certain ones are `coverage` k / N of all, and `risk` of them are wrong."""

    coverage: np.ndarray
    risk: np.ndarray

    @property
    def area(self) -> float:
        """The mean risk over all coverages, AURC (Geifman & El-Yaniv 2017, section 2)."""
        return float(self.risk.mean())


def risk_coverage(wrong: np.ndarray, score: np.ndarray) -> RiskCoverage:
    """wrong : (N,) bool; score : (N,), N > 0. Images of equal score come in the mean of all their orders."""
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    share = np.bincount(place, weights=wrong) / count  # errors at each value
    number = np.arange(1, len(score) + 1)
    return RiskCoverage(number / len(score), np.cumsum(np.repeat(share, count)) / number)


def best_risk_coverage(wrong: np.ndarray) -> RiskCoverage:
    """The curve of a score that ranks every wrong prediction behind all right ones."""
    return risk_coverage(wrong, wrong.astype(np.float64))


def auroc_of_errors(wrong: np.ndarray, score: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The chance that a wrong prediction scores higher than a right one, ties counting one half.

    wrong : (N,) bool, some but not all; score : (N,); weights : (N, R), R weightings of the images. Returns (R,).
    """
    return areas_under(curve_of(wrong, score), weights, weights.sum(axis=0))[0]


def compare_scores(wrong: np.ndarray, scores: Mapping[str, np.ndarray], seed: int = 0) -> dict[str, Any]:
    """How well each score ranks the errors, and which to trust; ready for JSON.

    wrong : (N,) bool, N > 0, whether the predicted class is not the true one; scores : names among `IN_WORDS` -> (N,)

    `auroc` has a 95 % bootstrap interval, drawn from the wrong and from the right predictions apart. `gain` is the
    AUROC less that of the largest probability, on the same resamples; its intervals hold together with 95 % chance,
    because each of m gains has one of 100 - 5 / m % (Bonferroni). `aurc` is the area under the risk-coverage curve,
    `excess_aurc` what it has above the best possible one (Geifman et al. 2019, arXiv:1805.08206, section 3). `trust`
    and `advice` are those of `advise`. Without an error, or without a right prediction, nothing can be ranked, and
    AUROCs are None.
    """
    best = best_risk_coverage(wrong).area
    rows: dict[str, dict[str, Any]] = {}
    for name, score in scores.items():
        area = risk_coverage(wrong, score).area
        rows[name] = {"auroc": None, "aurc": area, "excess_aurc": area - best}
    result = {"n": len(wrong), "n_errors": int(wrong.sum()), "best_aurc": best, "scores": rows}
    if not 0 < wrong.sum() < len(wrong):
        return result | advise(result)
    one, curves = np.ones((len(wrong), 1)), {name: curve_of(wrong, score) for name, score in scores.items()}
    areas = {name: float(auroc_of_errors(wrong, score, one)[0]) for name, score in scores.items()}
    samples = bootstrap(
        wrong.astype(np.int64),
        lambda weights: {name: areas_under(curve, weights, weights.sum(axis=0))[0] for name, curve in curves.items()},
        affordable_resamples(len(wrong)),
        seed,
    )
    level = 1.0 - (1.0 - LEVEL) / max(len(scores) - 1, 1)
    for name, row in rows.items():
        row |= {"auroc": areas[name], "auroc_interval": ends(*percentile_interval(samples[name]))}
        if name != BASELINE:
            gain = samples[name] - samples[BASELINE]
            row |= {"gain": areas[name] - areas[BASELINE], "gain_interval": ends(*percentile_interval(gain, level))}
    return result | advise(result)


def advise(compared: Mapping[str, Any]) -> dict[str, Any]:
    """`trust`, the score of uncertainty that is to be trusted, or None, and `advice`, why.

    A score is trusted where `LEAST_RANKED` predictions are wrong and as many right, its AUROC of errors is surely above
    0.5, and, unless it is the largest probability, its gain over that is surely above zero.

    compared : `n`, `n_errors` and `scores` of `compare_scores`, of an older evaluation too
    """
    n, n_errors = compared["n"], compared["n_errors"]
    rows: Mapping[str, Mapping[str, Any]] = compared["scores"]
    if not 0 < n_errors < n:
        what = "wrong" if n_errors else "right"
        return {"trust": None, "advice": f"All {n:,} predictions are {what}: no score can be compared."}
    if min(n_errors, n - n_errors) < LEAST_RANKED:
        found = f"{n_errors:,} wrong and {n - n_errors:,} right predictions, and it takes {LEAST_RANKED} of each"
        return {"trust": None, "advice": f"Too few to tell which score of uncertainty to trust: {found}."}
    order = sorted(rows, key=lambda name: rows[name]["auroc"], reverse=True)
    if not any(_is_above_chance(row) for row in rows.values()):
        best = f"{rows[order[0]]['auroc']:.3f}"
        advice = f"Trust no score: none ranks the errors surely better than chance does (best AUROC {best})."
        return {"trust": None, "advice": advice}
    gains = {name: rows[name].get("gain_interval") or (0.0, 0.0) for name in order}
    sure = [name for name, gain in gains.items() if gain[0] > 0.0 and _is_above_chance(rows[name])]
    if sure:
        row, (low, high) = rows[sure[0]], gains[sure[0]]
        gained = f"{row['gain']:.3f} [{low:.3f}, {high:.3f}] above that of the largest probability"
        advice = f'Trust the score "{IN_WORDS[sure[0]]}": its AUROC of errors is {row["auroc"]:.3f}, {gained}.'
        return {"trust": sure[0], "advice": advice}
    return _advise_baseline(rows, order)


def _advise_baseline(rows: Mapping[str, Mapping[str, Any]], order: Sequence[str]) -> dict[str, Any]:
    """As `advise`, where no score is surely better than the largest probability; `order`: the largest AUROC first."""
    base = f"{rows[BASELINE]['auroc']:.3f}"
    near = f'"{IN_WORDS[order[0]]}" ({rows[order[0]]["auroc"]:.3f})'
    if not _is_above_chance(rows[BASELINE]):
        advice = f"{near} is not surely better than the largest probability ({base}), and that may be chance"
        return {"trust": None, "advice": f"Trust no score: by the AUROC of errors {advice}."}
    if order[0] == BASELINE:
        advice = f"Trust the largest probability: no score ranks the errors better (AUROC {base})."
    else:
        advice = f"Trust the largest probability (AUROC of errors {base}): {near} is not surely better."
    return {"trust": BASELINE, "advice": advice}


def _is_above_chance(row: Mapping[str, Any]) -> bool:
    """Whether an AUROC of errors is surely above 0.5; one of 1 has no interval, for every resample has it too."""
    interval = row["auroc_interval"]
    return bool(interval[0] > 0.5 if interval else row["auroc"] == 1.0)
