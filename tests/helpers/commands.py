"""Runs the command line in this process (torch is imported once), and makes what its tests share.

Use it as `from helpers.commands import skyclass, done, refused`.
"""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
from PIL import Image as pillow

from helpers.make_data import class_folders
from skyclass.cli import app as cli

TOY = """\
about:
  question: Does a blob look like a ring?
model:
  backbone: resnet20_cifar
training:
  epochs: 3
  batch_size: 8
  learning_rate: 0.01
  precision: float32
"""
CLASSES = ("bar", "blob", "ring")
P = [f"p_{name}" for name in CLASSES]  # their columns in predictions


class Result(NamedTuple):
    """Exit status and both streams of a command."""

    code: int
    out: str
    err: str


def skyclass(*words: object) -> Result:
    """Run `skyclass WORDS...` as the console script does, in this process."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["skyclass", *(str(word) for word in words)]
    code: object = 0
    with mock.patch.object(sys, "argv", argv), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int), f"exit status {code!r}"
    return Result(code, out.getvalue(), err.getvalue())


def done(*words: object) -> Result:
    """Run a command that has to succeed."""
    result = skyclass(*words)
    assert result.code == 0, result.err
    return result


def refused(*words: object) -> str:
    """Run a command that has to fail with one sentence; returns the sentence."""
    return the_error(skyclass(*words))


def the_error(result: Result) -> str:
    """The one sentence of a command that failed with exit status 1."""
    assert result.code == 1, result
    assert "Traceback" not in result.err
    lines = [line for line in result.err.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    assert result.err.rstrip("\n").endswith(lines[0])  # the sentence is the last word, and has one line
    return lines[0]


def toy_recipe(folder: Path) -> Path:
    """A recipe for three epochs of the smallest network, in float32."""
    path = folder / "toy.yaml"
    path.write_text(TOY, encoding="utf-8")
    return path


def train_toy(folder: Path) -> Path:
    """In `folder`: class folders `images`, their `pack`, `toy.yaml` and a trained `run`; returns the folder.

    The fixture `toy_run` has it for all tests of a session.
    """
    class_folders(folder / "images", CLASSES, splits={"train": 8, "val": 4, "test": 4})
    done("pack", folder / "images", folder / "pack", "--no-duplicates")
    done("train", toy_recipe(folder), folder / "pack", "--out", folder / "run")
    return folder


def copy_toy_run(toy_run: Path, folder: Path) -> Path:
    """All that the fixture `toy_run` has, in `folder`: the run's pack is that of the copy; returns the folder."""
    shutil.copytree(toy_run, folder, dirs_exist_ok=True)
    provenance = json.loads((folder / "run" / "run.json").read_text())
    (folder / "run" / "run.json").write_text(json.dumps({**provenance, "pack": str(folder / "pack")}))
    return folder


def predictions(classifier: Path, source: Path, out: Path, *options: object) -> pd.DataFrame:
    """What a classifier predicts of a source, through the command line."""
    done("predict", classifier, source, "--out", out, *options)
    return pd.read_parquet(out)


def drawn(path: Path) -> bool:
    """Whether the file is a picture with something in it."""
    pixels = np.asarray(pillow.open(path).convert("L"))
    return path.read_bytes().startswith(b"\x89PNG") and min(pixels.shape) > 100 and float(pixels.std()) > 5
