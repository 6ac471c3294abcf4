"""What `import skyclass` offers, and that it costs next to nothing until it is used."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from operator import attrgetter
from types import ModuleType

import pytest

import skyclass
from helpers.paths import PROJECT
from skyclass.classifier.classifier import Classifier


@pytest.mark.parametrize("name", skyclass.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    found = getattr(skyclass, name)
    assert name in dir(skyclass)
    assert isinstance(found, str) or found.__doc__


def test_every_command_is_a_function_of_its_own_name() -> None:
    commands = {path.stem for path in (PROJECT / "src/skyclass/commands").glob("*.py")} - {"__init__", "recipes"}
    assert {name for name in skyclass.__all__ if name.islower() and name.isalpha()} == commands
    assert all(getattr(skyclass, name).__name__ == name for name in commands)


@pytest.mark.parametrize("module", [skyclass, importlib.import_module("skyclass.classifier")])
def test_a_name_that_is_not_there_is_no_attribute(module: ModuleType) -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(module, "nothing")  # noqa: B009  (an expression alone would be taken for useless)


def test_the_import_of_earlier_versions_is_the_same_class() -> None:
    from skyclass.classifier import Classifier as earlier

    assert earlier is skyclass.Classifier is Classifier


def test_importing_skyclass_imports_neither_torch_nor_pandas() -> None:
    code = "import sys, skyclass; sys.exit(bool({'torch', 'pandas', 'astropy', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# numpydoc

COMMANDS = [name for name in skyclass.__all__ if name.islower() and name.isalpha()]
METHODS = {
    "Classifier": ("load", "save", "to", "predict", "predict_proba", "predict_log_proba", "stream", "explain", "maps"),
    "Run": ("open", "create", "history", "metrics", "predictions", "figure"),
    "Pack": ("open", "verify", "counts"),
}
PUBLIC = [*COMMANDS, *(f"{owner}.{name}" for owner, names in METHODS.items() for name in names)]


def sections(docstring: str) -> dict[str, list[tuple[str, str]]]:
    """Section -> the names (or types) that it describes, each with its description."""
    parts = re.split(r"^(\w+)\n-+\n", docstring, flags=re.MULTILINE)[1:]
    found = {}
    for title, text in zip(parts[::2], parts[1::2], strict=True):
        entries = re.split(r"^(?=\S)", text, flags=re.MULTILINE)[1:]
        found[title] = [(head.strip(), body.strip()) for head, _, body in (one.partition("\n") for one in entries)]
    return found


@pytest.mark.parametrize("name", PUBLIC)
def test_what_is_public_has_numpydoc(name: str) -> None:
    function = attrgetter(name)(skyclass)
    found = sections(inspect.getdoc(function) or "")
    described = [(head, body) for head, body in found.get("Parameters", []) if head.count(" : ") == 1 and body]
    assert described == found.get("Parameters", [])
    names = [one.strip("* ") for head, _ in described for one in head.partition(" : ")[0].split(",")]
    assert names == [one for one in inspect.signature(function).parameters if one != "self"]
    outcome = found.get("Returns", found.get("Yields", []))
    assert all(body for _, body in outcome)
    assert bool(outcome) == (inspect.signature(function).return_annotation != "None")
    assert all(head.endswith("Error") and body for head, body in found.get("Raises", []))
    assert "Errors:" not in function.__doc__


@pytest.mark.parametrize("name", [name for name in PUBLIC if name.partition(".")[0] != "Classifier"])
def test_what_is_public_says_what_it_refuses(name: str) -> None:
    has_none = {"Pack.counts"}  # its catalog was checked when the pack was opened
    assert ("Raises" in sections(inspect.getdoc(attrgetter(name)(skyclass)) or "")) == (name not in has_none)
