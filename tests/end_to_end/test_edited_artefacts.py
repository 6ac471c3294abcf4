"""Edited and rotten artefacts are refused, or told, and never used in silence."""

from __future__ import annotations

import json
import os
import random
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.commands import P, done, refused, skyclass
from helpers.toys import toy_pack, toy_recipe, write_recipe
from skyclass.classifier.classifier import Classifier
from skyclass.classifier.prediction_formats import read_predictions
from skyclass.classifier.sampling import ClassifierOutput
from skyclass.commands.train import train
from skyclass.core.errors import SkyclassError
from skyclass.data.packs.pack import Pack
from skyclass.data.packs.resize import resize_for_training
from skyclass.data.packs.verify import VERIFIED
from skyclass.evaluation.predictions import NO_NUMBERS
from skyclass.recipes.data_settings import PixelSettings
from skyclass.training.loop.checkpoints import read_checkpoint

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `pack` and a `run` that has ended and was evaluated."""
    root = tmp_path_factory.mktemp("edited")
    toy_pack(root / "pack")
    recipe = toy_recipe(pixels={"size": [10, 14]}, training={"keep_every": 1})
    train(write_recipe(root, recipe), root / "pack", out=root / "run", device="cpu")
    done("evaluate", root / "run")
    return root


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(trained, tmp_path / "copy")
    provenance = json.loads((tmp_path / "copy" / "run" / "run.json").read_text())
    moved = {**provenance, "pack": str(tmp_path / "copy" / "pack")}
    (tmp_path / "copy" / "run" / "run.json").write_text(json.dumps(moved))
    return tmp_path / "copy"


def flip(path: Path, at: float = 0.7) -> None:
    """Flip one bit, and set the times back to what they were."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[int(at * len(data))] ^= 4
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# Packs


@pytest.mark.slow
def test_changed_pixels_are_not_trained_on(place: Path) -> None:
    flip(place / "pack" / "images.npy")
    touched(place / "pack" / "images.npy")
    words = ("train", place / "recipe.yaml", place / "pack", "--out", place / "new")
    sentence = refused(*words)
    assert "images.npy was changed after it was packed, or is damaged; restore it from a copy" in sentence
    assert not (place / "new").exists()
    assert "images.npy was changed" in refused("tune", place / "recipe.yaml", place / "pack", "--out", place / "t")
    (place / "run" / "predictions.parquet").unlink()  # as where its training was interrupted
    assert "images.npy was changed" in refused("train", "--resume", place / "run")


@pytest.mark.slow
def test_a_bit_that_rots_without_a_trace_of_time_is_found_by_check(place: Path) -> None:
    flip(place / "pack" / "images.npy")
    pack = Pack.open(place / "pack")
    pack.verify()  # size and time are those of the check before
    with pytest.raises(SkyclassError, match=r"images\.npy was changed"):
        pack.verify(every_byte=True)
    new = ("train", place / "recipe.yaml", place / "pack", "--out", place / "new", "--check")
    for words in (
        new,
        ("tune", place / "recipe.yaml", place / "pack", "--out", place / "t", "--check"),
        ("train", "--resume", place / "run", "--check"),
        ("predict", place / "run", place / "pack", "--out", place / "p.parquet", "--check"),
        ("inspect", place / "pack", "--check"),
        ("explain", place / "run", "--out", place / "e", "--check"),
        ("evaluate", place / "run", "--check"),
        ("report", place / "run", "--check"),
    ):
        assert "images.npy was changed after it was packed" in refused(*words), words


@pytest.mark.slow
def test_what_was_checked_is_read_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from skyclass.data.packs import verify as pack_check

    read: list[str] = []
    hash_of = pack_check.sha256_of
    monkeypatch.setattr(pack_check, "sha256_of", lambda path: read.append(path.name) or hash_of(path))
    pack = Pack.open(place / "pack")
    pack.verify()
    read.clear()
    pack.verify()
    assert read == []
    touched(pack.path / "images.npy")  # as a copy is
    pack.verify()
    pack.verify()
    assert read == ["images.npy"]
    pack.verify(every_byte=True)
    assert sorted(read[1:]) == ["catalog.parquet", "images.npy"]
    (pack.path / VERIFIED).write_text("[")  # whatever stands there, it can be found out again
    pack.verify()


