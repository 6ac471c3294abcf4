"""`evaluate`, by the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from helpers.commands import CLASSES, P, done, drawn, predictions
from helpers.make_data import write_jpeg

pytestmark = pytest.mark.slow


@pytest.fixture
def place(toy_run: Path) -> Path:
    """Class folders `images`, `pack`, `toy.yaml` and a finished `run`."""
    return toy_run


# evaluate

KEYS = {"n", "accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "accuracy_per_class"} | {
    "auroc_per_class",
    "auroc_macro",
    "log_loss",
    "confusion_matrix",
    "classes",
}


@pytest.mark.parametrize("split", [None, "train", "val", "all"])
def test_metrics_are_those_of_the_file(place: Path, tmp_path: Path, split: str | None) -> None:
    frame = predictions(place / "run", place / "pack", tmp_path / "p.parquet")
    done("evaluate", tmp_path / "p.parquet", *(["--split", split] if split else []))
    folder = tmp_path / "p-evaluation"
    found = json.loads((folder / "metrics.json").read_text())
    assert found.keys() >= KEYS
    rows = frame if split == "all" else frame[frame["split"] == (split or "test")]
    label, p = rows["label"], rows[P].to_numpy(np.float64)
    assert (found["n"], found["split"], found["classes"]) == (len(rows), split or "test", list(CLASSES))
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(label, rows["predicted"]))
    assert found["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(label, rows["predicted"]))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(label, rows["predicted"], average="macro", zero_division=0))
    expected = [sk.roc_auc_score(label == name, p[:, k]) for k, name in enumerate(CLASSES)]
    assert list(found["auroc_per_class"].values()) == pytest.approx(expected)
    assert found["auroc_macro"] == pytest.approx(np.mean(expected))
    assert found["confusion_matrix"] == sk.confusion_matrix(label, rows["predicted"], labels=CLASSES).tolist()
    text = (folder / "classification_report.txt").read_text()
    assert all(name in text for name in (*CLASSES, "precision", "recall", "support"))
    assert drawn(folder / "confusion.png")
    assert drawn(folder / "roc.png")


def test_a_run_is_evaluated_into_itself_or_elsewhere(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    result = done("evaluate", tmp_path / "run")
    done("evaluate", tmp_path / "run", "--out", tmp_path / "elsewhere")
    inside = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())
    assert inside == json.loads((tmp_path / "elsewhere" / "metrics.json").read_text())
    assert (inside["n"], inside["split"]) == (12, "test")
    assert f"accuracy {inside['accuracy']:.4f}" in result.err


def test_labels_of_one_class_leave_the_auroc_undefined(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "images" / "test" / "ring", tmp_path / "images" / "ring")
    predictions(place / "run", tmp_path / "images", tmp_path / "p.parquet")
    result = done("evaluate", tmp_path / "p.parquet")
    assert "auroc_macro undefined" in result.err
    found = json.loads((tmp_path / "p-evaluation" / "metrics.json").read_text())
    assert (found["n"], found["auroc_macro"]) == (4, None)
    assert drawn(tmp_path / "p-evaluation" / "roc.png")


def test_unreadable_and_unlabelled_rows_do_not_count(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "images" / "test", tmp_path / "images")
    (tmp_path / "images" / "ring" / "bad.png").write_text("no picture")
    write_jpeg(tmp_path / "images" / "loose.jpg", 3)
    predictions(place / "run", tmp_path / "images", tmp_path / "p.parquet")
    done("evaluate", tmp_path / "p.parquet")
    found = json.loads((tmp_path / "p-evaluation" / "metrics.json").read_text())
    assert (found["n"], found["n_unpredicted"], found["n_unlabelled"]) == (12, 1, 1)


def test_a_table_of_another_program_can_be_evaluated(tmp_path: Path) -> None:
    p = [0.9, 0.2, 0.6, 0.4]
    frame = pd.DataFrame({"p_a": p, "p_b": [1 - x for x in p], "label": ["a", "b", "b", "b"]})
    frame.to_csv(tmp_path / "theirs.csv", index=False)
    done("evaluate", tmp_path / "theirs.csv")
    found = json.loads((tmp_path / "theirs-evaluation" / "metrics.json").read_text())
    assert (found["accuracy"], found["confusion_matrix"]) == (0.75, [[1, 0], [1, 2]])
