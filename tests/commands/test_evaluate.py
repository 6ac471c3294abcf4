"""`compute_metrics`: intervals, accuracy by columns, and images that the training has seen, by the command line."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import SmallRun
from helpers.commands import done, drawn, refused
from skyclass.classifier.prediction_formats import read_predictions
from skyclass.classifier.training_data import duplicates_of_training
from skyclass.data.packs.pack import Pack
from skyclass.evaluation import metrics


@pytest.fixture
def run(small_run: SmallRun, tmp_path: Path) -> Path:
    """A run of one's own, on a pack of one's own."""
    shutil.copytree(small_run.pack, tmp_path / "pack")
    shutil.copytree(small_run.run, tmp_path / "run")
    provenance = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**provenance, "pack": str(tmp_path / "pack")}))
    return tmp_path / "run"


def with_columns(run: Path, **columns: Any) -> pd.DataFrame:
    """Give the run's pack further columns; returns its catalog."""
    file = run.parent / "pack" / "catalog.parquet"
    catalog = pd.read_parquet(file).assign(**columns)
    catalog.to_parquet(file, index=False)
    return catalog


def evaluated(*words: object) -> dict[str, Any]:
    done("evaluate", *words)
    folder = Path(str(words[0])) / "evaluation"
    result: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return result


def foreign(folder: Path, n: int = 200, **columns: Any) -> Path:
    """A predictions file of another program."""
    rng = np.random.default_rng(0)
    labels = np.array(list("abc"))[rng.integers(0, 3, n)]
    p = rng.dirichlet(np.ones(3), n) + 1.5 * (labels[:, None] == np.array(list("abc")))
    p = pd.DataFrame(p / p.sum(axis=1, keepdims=True), columns=["p_a", "p_b", "p_c"])
    frame = p.assign(image_id=[f"g{k}" for k in range(n)], label=labels, **columns)
    frame.to_csv(folder / "theirs.csv", index=False)
    return folder / "theirs.csv"


def test_rows_that_repeat_an_image_are_told(tmp_path: Path) -> None:
    file = foreign(tmp_path, 40)
    assert "an image_id" not in done("evaluate", file).err
    table = pd.read_csv(file)
    pd.concat([table, table.iloc[:3]]).to_csv(file, index=False)
    assert "3 rows repeat an image_id" in done("evaluate", file).err


# Intervals


@pytest.mark.slow
def test_scores_have_intervals_in_the_metrics_the_table_and_the_words(run: Path) -> None:
    said = done("evaluate", run).err
    result = json.loads((run / "evaluation" / "metrics.json").read_text())
    low, high = result["intervals"]["log_loss"]
    assert low < result["log_loss"] < high
    assert f"log_loss {result['log_loss']:.4f} ({low:.4f} to {high:.4f})" in said
    table = pd.read_csv(run / "evaluation" / "metrics.csv")
    assert table.columns.tolist() == ["name", "class", "value", "low", "high"]
    row = table[table["name"] == "log_loss"]
    assert row[["value", "low", "high"]].to_numpy()[0] == pytest.approx([result["log_loss"], low, high])
    recall = table[table["name"] == "recall"].set_index("class")["value"]
    assert recall.to_dict() == pytest.approx(result["accuracy_per_class"])
    assert table[table["name"] == "images"]["value"].tolist() == [15, 5, 5, 5]
    assert table["name"].isin({"brier", "macro_f1", "ece", "ece_by_chance", "cohen_kappa"}).sum() == 5
    assert drawn(run / "evaluation" / "precision_recall.png")


@pytest.mark.slow
def test_ten_thousand_predictions_take_seconds(tmp_path: Path) -> None:
    file = foreign(tmp_path, 10_000)
    start = time.process_time()
    done("evaluate", file)
    assert time.process_time() - start < 20.0


# Columns


