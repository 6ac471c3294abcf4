"""What the library logs, for tests that call it outside a command: the fixture `logged` of `conftest.py`."""

from __future__ import annotations

from collections.abc import Callable

Logged = Callable[[], str]
"""Gives what was logged since the last call, a message a line, as a command prints it."""
