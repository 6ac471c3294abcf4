"""Conformal prediction sets: the classes that an object may be of, with a guaranteed coverage.

Split conformal prediction (Angelopoulos & Bates 2021, arXiv:2107.07511, sections 1 and 2): a score says how badly a
class fits an image; the quantile of the true classes' scores over n calibration images bounds the scores of the classes
in a set. For images that are exchangeable with those, the set holds the true class with a probability of at least the
coverage, however bad the classifier is. A bad classifier shows in large sets.

lac : 1 - p (Sadinle, Lei & Wasserman 2019, JASA 114, 223): the smallest sets on average. Of a classifier that is right
    more often than the coverage requires, the sets of its least confident images are empty.
aps : p of the classes that are more probable, and a random share u of the class's own (Romano, Sesia & Candès 2020,
    NeurIPS, section 2): sets that grow with the difficulty of an image. u comes from a hash of seed and
    `image_id`, so the set of an image is the same in any order and batch.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from scipy.stats import betabinom, binomtest

from ...core.errors import SkyclassError
from ..intervals import LEVEL

ConformalScore = Literal["lac", "aps"]
BETWEEN = "|"
"""Separates the names of a set; in a name it is escaped by a backslash."""


@dataclass(frozen=True)
class PredictionSets:
    """What turns probabilities into sets of classes.

    score : lac or aps
    coverage : the share of sets that shall hold the true class, in (0, 1)
    thresholds : (1,), or (K,) where the coverage is promised for each class; None where there were too few images for
        the coverage, so that every class is in
    n : (1,) or (K,) calibration images behind them
    seed : of the random shares of aps
    """

    score: ConformalScore
    coverage: float
    thresholds: tuple[float | None, ...]
    n: tuple[int, ...]
    seed: int = 0

    @property
    def class_conditional(self) -> bool:
        """Whether the coverage is promised for each class by itself."""
        return len(self.thresholds) > 1

    def members(self, p: np.ndarray, image_ids: Iterable[str]) -> np.ndarray:
        """Which classes are in the sets: (N, K) bool, of probabilities (N, K). A row of NaN has an empty set."""
        bounds = np.array([math.inf if bound is None else bound for bound in self.thresholds])
        known = ~np.isnan(p).any(axis=1, keepdims=True)
        return known & (scores(np.nan_to_num(p), self.score, image_ids, self.seed) <= bounds)

    def warnings(self, classes: Sequence[str]) -> list[str]:
        """A sentence for each threshold that could not be had, none where all is well."""
        groups = [f"of class {name!r}" for name in classes] if self.class_conditional else ["of validation"]
        outcome = "it is in every set" if self.class_conditional else "every set holds all classes"
        return [
            f"Warning: {n} images {group} are too few for sets right in {self.coverage:.0%} of cases: {outcome}"
            for group, bound, n in zip(groups, self.thresholds, self.n, strict=True)
            if bound is None
        ]

    def to_json(self) -> dict[str, Any]:
        """For `classifier.json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any] | None, where: str | Path = "classifier.json") -> PredictionSets | None:
        """What `to_json` gave; None for a classifier that makes no sets.

        Errors: SkyclassError where a key is missing or unknown.
        """
        if content is None:
            return None
        try:
            read = dict(content)
            thresholds = tuple(None if bound is None else float(bound) for bound in read.pop("thresholds"))
            sets = cls(thresholds=thresholds, n=tuple(map(int, read.pop("n"))), **read)
            if (
                sets.score not in get_args(ConformalScore)
                or not 0.0 < sets.coverage < 1.0
                or not isinstance(sets.seed, int)
            ):
                raise ValueError(sets)
            if len(sets.n) != len(sets.thresholds) or not sets.n:
                raise ValueError(sets)
            return sets
        except (KeyError, TypeError, ValueError):
            what, fix = "damaged prediction sets", "copy the classifier again"
            raise SkyclassError(what, where=where, fix=fix) from None


def fit_prediction_sets(
    p: np.ndarray,
    labels: np.ndarray,
    image_ids: Sequence[str],
    *,
    coverage: float = 0.9,
    score: ConformalScore = "lac",
    class_conditional: bool = False,
    seed: int = 0,
) -> PredictionSets:
    """Thresholds from calibration images that the network was not trained on.

    p : (N, K) probabilities as `members` will get them; labels : (N,) integers in [0, K); image_ids : (N,)
    class_conditional : a threshold for each class, from its own images (Angelopoulos & Bates 2021, section 4.2)
    """
    n, n_classes = p.shape
    own = scores(p, score, image_ids, seed)[np.arange(n), labels]
    groups = [own[labels == k] for k in range(n_classes)] if class_conditional and n_classes > 1 else [own]
    thresholds = tuple(conformal_quantile(group, coverage) for group in groups)
    return PredictionSets(score, coverage, thresholds, tuple(map(len, groups)), seed)


def conformal_quantile(values: np.ndarray, coverage: float) -> float | None:
    """The ceil((n + 1) coverage)-th smallest of n scores; None where n is too small for that.

    Angelopoulos & Bates 2021, section 1: with this one, not the plain quantile, the coverage holds for any n.
    """
    rank = conformal_rank(len(values), coverage)
    return float(np.partition(values, rank - 1)[rank - 1]) if rank <= len(values) else None


def conformal_rank(n: int, coverage: float) -> int:
    """ceil((n + 1) coverage), where 0.9 is nine tenths and not the float that is a little more."""
    return math.ceil(round((n + 1) * coverage, 9))


def scores(p: np.ndarray, score: ConformalScore, image_ids: Iterable[str], seed: int) -> np.ndarray:
    """How badly each class fits each image: (N, K) in [0, 1], of probabilities (N, K)."""
    p = np.asarray(p, dtype=np.float64)
    if score == "lac":
        return 1.0 - p
    order = np.argsort(-p, axis=1, kind="stable")
    sorted_p = np.take_along_axis(p, order, axis=1)
    above = np.zeros_like(p)  # p of the classes before each one
    np.put_along_axis(above, order, np.cumsum(sorted_p, axis=1) - sorted_p, axis=1)
    return np.clip(above + random_shares(image_ids, seed)[:, None] * p, 0.0, 1.0)


def random_shares(image_ids: Iterable[str], seed: int) -> np.ndarray:
    """u (N,) in [0, 1), uniform over the ids, each the hash of the seed and its id."""
    digests = (hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest() for name in image_ids)
    return np.array([int.from_bytes(digest, "big") >> 11 for digest in digests], dtype=np.float64) / 2.0**53


def set_columns(
    sets: PredictionSets | None, p: np.ndarray, image_ids: Iterable[str], classes: Sequence[str]
) -> tuple[list[str | None], pd.arrays.BooleanArray]:
    """The columns `prediction_set` and `ambiguous` (not exactly one class) for probabilities (N, K).

    Both are empty for rows of NaN, and everywhere without `sets`.
    """
    known = ~np.isnan(p).any(axis=1) if sets else np.zeros(len(p), dtype=bool)
    members = sets.members(p, image_ids) if sets else np.zeros(p.shape, dtype=bool)
    texts = [text if good else None for text, good in zip(join_names(members, classes), known, strict=True)]
    return texts, pd.arrays.BooleanArray(members.sum(axis=1) != 1, mask=~known)


def join_names(members: np.ndarray, classes: Sequence[str]) -> list[str]:
    """The sets (N, K) as text: names in the order of `classes` with `|` between them, nothing for an empty set."""
    names = [re.sub(r"([\\|])", r"\\\1", name) for name in classes]
    return [BETWEEN.join(name for name, inside in zip(names, row, strict=True) if inside) for row in members.tolist()]


def read_names(texts: Iterable[str], classes: Sequence[str]) -> np.ndarray:
    """The sets (N, K) bool of texts that `join_names` wrote.

    Errors: SkyclassError for a name that is no class.
    """
    texts = list(texts)
    row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    table = np.zeros((len(row_of), len(classes)), dtype=bool)
    column = {name: k for k, name in enumerate(classes)}
    for text, row in row_of.items():
        for part in re.findall(r"(?:\\.|[^\\|])+", text):
            name = re.sub(r"\\(.)", r"\1", part)
            if name not in column:
                fix = f"the classes are {', '.join(classes)}, with | between them"
                raise SkyclassError(f"a prediction set names {name!r}, which is no class", fix=fix)
            table[row, column[name]] = True
    return table[[row_of[text] for text in texts]] if texts else table


Range = tuple[float, float]


def set_scores(
    members: np.ndarray, labels: np.ndarray, classes: Sequence[str], sets: PredictionSets | None = None
) -> dict[str, Any]:
    """Coverage and sizes of prediction sets, ready for JSON.

    members : (N, K) bool; labels : (N,) integers in [0, K), -1 where unknown: such images count in the sizes alone
    sets : how the sets were made, if the images are others than those of their calibration; gives `expected`

    `coverage`: share of the labelled images whose set holds the true class, `interval` its exact binomial interval
    (Clopper & Pearson 1934, Biometrika 26, 404), `expected` the range of `expected_coverage` and `within` whether the
    coverage lies in it; the same for each class, where `expected` needs class-conditional sets. `sizes`: how many sets
    hold 0, 1, ... K classes. `ambiguous`: how many do not hold exactly one.
    """
    known = labels >= 0
    hit = members[np.flatnonzero(known), labels[known]]
    true = labels[known]
    counts = np.bincount(true, minlength=len(classes))
    each = sets is not None and sets.class_conditional
    size = members.sum(axis=1)
    return {
        "coverage": _coverage(hit, expected_coverage(sets, counts) if sets else None),
        "coverage_per_class": {
            name: _coverage(hit[true == k], _expected_of_one(sets, k, int(counts[k])) if sets and each else None)
            for k, name in enumerate(classes)
        },
        "mean_size": float(size.mean()) if len(size) else None,
        "sizes": np.bincount(size, minlength=len(classes) + 1).tolist(),
        "ambiguous": int((size != 1).sum()),
    }


def _coverage(hit: np.ndarray, expected: Range | None) -> dict[str, Any]:
    if not len(hit):
        return {"n": 0, "share": None, "interval": None, "expected": None, "within": None}
    share, interval = float(hit.mean()), binomtest(int(hit.sum()), len(hit)).proportion_ci(LEVEL)
    return {
        "n": len(hit),
        "share": share,
        "interval": [float(interval.low), float(interval.high)],
        "expected": list(expected) if expected else None,
        "within": expected[0] <= share <= expected[1] if expected else None,
    }


def expected_coverage(sets: PredictionSets, counts: np.ndarray) -> Range | None:
    """The interval that holds the coverage of new images in 95 % of cases; None without an image.

    With n calibration images and their rank r = ceil((n + 1) coverage), the number of covered images among m is
    beta-binomial with r and n + 1 - r: thresholds differ with the calibration images, and luck with the new ones
    (Angelopoulos & Bates 2021, section 3.2 and appendix C). Class-conditional sets add up over the classes.

    counts : (K,) new images of each class
    """
    if not counts.sum():
        return None
    from scipy.signal import fftconvolve  # takes longer to import than all that every command needs of scipy

    groups = counts.tolist() if sets.class_conditional else [int(counts.sum())]
    each = [_distribution(sets, row, m) for row, m in enumerate(groups)]
    return _middle(functools.reduce(fftconvolve, each))


def _expected_of_one(sets: PredictionSets, row: int, m: int) -> Range | None:
    return _middle(_distribution(sets, row, m)) if m else None


def _distribution(sets: PredictionSets, row: int, m: int) -> np.ndarray:
    """(m + 1,) the chance that 0, 1, ... m new images under threshold number `row` are covered."""
    if sets.thresholds[row] is None:  # every class is in every set
        return np.concatenate([np.zeros(m), [1.0]])
    n = sets.n[row]
    rank = conformal_rank(n, sets.coverage)
    return np.asarray(betabinom(m, rank, n + 1 - rank).pmf(np.arange(m + 1)))


def _middle(chance: np.ndarray) -> Range:
    """The middle 95 % of the share, of the chances of 0, 1, ... m."""
    below = np.cumsum(np.clip(chance, 0.0, None))
    tail, m = 0.5 * (1.0 - LEVEL), len(chance) - 1
    low, high = (min(int(np.searchsorted(below, edge * below[-1])), m) for edge in (tail, 1.0 - tail))
    return low / m, high / m
