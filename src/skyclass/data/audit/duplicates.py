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

A pair whose small pictures correlate is then verified on larger ones (`verification`), and called `sure` where it is
told apart from its own mirror image, and where nothing but grain is left of the difference: the more so in a set whose
unrelated images resemble each other. What is less certain is `maybe`, to be checked by eye; it moves nothing.

usearch finds the neighbours: it has threads of its own, while faiss brings a second OpenMP beside torch's. Its index is
built by one thread, from a fixed seed, so that the same images give the same answer.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from ...core.console import progress
from ...core.parallel import in_order
from .alignment import Alignment, align, angular
from .fingerprints import DISC, SIDE, Fingerprint, fingerprint, flatten, harmonics
from .neighbours import CROPS, Pairs, all_pairs, candidates, chunks, zoomed
from .verification import Placed, levels, verify

logger = logging.getLogger(__name__)

__all__ = ["Fingerprint", "claimed", "cluster", "find_duplicates", "fingerprint"]

_Row = tuple[int, int, str, float, float, bool]  # of the table of pairs

CLUSTER = 64  # images of a cluster at most, those that are exactly equal counted once

_ALL_PAIRS = 60  # images up to which every pair is a candidate
_SAMPLE = 20  # images from which a set shows whether unrelated ones resemble each other
_ANGULAR = 0.5  # correlation of the Fourier rings below which a pair is not worth aligning
_LEAST = 0.6  # correlation of the small pictures below which a pair is nothing; strangers among galaxies reach 0.3
_SURE, _MAYBE = 0.5, 0.7  # distance at most; see `verification`
_UNRELATED = 0.6  # distance from which a pair that correlates is one of strangers that resemble each other
_RESEMBLING = (
    0.1  # share of a set's images with such an unrelated image, from which on the images of a set count as similar
)
_AGREEMENT = 0.85  # at least
# Among images that resemble each other a pair is `sure` where one of these holds, see `_same_picture`:
_SMOOTH = 0.003  # 1 - agreement at most
_GRAINY, _GRAIN = 0.02, 0.08  # 1 - agreement at most, and its share of 1 - `fine`
_NEAR, _NEARBY = 0.012, 0.025  # 1 - agreement and distance at most
_MIRRORED = 0.15  # correlation of the mirror image from which a picture resembles its strangers, in any set
_STRUCTURE = 40.0  # pixels: a picture of less, such as two points of light, is never `sure`: too many are like it
_IDENTICAL = 0.995  # both correlations, that make a pair `maybe` even if the mirror image comes as near


class _Compared(NamedTuple):
    """Of n pairs: the correlation of the small pictures, -1 where it was not worth the while; the matrix (n, 2, 2) that
    brings the second onto the first; and the `Verification` of those that correlate, of the others -1, 1.
    """

    similarity: np.ndarray
    matrix: np.ndarray
    agreement: np.ndarray
    fine: np.ndarray
    distance: np.ndarray


def find_duplicates(fingerprints: Sequence[Fingerprint]) -> pd.DataFrame:
    """Pairs of duplicates among images, given their fingerprints.

    Returns
    -------
    pandas.DataFrame
        One row a pair, sorted: first, second (row numbers, first < second); kind (`exact`: the same pixels, shape and
        type; `sure`: one picture, changed; `maybe`: to be checked by eye); similarity (0 to 1, correlation of the
        flattened and blurred pictures after alignment); rotation (degrees from 0 to 360) and mirrored: `first`,
        mirrored top to bottom where `mirrored` is true, then turned counter-clockwise by the rotation, is `second`. Of
        images that are exactly equal, each makes a pair with the first one, and that one alone takes part in the search
        for near ones. Blank images are never near anything. Near copies of one image need not all be paired with each
        other: `cluster` brings them together.
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


def claimed(pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs that are copies: all but those of the kind `maybe`."""
    return pairs[pairs["kind"].ne("maybe")]


