"""Paths that tests read."""

from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PROJECT = TESTS.parent
WRITTEN = TESTS / "data" / "written_by_0_1"  # artefacts of Skyclass 0.1
