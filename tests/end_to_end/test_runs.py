"""`train` and `predict`, by the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors.numpy import load_file

from helpers.commands import CLASSES, TOY, P, done, drawn, predictions, refused, skyclass, the_error
from helpers.make_data import class_folders, image_table, odd_files, random_pixels, toy_image, write_image, write_jpeg
from skyclass.classifier.classifier import Classifier
from skyclass.data.packs.pack import Pack
from skyclass.training import finish
from skyclass.training.loop.task import Task

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_figures")]


@pytest.fixture
def place(toy_run: Path) -> Path:
    """Class folders `images`, `pack`, `toy.yaml` and a finished `run`."""
    return toy_run


# train


def test_a_run_holds_all_that_was_promised(place: Path) -> None:
    run = place / "run"
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    assert recipe["training"]["epochs"] == 3
    assert recipe["augment"].keys() >= {"rotation", "mirror_swaps"}  # defaults are written out
    environment = json.loads((run / "environment.json").read_text())
    assert environment["packages"].keys() >= {"torch", "numpy", "lightning"}
    assert environment["command"].startswith("skyclass train ")
    provenance = json.loads((run / "run.json").read_text())
    assert (provenance["classes"], provenance["pack_hash"]) == (list(CLASSES), Pack.open(place / "pack").hash)
    history = pd.read_csv(run / "history.csv")
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history.columns.isin(["train_loss", "val_loss", "val_accuracy", "val_auroc", "learning_rate"]).sum() == 5
    assert drawn(run / "curves.png")
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert list((run / "log").glob("events.out.tfevents*"))
    assert sorted(path.name for path in (run / "classifier").iterdir()) == [
        "README.md",
        "classifier.json",
        "model.safetensors",
        "novelty.safetensors",
    ]
    assert load_file(run / "classifier" / "model.safetensors")
    frame = pd.read_parquet(run / "predictions.parquet")
    assert frame["split"].value_counts().to_dict() == {"val": 12, "test": 12}


def test_settings_on_the_command_line_change_the_training(place: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    changes = ("--set", "training.epochs=1", "--set", "data.exclude=[bar]", "--set", "model.dropout=0.25")
    done("train", place / "toy.yaml", place / "pack", "--out", run, *changes, "--device", "cpu")
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    assert (recipe["training"]["epochs"], recipe["model"]["dropout"]) == (1, 0.25)
    assert len(pd.read_csv(run / "history.csv")) == 1
    assert Classifier.load(run).classes == ["blob", "ring"]


def test_a_run_refused_before_its_first_epoch_leaves_the_name_free(place: Path, tmp_path: Path) -> None:
    words = ("train", place / "toy.yaml", place / "pack", "--out", tmp_path / "run", "--set", "training.epochs=1")
    refused(*words, "--set", "model.backbone=resnet99")
    assert not (tmp_path / "run").exists()
    done(*words)


def test_a_recipe_for_other_classes_is_refused_before_any_work(place: Path, tmp_path: Path) -> None:
    words = ("train", place / "toy.yaml", place / "pack", "--out", tmp_path / "run", "--set", "pixels.size=9")
    result = skyclass(*words, "--set", "augment.mirror_swaps=[[left,right]]")
    assert "no class is called 'left'" in the_error(result)
    assert "Preparing" not in result.err


@pytest.mark.parametrize(("crop", "said"), [("[20,40]", True), ("[30,20]", True), ("[10,12]", False)])
def test_a_crop_larger_than_the_images_is_said(place: Path, tmp_path: Path, crop: str, said: bool) -> None:
    """A wrong backbone ends these trainings before they cost anything."""
    _, _, height, width = Pack.open(place / "pack").images.shape
    words = ("train", place / "toy.yaml", place / "pack", "--out", tmp_path / "run", "--set", f"pixels.crop={crop}")
    result = skyclass(*words, "--set", "model.backbone=resnet99")
    assert (f"the images are {height}x{width}: zeros fill the margin" in result.err) is said
    packed = done("pack", place / "images", tmp_path / "pack", "--pixels", f"crop={crop}", "--no-duplicates")
    assert ("zeros fill the margin" in packed.err) is said


def test_an_interrupted_run_goes_on_to_the_same_end(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    start = Task.on_train_epoch_start

    def stopped(task: Task) -> None:
        if task.current_epoch == 2:
            raise KeyboardInterrupt
        start(task)

    with monkeypatch.context() as patch:
        patch.setattr(Task, "on_train_epoch_start", stopped)
        result = skyclass("train", place / "toy.yaml", place / "pack", "--out", run)
    assert result.code == 130
    assert result.err.endswith(f"To go on: skyclass train --resume {run}\nStopped.\n")
    assert "continue it with" in refused("train", place / "toy.yaml", place / "pack", "--out", run)
    assert "--resume" in refused("evaluate", run)
    done("train", "--resume", run)
    assert pd.read_csv(run / "history.csv")["epoch"].tolist() == [1, 2, 3]
    straight = pd.read_parquet(place / "run" / "predictions.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(run / "predictions.parquet"), straight, atol=1e-5)


def test_a_run_stopped_after_its_last_epoch_goes_on(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is moved meanwhile, as between a scratch disk and an archive."""

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    words = ("train", place / "toy.yaml", place / "pack", "--out", tmp_path / "run", "--set", "training.epochs=2")
    with monkeypatch.context() as patch:
        patch.setattr(finish, "_outputs", stopped)
        assert skyclass(*words).code == 130
    (tmp_path / "run").rename(tmp_path / "moved")
    done("train", "--resume", tmp_path / "moved")
    assert len(pd.read_parquet(tmp_path / "moved" / "predictions.parquet")) == 24
    assert len(pd.read_csv(tmp_path / "moved" / "history.csv")) == 2


