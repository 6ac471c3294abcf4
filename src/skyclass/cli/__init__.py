"""The command line: options and errors; the work is done by commands."""

from .app import main

__all__ = ["main"]
