"""Stable splits: an image's split follows from its own id, so adding images never moves old ones.

Each group of images (an image without a group is one by itself) gets a number in [0, 1) by hashing its name, and the
number falls into the share of train, val or test. Every class is thereby split in the same proportions, on average.
Copies of one picture (column `duplicates`: those that are exact or sure) join their groups into one, which goes by the
number of one of them: a new duplicate can move the images it doubles, and no others.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ...core.errors import SkyclassError
from ..catalog import SPLITS

logger = logging.getLogger(__name__)

Interval = tuple[float, float]


@dataclass
class _Group:
    """Images that stay together: the number they drew, their classes, and the split they are in now."""

    name: str
    number: float
    classes: set[str]
    split: str


def assign_splits(
    catalog: pd.DataFrame, fractions: tuple[float, float, float] = (0.8, 0.1, 0.1), seed: int = 0
) -> pd.DataFrame:
    """A catalog whose labelled rows all have a split, drawn in the proportions (train, val, test) where it was absent.

    Rows that have a split keep it, and an image whose group or duplicate has one joins it. Where every labelled row
    has a split, but the source came without val or test (or both) and its fraction is not 0, that one is cut from
    train, in the proportion of the fractions. A catalog that only has val or test is left alone: it is there to be
    evaluated on.
    Unlabelled rows get no split, and lose the one they had.

    One exception to "never moves": where chance leaves a class out of a split it should be in, the group whose number
    lies nearest to that split is moved there, as long as no split loses its last group of a class. Train comes first,
    and takes a class's only group. That is logged, and so is a class that has too few groups for every split.

    Errors: SkyclassError for fractions that do not add up to 1, a group that lies in several given splits, or a class
    without training images.
    """
    shares = _shares(fractions)
    catalog = catalog.copy()
    labelled = catalog["label"].notna()
    catalog["split"] = catalog["split"].astype(object).mask(~labelled, None)
    if not labelled.any():
        return catalog
    names, given = _parts(catalog[labelled], seed)
    if catalog.loc[labelled, "split"].notna().all():
        shares = _shares_of_train(shares, set(given.values()))
        given = {name: split for name, split in given.items() if split != "train" or "train" not in shares}
    intervals = _intervals(shares)
    groups = _draw(names, catalog.loc[labelled, "label"], given, intervals, seed)
    _fill_gaps(groups, given, intervals)
    _check_train(groups)
    split_of = {group.name: group.split for group in groups}
    catalog.loc[labelled, "split"] = [split_of[name] for name in names]
    return catalog


def check_splits(catalog: pd.DataFrame, fractions: tuple[float, float, float]) -> None:
    """Raise what `assign_splits` would raise for any duplicates, before images are decoded to find them."""
    _shares(fractions)
    rows = catalog[catalog["label"].notna()]
    _given_splits(own_names(rows), rows["split"])
    if rows["split"].notna().all():
        pairs = set(zip(rows["label"], rows["split"], strict=True))
        _check_train([_Group("", 0.0, {label}, split) for label, split in sorted(pairs)])


def split_number(name: str, seed: int) -> float:
    """A number in [0, 1) that depends on the name and the seed alone: the first 53 bits of their BLAKE2b hash."""
    digest = hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) * 2.0**-53


def _shares(fractions: Sequence[float]) -> dict[str, float]:
    if len(fractions) != 3 or min(fractions) < 0 or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        given = ", ".join(f"{fraction:g}" for fraction in fractions)
        what = f"the fractions of train, val and test are {given}"
        raise SkyclassError(what, where="splits", fix="give three numbers from 0 on that add up to 1")
    return {split: share for split, share in zip(SPLITS, fractions, strict=True) if share > 0}


def _shares_of_train(shares: Mapping[str, float], given: set[str]) -> dict[str, float]:
    """How the given train images are shared among train and the splits that were not given; empty if they are not."""
    cut = {split: share for split, share in shares.items() if split == "train" or split not in given}
    if "train" not in given or "train" not in shares or len(cut) == 1:
        return {}
    logger.info("split: " + " and ".join(split for split in cut if split != "train") + " cut from train")
    total = sum(cut.values())
    return {split: share / total for split, share in cut.items()}


def own_names(catalog: pd.DataFrame) -> list[str]:
    """The key that is hashed for each row: its group or its id, each with its own prefix."""
    ids = ("image " + catalog["image_id"]).tolist()
    if "group" not in catalog.columns:
        return ids
    pairs = zip(catalog["group"], catalog["group"].isna(), ids, strict=True)
    return [image_id if alone else f"group {group}" for group, alone, image_id in pairs]


def joined_names(catalog: pd.DataFrame, seed: int) -> list[str]:
    """As `own_names`, with one name for all groups that duplicates join: that of the one that leads.

    Which one leads is drawn by another hash than the split's number, whose smallest value would favour train.
    """
    names = own_names(catalog)
    if "duplicates" not in catalog.columns or catalog["duplicates"].isna().all():
        return names
    nodes = {name: number for number, name in enumerate(dict.fromkeys(names))}
    clusters = {name: len(nodes) + number for number, name in enumerate(catalog["duplicates"].dropna().unique())}
    edges = [
        (nodes[name], clusters[cluster])
        for name, cluster in zip(names, catalog["duplicates"], strict=True)
        if cluster in clusters
    ]
    first, second = np.array(edges).T
    size = len(nodes) + len(clusters)
    graph = coo_matrix((np.ones(len(edges)), (first, second)), (size, size))
    component = connected_components(graph, directed=False)[1]
    leader: dict[int, str] = {}
    for name in sorted(nodes, key=lambda name: split_number(f"leader {name}", seed)):
        leader.setdefault(component[nodes[name]], name)
    return [leader[component[nodes[name]]] for name in names]


def _parts(catalog: pd.DataFrame, seed: int) -> tuple[list[str], dict[str, str]]:
    """The name of each row's part, and part -> the split it came with.

    A part is a group, with all that duplicates join to it. Where duplicates were given to several splits these are
    left alone, for they are the user's, and those without a split go with the training images among them.
    """
    _given_splits(own_names(catalog), catalog["split"])  # a group in several splits is an error, duplicates are not
    names = joined_names(catalog, seed)
    lie_in: dict[str, set[str]] = defaultdict(set)
    for name, split in zip(names, catalog["split"], strict=True):
        if not pd.isna(split):
            lie_in[name].add(split)
    given: dict[str, str] = {}
    for row, (name, split) in enumerate(zip(names, catalog["split"], strict=True)):
        splits = lie_in[name]
        if not splits:
            continue
        settled = min(splits, key=SPLITS.index) if pd.isna(split) else split
        names[row] = name if len(splits) == 1 else f"{settled}: {name}"
        given[names[row]] = settled
    return names, given


def _given_splits(names: Sequence[str], splits: pd.Series) -> dict[str, str]:
    """Group -> the split its rows came with, if any did."""
    given: dict[str, str] = {}
    for name, split, absent in zip(names, splits, splits.isna(), strict=True):
        if not absent and given.setdefault(name, split) != split:
            what = f"{name} lies in {given[name]} and in {split}, which must not share images of one group"
            raise SkyclassError(what, fix="put the group into one split, or leave the group column out")
    return given


def _draw(
    names: Sequence[str], labels: pd.Series, given: Mapping[str, str], intervals: Mapping[str, Interval], seed: int
) -> list[_Group]:
    classes: dict[str, set[str]] = defaultdict(set)
    for name, label in zip(names, labels, strict=True):
        classes[name].add(label)
    groups = []
    for name in sorted(classes):  # by name, so that the order of the rows plays no part
        number = split_number(name, seed)
        split = given.get(name) or next(split for split, (_, end) in intervals.items() if number < end)
        groups.append(_Group(name, number, classes[name], split))
    return groups


def _intervals(shares: Mapping[str, float]) -> dict[str, Interval]:
    """Split -> where its numbers begin and end; the last one ends at 1 whatever the rounding."""
    ends = list(itertools.accumulate(shares.values()))[:-1]
    return dict(zip(shares, itertools.pairwise([0.0, *ends, 1.0]), strict=False))


def _fill_gaps(groups: Sequence[_Group], given: Mapping[str, str], intervals: Mapping[str, Interval]) -> None:
    """Move groups, in place, into splits that a class is absent from; log what was moved and what stays empty."""
    members: dict[str, list[_Group]] = defaultdict(list)
    for group in groups:
        for label in group.classes:
            members[label].append(group)
    count = Counter((label, group.split) for group in groups for label in group.classes)
    moved: dict[str, list[str]] = defaultdict(list)
    lacking: dict[str, list[str]] = defaultdict(list)
    for split, label in itertools.product(intervals, sorted(members)):
        if count[label, split]:
            continue
        enough = split == "train" or len(members[label]) >= len(intervals)
        free = [group for group in members[label] if group.name not in given] if enough else []
        spare = [group for group in free if all(count[each, group.split] > 1 for each in group.classes)]
        candidates = spare or (free if split == "train" else [])
        if not candidates:
            lacking[split].append(label)
            continue
        begin, end = intervals[split]
        nearest = min(candidates, key=lambda group: max(begin - group.number, group.number - end))
        count.subtract((each, nearest.split) for each in nearest.classes)
        count.update((each, split) for each in nearest.classes)
        nearest.split = split
        moved[split].append(label)
    for split, labels in moved.items():
        logger.info(f"split: moved one image or group of {', '.join(labels)} to {split}, which had none")
    for split, labels in lacking.items():
        logger.warning(f"split: too few images of {', '.join(labels)} for {split}")


def _check_train(groups: Sequence[_Group]) -> None:
    trained = {label for group in groups if group.split == "train" for label in group.classes}
    untrained = sorted({label for group in groups for label in group.classes} - trained)
    if trained and untrained:
        what = f"class {untrained[0]!r} has no training images"
        raise SkyclassError(what, fix="put some of its images into train, or leave the class out of the source")
