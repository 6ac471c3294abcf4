"""Messages and progress: one console on standard error, progress bars with a rate and the time left.

At a terminal that is a bar; elsewhere (a pipe, the file of a SLURM job) plain lines, few enough to be read.
"""

from __future__ import annotations

import time
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

from .passwords import masked

# Messages go to standard error, so that a table printed on standard output can be piped.
console = Console(stderr=True, highlight=False)


LINE_AFTER = 30.0  # seconds between two lines of progress, at least
LINE_SHARE = 0.1  # of the work between two lines of progress, at least


def rate_in_words(speed: float, unit: str) -> str:
    """Items a second, or an hour where that is less than one."""
    return f"{speed:,.0f} {unit}/s" if speed >= 1.0 else f"{3600.0 * speed:,.0f} {unit}/h"


class RateColumn(ProgressColumn):
    """Items a second, in the unit of the task."""

    def render(self, task: Task) -> Text:
        """The rate of `task`, or blanks before the first item."""
        speed = task.finished_speed or task.speed
        rate = rate_in_words(speed, task.fields.get("unit", "images")) if speed else ""
        return Text(rate, style="progress.data.speed", no_wrap=True)


class TimeColumn(ProgressColumn):
    """The time left while the task runs, the time it took afterwards."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        """The time of `task` as h:mm:ss, or blanks while it is unknown."""
        seconds = task.finished_time if task.finished else task.time_remaining
        if seconds is None:
            return Text("")
        text = f"in {_time(seconds)}" if task.finished else f"{_time(seconds)} left"
        return Text(text, style="progress.remaining", no_wrap=True)


def _time(seconds: float) -> str:
    """As h:mm:ss."""
    return str(timedelta(seconds=int(seconds)))


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
def console_to_file(file: TextIO) -> Iterator[None]:
    """While the block runs, console output goes to the file."""
    console.file = file
    try:
        yield
    finally:
        console.file = None  # type: ignore[assignment] # standard error again, whatever that is then


class ProgressLines:
    """The progress of work as plain lines: none in its first 30 s, then one for each tenth of it, or every 30 s where
    that is rarer, and where there was one, a last one with the time that it took.
    """

    def __init__(
        self,
        description: str,
        total: float | None,
        unit: str,
        done: float,
        shown_on: Console,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.description, self.total, self.unit, self.done = description, total, unit, done
        self._console, self._clock = shown_on, clock
        self._before = self._printed = done
        self._began = self._last = clock()
        self._has_printed = False

    def update(self, done: float) -> None:
        """So much is done now."""
        self.done, now = done, self._clock()
        step = LINE_SHARE * self.total if self.total else 0.0
        if now - self._last >= LINE_AFTER and done - self._printed >= step and done != self.total:
            self._last, self._printed, self._has_printed = now, done, True
            self._print(f"{self._count()}{self._rate(now)}{self._left(now)}")

    def finish(self) -> None:
        """The last line, where there was one before."""
        if self._has_printed:
            now = self._clock()
            self._print(f"{self._count()}{self._rate(now)}, in {_time(now - self._began)}")

    def _print(self, text: str) -> None:
        self._console.print(f"{self.description}: {text}", markup=False, soft_wrap=True)

    def _count(self) -> str:
        if self.total is None:
            return f"{self.done:,.0f} {self.unit}"
        return f"{self.done:,.0f} of {self.total:,.0f} {self.unit} ({self.done / max(self.total, 1):.0%})"

    def _rate(self, now: float) -> str:
        seconds, done = now - self._began, self.done - self._before
        return f", {rate_in_words(done / seconds, self.unit)}" if seconds > 0.0 and done > 0.0 else ""

    def _left(self, now: float) -> str:
        done = self.done - self._before
        if self.total is None or done <= 0.0:
            return ""
        return f", {_time((now - self._began) * (self.total - self.done) / done)} left"


class ShownProgress:
    """The progress of one piece of work: a bar at a terminal, `ProgressLines` elsewhere.

    Parameters
    ----------
    description : what is done, as in "Predicting"
    total : items in all; None if unknown
    unit : of the items
    done : items done before this began
    shown_on : another console than the one of all messages
    period : seconds back over which the rate of the bar is taken
    """

    def __init__(
        self,
        description: str,
        total: float | None,
        unit: str = "images",
        *,
        done: float = 0.0,
        shown_on: Console | None = None,
        period: float = 30.0,
    ) -> None:
        self.console = shown_on or console
        self._bar = progress_bar(self.console, period) if self.console.is_terminal else None
        self._lines = ProgressLines(description, total, unit, done, self.console)
        if self._bar:
            self._task = self._bar.add_task(description, total=total, completed=int(done), unit=unit)
            self._bar.start()

    def advance(self, n: float, description: str | None = None) -> None:
        """`n` more items are done."""
        self.update(self._lines.done + n, description=description)

    def update(self, done: float, total: float | None = None, description: str | None = None) -> None:
        """So many items are done in all; `total` and `description` where they have changed."""
        lines = self._lines
        lines.total = lines.total if total is None else total
        lines.description = description or lines.description
        if self._bar:
            lines.done = done
            self._bar.update(self._task, completed=done, total=lines.total, description=lines.description)
        else:
            lines.update(done)

    def stop(self) -> None:
        """The work has ended, or is given up."""
        if self._bar:
            self._bar.stop()
        else:
            self._lines.finish()


@contextmanager
def shown_progress(
    description: str, total: float | None, unit: str = "images", *, done: float = 0.0
) -> Iterator[ShownProgress]:
    """Show the progress while the block runs; arguments as of `ShownProgress`."""
    shown = ShownProgress(description, total, unit, done=done)
    try:
        yield shown
    finally:
        shown.stop()


@contextmanager
def progress(description: str, total: int | None, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Show progress while the block runs; call the yielded function with the number of items just done."""
    with shown_progress(description, total, unit) as shown:
        yield shown.advance


def say(message: str) -> None:
    """Print one line at the terminal, its passwords masked (rich markup is not interpreted)."""
    console.print(masked(message), markup=False, soft_wrap=True)


def say_where(label: str, path: object) -> None:
    """The last line of a command: where the result is."""
    console.print(f"{label}: {path}", style="bold", markup=False, soft_wrap=True)
