"""The exception whose message is written for the user."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from .passwords import masked


class SkyclassError(Exception):
    """What is wrong, where, and what to do next, in one sentence; passwords in it are masked.

    Parameters
    ----------
    what : str
        The fault, without a final full stop ("the file ends early").
    where : str or Path, optional
        The file, key or row concerned.
    fix : str, optional
        The fix, as an order ("copy it again from its source").
    """

    def __init__(self, what: str, *, where: str | Path | None = None, fix: str | None = None) -> None:
        self.what = masked(" ".join(what.split()))
        self.where = None if where is None else masked(str(where))
        self.fix = None if fix is None else masked(fix)
        place = f"{self.where}: " if self.where else ""
        way_out = f"; {self.fix}" if self.fix else ""
        super().__init__(printable(f"{place}{self.what}{way_out}"))


def printable(text: str) -> str:
    """The text with a question mark for each character that a terminal could take for an order."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)


class MachineError(SkyclassError):
    """A fault of the machine (a full disk, a run that another process trains) and not of the recipe or the data.

    The same command may succeed later, so that nothing counts as failed.
    """


def one_line(error: BaseException) -> str:
    """The message of any exception on one line and without passwords, for the `problem` and `error` columns."""
    text = masked(" ".join(str(error).split()))
    return text or type(error).__name__


def did_you_mean(name: str, valid: Iterable[str]) -> str | None:
    """A fix that names the valid word nearest to `name`, or None where none is near."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else None
