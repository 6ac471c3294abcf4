"""A progress bar with a rate and the time left."""

from __future__ import annotations

from datetime import timedelta

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
        text = f"in {time_in_words(seconds)}" if task.finished else f"{time_in_words(seconds)} left"
        return Text(text, style="progress.remaining", no_wrap=True)


def time_in_words(seconds: float) -> str:
    """As h:mm:ss."""
    return str(timedelta(seconds=int(seconds)))


def progress_bar(shown_on: Console, period: float = 30.0) -> Progress:
    """A rich bar: description, share, count, rate, and time left or taken; whole at 80 columns.

    period : seconds back over which the rate is taken
    """
    return Progress(
        TextColumn("[progress.description]{task.description}"),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        RateColumn(),
        TimeColumn(),
        console=shown_on,
        transient=False,
        speed_estimate_period=period,
    )
