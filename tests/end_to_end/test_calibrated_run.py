"""The calibration of a run: fitted on its validation images, kept in the classifier, the same for files and packs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from helpers.commands import done, refused
from helpers.toys import toy_pack, toy_recipe, write_recipe
from skyclass.classifier.classifier import Classifier
from skyclass.classifier.prediction_formats import read_predictions
from skyclass.classifier.run import Run
from skyclass.commands.predict import predict
from skyclass.commands.train import train
from skyclass.data.packs.pack import Pack
from skyclass.evaluation.calibration.conformal import PredictionSets, fit_prediction_sets, read_names
from skyclass.evaluation.calibration.scaling import Calibration, fit_calibration, out_of_fold
from skyclass.evaluation.predictions import UNCALIBRATED, probabilities

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_figures")]


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return toy_pack(tmp_path_factory.mktemp("calibrated") / "pack", splits={"train": 4, "val": 20, "test": 4})


def run_of(folder: Path, pack: Pack, **calibration: Any) -> Run:
    """An untrained network, calibrated: what is tested here does not need a good one."""
    recipe = toy_recipe(calibration=calibration, training={"epochs": 0}, seed=5)
    return Run(train(write_recipe(folder, recipe), pack.path, out=folder / "run", device="cpu"))


@pytest.fixture(scope="module")
def run(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of(tmp_path_factory.mktemp("run"), pack, sets="aps", coverage=0.7)


def test_a_run_is_calibrated_on_its_validation_images_alone(run: Run, pack: Pack) -> None:
    frame, classes, provenance = read_predictions(run.predictions_file)
    before, after = probabilities(frame, classes, UNCALIBRATED), probabilities(frame, classes)
    val = (frame["split"] == "val").to_numpy()
    labels = frame.loc[val, "label"].map(classes.index).to_numpy()
    expected = fit_calibration(np.log(before[val]), labels).calibration
    found = Calibration.from_json(provenance["calibration"])
    assert (found.method, found.n) == (expected.method, 60)
    np.testing.assert_allclose(found.scale, expected.scale, rtol=1e-3)
    np.testing.assert_allclose(after, found.apply(np.log(before)), atol=1e-5)
    assert np.abs(after - before).max() > 0.01
    sets = fit_prediction_sets(
        out_of_fold(np.log(before[val]), labels, found.method),
        labels,
        frame.loc[val, "image_id"].tolist(),
        coverage=0.7,
        score="aps",
        seed=5,
    )
    kept = PredictionSets.from_json(provenance["prediction_sets"])
    assert kept is not None
    assert (kept.score, kept.coverage, kept.n, kept.seed) == ("aps", 0.7, (60,), 5)
    np.testing.assert_allclose(kept.thresholds[0], sets.thresholds[0], atol=1e-4)
    members = read_names(frame["prediction_set"], classes)
    assert frame["ambiguous"].tolist() == (members.sum(axis=1) != 1).tolist()
    assert (members == kept.members(after, frame["image_id"])).mean() > 0.99


def test_the_classifier_keeps_it_and_every_way_to_predict_agrees(run: Run, pack: Pack, tmp_path: Path) -> None:
    classifier = Classifier.load(run.path, "cpu")
    meta = json.loads((run.classifier / "classifier.json").read_text())
    assert Calibration.from_json(meta["calibration"]) == classifier.calibration
    again = Classifier.load(classifier.save(tmp_path / "copy"), "cpu")
    assert (again.calibration, again.prediction_sets) == (classifier.calibration, classifier.prediction_sets)
    in_run = pd.read_parquet(run.predictions_file).set_index("image_id")
    columns = [*(f"p_{name}" for name in classifier.classes), "predicted", "prediction_set", "ambiguous"]
    for batch_size in (7, 64):
        found = pd.read_parquet(predict(run.path, pack.path, out=tmp_path / "p.parquet", batch_size=batch_size))
        same = found.set_index("image_id").loc[in_run.index, columns]
        pd.testing.assert_frame_equal(same, in_run[columns], atol=1e-5)  # aps draws by the id, not by the row
        assert not found.columns.str.startswith(UNCALIBRATED).any()
    rows = [pack.catalog["image_id"].tolist().index(name) for name in in_run.index]
    p = classifier.predict_proba(pack.images[rows])
    np.testing.assert_allclose(p, in_run[columns[:3]], atol=1e-5)
    log_p = classifier.outputs(pack.images[rows]).log_p
    uncalibrated = in_run[[f"{UNCALIBRATED}{name}" for name in classifier.classes]]
    np.testing.assert_allclose(np.exp(log_p), uncalibrated, atol=1e-5)
    table = classifier.predict(pack.images[rows])
    assert table["ambiguous"].tolist() == [len(text.split("|")) != 1 or not text for text in table["prediction_set"]]


def test_a_prediction_over_orientations_says_that_it_was_not_calibrated_for(
    run: Run, pack: Pack, tmp_path: Path
) -> None:
    for words, expected in (((), False), (("--orientations",), True)):
        said = done("predict", run.path, pack.path, "--out", tmp_path / "p.parquet", *words).err
        assert ("fitted without --orientations" in said) is expected
        assert read_predictions(tmp_path / "p.parquet")[2]["orientations"] is expected


@pytest.mark.parametrize(
    "change",
    [{"method": "none"}, {"method": "vector"}, {"coverage": 0.5}, {"sets": "lac"}, {"class_conditional": True}],
    ids=lambda change: next(iter(change)),
)
def test_every_setting_changes_the_predictions(run: Run, pack: Pack, tmp_path: Path, change: dict[str, Any]) -> None:
    """The settings of the run are aps at 0.7, and `auto` has taken a temperature."""
    other = run_of(tmp_path, pack, **{"sets": "aps", "coverage": 0.7, **change})
    (frame, classes, provenance), (before, _, old) = (read_predictions(one.predictions_file) for one in (other, run))
    assert old["calibration"]["method"] == "temperature"
    if "method" in change:
        assert provenance["calibration"]["method"] == change["method"]
        assert np.abs(probabilities(frame, classes) - probabilities(before, classes)).max() > 0.005
    else:
        np.testing.assert_array_equal(probabilities(frame, classes), probabilities(before, classes))
        assert (frame["prediction_set"] != before["prediction_set"]).any()
    np.testing.assert_array_equal(
        probabilities(frame, classes, UNCALIBRATED), probabilities(before, classes, UNCALIBRATED)
    )


def test_few_validation_images_leave_the_probabilities_alone_and_say_so(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path / "pack", splits={"train": 3, "val": 2, "test": 1})
    write_recipe(tmp_path, toy_recipe(training={"epochs": 0}))
    said = done("train", tmp_path / "recipe.yaml", pack.path, "--out", tmp_path / "run").err
    assert "none (6 validation images are too few, 30 are needed)" in said
    assert "6 images of validation are too few for sets right in 90% of cases: every set holds all classes" in said
    frame, classes, _ = read_predictions(tmp_path / "run" / "predictions.parquet")
    np.testing.assert_array_equal(probabilities(frame, classes), probabilities(frame, classes, UNCALIBRATED))
    assert (frame["prediction_set"] == "|".join(classes)).all()
    assert frame["ambiguous"].all()


def test_an_older_classifier_has_no_calibration_and_a_damaged_one_is_refused(run: Run, tmp_path: Path) -> None:
    folder = Classifier.load(run.path, "cpu").save(tmp_path / "old")
    meta = json.loads((folder / "classifier.json").read_text())
    del meta["content_sha256"]  # older ones have none
    older = {name: value for name, value in meta.items() if name not in ("calibration", "prediction_sets")}
    (folder / "classifier.json").write_text(json.dumps(older))
    old = Classifier.load(folder, "cpu")
    assert (old.calibration, old.prediction_sets) == (Calibration(), None)
    table = old.predict(np.zeros((0, 1, 12, 16), np.uint8))
    assert {"prediction_set", "ambiguous"} <= set(table)
    (folder / "classifier.json").write_text(json.dumps({**meta, "calibration": {"method": "magic"}}))
    assert "damaged calibration" in refused("predict", folder, "nowhere", "--out", tmp_path / "p.parquet")


@pytest.mark.parametrize("setting", ["method=isotonic", "coverage=1.0", "coverage=0", "sets=raps"])
def test_wrong_settings_are_refused(setting: str) -> None:
    sentence = refused("recipes", "show", "lensing-demo", "--resolved", "--set", f"calibration.{setting}")
    assert f"calibration.{setting.split('=')[0]}" in sentence