@pytest.mark.slow
def test_prepared_pixels_that_changed_are_made_again(place: Path) -> None:
    pack, recipe = Pack.open(place / "pack"), PixelSettings(size=(6, 8))
    whole = np.array(resize_for_training(pack, recipe))
    file = next(path for path in (pack.path / "prepared").iterdir() if np.load(path).shape == whole.shape)
    flip(file)
    touched(file)
    assert not np.array_equal(np.load(file), whole)
    np.testing.assert_array_equal(resize_for_training(pack, recipe), whole)
    np.testing.assert_array_equal(np.load(file), whole)


@pytest.mark.slow
def test_shuffled_rows_and_repeated_ids_are_refused(place: Path) -> None:
    path = place / "pack" / "catalog.parquet"
    catalog = pd.read_parquet(path)
    catalog.sample(frac=1, random_state=1).to_parquet(path, index=False)
    predict = ("predict", place / "run", place / "pack", "--out", place / "p.parquet")
    assert "the rows of the catalog are not those that were packed, or are in another order" in refused(*predict)
    catalog.assign(label=catalog["label"].to_numpy()[::-1]).to_parquet(path, index=False)
    assert "not those that were packed" in refused("inspect", place / "pack")
    assert "not those that were packed" in refused("evaluate", place / "run", "--check")
    catalog.assign(image_id="one").to_parquet(path, index=False)
    assert "ids are empty or repeat another" in refused(*predict)
    meta = json.loads((place / "pack" / "pack.json").read_text())
    older = {name: value for name, value in meta.items() if name not in ("content_sha256", "rows_sha256")}
    (place / "pack" / "pack.json").write_text(json.dumps(older))  # as of 0.1
    assert "ids are empty or repeat another" in refused(*predict)
    catalog.sample(frac=1, random_state=1).to_parquet(path, index=False)
    new = ("train", place / "recipe.yaml", place / "pack", "--out", place / "new")
    assert "catalog.parquet was changed after it was packed" in refused(*new)
    catalog.assign(mag=1.0).to_parquet(path, index=False)  # a column of the user's harms no prediction
    done(*predict)


@pytest.mark.slow
def test_an_edited_pack_json_is_refused(place: Path) -> None:
    meta = json.loads((place / "pack" / "pack.json").read_text())
    edit(place / "pack" / "pack.json", classes=meta["classes"][::-1])
    assert "this pack was changed after it was written" in refused("inspect", place / "pack")


# Checkpoints


