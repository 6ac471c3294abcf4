"""Images that are in a set twice: exactly, or turned, mirrored, cropped, shifted, dimmed, noisier or compressed again.

Near duplicates are found in two stages. Neighbours in a space of descriptors (`fingerprints`) are the candidates. The
space is turned by linear discriminants so that what a rotation, shift, small crop or noise changes counts for little;
how much that is, is measured on disturbed copies of the set's own pictures. Crops change the scale, so every image also
asks with its central 95 % and 90 %. Then each candidate is aligned (`alignment`) and what overlaps is compared.

Chosen by measurement, on 2,778 SDSS galaxies and 278 copies that were turned, mirrored, shifted, cropped to 90 %,
dimmed, made noisier and saved as JPEG: how often the original is the nearest descriptor, and among the ten nearest.
A perceptual hash over 8 orientations: 1 and 5 %; polar harmonics of the stretched picture about the image's centre: 6
and 17 %; about the centroid of light: 14 and 33 %; of its Fourier magnitudes: 17 and 44 %; these with products of
neighbouring rings: 20 and 41 %; with discriminants and asking at three scales: 95 and 99.6 %; and all this from
flattened pictures, as it is done: 96 and 100 % (benchmarks/duplicates.py).

A pair counts where the flattened pictures correlate. The correlation asked for is 0.6 among galaxies, where the most
similar strangers reach 0.3 and most copies 0.75. It rises where pictures hold little to tell them apart by (two points
of light, as many radio sources: `_limit_of_structure`), and where strangers in the set resemble each other (simulated
lenses: `_limit_of_set`): there, copies that are noisy or cropped as well pass for strangers rather than the reverse.

usearch finds the neighbours: it has threads of its own, while faiss brings a second OpenMP beside torch's. Its index is
built by one thread, from a fixed seed, so that the same images give the same answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..console import progress, say
from ..threads import in_order
from .alignment import align, angular
from .fingerprints import DISC, SIDE, Fingerprint, fingerprint, flatten, harmonics
from .neighbours import CROPS, Pairs, all_pairs, candidates, chunks, zoomed

__all__ = ["Fingerprint", "cluster", "find_duplicates", "fingerprint"]

STRONG = 0.9  # similarity of a near pair that may join two clusters alone
_STRANGERS = 400  # pairs drawn at random
_ALL_PAIRS = 60  # images up to which every pair is a candidate
_SAMPLE = 20  # images from which most pairs are strangers, however many of them have a copy
_ANGULAR = 0.5  # correlation of the Fourier rings below which a pair is not worth aligning
_LEAST = 0.6
# Above strangers drawn at random, as a correlation and as Fisher's z: of 600 simulated lenses, whose strangers reach
# 0.93 (32 pixels a side), 0.89 (75) and 0.83 (150), the most similar two reach 0.982, 0.973 and 0.943.
_ABOVE_STRANGERS, _Z_ABOVE_STRANGERS = 0.13, 0.8
# Structure (pixels that hold it), and the similarity asked for: above that of strangers among 635 radio images.
_STRUCTURE, _ASKED = (25.0, 50.0, 100.0, 200.0, 250.0), (0.992, 0.983, 0.972, 0.9, _LEAST)


class _Verdict(NamedTuple):
    """Similarity (n,), and the matrices (n, 2, 2) of the alignment."""

    similarity: np.ndarray
    matrix: np.ndarray


def find_duplicates(fingerprints: Sequence[Fingerprint]) -> pd.DataFrame:
    """Pairs of duplicates among images, given their fingerprints.

    Returns
    -------
    One row a pair, sorted: first, second (row numbers, first < second); kind (`exact`: the same pixels, shape and type,
    or `near`); similarity (0 to 1, correlation of the flattened pictures after alignment); rotation (degrees from 0 to
    360) and mirrored: `first`, mirrored top to bottom where it says so, then turned counter-clockwise by the rotation,
    is `second`. Of images that are exactly equal, each makes a pair with the first one, and that one alone takes part
    in the search for near ones. Blank images are never near anything. Near copies of one image need not all be paired
    with each other: `cluster` brings them together.
    """
    first_of: dict[bytes, int] = {}
    exact = []
    for row, one in enumerate(fingerprints):
        original = first_of.setdefault(one.digest.tobytes(), row)
        if original != row:
            exact.append((original, row, "exact", 1.0, 0.0, False))
    rows = np.array([row for row in first_of.values() if fingerprints[row].picture.any()], np.int64)
    names = ["first", "second", "kind", "similarity", "rotation", "mirrored"]
    types = ["int64", "int64", "object", "float64", "float64", "bool"]
    near = _near(fingerprints, rows) if len(rows) > 1 else []
    pairs = pd.DataFrame([*exact, *near], columns=names).astype(dict(zip(names, types, strict=True)))
    return pairs.sort_values(["first", "second"], ignore_index=True)


def _near(fingerprints: Sequence[Fingerprint], rows: np.ndarray) -> list[tuple[int, int, str, float, float, bool]]:
    """Rows of the table for near duplicates among the images `rows`, which are neither blank nor exactly equal."""
    pictures = np.stack([fingerprints[row].picture for row in rows])
    descriptors = np.stack([fingerprints[row].descriptor for row in rows])
    structure = np.concatenate(list(in_order(_structure, chunks(pictures))))
    pairs = all_pairs(len(rows)) if len(rows) <= _ALL_PAIRS else candidates(pictures, descriptors)
    limit = np.maximum(_limit_of_structure(structure, pairs), _limit_of_set(pictures))
    if len(limit) and np.median(limit) > STRONG:
        say(
            "duplicates: these images resemble each other; only pairs that correlate above "
            f"{np.median(limit):.2f} count, so copies that are noisy or cropped as well may be missed"
        )
    with progress("Comparing", len(pairs.first), "pairs") as advance:
        verdict = _compare(pictures, pairs, worth_aligning=_ANGULAR, advance=advance)
    found = np.flatnonzero(verdict.similarity >= limit)
    best: dict[tuple[int, int], tuple[int, int, str, float, float, bool]] = {}
    for k in found:
        a, b, matrix = int(rows[pairs.first[k]]), int(rows[pairs.second[k]]), verdict.matrix[k]
        if a > b:
            a, b, matrix = b, a, np.linalg.inv(matrix)
        rotation = round(float(-np.degrees(np.arctan2(matrix[1, 0], matrix[1, 1]))), 1) % 360.0
        similarity = float(np.clip(verdict.similarity[k], 0.0, 1.0))
        if (a, b) not in best or similarity > best[a, b][3]:
            best[a, b] = (a, b, "near", similarity, rotation, bool(np.linalg.det(matrix) < 0))
    return list(best.values())


def _compare(
    pictures: np.ndarray, pairs: Pairs, *, worth_aligning: float, advance: Callable[[int], None] = lambda n: None
) -> _Verdict:
    """Align pairs, in threads; similarity -1 where the Fourier rings correlate less than is `worth_aligning`."""

    def one(part: np.ndarray) -> _Verdict:
        second = flatten(pictures[pairs.second[part]])
        first, angles, alike = _best_crop(pictures, pairs.first[part], harmonics(second))
        similarity, matrix = np.full(len(part), -1.0), np.tile(np.eye(2), (len(part), 1, 1))
        worth = alike >= worth_aligning
        if worth.any():
            aligned = align(first[worth], second[worth], angles[worth])
            similarity[worth], matrix[worth] = aligned.similarity, aligned.matrix
        return _Verdict(similarity, matrix)

    verdicts = []
    for verdict in in_order(one, chunks(np.arange(len(pairs.first)))):
        verdicts.append(verdict)
        advance(len(verdict.similarity))
    return _Verdict(*(np.concatenate(parts) for parts in zip(*verdicts, strict=True)))


def _best_crop(pictures: np.ndarray, rows: np.ndarray, waves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The crops of `rows` that resemble most the pictures of which the harmonics `waves` are.

    Returns flattened pictures (n, 64, 64), angles (n, 2) and correlations (n,), both as `angular` gives them.
    """
    unique, where = np.unique(rows, return_inverse=True)  # a row is prepared once for all its pairs
    best, angles = np.full(len(rows), -np.inf), np.zeros((len(rows), 2))
    first = np.empty((len(rows), SIDE, SIDE), np.float32)
    for crop in CROPS:
        flat = flatten(zoomed(pictures[unique], crop))
        alike, turned = angular(harmonics(flat)[where], waves)
        better = alike.max(axis=1) > best
        best[better], angles[better] = alike.max(axis=1)[better], turned[better]
        first[better] = flat[where[better]]
    return first, angles, best