@pytest.mark.slow
def test_accuracy_by_columns_of_the_pack(run: Path) -> None:
    rng = np.random.default_rng(0)
    n = len(pd.read_parquet(run.parent / "pack" / "catalog.parquet"))
    catalog = with_columns(run, mag_r=rng.normal(17, 1, n), field=rng.choice(["N", "S"], n))
    catalog["mag_r"] = catalog["mag_r"].mask(catalog["image_id"].str.endswith("test/bar/bar_001"))
    catalog.to_parquet(run.parent / "pack" / "catalog.parquet", index=False)
    result = evaluated(run, "--by", "mag_r", "--by", "field", "--by", "confidence")
    assert list(result["by"]) == ["mag_r", "field", "confidence"]
    assert [result["by"][name]["numeric"] for name in result["by"]] == [True, False, True]
    assert [result["by"][name]["n_missing"] for name in result["by"]] == [1, 0, 0]
    frame, _, _ = read_predictions(run / "predictions.parquet")
    rows = frame[frame["split"] == "test"].merge(catalog[["image_id", "mag_r", "field"]], on="image_id")
    right = (rows["label"] == rows["predicted"]).groupby(rows["field"])
    table = pd.read_csv(run / "evaluation" / "by_field.csv").set_index("bin")
    assert table["accuracy"].to_dict() == pytest.approx(right.mean().to_dict())
    assert table["n"].to_dict() == right.size().to_dict()
    assert result["by"]["field"]["bins"][0]["low"] is None
    assert result["by"]["mag_r"]["bins"][0]["low"] == pytest.approx(rows["mag_r"].min())
    for name in result["by"]:
        assert drawn(run / "evaluation" / result["by"][name]["file"])
    theirs = run / "evaluation" / "by_hand.csv"
    theirs.write_text("a file of the user's")
    assert "by" not in evaluated(run)
    assert list((run / "evaluation").glob("by_*")) == [theirs]


def test_a_table_gives_columns_to_any_predictions(tmp_path: Path) -> None:
    file = foreign(tmp_path)
    table = pd.DataFrame({"objid": [f"g{k}" for k in range(150)], "z": np.linspace(0.0, 3.0, 150)})
    table = pd.concat([table, table.iloc[:1]])
    table.to_csv(tmp_path / "table.csv", index=False)
    said = done("evaluate", file, "--by", "z", "--catalog", tmp_path / "table.csv").err
    assert "1 rows repeat the id of another" in said
    assert "50 images without a value" in said
    result = json.loads((tmp_path / "theirs-evaluation" / "metrics.json").read_text())
    assert sum(row["n"] for row in result["by"]["z"]["bins"]) == 150
    assert result["by"]["z"]["n_missing"] == 50


@pytest.mark.slow
def test_a_pack_serves_as_the_table(run: Path) -> None:
    n = len(with_columns(run))
    with_columns(run, seeing=np.arange(n) % 2 + 0.5)
    file = run / "predictions.parquet"
    result = evaluated(run, "--by", "seeing", "--catalog", run.parent / "pack")
    assert [row["bin"] for row in result["by"]["seeing"]["bins"]] == ["0.5 to 1.5"]  # too few images for two bins
    done("evaluate", file, "--by", "seeing", "--catalog", run.parent / "pack")
    same = json.loads((run / "predictions-evaluation" / "metrics.json").read_text())
    assert same["by"] == result["by"]


@pytest.mark.slow
def test_a_column_or_table_that_says_nothing_is_refused(run: Path, tmp_path: Path) -> None:
    with_columns(run, mag_r=17.0, empty=None)
    assert "no column 'mag_t' to group by; did you mean 'mag_r'?" in refused("evaluate", run, "--by", "mag_t")
    said = refused("evaluate", run, "--by", "zzz")
    assert "no column 'zzz' to group by; the columns of the predictions and " in said
    assert "mag_r" in said
    assert "By empty: no labelled image has a value" in done("evaluate", run, "--by", "empty").err
    assert "none to group by; add --by COLUMN" in refused("evaluate", run, "--catalog", run.parent / "pack")
    file = foreign(tmp_path)
    assert "--catalog names a table with more" in refused("evaluate", file, "--by", "mag_r")
    pd.DataFrame({"id": ["x1"], "z": [1.0]}).to_csv(tmp_path / "other.csv", index=False)
    said = refused("evaluate", file, "--by", "z", "--catalog", tmp_path / "other.csv")
    assert (
        "the table has none of the evaluated images; its ids are like 'x1', those of the predictions like 'g0'" in said
    )
    assert "no such table or pack" in refused("evaluate", file, "--by", "z", "--catalog", tmp_path / "gone.csv")


