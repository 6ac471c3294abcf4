"""What `import skyclass` offers, and that it costs next to nothing until it is used."""

from __future__ import annotations

import importlib
import subprocess
import sys
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