def test_a_finished_run_says_that_there_is_nothing_to_resume(place: Path) -> None:
    before = (place / "run" / "predictions.parquet").stat().st_mtime_ns
    assert "nothing to resume" in done("train", "--resume", place / "run").err
    assert (place / "run" / "predictions.parquet").stat().st_mtime_ns == before


def test_a_run_is_not_resumed_on_another_pack(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    (tmp_path / "run" / "predictions.parquet").unlink()
    provenance = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**provenance, "pack_hash": "0" * 64}))
    sentence = refused("train", "--resume", tmp_path / "run")
    assert "the pack has changed since this run began; train a new run on it" in sentence


# predict


def test_folder_pack_table_and_file_are_predicted_alike(place: Path, tmp_path: Path) -> None:
    run, images = place / "run", place / "images"
    folder = predictions(run, images, tmp_path / "folder.parquet").set_index("file")
    pack = predictions(run, place / "pack", tmp_path / "pack.parquet").set_index("file").loc[folder.index]
    pd.testing.assert_frame_equal(pack, folder, atol=1e-5)
    files = [Path(file).relative_to(images).as_posix() for file in folder.index]
    table = tmp_path / "mine.csv"
    pd.DataFrame({"name": range(len(files)), "cutout": files, "kind": folder["label"].tolist()}).to_csv(table)
    columns = ("--id-column", "name", "--file-column", "cutout", "--label-column", "kind")
    listed = predictions(run, table, tmp_path / "table.parquet", "--image-root", images, *columns)
    assert listed["image_id"].tolist() == [str(row) for row in range(len(files))]
    np.testing.assert_allclose(listed[P], folder[P], atol=1e-5)
    assert listed["label"].tolist() == folder["label"].tolist()
    single = predictions(run / "classifier", images / files[5], tmp_path / "single.parquet")
    np.testing.assert_allclose(single[P], folder[P].iloc[[5]], atol=1e-5)
    inside = pd.read_parquet(run / "predictions.parquet").set_index("file")  # what the training wrote
    np.testing.assert_allclose(inside[P], folder.loc[inside.index, P], atol=1e-5)


def test_rows_without_an_image_have_a_row_in_the_predictions(place: Path, tmp_path: Path) -> None:
    table = pd.read_csv(image_table(tmp_path, ("bar", "blob", "ring"), 2))
    table.loc[1, "file"] = "images/gone.png"
    repeated = pd.concat([table, table.iloc[[0]]])
    repeated.to_csv(tmp_path / "labels.csv", index=False)
    frame = predictions(place / "run", tmp_path / "labels.csv", tmp_path / "out.parquet").set_index("image_id")
    assert sorted(frame.index) == sorted(table["image_id"])  # a repeated id is no other image
    assert frame.loc["object-0001", "error"] == "no such file"
    assert frame.loc["object-0001", P].isna().all()
    assert frame.drop("object-0001")["error"].isna().all()
    problems = pd.read_csv(tmp_path / "out.problems.csv")
    assert problems["problem"].str.contains("no such file").sum() == 1


def test_simulated_folders_go_from_pack_to_predictions(tmp_path: Path) -> None:
    done("simulate", "lensing", tmp_path / "folders", "--per-class", 12, "--size", 24, "--as", "folders")
    done("pack", tmp_path / "folders", tmp_path / "pack", "--no-duplicates")
    (tmp_path / "toy.yaml").write_text(TOY)
    done("train", tmp_path / "toy.yaml", tmp_path / "pack", "--out", tmp_path / "run", "--set", "training.epochs=1")
    folder = predictions(tmp_path / "run", tmp_path / "folders", tmp_path / "a.parquet").set_index("image_id")
    pack = predictions(tmp_path / "run", tmp_path / "pack", tmp_path / "b.parquet").set_index("image_id")
    assert set(folder["predicted"]) <= {"no", "sphere", "vort"}
    pd.testing.assert_frame_equal(folder, pack.loc[folder.index], atol=1e-5)


