"""Whether a sample of images is large enough for a statement, and the notes where it is not.

A statement that has less behind it is not made; what is said instead begins with "Too few to tell" or says what the
images cannot tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core.sample_sizes import LEAST_GRADED, class_notes
from ..core.text import listed, quantity
from .intervals import LEVEL, RESAMPLES, SEED, affordable_resamples


def agreement_by_chance(labels: np.ndarray, predicted: np.ndarray, seed: int = SEED) -> float:
    """How likely predictions that know nothing of the images agree with the labels as often as these do.

    Parameters
    ----------
    labels, predicted : (N,) integers in [0, K)

    Returns
    -------
    float
        The p-value in (0, 1] of a permutation test of the number of right predictions (Ojala & Garriga 2010, Journal of
        Machine Learning Research 11, 1833, test 1). It is 1 for constant predictions, and without images.
    """
    hits = int((labels == predicted).sum())
    times = affordable_resamples(len(labels), RESAMPLES)
    random = np.random.default_rng(seed)
    as_good = sum(int((random.permutation(labels) == predicted).sum() >= hits) for _ in range(times))
    return (1 + as_good) / (1 + times)


def is_above_chance(labels: np.ndarray, predicted: np.ndarray, seed: int = SEED) -> bool:
    """Whether predictions agree with labels (N,) more often than chance at 95 % (`agreement_by_chance`)."""
    return agreement_by_chance(labels, predicted, seed) <= 1.0 - LEVEL


def caveat_of_network(labels: np.ndarray, predicted: np.ndarray) -> str:
    """Why maps of a network with these predictions (N,) mean nothing: it may be chance; nothing where it is not."""
    if is_above_chance(labels, predicted):
        return ""
    right = int((labels == predicted).sum())
    return f"the network is not surely better than chance ({right:,} of {len(labels):,} images right)"


def caveat_of_maps(n_images: int, of_network: str = "") -> str:
    """Why checks of the maps of so many images are not called passed or failed; nothing where they are.

    of_network : why maps of this network mean nothing whatever their number; empty where they do
    """
    if n_images < LEAST_GRADED:
        return f"{quantity(n_images, 'image')}, and it takes {LEAST_GRADED}"
    return of_network


def ece_note(value: float, interval: Sequence[float] | None, by_chance: float) -> str:
    """A note that compares an ECE with that of a perfectly calibrated classifier on the same images.

    Binned errors are never negative, so that chance alone makes them positive (Broecker & Smith 2007).
    """
    exceeds = interval is not None and interval[0] > 0.0
    verdict = "is more than that" if exceeds else "is no sign of miscalibration"
    return (
        f"ECE is positive by chance alone: a perfectly calibrated classifier would show about {by_chance:.3f} on these "
        f"images, and {value:.3f} {verdict}."
    )


def evaluation_notes(result: Mapping[str, Any]) -> list[str]:
    """Notes to the scores of an evaluation (`metrics.compute_metrics` with resamples), also of an older one."""
    counts = {str(name): sum(row) for name, row in zip(result["classes"], result["confusion_matrix"], strict=True)}
    notes = class_notes(counts)
    if any(n == 0 for n in counts.values()) and "averaged_over" not in result:
        notes[:1] = [
            "This evaluation is of an older Skyclass, which counted predicted classes without images as 0 in the means "
            "of purity, completeness and F1: evaluate again."
        ]
    alike = [name for name, value in result.items() if value is not None and result["intervals"].get(name, ()) is None]
    if alike:
        words = listed([name.replace("_", " ") for name in alike], 4)
        notes.append(f"Too few to tell how far these may be off, the same in every resample of the images: {words}.")
    if result.get("ece_by_chance") is not None:
        notes.append(ece_note(result["ece"], result["intervals"].get("ece"), result["ece_by_chance"]))
    return notes
