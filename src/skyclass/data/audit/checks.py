"""The checks of an audit: problems of a catalog that would spoil a classifier trained on it.

Every function takes a catalog (see `catalog.check_catalog`) and gives rows of problems or a table; nothing is opened.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ...core.sample_sizes import LEAST_IN_CLASS
from ...core.text import quantity
from ..catalog import SPLITS, Problem
from ..problem_kinds import OTHER
from .duplicates import claimed, cluster
from .file_kinds import USUAL

FEW = LEAST_IN_CLASS  # images of a class below which neither its training nor its score means much
LARGE = 0.02  # share of the images beyond which a cluster of duplicates is worth a sentence
IMBALANCE = 20  # the largest class has so many times the images of the smallest

DUPLICATES = [
    *("cluster", "kind", "similarity", "rotation", "mirrored", "across"),
    *("image_id", "label", "split", "file"),
    *("other_id", "other_label", "other_split", "other_file"),
]

# Bands that replace each other (`pixels.select_bands`).
_COLOUR = {"grey", "red green blue", "band_1 band_2 band_3"}

# Words that turn into each other in a mirror.
_HANDED = (
    *(("clockwise", "anticlockwise"), ("clockwise", "counterclockwise"), ("clockwise", "counter_clockwise")),
    *(("cw", "acw"), ("cw", "ccw"), ("left", "right"), ("s_wise", "z_wise"), ("swise", "zwise"), ("s", "z")),
    *(("leading", "trailing"), ("dextral", "sinistral"), ("lh", "rh"), ("lefthanded", "righthanded")),
)


def duplicate_clusters(catalog: pd.DataFrame, pairs: pd.DataFrame) -> pd.Series:
    """The cluster of each row of the catalog, named by the id of its first image; None where it has no duplicate.

    pairs : as `duplicates.find_duplicates` gives them, in row numbers of the catalog; of the kind `maybe` join nothing
    """
    clusters = cluster(len(catalog), pairs)
    ids = catalog["image_id"].tolist()
    first: dict[int, str] = {}
    for row in np.flatnonzero(clusters >= 0):
        first.setdefault(int(clusters[row]), ids[row])
    names = [first[int(number)] if number >= 0 else None for number in clusters]
    return pd.Series(names, index=catalog.index, dtype=object)


def duplicate_table(catalog: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """The pairs with the catalog's columns of both images; copies come before what may be one, and among them those
    across splits or labels first.

    `across` is empty, `splits`, `labels` or `splits and labels`; `cluster` is empty for pairs that are in none
    together, as all of the kind `maybe`.
    """
    catalog = catalog.reset_index(drop=True)
    columns = ["image_id", "label", "split", "file"]
    first = catalog.loc[pairs["first"], columns].reset_index(drop=True)
    second = catalog.loc[pairs["second"], columns].reset_index(drop=True)
    table = pairs[["kind", "similarity", "rotation", "mirrored"]].reset_index(drop=True)
    table = table.join(first).join(second.set_axis(["other_id", "other_label", "other_split", "other_file"], axis=1))
    clusters = duplicate_clusters(catalog, pairs)
    uncertain = table["kind"].eq("maybe").to_numpy()
    both = zip(uncertain, clusters[pairs["first"]], clusters[pairs["second"]], strict=True)
    names = [None if maybe or one != other else one for maybe, one, other in both]
    table["cluster"] = pd.Series(names, dtype=object)
    splits = _differ(table["split"], table["other_split"])
    labels = _differ(table["label"], table["other_label"])
    table["across"] = np.select([splits & labels, splits, labels], ["splits and labels", "splits", "labels"], "")
    order = pd.DataFrame(
        {"uncertain": uncertain, "splits": ~splits, "labels": ~labels, "similarity": -table["similarity"]}
    )
    return table.loc[order.sort_values(list(order.columns), kind="stable").index, DUPLICATES].reset_index(drop=True)


def _differ(one: pd.Series, other: pd.Series) -> pd.Series:
    return one.notna() & other.notna() & (one != other)


def duplicate_problems(table: pd.DataFrame) -> list[Problem]:
    """Warnings of the pairs in a `duplicate_table` that lie across splits or labels; the others do no harm.

    Only the copies: pairs of the kind `maybe` are in the table, to be checked by eye.
    """
    return [
        _warning(
            f"{_SHOWS[row['kind']]} {row['other_id']}, which is {_place(row)}: {_harm(row)}",
            row["image_id"],
            row["file"],
            kind="leak" if "splits" in row["across"] else "conflict",
        )
        for row in claimed(table[table["across"] != ""]).to_dict("records")
    ]


_SHOWS = {"exact": "has the same pixels as", "sure": "shows the same picture as", "near": "shows the same picture as"}


def _place(row: dict[Any, Any]) -> str:
    parts = []
    if "labels" in row["across"]:
        parts.append(f"labelled {row['other_label']}")
    if "splits" in row["across"]:
        parts.append(f"in {row['other_split']}")
    return " and ".join(parts)


def _harm(row: dict[Any, Any]) -> str:
    conflict = "conflicting labels" if row["kind"] == "exact" else "labels to compare"
    harm = {"splits": "a leak", "labels": conflict, "splits and labels": f"a leak and {conflict}"}
    return harm[row["across"]]


def cluster_problems(table: pd.DataFrame, images: int, path: str) -> list[Problem]:
    """Warnings of clusters of duplicates that hold several classes or, if larger than a pair, much of the images.

    table : of `duplicate_table`, of a catalog of so many `images`; `path` names the source
    """
    one = table[["cluster", "image_id", "label"]]
    other = table[["cluster", "other_id", "other_label"]].set_axis(one.columns, axis=1)
    members = pd.concat([one, other], ignore_index=True).drop_duplicates(["cluster", "image_id"])
    found = []
    for name, rows in members.dropna(subset="cluster").groupby("cluster", sort=False):
        classes, share = sorted(rows["label"].dropna().unique()), len(rows) / images
        told = [f"images of {len(classes)} classes ({_listed(classes)})"] if len(classes) > 1 else []
        if len(rows) > 2 and share > LARGE:
            told.append(f"{share:.1%} of all images")
        if told:
            what = f"the cluster of duplicates of {name} ({len(rows):,} images) holds {' and '.join(told)}"
            found.append(_warning(f"{what}: please compare them by eye", file=path, kind="cluster"))
    return found


def duplicates_found(images: int, clusters: int, maybe: int) -> str:
    """In words: how many images are copies of another, in how many clusters, and how many pairs may be."""
    told = f"{quantity(images, 'image')} in {quantity(clusters, 'cluster')} of copies" if images else "no copies"
    if maybe:
        told += f"; {quantity(maybe, 'pair')} may show the same and {'is' if maybe == 1 else 'are'} for you to compare"
    return f"duplicates: {told}"


def odd_ones(catalog: pd.DataFrame, values: Sequence[Any], what: str, kind: str) -> list[Problem]:
    """Warnings of the images whose size, bands or type is another than that of nearly all the others.

    values : one a row of the catalog, None where the image could not be read; `what` is what they are called
    """
    counts = Counter(value for value in values if value is not None)
    if len(counts) < 2:
        return []
    usual, times = counts.most_common(1)[0]
    if times < USUAL * counts.total():
        return []
    return [
        _warning(
            f"odd {what}: {value}, where {times / counts.total():.1%} of the images have {usual}", image_id, file, kind
        )
        for value, image_id, file in zip(values, catalog["image_id"], catalog["file"], strict=True)
        if value not in (None, usual)
    ]


def mixed_bands(bands: Sequence[str | None], path: str) -> list[Problem]:
    """A warning where no set of bands is that of nearly all images: a pack has one, and leaves the others out."""
    counts = Counter(names for names in bands if names is not None)
    if set(counts) <= _COLOUR or counts.most_common(1)[0][1] >= USUAL * counts.total():
        return []
    told = ", ".join(f"{names} ({n:,})" for names, n in counts.most_common(4))
    return [
        _warning(
            f"{len(counts)} sets of bands: {told}; a pack has one: `skyclass pack SOURCE PACK --pixels bands=[...]`",
            file=path,
            kind="bands",
        )
    ]


def balance_problems(catalog: pd.DataFrame, path: str) -> list[Problem]:
    """Warnings of classes with few images or far fewer than others, and of empty splits; `path` names the source."""
    labelled = catalog[catalog["label"].notna()]
    counts = Counter(labelled["label"])
    thin = [f"{name} ({count})" for name, count in sorted(counts.items()) if count < FEW]
    told = [f"fewer than {FEW} images of {_listed(thin)}"] if thin else []
    if len(counts) == 1:
        told.append(f"only one class, {next(iter(counts))!r}: a classifier needs two at least")
    largest, smallest = max(counts, key=counts.__getitem__, default=""), min(counts, key=counts.__getitem__, default="")
    if counts and counts[largest] >= IMBALANCE * counts[smallest]:
        what = f"class {largest!r} has {counts[largest] / counts[smallest]:.0f} times the images of {smallest!r}"
        told.append(f"{what}; training.class_weights: balanced gives them the same weight")
    given = labelled.dropna(subset="split").groupby("split")["label"].agg(set).to_dict()
    for split in SPLITS if given else ():
        absent = sorted(set(counts) - given.get(split, set()))
        if split not in given:
            told.append(f"no labelled image is in the split {split!r}")
        elif absent:
            told.append(f"no image of {_listed(absent)} in {split}")
    return [_warning(text, file=path, kind="class") for text in told]


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def chiral_classes(classes: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of classes whose names turn into each other in a mirror, such as spiral_clockwise, spiral_anticlockwise."""
    names = sorted(classes)
    words = {name: _words(name) for name in names}
    return [(one, other) for one, other in itertools.combinations(names, 2) if _mirrored(words[one], words[other])]


def _words(name: str) -> str:
    """A class name in small letters with single underscores: `Spiral-ACW` is `spiral_acw`."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", parted.lower()).strip("_")


def _mirrored(one: str, other: str) -> bool:
    for left, right in _HANDED:
        for word, opposite in ((left, right), (right, left)):
            if re.sub(rf"(^|_){word}(?=_|$)", rf"\g<1>{opposite}", one) == other != one:
                return True
    return False


def chirality_problems(classes: Iterable[str], path: str) -> list[Problem]:
    """A warning for each pair of `chiral_classes`, with the setting that makes mirroring right."""
    return [
        _warning(
            f"a mirror turns {one!r} into {other!r}: where images are flipped in training, set "
            f"augment.mirror_swaps: [[{one}, {other}]]",
            file=path,
            kind="mirror",
        )
        for one, other in chiral_classes(classes)
    ]


def _warning(problem: str, image_id: str = "", file: str = "", kind: str = OTHER) -> Problem:
    return Problem(image_id=image_id, file=file, problem=problem, severity="warning", kind=kind)
