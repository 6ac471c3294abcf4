"""How the command line writes an argument whose type it cannot parse. Both classes stand in `Annotated`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Any


@dataclass(frozen=True)
class Written:
    """Beside an option: the command line parses another type than the function takes.

    kind : a type that Typer parses
    read : what was parsed -> the argument of the function
    """

    kind: Any
    read: Callable[[Any], Any]


@dataclass(frozen=True)
class Several:
    """An argument that is several options at the command line.

    options : name of a field of the argument's class -> its type and its option, as `Annotated`
    """

    options: Mapping[str, Any]


def one_of(names: Iterable[str]) -> Written:
    """One of these names; another one is wrong usage."""
    return Written(StrEnum("Name", {name: name for name in names}), attrgetter("value"))


def names_in(text: str) -> tuple[str, ...]:
    """`spiral, bar` as names."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