@pytest.mark.slow
def test_no_bit_of_a_checkpoint_flips_unseen(place: Path) -> None:
    path, chance = place / "run" / "checkpoints" / "last.ckpt", random.Random(11)
    data = path.read_bytes()
    torch.load(path, weights_only=True)
    comment = range(8 * (len(data) - 82), 8 * len(data))
    missed = 0
    for bit in (*(chance.randrange(8 * len(data)) for _ in range(40)), *chance.sample(comment, 40)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with suppress(SkyclassError):
            read_checkpoint(path)
            missed += bit not in comment  # of which some bits alone say that there is a hash
    assert missed == 0


@pytest.mark.slow
def test_a_damaged_last_checkpoint_is_refused_with_the_others_named(place: Path) -> None:
    (place / "run" / "predictions.parquet").unlink()
    flip(place / "run" / "checkpoints" / "last.ckpt", 0.5)
    sentence = refused("train", "--resume", place / "run")
    assert "last.ckpt: the checkpoint is damaged: its bytes are not those that were written" in sentence
    assert "go on from another one with `skyclass train --resume RUN --checkpoint NAME`: epoch-001.ckpt" in sentence
    done("train", "--resume", place / "run", "--checkpoint", "epoch-001")
    assert (place / "run" / "predictions.parquet").is_file()


def test_a_checkpoint_of_0_1_is_checked_by_its_archive(tmp_path: Path) -> None:
    path = tmp_path / "old.ckpt"
    torch.save({"weights": torch.arange(4000.0)}, path)
    at = path.read_bytes().index(np.arange(2000.0, 2010.0, dtype=np.float32).tobytes())
    flip(path, (at + 2.5) / path.stat().st_size)
    assert not torch.equal(torch.load(path, weights_only=True)["weights"], torch.arange(4000.0))  # torch does not see
    with pytest.raises(SkyclassError, match="the checkpoint is damaged"):
        read_checkpoint(path)


# Classifiers


@pytest.mark.slow
@pytest.mark.parametrize("key", ["classes", "mean", "std", "pixels", "calibration", "bands", "mirror_swaps"])
def test_an_edited_classifier_is_refused(place: Path, key: str) -> None:
    path = place / "run" / "classifier" / "classifier.json"
    meta = json.loads(path.read_text())
    value = {
        "classes": meta["classes"][::-1],
        "mean": [0.5],
        "std": [9.0],
        "pixels": [{**meta["pixels"][0], "stretch": "sqrt"}, *meta["pixels"][1:]],
        "calibration": {**meta["calibration"], "method": "temperature", "scale": [0.1]},
        "bands": ["red"],
        "mirror_swaps": [meta["classes"][:2]],
    }[key]
    edit(path, **{key: value})
    with pytest.raises(SkyclassError, match="this classifier was changed after it was written"):
        Classifier.load(place / "run")


# Predictions


@pytest.mark.slow
def test_an_answer_that_is_no_number_is_an_error_and_no_prediction(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier, outputs = Classifier.load(place / "run", "cpu"), Classifier.outputs

    def overflowing(self: Classifier, images: np.ndarray, orientations: bool = False) -> ClassifierOutput:
        output = outputs(self, images, orientations)
        output.log_p[1] = np.nan
        return output

    monkeypatch.setattr(Classifier, "outputs", overflowing)
    table = classifier.predict(np.array(Pack.open(place / "pack").images[:2]))
    assert table["predicted"].notna().tolist() == [True, False]
    assert table["error"].isna().tolist() == [True, False]
    assert table["error"].iloc[1] == NO_NUMBERS


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_rows_of_nan_do_not_count(place: Path, suffix: str) -> None:
    frame = pd.read_parquet(place / "run" / "predictions.parquet")
    frame = frame[frame["split"] == "test"]
    frame.loc[frame.index[:3], "p_bar"] = np.nan  # while `predicted` still names a class
    file = place / f"theirs.{suffix}"
    frame.to_csv(file, index=False) if suffix == "csv" else frame.to_parquet(file)
    read, _, _ = read_predictions(file)
    assert read["predicted"].isna().sum() == 3
    done("evaluate", file)
    found = json.loads((place / "theirs-evaluation" / "metrics.json").read_text())
    assert (found["n"], found["n_unpredicted"]) == (len(frame) - 3, 3)
    frame[["label", *P]].to_csv(place / "plain.csv", index=False)
    done("evaluate", place / "plain.csv")
    assert json.loads((place / "plain-evaluation" / "metrics.json").read_text())["n"] == len(frame) - 3


# Reports


@pytest.mark.slow
def test_an_edited_evaluation_is_not_reported(place: Path) -> None:
    path = place / "run" / "evaluation" / "metrics.json"
    done("report", place / "run")
    written = json.loads(path.read_text())
    edit(path, accuracy=0.999)
    assert "this evaluation was changed after it was written" in refused("report", place / "run")
    older = {name: value for name, value in written.items() if name != "content_sha256"}
    path.write_text(json.dumps(older))  # as of 0.1
    done("report", place / "run")
    path.write_text(json.dumps({**older, "accuracy": 0.999}))
    assert "the evaluation says accuracy 0.999, and its predictions give" in refused("report", place / "run")
    path.write_text(json.dumps({**older, "intervals": 3}))
    sentence = refused("report", place / "run")
    assert "damaged evaluation" in sentence
    assert "again" in sentence


@pytest.mark.slow
def test_check_wants_something_with_hashes(place: Path) -> None:
    result = skyclass("predict", place / "run", place / "recipe.yaml", "--check")
    assert result.code == 1
    predictions = place / "run" / "predictions.parquet"
    assert "a file of predictions has no hashes to check; name the run" in refused("evaluate", predictions, "--check")


@pytest.mark.slow
def test_a_checkpoint_of_another_network_is_one_sentence(place: Path) -> None:
    (place / "run" / "predictions.parquet").unlink()
    recipe = place / "run" / "recipe.yaml"
    text = recipe.read_text()
    recipe.write_text(text.replace("head: linear", "head: refined"))
    assert "recipe.yaml: the checkpoint is of another network" in refused("train", "--resume", place / "run")
