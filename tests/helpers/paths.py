"""Paths that tests read, and the environment of processes that import what tests share."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PROJECT = TESTS.parent
WRITTEN = TESTS / "data" / "written_by_0_1"  # artefacts of Skyclass 0.1


def with_tests() -> dict[str, str]:
    """The environment of a process that imports `helpers`."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])}
