"""The library is quiet: below the commands nothing prints, and what is logged is shown by commands alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import skyclass
from helpers.make_data import class_folders
from helpers.paths import PROJECT

SOURCE = PROJECT / "src" / "skyclass"
BELOW = sorted(path for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE).parts[0] not in ("commands", "cli"))
PRINTS = {"say", "say_where", "print"}
HOME = SOURCE / "core" / "console.py"  # where they are defined


def names_of(path: Path) -> Iterator[str]:
    """What a module imports or calls by name, as far as it could print."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id
        elif isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr") and path != HOME:
            yield ast.unparse(node)


@pytest.mark.parametrize("path", BELOW, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_module_below_commands_prints(path: Path) -> None:
    assert not set(names_of(path)) & ({*PRINTS, "sys.stdout", "sys.stderr"} if path != HOME else {"print"})


@pytest.mark.parametrize("name", [name for name in skyclass.__all__ if name.islower() and name[0] != "_"])
def test_every_command_shows_messages(name: str) -> None:
    module = ast.parse((SOURCE / "commands" / f"{name}.py").read_text())
    (function,) = (one for one in module.body if isinstance(one, ast.FunctionDef) and one.name == name)
    assert "shown_messages()" in [ast.unparse(one) for one in function.decorator_list]


LIBRARY = """
from pathlib import Path
import skyclass
from skyclass.data.open import open_source
from skyclass.data.packs.split import assign_splits
from skyclass.data.source_options import SourceOptions
catalog = open_source(Path({table!r}), SourceOptions()).catalog  # a column is guessed, another one is not: a warning
assign_splits(catalog, (0.6, 0.2, 0.2))  # too few images: a warning
skyclass.Classifier.load({run!r}).predict({image!r})
"""
COMMAND = "import skyclass; skyclass.pack({table!r}, {out!r}, duplicates=False)"


def outputs(code: str) -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    return done.stdout, done.stderr


@pytest.mark.slow
def test_a_library_call_prints_nothing_and_the_command_does(small_run: object, tmp_path: Path) -> None:
    class_folders(tmp_path, ("ring", "blob"), per_class=3)
    files = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.png"))
    table = tmp_path / "t.csv"
    table.write_text("file,label,ra\n" + "".join(f"{file},{file.parent.name},here\n" for file in files))
    run = str(small_run.run)  # type: ignore[attr-defined]
    assert outputs(LIBRARY.format(table=str(table), run=run, image=str(tmp_path / files[0]))) == ("", "")
    out, err = outputs(COMMAND.format(table=str(table), out=str(tmp_path / "pack")))
    assert out == ""
    assert "t.csv: guessed file from column 'file'" in err
    assert "column 'ra' holds no coordinates" in err
