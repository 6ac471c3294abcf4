"""The sizes of the house: a room can be overlooked, a file read at one go."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.paths import PROJECT, TESTS

SOURCE = PROJECT / "src" / "skyclass"
ROOMS = sorted(path.parent for path in SOURCE.rglob("__init__.py"))
LINES, FILES, PACKAGES = 300, 13, 15


def modules_in(room: Path) -> list[Path]:
    return [path for path in room.glob("*.py") if path.name not in ("__init__.py", "__main__.py")]


def test_the_top_holds_packages_alone() -> None:
    assert modules_in(SOURCE) == []
    assert len([room for room in ROOMS if room.parent == SOURCE]) <= PACKAGES


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: str(room.relative_to(SOURCE)))
def test_a_room_has_few_files_none_of_them_long_and_says_what_it_is(room: Path) -> None:
    modules = modules_in(room)
    assert len(modules) <= FILES
    assert {path.name: n for path in modules if (n := len(path.read_text().splitlines())) > LINES} == {}
    assert (room / "__init__.py").read_text().startswith('"""')


@pytest.mark.parametrize("room", ROOMS[1:], ids=lambda room: str(room.relative_to(SOURCE)))
def test_a_room_has_its_tests(room: Path) -> None:
    own = TESTS / room.relative_to(SOURCE)
    assert any(own.rglob("test_*.py")), f"no test in {own}"
