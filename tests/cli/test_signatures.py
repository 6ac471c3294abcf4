"""A command made from a function: which types it takes, and what the function gets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
import typer

from skyclass.cli.signatures import FunctionCommand
from skyclass.commands.options.written import Several, Written, names_in, one_of

if TYPE_CHECKING:
    import pandas as pd

Text = Annotated[str | Path, typer.Argument(help="a text")]


@dataclass(frozen=True)
class Reading:
    """What is grouped."""

    column: str | None = None
    names: tuple[str, ...] = ()


READING = {
    "column": Annotated[str | None, typer.Option(help="one")],
    "names": Annotated[tuple[str, ...], typer.Option(help="two"), Written(str, names_in)],
}
seen: dict[str, Any] = {}


def shares_in(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def function(
    first: Text,
    second: Text | None = None,
    *,
    file: Annotated[Path | str, typer.Option(help="a path")],
    options: Annotated[Reading, Several(READING)] = Reading(),
    more: Annotated[Sequence[Path | str], typer.Option(help="paths")] = (),
    shares: Annotated[Sequence[float], typer.Option(help="numbers"), Written(str, shares_in)] = (1, 2),
    words: Annotated[Sequence[str], typer.Option(help="words")] = ("p", "q"),
    form: Annotated[Literal["pack", "npz"], typer.Option("--as", help="a choice")] = "pack",
    kind: Annotated[str, typer.Option(help="a choice of a table"), one_of(["a", "b"])] = "a",
    count: Annotated[int | None, typer.Option(min=1, help="a number")] = None,
    sure: Annotated[bool, typer.Option("--sure", help="a flag")] = False,
) -> pd.DataFrame:
    """Do it.

    And more of it.
    """
    seen.update(locals())
    return "result"  # type: ignore[return-value]


class Made(FunctionCommand):
    """A command of the function above."""

    def __init__(self, show: Callable[[Any], None] | None = None) -> None:
        super().__init__("made", "nowhere:function", "Do it.", show)

    def find(self) -> Callable[..., Any]:
        return function


def called(*words: str) -> dict[str, Any]:
    """What the function gets."""
    seen.clear()
    Made()(words, standalone_mode=False)
    return dict(seen)


def test_defaults_are_those_of_the_function() -> None:
    got = called("a//b", "--file", "c//d")
    assert got == {
        "first": "a//b",
        "second": None,
        "file": Path("c/d"),
        "options": Reading(),
        "more": (),
        "form": "pack",
        "shares": [1.0, 2.0],
        "words": ["p", "q"],
        "kind": "a",
        "count": None,
        "sure": False,
    }


def test_every_type_is_read() -> None:
    words = "a b --file f --column c --names x,,y --more m --more n/ --shares 3,4 --words r --as npz --kind b --count 2"
    assert called(*words.split(), "--sure") == {
        "first": "a",
        "second": "b",
        "file": Path("f"),
        "options": Reading("c", ("x", "y")),
        "shares": [3.0, 4.0],
        "words": ["r"],
        "more": [Path("m"), Path("n")],
        "form": "npz",
        "kind": "b",
        "count": 2,
        "sure": True,
    }


@pytest.mark.parametrize(
    "words", ["a", "--file f", "a --file f --as zip", "a --file f --count 0", "a --file f --options x"]
)
def test_what_the_signature_does_not_allow_is_wrong_usage(words: str) -> None:
    with pytest.raises(SystemExit) as end:
        Made()(words.split())
    assert end.value.code == 2


def test_the_options_of_a_group_come_last() -> None:
    command = Made()
    names = [one.name for one in command.get_params(typer.Context(command))]
    assert names[:3] == ["first", "second", "file"]
    assert names[-3:] == ["column", "names", "help"]


def test_the_result_is_printed_where_the_command_says_how() -> None:
    shown: list[Any] = []
    Made(shown.append)(["a", "--file", "f"], standalone_mode=False)
    assert shown == ["result"]
