"""The commands that are killed, and how a person goes on with each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

TOY = {
    "model": {"backbone": "resnet20_cifar"},
    "training": {"epochs": 2, "batch_size": 8, "precision": "float32", "learning_rate": 0.003},
}
RECIPES = {
    "plain.yaml": {},
    "ema.yaml": {
        "training": {
            "accumulate": 2,
            "averaging": "ema",
            "validations_per_epoch": 2,
            "checkpoint_steps": 1,
            "keep_every": 1,
        }
    },
    "lora.yaml": {"model": {"lora": {"rank": 2}}, "training": {"epochs": 1}},
    "short.yaml": {"training": {"epochs": 1}},
}
RATES = "training.learning_rate=[0.001,0.003]"


@dataclass(frozen=True)
class Scenario:
    """A command, the files that it needs, and what it leaves.

    needs : made before, of PREPARED
    words : the command
    output : the file or folder that it leaves; all beside it that it needs must stay as it was
    resumed : the command that goes on, once a run has begun
    devices : processes; of several, the first one is killed
    """

    name: str
    needs: Sequence[str]
    words: Sequence[str]
    output: str
    resumed: Sequence[str] = ()
    devices: int = 1

    def again(self, place: Path) -> Sequence[str]:
        """What a person types after the crash: the same, or what the documentation of `train` says."""
        begun = self.resumed and (place / self.output / "run.json").is_file()
        return self.resumed if begun else self.words


def _train(name: str, recipe: str, *more: str, devices: int = 1) -> Scenario:
    on = ("--devices", str(devices)) if devices > 1 else ()
    words = ("train", recipe, "pack", "--out", "out", "--device", "cpu", *more, *on)
    resumed = ("train", "--resume", "out", "--device", "cpu", *on)
    return Scenario(name, ("pack", *RECIPES), words, "out", resumed, devices)


SIMULATE = ("simulate", "lensing", "out", "--per-class", "2", "--size", "16", "--workers", "1")
SCENARIOS = (
    Scenario("simulate", (), SIMULATE, "out"),
    Scenario("simulate --as folders", (), (*SIMULATE, "--as", "folders"), "out"),
    Scenario("pack", ("few",), ("pack", "few", "out"), "out"),
    Scenario("pack --overwrite", ("few", "old"), ("pack", "few", "old", "--seed", "1", "--overwrite"), "old"),
    Scenario("pack --as npz", ("few",), ("pack", "few", "out", "--as", "npz"), "out"),
    Scenario("inspect", ("few",), ("inspect", "few", "--out", "out"), "out"),
    _train("train", "plain.yaml"),
    _train("train, accumulation and EMA", "ema.yaml"),
    _train("train, LoRA", "lora.yaml"),
    _train("train --ensemble", "short.yaml", "--ensemble", "2"),
    _train("train --devices 2", "plain.yaml", devices=2),
    Scenario(
        "tune",
        ("pack", *RECIPES),
        ("tune", "short.yaml", "pack", "--out", "out", "--space", RATES, "--device", "cpu"),
        "out",
    ),
    Scenario("predict", ("few", "run"), ("predict", "run", "few", "--out", "out/p.parquet", "--device", "cpu"), "out"),
    Scenario("evaluate", ("pack", "run"), ("evaluate", "run", "--device", "cpu"), "run"),
    Scenario("explain", ("pack", "run"), ("explain", "run", "--per-class", "1", "--device", "cpu"), "run"),
    Scenario("report", ("pack", "evaluated"), ("report", "evaluated"), "evaluated"),
)

# Made once, in this order, of the class folders `images` and `few`: what the scenarios need.
PREPARED: dict[str, Sequence[Sequence[str]]] = {
    "old": [("pack", "few", "old")],
    "pack": [("pack", "images", "pack", "--no-duplicates")],
    "run": [("train", "plain.yaml", "pack", "--out", "run", "--device", "cpu")],
    "evaluated": [
        ("copy", "run", "evaluated"),
        ("evaluate", "evaluated", "--device", "cpu"),
        ("explain", "evaluated", "--per-class", "1", "--device", "cpu"),
    ],
}


def write_recipes(folder: Path) -> None:
    """The recipes that the scenarios train by."""
    for name, changes in RECIPES.items():
        document = {section: {**TOY.get(section, {}), **changes.get(section, {})} for section in {**TOY, **changes}}
        (folder / name).write_text(yaml.safe_dump(document), encoding="utf-8")