def test_the_columns_of_predictions_agree(place: Path, tmp_path: Path) -> None:
    frame = predictions(place / "run", place / "images", tmp_path / "p.parquet")
    p = frame[P].to_numpy(np.float64)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-6)
    assert frame["predicted"].tolist() == [CLASSES[k] for k in p.argmax(axis=1)]
    np.testing.assert_allclose(frame["confidence"], p.max(axis=1))
    assert frame["uncertainty"].between(0, 1).all()
    assert frame["label"].tolist() == [Path(file).parent.name for file in frame["file"]]
    assert frame["split"].tolist() == [Path(file).parent.parent.name for file in frame["file"]]
    assert frame[["error", "warning"]].isna().all(axis=None)
    in_threes = predictions(place / "run", place / "images", tmp_path / "q.parquet", "--batch-size", 3)
    np.testing.assert_allclose(in_threes[P], p, atol=1e-5)
    assert (tmp_path / "p.problems.csv").read_text().splitlines() == ["image_id,file,problem,severity,kind"]


def test_bad_files_cost_no_good_row(place: Path, tmp_path: Path) -> None:
    """The acceptance of issue 2, as a process: exit status 0, the good predicted, the bad named with a reason."""
    folder = tmp_path / "survey"
    for seed in range(3):
        write_jpeg(folder / f"good_{seed}.jpg", seed)
    whole = write_image(folder / "truncated.jpg", random_pixels(0, (48, 64))).read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_text("<html>404 Not Found</html>\n")
    write_image(folder / "zero.png", np.zeros((3, 24, 32), np.uint8))
    pixels = toy_image("ring", 1, (24, 32))
    pixels[:, :3, :5] = np.nan
    write_image(folder / "nan.fits", pixels)
    np.save(folder / "pickled.npy", np.array([{"a": 1}, "b"], dtype=object), allow_pickle=True)
    reasons = {
        "truncated": "the file ends early",
        "text": "begins as text",
        "zero": "blank: every pixel is 0",
        "nan": "floating-point pixels among 8-bit images",
        "pickled": "a pickled object array",
    }
    words = ["predict", place / "run", folder, "--out", tmp_path / "p.parquet"]
    command = [sys.executable, "-m", "skyclass", *map(str, words)]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stderr
    assert "3 of 8 images predicted, 5 could not be read" in result.stderr
    assert "Traceback" not in result.stderr
    frame = pd.read_parquet(tmp_path / "p.parquet").set_index("image_id")
    good = frame[frame["error"].isna()]
    assert sorted(good.index) == ["good_0", "good_1", "good_2"]
    np.testing.assert_allclose(good[P].sum(axis=1), 1, atol=1e-6)
    problems = pd.read_csv(tmp_path / "p.problems.csv", keep_default_na=False).set_index("image_id")
    assert sorted(problems.index) == sorted(reasons)
    for name, reason in reasons.items():
        assert reason in frame.loc[name, "error"]
        assert reason in problems.loc[name, "problem"]
        assert problems.loc[name, "severity"] == "error"
        assert frame.loc[name, [*P, "predicted", "confidence"]].isna().all()


def test_pixels_that_are_not_finite_are_predicted_with_a_warning(tmp_path: Path) -> None:
    """Among floating-point images, a FITS with some NaN is of use; one of nothing else is not."""
    class_folders(tmp_path / "images", splits={"train": 4, "val": 2, "test": 2}, formats=("fits",), bands=1)
    done("pack", tmp_path / "images", tmp_path / "pack", "--no-duplicates")
    (tmp_path / "toy.yaml").write_text(TOY)
    done("train", tmp_path / "toy.yaml", tmp_path / "pack", "--out", tmp_path / "run", "--set", "training.epochs=1")
    odd_files(tmp_path / "odd")
    frame = predictions(tmp_path / "run", tmp_path / "odd", tmp_path / "p.parquet").set_index("image_id")
    assert frame.loc["nan", "predicted"] in {"blob", "gradient", "ring"}
    assert "NaN" in frame.loc["nan", "warning"]
    assert all("blank" in frame.loc[name, "error"] for name in ("zero", "constant", "all_nan"))
    problems = pd.read_csv(tmp_path / "p.problems.csv", keep_default_na=False).set_index("image_id")["severity"]
    assert problems.to_dict() == {"nan": "warning", "zero": "error", "constant": "error", "all_nan": "error"}