def _structure(pictures: np.ndarray) -> np.ndarray:
    """(n,) how many pixels hold the structure of the flattened pictures: the participation ratio of its power."""
    power = (flatten(pictures) * DISC) ** 2
    return np.asarray(power.sum(axis=(1, 2)) ** 2 / np.maximum((power**2).sum(axis=(1, 2)), 1e-12))


def _limit_of_structure(structure: np.ndarray, pairs: Pairs) -> np.ndarray:
    """(n,) least similarity of each pair, by the image of the two that holds less structure."""
    return np.interp(np.minimum(structure[pairs.first], structure[pairs.second]), _STRUCTURE, _ASKED)


def _limit_of_set(pictures: np.ndarray) -> float:
    """Least similarity in this set: somewhat above that of most pairs drawn at random, which are strangers.

    A few images are no sample of anything: for these the limit is that of images which do not resemble each other.
    """
    n = len(pictures)
    if n < _SAMPLE:
        return _LEAST
    random = np.random.default_rng(0)
    first = random.integers(0, n, _STRANGERS)
    second = (first + random.integers(1, n, _STRANGERS)) % n
    verdict = _compare(pictures, Pairs(first, second), worth_aligning=-1.0)
    alike = min(float(np.quantile(verdict.similarity, 0.9)), 0.9999)
    return max(_LEAST, min(alike + _ABOVE_STRANGERS, float(np.tanh(np.arctanh(alike) + _Z_ABOVE_STRANGERS))))


