"""The points at which a command is killed or refused: every change of a file that it makes."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HOW = {"kill": 1, "full disk": 2, "broken disk": 3}  # as shim.c numbers them
ROOM = ("open", "write", "mkdir")
_PART = re.compile(r"\.(.{1,40}?)\.[0-9a-f]{8}\.[0-9a-f]{8}-\d+-\d+-\d+\.part")


class Point(NamedTuple):
    """A change of a file, and what happens there."""

    number: int
    call: str
    file: str
    how: str

    @property
    def kind(self) -> tuple[str, str, str]:
        """Points of one kind are one line of code that works on one kind of file."""
        return self.how, self.call, re.sub(r"\d+", "#", _PART.sub(r"\1.part", self.file))


def points_of(report: Path) -> list[Point]:
    """All points of a command that was recorded.

    Of writes that follow each other into one file the first, the one in the middle and the last stand for all: what is
    half-written there has a name that nobody reads.
    """
    changes = [line.split("\t") for line in report.read_text(encoding="utf-8").splitlines()]
    runs: list[list[tuple[int, str, str]]] = []
    for number, call, file in changes:
        if runs and call == "write" and runs[-1][-1][1:] == (call, file):
            runs[-1].append((int(number), call, file))
        else:
            runs.append([(int(number), call, file)])
    chosen = [run[index] for run in runs for index in sorted({0, len(run) // 2, len(run) - 1})]
    points = [Point(*change, "kill") for change in chosen]
    points += [Point(*change, "full disk") for change in chosen if change[1] in ROOM]
    return points + [Point(*change, "broken disk") for change in chosen if change[1] in ("write", "sync")]


def shuffled(points: Sequence[Point], seed: int, each: int | None = None) -> list[Point]:
    """The points in another order: first one of each kind, so that the first few are of as many kinds as can be.

    each : points of one kind at most
    """
    chance = random.Random(seed)
    kinds: dict[tuple[str, str, str], list[Point]] = defaultdict(list)
    for point in points:
        kinds[point.kind].append(point)
    order = list(kinds.values())
    chance.shuffle(order)
    for own in order:
        chance.shuffle(own)
    turns = max(map(len, order))
    return [own[turn] for turn in range(min(turns, each or turns)) for own in order if turn < len(own)]
