"""The command line: made of the functions of commands, which do the work; and what it says of an error."""

from .app import main

__all__ = ["main"]
