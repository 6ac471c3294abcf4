"""A row of the table of scores, METRICS of `weighted_metrics`: all that the house knows of a score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from .weighted_sums import WeightedSums

PER_CLASS = "_per_class"
Part = Literal["classes", "areas", "ranks", "agreement", "losses", "calibration"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score of predictions. One whose name ends in PER_CLASS has a value a class.

    Parameters
    ----------
    words : what people call it
    meaning : what it is, in less than a sentence
    score : sums under R weightings -> (R,) or (R, K), nan where undefined
    of_images : instead of `score`, labels (N,) and probabilities (N, K) -> (N,) values, of which the mean is the score
    low, high : its range
    higher_is_better : whether larger values are better
    least_classes : without so many classes it is left out
    share_of : where it is a share, of which images: all, those of each class, or those taken for each class. It then
        has Wilson's interval where the images do not show how it varies
    part : of the report's table, whose rows are in the order of PARTS; None where the report leaves it out
    short : in a table with little room; `words` where empty
    is_main : whether it is shown where there is no room for all
    is_compared : whether classifiers are compared by it
    row : what metrics.csv calls it; its name, without PER_CLASS, where empty
    hub : its name on the Hugging Face Hub, and how it is averaged over the classes; None where it has none there
    """

    words: str
    meaning: str
    score: Callable[[WeightedSums], np.ndarray] | None = None
    of_images: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    low: float = 0.0
    high: float = 1.0
    higher_is_better: bool = True
    least_classes: int = 1
    share_of: Literal["all", "true", "taken"] | None = None
    part: Part | None = None
    short: str = ""
    is_main: bool = False
    is_compared: bool = False
    row: str = ""
    hub: tuple[str, dict[str, str] | None] | None = None

    @property
    def title(self) -> str:
        """What it is called where there is little room."""
        return self.short or self.words

    @property
    def explanation(self) -> str:
        """What it is, and which way is better where that is not the usual one."""
        return self.meaning if self.higher_is_better else f"{self.meaning}; smaller is better"
