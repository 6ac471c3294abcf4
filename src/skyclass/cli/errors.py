"""Errors at the command line: one sentence, or with --debug the traceback, never a password."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

import typer

from ..core.errors import SkyclassError, one_line
from ..core.files.disk_errors import disk_error
from ..core.passwords import masked


def say_error(error: Exception) -> None:
    """The error as one sentence on standard error; errors of the operating system name the path and the fix."""
    if isinstance(error, OSError) and error.errno:
        error = disk_error(error, Path.cwd())
    if isinstance(error, SkyclassError):
        typer.echo(f"Error: {error}", err=True)
    else:
        typer.echo(f"Error: {type(error).__name__}: {one_line(error)} (add --debug to see where)", err=True)


def show_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Python's own traceback, without the passwords in it; `sys.excepthook` may be it."""
    typer.echo(masked("".join(traceback.format_exception(kind, error, trace))), err=True, nl=False)
