"""A classifier is saved and loaded without a change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from conftest import SmallRun
from skyclass.classifier.classifier import Classifier
from skyclass.classifier.run import Run
from skyclass.core.errors import SkyclassError
from skyclass.data.packs.pack import Pack

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures


def test_saved_and_loaded_it_is_the_same_to_the_last_bit(
    classifier: Classifier, tmp_path: Path, files: list[Path]
) -> None:
    again = Classifier.load(classifier.save(tmp_path / "copy"), "cpu")
    state = classifier.networks[0].state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.networks[0].state_dict().items())
    for name in ("model", "classes", "bands", "pixels", "mean", "std", "precision", "made_from"):
        assert getattr(again, name) == getattr(classifier, name)
    pd.testing.assert_frame_equal(again.predict(files), classifier.predict(files), check_exact=True)
    assert not any(module.training for module in again.networks[0].modules())
    twice = again.save(tmp_path / "twice")
    assert (twice / "model.safetensors").read_bytes() == (tmp_path / "copy" / "model.safetensors").read_bytes()


def test_the_folder_holds_safetensors_and_json_only(small_run: SmallRun) -> None:
    folder = Run(small_run.run).classifier
    names = ["README.md", "classifier.json", "model.safetensors", "novelty.safetensors"]
    assert sorted(path.name for path in folder.iterdir()) == names
    meta = json.loads((folder / "classifier.json").read_text())
    assert meta["classes"] == ["bar", "blob", "ring"]
    assert meta["bands"] == ["red", "green", "blue"]
    assert meta["made_from"]["pack"] == Pack.open(small_run.pack).hash


def test_a_run_and_its_classifier_are_the_same(small_run: SmallRun, classifier: Classifier, files: list[Path]) -> None:
    inside = Classifier.load(Run(small_run.run).classifier, "cpu")
    pd.testing.assert_frame_equal(inside.predict(files), classifier.predict(files))


def test_tampered_weights_are_refused(classifier: Classifier, tmp_path: Path) -> None:
    file = classifier.save(tmp_path) / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    for content in (bytes(data), bytes(data[:-100]), b""):
        file.write_bytes(content)
        with pytest.raises(SkyclassError, match=r"the weights are not those that classifier\.json names") as refusal:
            Classifier.load(tmp_path, "cpu")
        assert refusal.value.where == str(file)
    file.unlink()
    with pytest.raises(SkyclassError, match="the weights are not those"):
        Classifier.load(tmp_path, "cpu")


def test_folders_that_are_no_classifier_are_refused(small_run: SmallRun, tmp_path: Path) -> None:
    with pytest.raises(SkyclassError, match="this is no classifier"):
        Classifier.load(tmp_path)
    with pytest.raises(SkyclassError, match="this is no classifier"):
        Classifier.load(tmp_path / "absent")
    (tmp_path / "run").mkdir()
    shutil.copy(small_run.run / "run.json", tmp_path / "run")
    with pytest.raises(SkyclassError, match="an unfinished run: it has no classifier yet"):
        Classifier.load(tmp_path / "run")
    (tmp_path / "classifier.json").write_text("{")
    with pytest.raises(SkyclassError, match="damaged classifier"):
        Classifier.load(tmp_path)
