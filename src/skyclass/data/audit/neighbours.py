"""Candidates for duplicates: of each picture the neighbours in a space of descriptors, whole and as a crop."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import linalg, ndimage
from usearch.index import Index

from ...core.console import progress
from ...core.parallel import available_cores, in_order
from .fingerprints import SIDE, compute_descriptors

CROPS = (1.0, 0.95, 0.9)  # shares of an image's side that its copy may show
NEIGHBOURS = 10  # candidates an image
_DIMENSIONS = 64
_EXACT = 20_000  # images up to which all descriptors are compared; beyond, an index (HNSW) is used
_SHIFT, _SCALE, _GRAIN = 2.6, 0.03, 6.0  # disturbance of pictures: pixels, share, grey levels
_CHUNK = 64  # pairs or pictures handled together: they then stay in the processor's cache
_SAMPLE = 400  # pictures on which the discriminants are measured


class Pairs(NamedTuple):
    """Candidates: rows of pictures, each (n,), of which `second` may show a crop of `first`."""

    first: np.ndarray
    second: np.ndarray


def chunks(rows: np.ndarray) -> list[np.ndarray]:
    """Parts of at most CHUNK rows."""
    return [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]


def all_pairs(n: int) -> Pairs:
    """Every two of n images, either as the crop of the other."""
    pairs = np.array(list(combinations(range(n), 2)))
    first, second = np.concatenate([pairs, pairs[:, ::-1]]).T
    return Pairs(first, second)


def candidates(pictures: np.ndarray, descriptors: np.ndarray) -> Pairs:
    """The NEIGHBOURS nearest of each picture, at the crop at which they are nearest; every pair once."""
    n = len(pictures)
    centre, matrix = discriminants(pictures, descriptors)
    base = np.ascontiguousarray((descriptors - centre) @ matrix)
    index = Index(
        ndim=base.shape[1], metric="l2sq", dtype="f32", connectivity=16, expansion_add=96, expansion_search=96
    )
    with progress("Indexing", n) as advance:
        for rows in np.array_split(np.arange(n), max(1, n // 5000)):
            index.add(rows, base[rows], threads=1)
            advance(len(rows))
    tables = []
    with progress("Finding neighbours", n * len(CROPS)) as advance:
        for crop in CROPS:
            queries = base if crop == 1.0 else (described(pictures, crop) - centre) @ matrix
            for rows in np.array_split(np.arange(n), max(1, n // 5000)):
                near = index.search(
                    np.ascontiguousarray(queries[rows]), NEIGHBOURS + 1, exact=n <= _EXACT, threads=available_cores()
                )
                who = np.repeat(rows, near.keys.shape[1])
                columns = {"first": who, "second": near.keys.ravel().astype(np.int64), "crop": crop}
                tables.append(pd.DataFrame({**columns, "distance": near.distances.ravel()}))
                advance(len(rows))
    return _nearest_once(pd.concat(tables, ignore_index=True))


def _nearest_once(table: pd.DataFrame) -> Pairs:
    table = table[table["first"] != table["second"]].sort_values(["first", "distance", "second", "crop"])
    table = table.drop_duplicates(["first", "second"])
    table = table[table.groupby("first").cumcount() < NEIGHBOURS]
    both = np.sort(table[["first", "second"]].to_numpy(), axis=1)
    table = table.assign(low=both[:, 0], high=both[:, 1]).sort_values(["low", "high", "distance", "first"])
    # Pairs of the same picture follow each other, so that it is prepared once for all of them.
    table = table.drop_duplicates(["low", "high"]).sort_values(["first", "second"])
    return Pairs(table["first"].to_numpy(), table["second"].to_numpy())


def described(pictures: np.ndarray, crop: float) -> np.ndarray:
    """Descriptors of the central share `crop` of the pictures."""
    parts = in_order(lambda part: compute_descriptors(zoomed(part, crop)), chunks(pictures))
    return np.concatenate(list(parts))


def zoomed(pictures: np.ndarray, crop: float) -> np.ndarray:
    """(n, 64, 64) uint8 -> float32: the central share `crop` of each picture's side, enlarged."""
    values = pictures.astype(np.float32)
    if crop == 1.0:
        return values
    centre, pixel = (SIDE - 1) / 2, np.arange(SIDE)
    position = (pixel - centre) * crop + centre
    weights = np.maximum(0.0, 1.0 - np.abs(position[:, None] - pixel)).astype(np.float32)
    return np.asarray(weights @ values @ weights.T)


def discriminants(pictures: np.ndarray, descriptors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and matrix (D, d): linear discriminants between images, within those of an image's disturbed copies.

    Regularised by a tenth of the mean variance within (Friedman 1989, J. Am. Stat. Assoc. 84, 165).
    """
    random = np.random.default_rng(0)
    rows = random.choice(len(pictures), _SAMPLE, replace=len(pictures) < _SAMPLE)
    centre, spread = descriptors.mean(axis=0), descriptors.std(axis=0) + np.float32(1e-6)
    disturbed = compute_descriptors(np.stack([_disturbed(pictures[row], random) for row in rows]))
    change = ((disturbed - descriptors[rows]) / spread).astype(np.float64)
    within = change.T @ change / len(rows)
    size = len(within)
    within += (0.1 * np.trace(within) / size + 1e-9) * np.eye(size)
    centred = ((descriptors - centre) / spread).astype(np.float64)
    _, vectors = linalg.eigh(centred.T @ centred / len(centred), within, subset_by_index=[size - _DIMENSIONS, size - 1])
    return centre, (vectors / spread[:, None]).astype(np.float32)


def _disturbed(picture: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(64, 64) turned by any angle, mirrored or not, a little shifted and enlarged, with noise."""
    angle, scale = random.uniform(0.0, 2.0 * np.pi), 1.0 + random.uniform(-_SCALE, _SCALE)
    matrix = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    matrix[0] *= random.choice((-1.0, 1.0))
    centre = (SIDE - 1) / 2
    start = random.uniform(-_SHIFT, _SHIFT, 2) + centre - matrix.sum(axis=1) * centre
    moved = ndimage.affine_transform(picture.astype(np.float32), matrix, start, order=1, mode="nearest")
    return np.asarray(moved + random.normal(0.0, _GRAIN, moved.shape), np.float32)
