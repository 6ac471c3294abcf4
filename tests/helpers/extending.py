"""The examples of docs/extending.md, and a copy of the package to which they are added."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

import skyclass
from helpers.paths import PROJECT

PAGE = (PROJECT / "docs" / "extending.md").read_text(encoding="utf-8")
PACKAGE = Path(skyclass.__file__).parent


class Change(NamedTuple):
    """The text `new` in place of `old` in a file of the package; where `old` is empty, at its end or in a new file."""

    file: str
    old: str
    new: str


def section(title: str) -> str:
    """The text under a heading."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def changes(title: str) -> list[Change]:
    """What the examples under a heading change, in order."""
    found = []
    for language, code in re.findall(r"```(python|yaml|diff)\n(.*?)```", section(title), flags=re.DOTALL):
        if language == "diff":
            first, *lines = code.splitlines()
            old = [line[1:] for line in lines if not line.startswith("+")]
            new = [line[1:] for line in lines if not line.startswith("-")]
            found.append(Change(first.removeprefix("--- src/skyclass/"), "\n".join(old), "\n".join(new)))
        else:
            pieces = re.split(r"^# src/skyclass/(.+)\n", code, flags=re.MULTILINE)[1:]
            found += [Change(file, "", text) for file, text in zip(pieces[::2], pieces[1::2], strict=True)]
    return found


def add_to_copy(folder: Path, titles: list[str]) -> Path:
    """A copy of the package in the folder with the examples added; returns the folder to import it from."""
    shutil.copytree(PACKAGE, folder / "skyclass", ignore=shutil.ignore_patterns("__pycache__"))
    for title in titles:
        for file, old, new in changes(title):
            path = folder / "skyclass" / file
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            assert not old or text.count(f"{old}\n") == 1, f"{file} does not hold once: {old}"
            path.write_text(text.replace(f"{old}\n", f"{new}\n") if old else f"{text}\n\n{new}", encoding="utf-8")
    return folder
