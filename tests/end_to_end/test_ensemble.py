"""Ensembles as runs: members that are ordinary trainings, killed and resumed, and what is made of them."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.commands import done, drawn, refused, skyclass
from helpers.toys import toy_pack, toy_recipe, write_recipe
from skyclass.classifier.classifier import Classifier
from skyclass.classifier.prediction_formats import read_predictions
from skyclass.classifier.run import Run
from skyclass.commands.train import train
from skyclass.data.packs.pack import Pack
from skyclass.data.packs.training_rows import training_rows
from skyclass.evaluation.predictions import probabilities
from skyclass.training import ensemble
from skyclass.training.ensemble import pooled
from skyclass.training.loop.task import Task

pytestmark = pytest.mark.slow

RECIPE = toy_recipe(training={"epochs": 2}, model={"dropout": 0.2, "uncertainty": True}).model_copy(update={"seed": 7})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, its pack, and a run of three members."""
    folder = tmp_path_factory.mktemp("ensemble")
    toy_pack(folder / "pack")
    recipe = write_recipe(folder, RECIPE)
    train(recipe, folder / "pack", out=folder / "run", ensemble=3, device="cpu")
    return folder


def test_members_are_ordinary_runs_with_seeds_of_their_own(place: Path, tmp_path: Path) -> None:
    members = [Run.open(path) for path in Run.open(place / "run").member_paths]
    assert [member.path.name for member in members] == ["1", "2", "3"]
    assert [member.recipe().seed for member in members] == [7, 8, 9]
    assert all(member.finished and member.n_members == 1 for member in members)
    again = train(place / "recipe.yaml", place / "pack", out=tmp_path / "run", overrides=["seed=8"], device="cpu")
    weights = [run / "classifier" / "model.safetensors" for run in (again, members[1].path)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_an_ensemble_predicts_the_mean_of_what_its_members_predict(place: Path) -> None:
    run = Run.open(place / "run")
    model = Classifier.load(run.path, "cpu")
    assert len(model.networks) == 3
    pack = Pack.open(place / "pack")
    images = np.asarray(pack.images[training_rows(pack, RECIPE.data).test])
    members = [Classifier.load(path, "cpu").outputs(images) for path in run.member_paths]
    log_p, error_probability, _ = model.outputs(images)
    np.testing.assert_allclose(np.exp(log_p), np.mean([np.exp(one.log_p) for one in members], axis=0), atol=1e-9)
    np.testing.assert_allclose(
        error_probability, np.mean([one.error_probability for one in members], axis=0), atol=1e-9
    )
    frame, classes, _ = read_predictions(run.predictions_file)
    found = probabilities(frame[frame["split"] == "test"], classes)
    np.testing.assert_allclose(found, model.predict_proba(images), atol=1e-5)
    assert len({tuple(one.log_p[0]) for one in members}) == 3


def test_an_ensemble_is_a_run_to_every_other_verb(place: Path) -> None:
    run = Run.open(place / "run")
    done("evaluate", run.path)
    done("explain", run.path, "--per-class", 1)
    done("report", run.path)
    assert drawn(run.curves_file)
    histories = [pd.read_csv(Run(path).history_file) for path in run.member_paths]
    pd.testing.assert_frame_equal(
        pd.read_csv(run.history_file), sum(histories[1:], histories[0]) / 3, check_dtype=False
    )
    costs = [Run(path).cost() for path in run.member_paths]
    whole = run.cost()
    assert whole is not None
    assert whole.seconds == pytest.approx(sum(cost.seconds for cost in costs if cost))
    assert whole.images == 3 * 2 * 27
    made_from = Classifier.load(run.path, "cpu").made_from
    assert made_from["members"] == [
        Classifier.load(path, "cpu").made_from["weights_sha256"] for path in run.member_paths
    ]


def killed(words: list[object], patch: pytest.MonkeyPatch, at: int) -> None:
    """Run a command that Ctrl-C stops at its training step number `at`."""
    steps, original = [0], Task.training_step

    def step(task: Task, *batch: Any) -> torch.Tensor:
        steps[0] += 1
        if steps[0] == at:
            raise KeyboardInterrupt
        return original(task, *batch)

    with patch.context() as patched:
        patched.setattr(Task, "training_step", step)
        assert skyclass(*words).code == 130


def test_a_killed_ensemble_goes_on_to_the_same_end(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the first member, within the second, before the third is whole, and before the members are pooled."""
    run = tmp_path / "run"
    words = ["train", place / "recipe.yaml", place / "pack", "--out", run, "--ensemble", 3, "--device", "cpu"]
    killed(words, monkeypatch, 6)
    assert not Run(run).finished
    assert "--resume" in refused("evaluate", run)
    resume = ["train", "--resume", run, "--device", "cpu"]
    killed(resume, monkeypatch, 12)
    third = run / "members" / "3"
    assert not third.exists()
    third.mkdir()
    (third / "recipe.yaml").write_text("half made")

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ensemble, "pooled", stopped)
        assert skyclass(*resume).code == 130
    done(*resume)
    straight, again = (read_predictions(Run(path).predictions_file)[0] for path in (place / "run", run))
    pd.testing.assert_frame_equal(again, straight, check_exact=True)
    assert "nothing to resume" in done(*resume).err


def test_an_ensemble_that_is_refused_leaves_the_name_free(place: Path, tmp_path: Path) -> None:
    words = ("train", place / "recipe.yaml", place / "pack", "--out", tmp_path / "run", "--ensemble", 2)
    refused(*words, "--set", "model.backbone=resnet99")
    assert not (tmp_path / "run").exists()


def test_an_ensemble_gets_no_more_epochs(place: Path, tmp_path: Path) -> None:
    sentence = refused("train", "--resume", place / "run", "--set", "training.epochs=+1")
    assert "no epochs are added to an ensemble, nor taken back; train a new ensemble" in sentence
    shutil.copytree(place / "run", tmp_path / "run")
    assert "no epochs are added" in refused("train", "--resume", tmp_path / "run", "--checkpoint", "best")


def test_what_is_pooled_has_the_pixels_and_the_swaps_of_its_members_but_not_their_calibration(place: Path) -> None:
    one = Classifier.load(place / "run" / "members" / "1", "cpu")
    one.mirror_swaps = [("bar", "ring")]
    both = pooled([one, Classifier.load(place / "run" / "members" / "2", "cpu")], RECIPE)
    learnt = {"calibration", "prediction_sets", "novelty"}
    kept = {field.name for field in dataclasses.fields(Classifier)} - {"networks", "made_from"} - learnt
    assert all(getattr(both, name) == getattr(one, name) for name in kept)
    assert (both.calibration.method, both.prediction_sets, both.novelty) == ("none", None, None)
