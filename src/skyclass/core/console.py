"""Messages and progress: one console on standard error, progress bars with a rate and the time left.

At a terminal, and in a notebook that has ipywidgets, that is a bar; elsewhere (a pipe, the file of a SLURM job) plain
lines, few enough to be read. The library logs its messages; they are printed while a command runs (`shown_messages`).
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TextIO

from rich.console import Console

from .passwords import masked
from .progress.bars import progress_bar
from .progress.lines import ProgressLines

# Messages go to standard error, so that a table printed on standard output can be piped.
console = Console(stderr=True, highlight=False)
LIBRARY = logging.getLogger("skyclass")  # above those of all modules

_files: list[TextIO] = []  # of the `console_to_file` that are open, the last one in use


@contextmanager
def console_to_file(file: TextIO) -> Iterator[None]:
    """While the block runs, console output goes to the file, also in a notebook."""
    in_notebook = console.is_jupyter
    console.is_jupyter = False  # where it would show everything in the cell
    console.file = file
    _files.append(file)
    try:
        yield
    finally:
        _files.pop()
        # Without a file: standard error, whatever that is then.
        console.file = _files[-1] if _files else None  # type: ignore[assignment]
        console.is_jupyter = in_notebook


def has_bars(shown_on: Console) -> bool:
    """Whether a console can show a bar: a terminal, or a notebook with ipywidgets, which rich draws it with."""
    return shown_on.is_terminal or (shown_on.is_jupyter and find_spec("ipywidgets") is not None)


class ShownProgress:
    """The progress of one piece of work: a bar at a terminal and in a notebook, `ProgressLines` elsewhere.

    `logging.getLogger("skyclass").setLevel(logging.WARNING)` silences it, with all messages but the warnings.

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
        self._silent = LIBRARY.level > logging.INFO
        self._bar = progress_bar(self.console, period) if has_bars(self.console) and not self._silent else None
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
        elif not self._silent:
            lines.update(done)

    def stop(self) -> None:
        """The work has ended, or is given up."""
        if self._bar:
            if self.console.is_jupyter:
                self._bar.refresh()  # rich leaves the state of its last tick there
            self._bar.stop()
        elif not self._silent:
            self._lines.finish()


@contextmanager
def shown_progress(
    description: str, total: float | None, unit: str = "images", *, done: float = 0.0
) -> Iterator[ShownProgress]:
    """Show the progress while the block runs; arguments, and how it is silenced, as of `ShownProgress`."""
    shown = ShownProgress(description, total, unit, done=done)
    try:
        yield shown
    finally:
        shown.stop()


@contextmanager
def progress(description: str, total: int | None, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Show progress while the block runs; call the yielded function with the number of items just done.

    It is silenced as `ShownProgress` is.
    """
    with shown_progress(description, total, unit) as shown:
        yield shown.advance


def say(message: str) -> None:
    """Print one line at the terminal, its passwords masked (rich markup is not interpreted)."""
    console.print(masked(message), markup=False, soft_wrap=True)


def say_where(label: str, path: object) -> None:
    """The last line of a command: where the result is."""
    console.print(f"{label}: {path}", style="bold", markup=False, soft_wrap=True)


class ConsoleHandler(logging.Handler):
    """Prints the message of a record as `say` does, in bold where the record has `bold`.

    It is on the logger `skyclass` while a command runs; commands may run within each other, and in several threads.
    """

    def __init__(self) -> None:
        super().__init__()
        self._attaching = threading.Lock()
        self._commands = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Print it."""
        style = "bold" if getattr(record, "bold", False) else None
        console.print(masked(record.getMessage()), style=style, markup=False, soft_wrap=True)

    def attach(self) -> None:
        """Let the logger have it, and pass on what is informative, unless a level was set."""
        with self._attaching:
            self._commands += 1
            if self._commands == 1:
                self._before = LIBRARY.level, LIBRARY.propagate
                if LIBRARY.level == logging.NOTSET:
                    LIBRARY.setLevel(logging.INFO)
                # Handlers of the root logger get the records too, unless the terminal would show them twice.
                LIBRARY.propagate = LIBRARY.propagate and not any(map(_prints, logging.getLogger().handlers))
                LIBRARY.addHandler(self)

    def detach(self) -> None:
        """Leave the logger as it was before the first command began."""
        with self._attaching:
            self._commands -= 1
            if not self._commands:
                LIBRARY.removeHandler(self)
                level, LIBRARY.propagate = self._before
                LIBRARY.setLevel(level)


_handler = ConsoleHandler()


def _prints(handler: logging.Handler) -> bool:
    """Whether a handler writes to the terminal, or the notebook."""
    return getattr(handler, "stream", None) in (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__)


@contextmanager
def shown_messages(*, always: bool = False) -> Iterator[None]:
    """While the block, or the command with this decorator, runs, what the library logs is printed by the console.

    Where the logger `skyclass` has handlers of the user's, these alone get the records, unless `always`.
    """
    handlers = [one for one in LIBRARY.handlers if not isinstance(one, logging.NullHandler | ConsoleHandler)]
    if handlers and not always:
        yield
        return
    _handler.attach()
    try:
        yield
    finally:
        _handler.detach()
