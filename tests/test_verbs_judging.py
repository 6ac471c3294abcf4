"""`evaluate` and `explain`, by the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn import metrics as sk

from commands import CLASSES, P, done, drawn, predictions, refused, toy_run
from make_data import class_folders, write_image, write_jpeg
from skyclass.explanation.figures import explanation_figure
from skyclass.verbs import explain as explain_module


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders `images`, `pack`, `toy.yaml` and a finished `run`."""
    return toy_run(tmp_path_factory.mktemp("runs"))


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


# explain


def explained(*words: object, out: Path) -> pd.DataFrame:
    done("explain", *words, "--out", out)
    table = pd.read_csv(out / "explanations.csv")
    assert all(drawn(out / name) for name in table["picture"])
    return table


def test_explain_draws_the_test_images_and_a_sheet_of_every_class(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    done("explain", run)
    table = pd.read_csv(run / "explanations" / "explanations.csv")
    assert table["image_id"].str.startswith("test/").all()
    assert table["label"].value_counts().to_dict() == dict.fromkeys(CLASSES, 4)  # four each, of at most six
    assert table["explained"].tolist() == table["predicted"].tolist()
    names = {*table["picture"], *(f"class-{name}.png" for name in CLASSES)}
    assert {path.name for path in (run / "explanations").glob("*.png")} == names
    assert all(drawn(run / "explanations" / name) for name in names)


def test_what_is_explained_can_be_chosen(place: Path, tmp_path: Path) -> None:
    run = place / "run"
    ids = ["test/bar/bar_001", "train/ring/ring_000"]
    chosen = explained(run, "--image", ids[0], "--image", ids[1], out=tmp_path / "a")
    assert chosen["image_id"].tolist() == ids
    two = explained(run, "--per-class", 2, "--target", "true", out=tmp_path / "b")
    assert two["label"].value_counts().to_dict() == dict.fromkeys(CLASSES, 2)
    assert two["explained"].tolist() == two["label"].tolist()
    maps = {}
    for target in CLASSES:
        one = explained(run, "--image", ids[0], "--target", target, out=tmp_path / target)
        assert one["explained"].tolist() == [target]
        maps[target] = (tmp_path / target / one["picture"].item()).read_bytes()
    assert len(set(maps.values())) == 3


def test_explain_takes_images_that_are_not_in_the_pack(place: Path, tmp_path: Path) -> None:
    classifier = place / "run" / "classifier"
    write_jpeg(tmp_path / "new" / "b.jpg", 3)
    (tmp_path / "new" / "a.png").write_text("no picture")
    result = done("explain", classifier, tmp_path / "new", "--target", "true", "--out", tmp_path / "folder")
    assert "left out" in result.err
    assert "a.png" in result.err
    table = pd.read_csv(tmp_path / "folder" / "explanations.csv")
    assert table["image_id"].tolist() == ["b"]
    assert table["label"].isna().all()
    assert table["explained"].tolist() == table["predicted"].tolist()  # without a label, the prediction
    assert len(explained(classifier, tmp_path / "new" / "b.jpg", out=tmp_path / "file")) == 1
    listing = tmp_path / "list.csv"
    pd.DataFrame({"file": ["b.jpg"], "label": ["ring"]}).to_csv(listing, index=False)
    listed = explained(classifier, listing, "--image-root", tmp_path / "new", out=tmp_path / "table")
    assert listed["label"].tolist() == ["ring"]
    assert "none of the chosen images can be read" in refused("explain", classifier, tmp_path / "new/a.png")


def test_explain_refuses_another_pack_in_the_place_of_the_runs_own(tmp_path: Path) -> None:
    place = toy_run(tmp_path)
    meta = json.loads((place / "pack" / "pack.json").read_text())
    (place / "pack" / "pack.json").write_text(json.dumps({**meta, "hash": "another"}))
    said = refused("explain", place / "run", "--out", tmp_path / "out")
    assert "the pack has changed since the run was trained on it; name the images to explain after the run" in said
    assert len(explained(place / "run", place / "pack", "--per-class", 1, out=tmp_path / "out"))


def test_explain_again_replaces_its_own_pictures_alone(place: Path, tmp_path: Path) -> None:
    mine = write_image(tmp_path / "out" / "mine.png", np.full((1, 8, 9), 3, np.uint8))
    explained(place / "run", "--per-class", 2, out=tmp_path / "out")
    second = explained(place / "run", "--image", "test/bar/bar_001", out=tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").glob("*.png")}
    assert names == {mine.name, second["picture"].item(), "class-bar.png"}


def test_an_image_without_a_label_is_not_captioned_with_one(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = []

    def titled(image: np.ndarray, heatmap: np.ndarray, title: str) -> Figure:
        titles.append(title.splitlines())
        return explanation_figure(image, heatmap, title)

    monkeypatch.setattr(explain_module, "explanation_figure", titled)
    class_folders(tmp_path / "images", CLASSES, per_class=3)
    write_jpeg(tmp_path / "images" / "loose.jpg", 3)
    done("pack", tmp_path / "images", tmp_path / "pack")
    words = ("--image", "loose", "--image", "bar/bar_000", "--target", "ring")
    table = explained(place / "run", tmp_path / "pack", *words, out=tmp_path / "out")
    assert [title[0] for title in titles] == table["image_id"].tolist() == ["bar/bar_000", "loose"]
    assert titles[0][1] == "true bar"
    assert titles[1][1].startswith("predicted ")