def cluster(n: int, pairs: pd.DataFrame) -> np.ndarray:
    """(n,) int64: the number of each image's cluster, counted from 0 by first member; -1 for images without duplicate.

    Pairs join images in the order of their similarity. One weak pair (below STRONG) does not join two clusters of more
    than two images each: a second pair between them must say the same, or a chain of doubtful pairs would glue
    unrelated images together.
    """
    member = list(range(n))
    size = [1] * n

    def root(i: int) -> int:
        while member[i] != i:
            member[i] = member[member[i]]
            i = member[i]
        return i

    def join(a: int, b: int) -> None:
        low, high = sorted((root(a), root(b)))
        if low != high:
            member[high] = low
            size[low] += size[high]

    doubtful = []
    for a, b, similarity in _strongest_first(pairs):
        if similarity < STRONG and min(size[root(a)], size[root(b)]) > 2:
            doubtful.append((a, b))
        else:
            join(a, b)
    while True:
        between = Counter(tuple(sorted((root(a), root(b)))) for a, b in doubtful if root(a) != root(b))
        agreed = [two for two, count in between.items() if count > 1]
        if not agreed:
            break
        for low, high in agreed:
            join(low, high)
    roots = np.array([root(i) for i in range(n)], np.int64)
    numbers = np.full(n, -1, np.int64)
    numbers[[r for r in set(roots.tolist()) if size[r] > 1]] = 0
    kept = np.flatnonzero(numbers >= 0)
    numbers[kept] = np.arange(len(kept))
    return np.asarray(numbers[roots], np.int64)


def _strongest_first(pairs: pd.DataFrame) -> Iterable[tuple[int, int, float]]:
    order = pairs.sort_values(["similarity", "first", "second"], ascending=[False, True, True])
    return zip(order["first"].tolist(), order["second"].tolist(), order["similarity"].tolist(), strict=True)