def _near(fingerprints: Sequence[Fingerprint], rows: np.ndarray) -> list[_Row]:
    """Rows of the table for near duplicates among the images `rows`, which are neither blank nor exactly equal."""
    pictures, descriptors, details = (
        np.stack([getattr(fingerprints[row], name) for row in rows]) for name in ("picture", "descriptor", "detail")
    )
    pairs = all_pairs(len(rows)) if len(rows) <= _ALL_PAIRS else candidates(pictures, descriptors)
    with progress("Comparing", len(pairs.first), "pairs") as advance:
        compared = _compare(pictures, details, pairs, advance)
    structure = np.concatenate(list(in_order(_structure, chunks(pictures))))
    sure, maybe = _tiers(pairs, compared, structure)
    best: dict[tuple[int, int], tuple[float, _Row]] = {}
    for k in np.flatnonzero(sure | maybe):
        a, b, matrix = int(rows[pairs.first[k]]), int(rows[pairs.second[k]]), compared.matrix[k]
        if a > b:
            a, b, matrix = b, a, np.linalg.inv(matrix)
        rotation = round(float(-np.degrees(np.arctan2(matrix[1, 0], matrix[1, 1]))), 1) % 360.0
        similarity = float(np.clip(compared.agreement[k], 0.0, 1.0))
        rank = similarity + float(sure[k])  # either image was tried as a crop of the other: the better one counts
        if (a, b) not in best or rank > best[a, b][0]:
            kind = "sure" if sure[k] else "maybe"
            best[a, b] = (rank, (a, b, kind, similarity, rotation, bool(np.linalg.det(matrix) < 0)))
    return [row for _, row in best.values()]


