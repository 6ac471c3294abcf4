"""Trainings that are killed at any moment, and resumed, end as if nothing had been: to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
import torch

from helpers.killing import in_a_process
from helpers.same_runs import assert_same_run
from helpers.toys import toy_pack, toy_recipe, write_recipe
from skyclass.classifier.run import Run

pytestmark = pytest.mark.kill

AUGMENT = {"flip_horizontal": 0.5, "rotation": 30.0, "noise": 0.02}
VARIANTS: dict[str, dict[str, Any]] = {
    "plateau": {
        "epochs": 3,
        "batch_size": 4,
        "accumulate": 2,
        "validations_per_epoch": 2,
        "checkpoint_steps": 1,
        "averaging": "ema",
        "schedule": "plateau",
        "plateau_monitor": "val_auroc",  # 1 before the last epoch, so that the rate falls
        "plateau_patience": 0,
        "plateau_factor": 0.5,
        "keep_best": 2,
        "keep_every": 1,
        "early_stopping": 2,
        "clip": 1.0,
    },
    "onecycle": {
        "epochs": 2,
        "batch_size": 4,
        "validate_every_steps": 4,
        "checkpoint_steps": 3,
        "averaging": "swa",
        "swa_start": 0.4,
        "rates": {"head": 0.01},
    },
}
STAGE = "training.epochs=+1"
RANDOM = ("plateau/random1", "plateau/random2", "onecycle/random3")


class Place(NamedTuple):
    """Runs of the variants by name, and the kills that each took."""

    root: Path
    kills: dict[str, list[str]]

    def run(self, name: str) -> Run:
        return Run(self.root / name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """For each variant a run and a second stage of it that nothing interrupted, and others that were killed.

    All in one process, which imports torch once.
    """
    root = tmp_path_factory.mktemp("resume")
    toy_pack(root / "pack", splits={"train": 12, "val": 3, "test": 2})
    for name, training in VARIANTS.items():
        recipe = toy_recipe(augment=AUGMENT, model={"dropout": 0.3, "uncertainty": True}, training=training)
        write_recipe(root / name, recipe)
    stage = [STAGE]
    jobs = [
        job_of(root, "plateau/run"),
        job_of(root, "onecycle/run"),
        job_of(root, "plateau/moments", "moments"),
        *(job_of(root, name, "random") for name in RANDOM),
        job_of(root, "onecycle/stage", copy="onecycle/run", overrides=stage),
        job_of(root, "onecycle/turns", "turns", copy="onecycle/run", overrides=stage),
    ]
    return Place(root, in_a_process(root, jobs))


def job_of(root: Path, run: str, how: str = "once", copy: str = "", overrides: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "run": str(root / run),
        "recipe": str(root / run.split("/")[0] / "recipe.yaml"),
        "pack": str(root / "pack"),
        "log": str(root / f"{run.replace('/', '-')}.log"),
        "how": how,
        "copy": str(root / copy) if copy else "",
        "overrides": list(overrides),
    }


def test_killed_at_every_kind_of_moment(place: Place) -> None:
    assert len(place.kills["plateau/moments"]) == 10, place.kills
    assert_same_run(place.run("plateau/moments"), place.run("plateau/run"))


@pytest.mark.parametrize("name", RANDOM)
def test_killed_at_random(place: Place, name: str) -> None:
    assert place.kills[name]
    assert_same_run(place.run(name), place.run(f"{name.split('/')[0]}/run"))


def test_a_leg_killed_while_it_begins(place: Place) -> None:
    """The command that adds epochs is repeated after each kill, and adds them once."""
    assert len(place.kills["onecycle/turns"]) == 8, place.kills
    assert len(place.run("onecycle/turns").stages()) == 2
    assert_same_run(place.run("onecycle/turns"), place.run("onecycle/stage"))


def test_there_were_kills_enough_and_something_to_lose(place: Place) -> None:
    assert sum(map(len, place.kills.values())) >= 20, place.kills
    history = pd.read_csv(place.run("plateau/run").history_file)
    assert len(history) == 6
    checkpoint = torch.load(place.run("plateau/run").last_checkpoint, weights_only=True)
    assert checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] < history["learning_rate"].iloc[0]
    assert history["val_loss"].nunique() == 6
