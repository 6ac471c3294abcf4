"""Progress as plain lines, few enough to be read in the file of a long job."""

from __future__ import annotations

import time
from collections.abc import Callable

from rich.console import Console

from .bars import rate_in_words, time_in_words

LINE_AFTER = 30.0  # seconds between two lines of progress, at least
LINE_SHARE = 0.1  # of the work between two lines of progress, at least


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
            self._print(f"{self._count()}{self._rate(now)}, in {time_in_words(now - self._began)}")

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
        return f", {time_in_words((now - self._began) * (self.total - self.done) / done)} left"
