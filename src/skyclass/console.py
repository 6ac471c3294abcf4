"""What a person watches: one console on standard error, and one progress bar with a rate and the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
)
from rich.text import Text

# Messages go to standard error, so that a table printed on standard output can be piped.
console = Console(stderr=True, highlight=False)


class RateColumn(ProgressColumn):
    """Items a second, in the unit of the task."""

    def render(self, task: Task) -> Text:
        """The rate of `task`, or blanks before the first item."""
        speed = task.finished_speed or task.speed
        unit = task.fields.get("unit", "images")
        rate = ""
        if speed:
            rate = f"{speed:,.0f} {unit}/s" if speed >= 1.0 else f"{3600.0 * speed:,.0f} {unit}/h"
        return Text(rate, style="progress.data.speed", no_wrap=True)


class TimeColumn(ProgressColumn):
    """The time left while the task runs, the time it took afterwards."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """The time of `task` as h:mm:ss, or blanks while nobody can tell."""
        seconds = task.finished_time if task.finished else task.time_remaining
        if seconds is None:
            return Text("")
        time = str(timedelta(seconds=int(seconds)))
        return Text(f"in {time}" if task.finished else f"{time} left", style="progress.remaining", no_wrap=True)


def progress_bar(shown_on: Console | None = None, period: float = 30.0) -> Progress:
    """A rich bar: description, share, count, rate, and time left or taken; whole at 80 columns.

    period : seconds back over which the rate is taken
    """
    return Progress(
        TextColumn("[progress.description]{task.description}"),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        RateColumn(),
        TimeColumn(),
        console=shown_on or console,
        transient=False,
        speed_estimate_period=period,
    )


@contextmanager
def said_to(file: TextIO) -> Iterator[None]:
    """While the block runs, all that would be said at the terminal goes to the file."""
    console.file = file
    try:
        yield
    finally:
        console.file = None  # type: ignore[assignment] # standard error again, whatever that is then


@contextmanager
def progress(description: str, total: int | None, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Show a bar while the block runs; call the yielded function with the number of items just done."""
    with progress_bar() as bar:
        task = bar.add_task(description, total=total, unit=unit)
        yield lambda n: bar.advance(task, n)


def say(message: str) -> None:
    """One line to the person at the terminal (rich markup is not interpreted)."""
    console.print(message, markup=False, soft_wrap=True)


def say_where(label: str, path: object) -> None:
    """The closing line of a verb: where the result is."""
    console.print(f"{label}: {path}", style="bold", markup=False, soft_wrap=True)