def test_unlabelled_images_are_in_no_bin(tmp_path: Path) -> None:
    file = foreign(tmp_path, z=np.arange(200.0))
    frame = pd.read_csv(file)
    frame.loc[:49, "label"] = None
    frame.to_csv(file, index=False)
    done("evaluate", file, "--by", "z")
    result = json.loads((tmp_path / "theirs-evaluation" / "metrics.json").read_text())
    assert sum(row["n"] for row in result["by"]["z"]["bins"]) == result["n"] == 150


# Images that the training has seen under another name


def test_images_doubled_in_training() -> None:
    catalog = pd.DataFrame({"image_id": list("abcdef"), "duplicates": ["a", "a", "c", "c", None, None]})
    assert duplicates_of_training(catalog, np.array([0, 4])) == {"b"}
    assert duplicates_of_training(catalog, np.array([0, 1])) == set()
    assert duplicates_of_training(catalog, np.array([], int)) == set()


@pytest.mark.slow
def test_scores_without_the_near_duplicates_in_training(run: Path) -> None:
    catalog = with_columns(run)
    clusters = pd.Series(None, index=catalog.index, dtype=object)
    train, test = (catalog.index[catalog["split"] == split] for split in ("train", "test"))
    clusters[[train[0], test[0], test[1]]] = "one"
    clusters[[test[2], test[3]]] = "two"  # among themselves: the training has neither
    with_columns(run, duplicates=clusters)
    said = done("evaluate", run).err
    assert "Near-duplicates in training: 2 of 15 images" in said
    result = json.loads((run / "evaluation" / "metrics.json").read_text())
    found = result["near_duplicates"]
    assert (found["n"], found["reason"], found["without"]["n"]) == (2, None, 13)
    change = result["accuracy"] - found["without"]["accuracy"]
    verb = "raise" if change > 0 else "lower"
    assert f"; they {verb} the accuracy by {abs(change):.3f}" in " ".join(said.split())
    done("report", run)
    page = (run / "report.html").read_text(encoding="utf-8")
    before, after = result["accuracy"], found["without"]["accuracy"]
    assert f"Without them the accuracy is {after:.3f} instead of {before:.3f}" in page
    assert "flatter" not in page
    frame, classes, _ = read_predictions(run / "predictions.parquet")
    rest = frame[(frame["split"] == "test") & ~frame["image_id"].isin(catalog.loc[test[:2], "image_id"])]
    expected = metrics.compute_metrics(rest["label"], rest[[f"p_{name}" for name in classes]].to_numpy(), classes)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "auroc_macro", "log_loss", "ece"):
        assert found["without"][name] == pytest.approx(expected[name])
    assert set(found["without"]["intervals"]) == set(found["without"]) - {"n", "intervals", "ece_by_chance"}


@pytest.mark.slow
def test_what_is_not_known_of_near_duplicates_is_said(run: Path, tmp_path: Path) -> None:
    with_columns(run, duplicates=None)
    assert "Near-duplicates in training: 0 of 15 images" in done("evaluate", run).err
    assert evaluated(run)["near_duplicates"] == {"n": 0, "reason": None, "without": None}
    file = run.parent / "pack" / "catalog.parquet"
    pd.read_parquet(file).drop(columns="duplicates").to_parquet(file, index=False)
    result = evaluated(run)["near_duplicates"]
    assert result == {"n": None, "reason": "the pack was made without looking for duplicates", "without": None}
    shutil.rmtree(run.parent / "pack")
    assert evaluated(run)["near_duplicates"]["reason"] == "the pack of the run is gone or has changed"
    done("evaluate", foreign(tmp_path))
    found = json.loads((tmp_path / "theirs-evaluation" / "metrics.json").read_text())["near_duplicates"]
    assert found["reason"] == "these are predictions of a file, not of a run"


@pytest.mark.slow
def test_every_image_doubled_leaves_nothing_to_judge(run: Path) -> None:
    with_columns(run, duplicates="all")
    assert Pack.open(run.parent / "pack").catalog["duplicates"].eq("all").all()
    assert evaluated(run)["near_duplicates"] == {"n": 15, "reason": None, "without": None}
