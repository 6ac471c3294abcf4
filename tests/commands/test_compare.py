"""`compare`, by the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conftest import SmallRun
from helpers.commands import P, done, drawn, refused
from skyclass.classifier.prediction_formats import read_predictions
from skyclass.classifier.run import Run
from skyclass.evaluation.predictions import predictions_writer
from skyclass.recipes.recipe import dump_recipe


@pytest.fixture
def run(small_run: SmallRun, tmp_path: Path) -> Path:
    shutil.copytree(small_run.run, tmp_path / "run")
    return tmp_path / "run"


def another(run: Path, folder: str, name: str | None = None, reported: dict[str, object] | None = None) -> Path:
    """A copy of a run that gives every image the next class, and a recipe of that name."""
    copy = Run(run.parent / folder)
    shutil.copytree(run, copy.path)
    recipe = copy.recipe()
    about = recipe.about.model_dump() | {"reported": reported}
    changed = recipe.model_validate(recipe.model_dump() | {"name": name or recipe.name, "about": about})
    copy.recipe_file.write_text(dump_recipe(changed))
    frame, classes, provenance = read_predictions(copy.predictions_file)
    frame[P] = np.roll(frame[P].to_numpy(), 1, axis=1)
    frame["predicted"] = np.array(classes)[frame[P].to_numpy().argmax(axis=1)]
    with predictions_writer(copy.predictions_file, classes, provenance) as append:
        append(frame)
    return copy.path


@pytest.mark.slow
def test_two_runs_side_by_side(run: Path, tmp_path: Path) -> None:
    worse = another(run, "worse", name="worse")
    shown = done("compare", run, worse, "--out", tmp_path / "out")
    assert shown.out == (tmp_path / "out" / "comparison.md").read_text()
    assert drawn(tmp_path / "out" / "comparison.png")
    table = pd.read_csv(tmp_path / "out" / "comparison.csv").set_index("method")
    done("evaluate", run)
    evaluated = json.loads((run / "evaluation" / "metrics.json").read_text())
    own = table.loc[Run(run).recipe().name]
    for name in ("accuracy", "balanced_accuracy", "auroc_macro", "ece"):
        assert own[name] == pytest.approx(evaluated[name])
        assert [own[f"{name}_low"], own[f"{name}_high"]] == pytest.approx(evaluated["intervals"][name])
    cost = Run(run).cost()
    assert cost is not None
    assert (own["trained_parameters"], own["seconds"]) == (cost.trained_parameters, pytest.approx(cost.seconds))
    assert own["peak_memory_bytes"] == cost.peak_memory_bytes
    assert table.loc["worse", "accuracy_difference"] == pytest.approx(table["accuracy"].diff().iloc[1])
    assert table.loc["worse", "n_common"] == own["n"] == 15
    assert 0.0 < table.loc["worse", "mcnemar_p"] <= 1.0
    assert f"## Against {own.name}" in shown.out


def test_the_split_can_be_chosen(run: Path, tmp_path: Path) -> None:
    found = {}
    for split in ("test", "val", "all"):
        done("compare", run, "--split", split, "--out", tmp_path / split)
        found[split] = pd.read_csv(tmp_path / split / "comparison.csv")["n"].item()
    assert found == {"test": 15, "val": 9, "all": 24}
    assert "no prediction in the split 'train'" in refused("compare", run, "--split", "train")


def test_figures_of_others_stand_beside_and_are_marked(run: Path, tmp_path: Path) -> None:
    reported = {"source": "Somebody 2020, on their data", "scores": {"accuracy": 0.971, "val_accuracy": 0.98}}
    cited = [another(run, folder, name=folder, reported=reported) for folder in ("a", "b")]
    shown = done("compare", run, *cited, "--reported", "--out", tmp_path / "out").out
    assert shown.count("0.971 (theirs)") == 1  # two recipes cite it
    assert "a, as reported: reported by Somebody 2020, on their data: accuracy 0.971, val_accuracy 0.98" in shown
    assert drawn(tmp_path / "out" / "comparison.png")
    assert "theirs" not in done("compare", run, *cited, "--out", tmp_path / "out").out
    assert "none of these recipes cites figures" in done("compare", run, "--reported", "--out", tmp_path / "one").err


def test_what_was_not_measured_is_said_and_members_are_added_up(run: Path, tmp_path: Path) -> None:
    older = another(run, "older", name="older")
    (older / "training.json").unlink()
    both = another(run, "both", name="both")
    for number in ("1", "2"):
        shutil.copytree(run, both / "members" / number)
    provenance = json.loads((both / "run.json").read_text())
    (both / "run.json").write_text(json.dumps({**provenance, "members": 2}))
    shown = done("compare", run, older, both, "--out", tmp_path / "out").out
    table = pd.read_csv(tmp_path / "out" / "comparison.csv").set_index("method")
    assert "| not measured" in next(line for line in shown.splitlines() if line.startswith("| older"))
    assert np.isnan(table.loc["older", "seconds"])
    own = table.iloc[0]
    assert table.loc["both", "seconds"] == pytest.approx(2.0 * own["seconds"])
    assert table.loc["both", "trained_parameters"] == 2 * own["trained_parameters"]
    assert table.loc["both", "peak_memory_bytes"] == own["peak_memory_bytes"]


def test_runs_of_one_name_are_told_apart(run: Path, tmp_path: Path) -> None:
    name = Run(run).recipe().name
    same = another(run, "same")
    done("compare", run, same, "--out", tmp_path / "out")
    assert pd.read_csv(tmp_path / "out" / "comparison.csv")["method"].tolist() == [f"{name} (run)", f"{name} (same)"]
    deep = shutil.copytree(same, tmp_path / "deep" / "run")
    done("compare", run, deep, "--out", tmp_path / "out")
    methods = pd.read_csv(tmp_path / "out" / "comparison.csv")["method"].tolist()
    assert methods == [f"{name} ({run.resolve()})", f"{name} ({Path(deep).resolve()})"]


def test_other_classes_or_images_are_tabled_without_a_test(run: Path, tmp_path: Path) -> None:
    other = another(run, "other", name="other")
    frame, classes, provenance = read_predictions(other / "predictions.parquet")
    names = dict(zip(classes, ["x", "y", "z"], strict=True))
    frame = frame.rename(columns={f"p_{name}": f"p_{new}" for name, new in names.items()})
    frame = frame.assign(label=frame["label"].map(names), predicted=frame["predicted"].map(names))
    with predictions_writer(other / "predictions.parquet", ["x", "y", "z"], provenance) as append:
        append(frame)
    fewer = another(run, "fewer", name="fewer")
    frame, _, provenance = read_predictions(fewer / "predictions.parquet")
    with predictions_writer(fewer / "predictions.parquet", classes, provenance) as append:
        append(frame[frame["image_id"] != "test/bar/bar_001"])
    result = done("compare", run, other, fewer, "--out", tmp_path / "out")
    own = Run(run).recipe().name
    assert f"other: not held against {own}, because its classes are others" in result.err
    assert f"fewer: held against {own} on the 14 test images that they share" in result.err
    table = pd.read_csv(tmp_path / "out" / "comparison.csv").set_index("method")
    assert np.isnan(table.loc["other", "n_common"])
    assert table.loc["other", "note"] == "its classes are others"
    assert 0.0 <= table.loc["other", "accuracy"] <= 1.0
    assert table.loc["fewer", "n_common"] == 14


def test_what_cannot_be_compared_is_refused(run: Path, tmp_path: Path) -> None:
    assert "the run is given twice" in refused("compare", run, run.parent / "." / "run")
    assert "this folder is no run" in refused("compare", run, tmp_path / "nothing")
    (run / "predictions.parquet").unlink()
    assert "the run has not ended" in refused("compare", run)
