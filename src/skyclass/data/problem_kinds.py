"""The kinds of problems that an audit finds, the most severe first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

KINDS = {
    "leak": "copies across splits",
    "conflict": "copies across labels",
    "cluster": "large clusters of copies, or of several classes",
    "unreadable": "files that cannot be read",
    "blank": "images without content",
    "row": "rows and files that cannot be used as they are",
    "class": "classes and splits",
    "mirror": "classes that a mirror exchanges",
    "bands": "bands",
    "size": "sizes of the images",
    "depth": "types of the pixels",
    "colour": "colours and transparency",
    "palette": "palettes of colours",
    "extension": "files named as what they are not",
    "pixels": "pixels without a value, or saturated",
    "other": "other",
}
"""Kind, a short word that stays, and what it is called; the gravest first."""

OTHER = "other"


class ProblemGroup(NamedTuple):
    """All problems of one kind, and of one severity.

    rows : `image_id`, `file`, `problem`, `severity` and `kind`, in the order of the table
    faults : each problem in words with the files that share it, in that order
    """

    kind: str
    severity: str
    rows: pd.DataFrame
    faults: dict[str, list[str]]

    @property
    def title(self) -> str:
        """What the kind is called."""
        return KINDS[self.kind]

    @property
    def example(self) -> tuple[str, str]:
        """The first file of the kind, and what is wrong with it."""
        problem, files = next(iter(self.faults.items()))
        return files[0], problem


def kinds_of(problems: pd.DataFrame) -> pd.Series:
    """The kind of each problem; of an older table, which names none, and of a kind that is not known, `OTHER`."""
    if "kind" not in problems:
        return pd.Series(OTHER, index=problems.index, dtype=object)
    return problems["kind"].where(problems["kind"].isin(list(KINDS)), OTHER)


def group_problems(problems: pd.DataFrame, files: Sequence[str] | None = None) -> list[ProblemGroup]:
    """The problems by kind and severity, in the order of `KINDS`, of each kind the errors first.

    Parameters
    ----------
    problems : a table as `catalog.problems_frame` makes it
    files : what the files are called, one a row; by default as the table has them
    """
    named = problems.assign(kind=kinds_of(problems), file=problems["file"] if files is None else list(files))
    groups = []
    for (kind, severity), rows in named.groupby(["kind", "severity"], sort=False):
        faults: dict[str, list[str]] = {}
        for problem, file in zip(rows["problem"], rows["file"], strict=True):
            faults.setdefault(problem, []).append(file)
        groups.append(ProblemGroup(str(kind), str(severity), rows, faults))
    weight = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(groups, key=lambda group: (weight[group.kind], group.severity))
