"""README's commands, run as they stand, in their order, in one folder."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.make_data import class_folders, image_table
from helpers.paths import PROJECT
from skyclass.cli import app as cli

ROOT = PROJECT
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def unrolled(block: str) -> str:
    """A shell block with its loop written out."""
    loop = r"for (\w+) in (.*?); do\n(.*?)done\n"
    return re.sub(
        loop, lambda m: "".join(m[3].replace(f"${m[1]}", one) for one in m[2].split()), block, flags=re.DOTALL
    )


def commands() -> list[str]:
    """Every `skyclass` command of the shell blocks, without comments."""
    lines = [line.split("  #")[0].strip() for block in blocks("sh") for line in unrolled(block).splitlines()]
    return [line for line in lines if line.startswith("skyclass ")]


def run(command: str) -> None:
    """One command line, in this process; its exit status must be 0."""
    sys.argv = shlex.split(command)
    with pytest.raises(SystemExit) as ending:
        cli.main()
    assert not ending.value.code, command


@pytest.mark.slow
def test_the_commands_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", sys.argv)
    table = pd.read_csv(image_table(tmp_path, formats=["jpg"]), dtype=str)
    table.assign(filename=table["file"].str.removeprefix("images/")).drop(columns="file").to_csv("labels.csv")
    class_folders(tmp_path / "cutouts", ["a", "b"], 12, (24, 30), ["fits"])
    for name in ("a.npy", "b.npy"):
        np.save(name, np.random.default_rng(0).random((1, 32, 32), dtype=np.float32))
    seen = commands()
    assert len(seen) == 16
    for command in seen:
        run(command)
    for left in (
        *("audit/inspect.html", "audit/duplicates.csv", "labels/label_errors.csv", "inspection/problems.csv"),
        *("run/evaluation/metrics.json", "run/report.html", "predictions.parquet"),
    ):
        assert (tmp_path / left).is_file(), left
    for code in blocks("python"):
        exec(code, {})
    assert (tmp_path / "my-classifier" / "model.safetensors").is_file()


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"make ([a-z]+)", README))
    assert {"demo", "test"} <= named
    for target in named - {"sure"}:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_the_readme_names_every_shipped_recipe() -> None:
    from skyclass.recipes.recipe import shipped_recipes

    for name in shipped_recipes():
        assert f"`{name}`" in README, name
