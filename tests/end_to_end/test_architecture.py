"""docs/architecture.md: what it names is in the code, its layers are the contract's, and its path is the one taken."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

from helpers.fits_path import SOURCE, table, trace_prediction
from helpers.paths import PROJECT, WRITTEN

DOCS = PROJECT / "docs"
PAGE = (DOCS / "architecture.md").read_text(encoding="utf-8")
PLACED = re.compile(r"`([\w/]+\.py)(?::([\w.]+))?`")
FILES = re.compile(r"`([\w.-]+\.(?:json|csv|npy|parquet|safetensors|yaml|html))`")


@cache
def names_in(file: Path) -> set[str]:
    """Functions, classes, methods and tables of a module, as in `Run` and `Run.open`."""
    found: set[str] = set()

    def collect(node: ast.AST, above: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                found.add(f"{above}{child.name}")
                collect(child, f"{above}{child.name}.")
            elif isinstance(child, ast.Assign):
                found.update(target.id for target in child.targets if isinstance(target, ast.Name))
            elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
                found.add(f"{above}{child.target.id}")

    collect(ast.parse(file.read_text(encoding="utf-8")), "")
    return found


def absent(page: str) -> list[str]:
    """What a page names as `file.py` or `file.py:name` and is not in the code."""
    wrong = []
    for file, name in PLACED.findall(page):
        path = next((path for path in (SOURCE / file, PROJECT / file) if path.is_file()), None)
        if path is None or (name and name not in names_in(path)):
            wrong.append(f"{file}:{name}")
    return wrong


def contracts() -> dict[str, list[str]]:
    """Container -> layers, upper ones first, of the contract."""
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    return {one["containers"][0]: one["layers"] for one in settings["contracts"] if one["type"] == "layers"}


@pytest.mark.parametrize(
    ("page", "named"), [("docs/architecture.md", 50), ("docs/extending.md", 30), ("CONTRIBUTING.md", 2)]
)
def test_files_and_functions_that_a_page_names_are_there(page: str, named: int) -> None:
    text = (PROJECT / page).read_text(encoding="utf-8")
    assert len(PLACED.findall(text)) >= named
    assert absent(text) == []


def test_a_name_that_is_not_there_is_found() -> None:
    assert absent("`cli/app.py:main` `cli/app.py:nothing` `cli/nothing.py`") == [
        "cli/app.py:nothing",
        "cli/nothing.py:",
    ]


def test_artefacts_are_called_as_in_the_code() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    names = set(FILES.findall(PAGE))
    assert len(names) >= 16
    assert [name for name in names if f'{name}"' not in source] == []


def test_the_layers_are_those_of_the_contract() -> None:
    rooms, inner = (block.strip().splitlines() for block in re.findall(r"```text\n(.*?)```", PAGE, flags=re.DOTALL))
    found = {"skyclass": rooms}
    for line in inner:
        room, _, order = line.partition(": ")
        found[room] = order.split(" > ")
    assert found == contracts()


def test_every_room_is_described() -> None:
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert {room for room in rooms if f"\n| `{room}` |" not in PAGE} == set()


@pytest.mark.skipif(not WRITTEN.is_dir(), reason="a source archive does not carry the artefacts")
def test_the_path_is_the_one_that_a_file_takes(tmp_path: Path) -> None:
    trace = trace_prediction(tmp_path)
    written = PAGE[PAGE.index("| file | functions |") :].strip()
    assert written == table(trace), "print the table anew: cd tests && python -m helpers.fits_path"
    calls, functions, files = map(int, re.findall(r"it is (\d+) calls of (\d+) functions in (\d+) files", PAGE)[0])
    assert (functions, files) == (trace.n_functions, len(trace.functions))
    assert calls == pytest.approx(trace.calls, rel=0.1)  # astropy may write a card more or less


STEP = re.compile(r"^\| (\d+) \| `([\w/]+\.py):([\w.]+)` \|", re.MULTILINE)


@pytest.mark.skipif(not WRITTEN.is_dir(), reason="a source archive does not carry the artefacts")
def test_the_steps_are_taken_in_their_order(tmp_path: Path) -> None:
    steps = [(file, name) for _, file, name in STEP.findall(PAGE)]
    order = trace_prediction(tmp_path).order
    assert [order.index(step) for step in steps] == sorted(map(order.index, steps))
    assert len(set(steps)) == len(steps) <= 20
    n_files = len({file for file, _ in steps})
    assert n_files <= 14
    assert f"in {len(steps)} steps, through {n_files} files" in " ".join(PAGE.split())