def _tiers(pairs: Pairs, compared: _Compared, structure: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which pairs of pictures, whose `_structure` is given, are `sure`, and which `maybe`, each (pairs,) bool."""
    n = len(structure)
    close = compared.similarity >= _LEAST
    unrelated = close & (compared.distance > _UNRELATED)
    resembling = np.union1d(pairs.first[unrelated], pairs.second[unrelated])
    mirrored = 1.0 - (1.0 - compared.fine) / np.maximum(compared.distance, 1e-6)
    strict = (mirrored > _MIRRORED) | np.isin(pairs.first, resembling) | np.isin(pairs.second, resembling)
    if n < _SAMPLE or len(resembling) > _RESEMBLING * n:
        strict[:] = True
    if n >= _SAMPLE and strict.all():
        logger.warning(
            "duplicates: many of these images resemble each other without being the same, so copies that are noisy, "
            "cropped or compressed as well may count as `maybe`, or be missed"
        )
    distinct = close & (compared.distance <= _SURE)
    distinct &= np.minimum(structure[pairs.first], structure[pairs.second]) >= _STRUCTURE
    sure = distinct & (compared.agreement >= _AGREEMENT) & (~strict | _same_picture(compared))
    alike = (compared.distance <= _MAYBE) | (np.minimum(compared.agreement, compared.fine) >= _IDENTICAL)
    return sure, close & alike & (compared.agreement >= _AGREEMENT) & ~sure


def _same_picture(compared: _Compared) -> np.ndarray:
    """(n,) bool: pairs that differ by less, or by something else, than two photographs of one object do.

    Those differ smoothly (another libration, another shadow): of their difference a tenth and more is left where the
    pictures are blurred, of that of a copy with noise, or compressed again, a twenty-fifth.
    """
    smooth = 1.0 - compared.agreement
    grain = (smooth <= _GRAINY) & (smooth <= _GRAIN * (1.0 - compared.fine))
    near = (smooth <= _NEAR) & (compared.distance <= _NEARBY)
    return np.asarray((smooth <= _SMOOTH) | grain | near)


def _structure(pictures: np.ndarray) -> np.ndarray:
    """(n,) how many pixels hold the structure of the flattened pictures: the participation ratio of its power."""
    power = (flatten(pictures) * DISC) ** 2
    return np.asarray(power.sum(axis=(1, 2)) ** 2 / np.maximum((power**2).sum(axis=(1, 2)), 1e-12))


def _compare(pictures: np.ndarray, details: np.ndarray, pairs: Pairs, advance: Callable[[int], None]) -> _Compared:
    """Align pairs, in threads, and verify those that then correlate."""
    compared = []
    parts = chunks(np.arange(len(pairs.first)))
    for part in in_order(lambda rows: _compare_some(pictures, details, pairs, rows), parts):
        compared.append(part)
        advance(len(part.similarity))
    return _Compared(*(np.concatenate(parts) for parts in zip(*compared, strict=True)))


def _compare_some(pictures: np.ndarray, details: np.ndarray, pairs: Pairs, part: np.ndarray) -> _Compared:
    """Of the pairs `part` alone."""
    n = len(part)
    similarity, agreement, fine = np.full((3, n), -1.0)
    result = _Compared(similarity, np.tile(np.eye(2), (n, 1, 1)), agreement, fine, np.ones(n))
    second = flatten(pictures[pairs.second[part]])
    best = _best_crop(pictures, pairs.first[part], harmonics(second))
    worth = np.flatnonzero(best.alike >= _ANGULAR)
    if not len(worth):
        return result
    aligned = align(best.picture[worth], second[worth], best.angles[worth])
    result.similarity[worth], result.matrix[worth] = aligned.similarity, aligned.matrix
    close = aligned.similarity >= _LEAST
    if not close.any():
        return result
    rows, aligned = worth[close], Alignment(*(values[close] for values in aligned))
    parity = (np.linalg.det(aligned.matrix) > 0).astype(int)  # the other one
    mirrored = align(best.picture[rows], second[rows], best.angles[rows], parity)
    straight, other = (
        Placed(one.matrix * best.crop[rows, None, None], one.shift * best.crop[rows, None])
        for one in (aligned, mirrored)
    )
    a, b = pairs.first[part][rows], pairs.second[part][rows]
    unique, where = np.unique(np.concatenate([a, b]), return_inverse=True)  # prepared once for all its pairs
    detail = levels(details[unique])[where]
    found = verify(detail[: len(a)], detail[len(a) :], straight, other)
    for name, values in found._asdict().items():
        getattr(result, name)[rows] = values
    return result


class _Crops(NamedTuple):
    """Of n pictures the crop that resembles another most, flattened (n, 64, 64); its share; and of `angular`, the
    angles (n, 2) and the better correlation (n,).
    """

    picture: np.ndarray
    crop: np.ndarray
    angles: np.ndarray
    alike: np.ndarray


def _best_crop(pictures: np.ndarray, rows: np.ndarray, waves: np.ndarray) -> _Crops:
    """The crops of `rows` that resemble most the pictures of which the harmonics `waves` are."""
    n = len(rows)
    unique, where = np.unique(rows, return_inverse=True)  # a row is prepared once for all its pairs
    best = _Crops(np.empty((n, SIDE, SIDE), np.float32), np.ones(n), np.zeros((n, 2)), np.full(n, -np.inf))
    for crop in CROPS:
        flat = flatten(zoomed(pictures[unique], crop))
        alike, angles = angular(harmonics(flat)[where], waves)
        better = alike.max(axis=1) > best.alike
        best.alike[better], best.angles[better] = alike.max(axis=1)[better], angles[better]
        best.picture[better], best.crop[better] = flat[where[better]], crop
    return best


def cluster(n: int, pairs: pd.DataFrame) -> np.ndarray:
    """The cluster of each image, by the pairs that are `claimed`.

    Each member of a cluster makes a pair with the cluster's medoid, or is exactly equal to one that does: nothing is
    joined by way of a third image. The medoid is the image with the most partners that are still free, of several the
    one with the most similar ones. An image whose only partners went to other clusters stays alone.

    Returns
    -------
    (n,) int64
        Numbers of clusters, counted from 0 by first member; -1 for images in none.
    """
    pairs = claimed(pairs)
    exact = pairs["kind"].eq("exact")
    original = np.arange(n)
    original[pairs.loc[exact, "second"]] = pairs.loc[exact, "first"]
    partners: dict[int, dict[int, float]] = {}
    near = pairs[~exact]
    for a, b, similarity in zip(near["first"].tolist(), near["second"].tolist(), near["similarity"], strict=True):
        partners.setdefault(int(original[a]), {})[int(original[b])] = similarity
        partners.setdefault(int(original[b]), {})[int(original[a])] = similarity
    medoid = _medoids(partners)
    roots = np.array([medoid.get(int(one), int(one)) for one in original], np.int64)
    numbers = np.full(n, -1, np.int64)
    for root in roots[np.bincount(roots, minlength=n)[roots] > 1]:  # in the order of the images
        if numbers[root] < 0:
            numbers[root] = numbers.max(initial=-1) + 1
    return np.asarray(numbers[roots], np.int64)


def _medoids(partners: Mapping[int, Mapping[int, float]]) -> dict[int, int]:
    """Image -> the medoid of its cluster, for images with partners (whose similarities `partners` has)."""
    medoid: dict[int, int] = {}

    def order(image: int) -> tuple[int, list[float], int]:
        free = sorted(-value for other, value in partners[image].items() if other not in medoid)
        return -len(free), free, image

    queue = [order(image) for image in partners]
    heapq.heapify(queue)
    while queue:
        image = queue[0][2]
        now = order(image)
        if image in medoid or not now[1]:
            heapq.heappop(queue)
        elif now != queue[0]:  # partners have gone to other clusters: its turn comes later
            heapq.heapreplace(queue, now)
        else:
            heapq.heappop(queue)
            free = [other for other in partners[image] if other not in medoid]
            nearest = sorted(free, key=lambda other: (-partners[image][other], other))[: CLUSTER - 1]
            medoid.update(dict.fromkeys([image, *nearest], image))
    return medoid
