"""Every option that a message names is one of the command that says it, or stands behind the name of its command."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grimp
import pytest
import typer

import skyclass
from skyclass.cli.app import app

ROOT = Path(skyclass.__file__).parent
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
COMMAND = re.compile(r"skyclass ([a-z]+)")

# Functions that only these commands come to, though others import their module.
ONLY = {
    ("core.devices", "check_devices"): {"train"},
    ("models.pretrained", None): {"train", "tune"},
    ("data.packs.augment", "mirror_pairs"): {"train", "tune"},
    ("classifier.training_data", "columns_of"): {"evaluate"},
    ("commands.options.shared", "shares_of"): {"pack", "simulate"},
    ("training.launch", None): {"train"},
    ("data.packs.pack", None): {"pack", "simulate"},
    ("core.devices", "pick_device"): {"simulate", "train", "tune", "predict", "evaluate", "explain"},
    ("training.loop.first_step", None): {"train", "tune"},
    ("training.loop.losses", None): {"train", "tune"},
}
# What torchrun, ulimit and the like have of options, or is general to all commands.
FOREIGN = {"--debug", "--help", "--version"}


class Said(NamedTuple):
    """A string of a module, with the function that holds it."""

    module: str
    function: str | None
    text: str


def options() -> dict[str, set[str]]:
    """The options of each command."""
    found = {}
    for name, command in app.commands.items():
        inner = command.commands.values() if hasattr(command, "commands") else [command]
        parameters = [parameter for one in inner for parameter in one.get_params(typer.Context(one))]
        found[name] = {word for one in parameters for word in (*one.opts, *one.secondary_opts)}
    return found


OPTIONS = options()
READERS = ("inspect", "pack", "predict", "explain")  # of sources
GRAPH = grimp.build_graph("skyclass")


@functools.cache
def commands_of(module: str) -> set[str]:
    """The commands that import a module, directly or through others."""
    name = f"skyclass.{module}"
    above = {name, *GRAPH.find_downstream_modules(name)}
    return {one for one in OPTIONS if f"skyclass.commands.{one}" in above}


def strings_of(path: Path) -> Iterator[Said]:
    """The strings of a file that name an option; docstrings are left out, the holes of f-strings stand as {}."""
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}

    def visit(node: ast.AST, function: str | None) -> Iterator[Said]:
        if isinstance(node, ast.FunctionDef) and function is None:
            function = node.name
        if id(node) in bare and isinstance(node, ast.Constant):
            return
        text = None
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        elif isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
        if text is not None:
            if " " in text and OPTION.search(text):
                yield Said(module, function, text)
            return
        for child in ast.iter_child_nodes(node):
            yield from visit(child, function)

    return visit(tree, None)


@functools.cache
def all_strings() -> list[Said]:
    """Those of the whole package."""
    return [said for path in sorted(ROOT.rglob("*.py")) for said in strings_of(path)]


def wrong(said: Said) -> list[str]:
    """The options that the message names and the reader does not have."""
    named = COMMAND.findall(said.text)
    if named:  # behind the name of a command, an option is that command's
        readers = {name for name in named if name in OPTIONS}
        return [option for option in OPTION.findall(said.text) if not any(option in OPTIONS[name] for name in readers)]
    only = ONLY.get((said.module, said.function)) or ONLY.get((said.module, None))
    readers = commands_of(said.module) if only is None else only
    if only is None and said.module.startswith("data."):  # about sources, to commands that read them
        about_sources = set.intersection(*(OPTIONS[name] for name in READERS)) - OPTIONS["evaluate"]
    else:
        about_sources = set()
    return [
        option
        for option in OPTION.findall(said.text)
        if option not in FOREIGN | about_sources and not all(option in OPTIONS[name] for name in readers)
    ]


@pytest.mark.parametrize("said", all_strings(), ids=lambda said: f"{said.module}-{said.text[:40]}")
def test_a_message_names_options_that_its_reader_has(said: Said) -> None:
    assert not wrong(said), (said, sorted(commands_of(said.module)))


def test_the_check_finds_what_it_shall() -> None:
    assert len(all_strings()) > 40
    assert wrong(Said("images.preprocess", "remaining_settings", "pack them with --like CLASSIFIER")) == ["--like"]
    assert not wrong(
        Said("images.preprocess", "remaining_settings", "pack them by skyclass pack SOURCE PACK --like CLASSIFIER")
    )
    assert wrong(
        Said("images.preprocess", "remaining_settings", "by skyclass predict RUN SOURCE --like CLASSIFIER")
    ) == ["--like"]
    assert "predict" in commands_of("images.preprocess")


def test_the_exceptions_are_needed() -> None:
    for module, function in ONLY:
        assert any(said.module == module and function in (None, said.function) for said in all_strings()), module
