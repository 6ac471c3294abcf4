"""`skyclass evaluate RUN --uncertainty`, and the figure that compares the scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import SmallRun
from helpers.commands import done, drawn, refused
from helpers.logged import Logged
from helpers.toys import toy_pack, toy_recipe, write_recipe
from skyclass.classifier import sampled_uncertainty
from skyclass.classifier.classifier import Classifier
from skyclass.classifier.run import Run
from skyclass.classifier.sampled_uncertainty import sampled_scores
from skyclass.commands.train import train
from skyclass.core.files.atomic_files import read_json
from skyclass.evaluation.calibration.scaling import Calibration
from skyclass.evaluation.figures.uncertainty import uncertainty_figure
from skyclass.evaluation.uncertainty import IN_WORDS, compare_scores

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ensemble of two with dropout and uncertainty heads, hardly trained, so that it errs."""
    folder = tmp_path_factory.mktemp("uncertainty")
    pack = toy_pack(folder / "pack", splits={"train": 4, "val": 4, "test": 12})
    recipe = toy_recipe(training={"epochs": 1}, model={"dropout": 0.3, "uncertainty": True})
    return train(write_recipe(folder, recipe), pack.path, out=folder / "run", ensemble=2, device="cpu")


def test_a_run_is_judged_by_every_score(run: Path) -> None:
    said = done("evaluate", run, "--uncertainty", "--device", "cpu").err
    found = read_json(run / "evaluation" / "metrics.json", "metrics")["uncertainty"]
    assert list(found["scores"]) == list(IN_WORDS)
    assert found["n"] == 36
    assert found["advice"] in said
    assert drawn(run / "evaluation" / "uncertainty.png")


def test_without_the_option_what_the_predictions_hold_is_judged(run: Path, small_run: SmallRun, tmp_path: Path) -> None:
    done("evaluate", run, "--out", tmp_path / "one")
    found = json.loads((tmp_path / "one" / "metrics.json").read_text())["uncertainty"]
    assert list(found["scores"]) == ["max_probability", "entropy", "uncertainty_head"]
    done("evaluate", small_run.run, "--out", tmp_path / "other")
    found = json.loads((tmp_path / "other" / "metrics.json").read_text())["uncertainty"]
    assert list(found["scores"]) == ["max_probability", "entropy"]


def test_networks_are_needed_for_more_than_the_predictions_hold(run: Path) -> None:
    sentence = refused("evaluate", run / "predictions.parquet", "--uncertainty")
    assert "--uncertainty: the networks are asked again, and a file of predictions has none; name the run" in sentence


def test_the_scores_are_those_of_the_images_that_are_named(run: Path) -> None:
    ids = pd.read_parquet(Run(run).predictions_file)["image_id"].iloc[[20, 3, 40]].tolist()
    found = sampled_scores(Run(run), ids, device="cpu")
    names = ["ensemble_disagreement", "mc_dropout_entropy", "mc_dropout_disagreement"]
    assert list(found) == [*names, "orientations_entropy", "orientations_disagreement"]
    every = sampled_scores(Run(run), ids[::-1], device="cpu")
    for name in ("ensemble_disagreement", "orientations_entropy", "orientations_disagreement"):
        np.testing.assert_allclose(every[name][::-1], found[name], atol=1e-6)
    other = sampled_scores(Run(run), ids, seed=1, device="cpu")
    assert not np.array_equal(other["mc_dropout_entropy"], found["mc_dropout_entropy"])


def test_batches_leave_the_scores_as_they_are(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = pd.read_parquet(Run(run).predictions_file)["image_id"].iloc[:7].tolist()
    whole = sampled_scores(Run(run), ids, device="cpu")
    monkeypatch.setattr(sampled_uncertainty, "BATCH", 3)
    parts = sampled_scores(Run(run), ids, device="cpu")
    np.testing.assert_allclose(parts["orientations_entropy"], whole["orientations_entropy"], atol=1e-6)
    assert all(len(score) == 7 for score in parts.values())


def test_a_network_without_dropout_or_members_has_fewer_scores(small_run: SmallRun, logged: Logged) -> None:
    ids = pd.read_parquet(Run(small_run.run).predictions_file)["image_id"].head(4).tolist()
    found = sampled_scores(Run(small_run.run), ids, device="cpu")
    assert list(found) == ["orientations_entropy", "orientations_disagreement"]
    assert "Monte Carlo dropout is left out" in logged()


def test_many_images_are_judged_by_a_sample(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skyclass.commands.steps.evaluate.MOST_IMAGES", 10)
    said = done("evaluate", run, "--uncertainty", "--out", tmp_path / "out", "--device", "cpu").err
    assert "10 of the 36 images, drawn at random" in said
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["uncertainty"]["n"] == 10


def test_the_members_disagree_where_their_answers_differ(run: Path) -> None:
    model = Classifier.load(run, "cpu")
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 12, 16)).astype(np.uint8)
    model.calibration = Calibration("vector", (0.5, 1.0, 2.0), (0.3, 0.0, -0.3))
    members = [Classifier.load(path, "cpu").outputs(images).log_p for path in Run(run).member_paths]
    p = np.stack([model.calibration.apply(log_p) for log_p in members])
    found = sampled_uncertainty._scores(model, images, 0, 0)["ensemble_disagreement"]
    whole, parts = (-(q * np.log(q)).sum(axis=-1) / np.log(3) for q in (p.mean(axis=0), p))
    np.testing.assert_allclose(found, whole - parts.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("n_errors", [0, 1, 5, 20])
def test_the_figure_shows_every_score(n_errors: int, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    wrong = np.arange(20) < n_errors
    scores = {name: random.random(20) for name in list(IN_WORDS)[:3]}
    figure = uncertainty_figure(wrong, scores, compare_scores(wrong, scores))
    curves, areas = figure.axes
    assert "coverage" in curves.get_xlabel()
    assert "risk" in curves.get_ylabel()
    assert "AUROC of errors" in areas.get_xlabel()
    shown = [label.get_text().split("\n")[0] for label in areas.get_yticklabels()]
    assert shown == [IN_WORDS[name] for name in scores]
    figure.savefig(tmp_path / "figure.png")
    assert drawn(tmp_path / "figure.png")
