"""What Skyclass 0.1 wrote is opened, resumed, evaluated and predicted as it was then: `data/written_by_0_1`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from helpers import tiny_backbone  # noqa: F401  (timm has to know the backbone)
from helpers.paths import WRITTEN
from skyclass.classifier.classifier import Classifier
from skyclass.classifier.prediction_formats import read_predictions
from skyclass.classifier.run import Run
from skyclass.commands.evaluate import evaluate
from skyclass.commands.explain import explain
from skyclass.commands.inspect import inspect
from skyclass.commands.predict import predict
from skyclass.commands.report import report
from skyclass.commands.train import train
from skyclass.commands.tune import tune
from skyclass.data.packs.pack import Pack

CLASSIFIERS = {
    "ended": ("runs/ended", "packs/uint8"),
    "lora": ("runs/lora", "packs/float32"),
    "ensemble": ("runs/ensemble", "packs/uint16"),
    "own": ("classifiers/own", "packs/float16"),
}
SAME = 1e-4  # of a probability, on a CPU that adds up in another order
TRAINED_ALIKE = 0.01  # of a probability, where that went into the weights for a few steps

pytestmark = [
    pytest.mark.usefixtures("blank_figures"),
    pytest.mark.skipif(not WRITTEN.is_dir(), reason="a source archive does not carry the artefacts"),
    pytest.mark.slow,
]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the artefacts, as the working directory."""
    folder = tmp_path / "written"
    shutil.copytree(WRITTEN, folder)
    monkeypatch.chdir(folder)
    return folder


def assert_alike(found: pd.DataFrame, wanted: pd.DataFrame, atol: float) -> None:
    """The same images, probabilities within `atol`, and the same class wherever it is not a matter of rounding."""
    assert found["image_id"].tolist() == wanted["image_id"].tolist()
    columns = [name for name in wanted if name.startswith("p_")]
    p, q = found[columns].to_numpy(), wanted[columns].to_numpy()
    np.testing.assert_allclose(p, q, rtol=0, atol=atol)
    clear = np.diff(np.sort(q, axis=1))[:, -1] > 2 * atol
    assert (found["predicted"] == wanted["predicted"])[clear].all()
    assert clear.mean() > 0.5
    np.testing.assert_allclose(found["novelty"], wanted["novelty"], rtol=0.1 if atol > SAME else 1e-3)


def test_nothing_names_a_place_that_matters(written: Path) -> None:
    files = [path for path in written.rglob("*") if path.suffix in (".json", ".yaml", ".csv", ".log", ".md")]
    assert len(files) > 40
    for path in files:
        text = path.read_text(encoding="utf-8").replace("/tmp/written_by_0_1/images/", "")
        assert not any(f"{root}/" in text for root in ("/tmp", "/work", "/root", "/home", "/Users")), path


def test_they_are_few() -> None:
    assert sum(path.stat().st_size for path in WRITTEN.rglob("*") if path.is_file()) < 3_000_000


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
def test_packs(written: Path, dtype: str) -> None:
    pack = Pack.open(Path("packs") / dtype)
    assert pack.images.shape == (69, 1, 12, 16)
    assert pack.images.dtype == dtype
    assert pack.classes == ["bar", "blob", "ring"]
    assert pack.catalog["split"].value_counts().to_dict() == {"val": 30, "train": 27, "test": 12}
    scale = np.iinfo(dtype).max if dtype.startswith("uint") else 1
    pixels = np.asarray(pack.images, np.float64) / scale
    reference = np.asarray(Pack.open(Path("packs/uint8")).images, np.float64) / 255
    np.testing.assert_allclose(pixels, reference, rtol=0, atol=1e-3)
    assert inspect(f"packs/{dtype}", duplicates=False)["images"] == 69


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize("of", ["pack", "images"])
def test_classifiers_predict_as_before(written: Path, name: str, of: str) -> None:
    classifier, pack = CLASSIFIERS[name]
    predict(classifier, pack if of == "pack" else "images", out="now.parquet", device="cpu")
    found, classes, _ = read_predictions(Path("now.parquet"))
    wanted, before, _ = read_predictions(Path(f"predictions/{name}-of-{of}.parquet"))
    assert classes == before
    assert_alike(found, wanted, SAME)
    np.testing.assert_allclose(found["uncertainty"], wanted["uncertainty"], atol=10 * SAME)
    pd.testing.assert_series_equal(found["prediction_set"], wanted["prediction_set"])
    pd.testing.assert_series_equal(found["label"], wanted["label"])


def test_calibration_and_sets_are_there(written: Path) -> None:
    classifier = Classifier.load("runs/ended", "cpu")
    assert classifier.calibration.method == "vector"
    assert classifier.prediction_sets is not None
    assert classifier.prediction_sets.class_conditional
    assert classifier.novelty is not None
    assert len(Classifier.load("runs/ensemble", "cpu").networks) == 2


@pytest.mark.parametrize("name", ["interrupted", "lora-interrupted"])
def test_an_interrupted_run_reaches_what_it_would_have(written: Path, name: str) -> None:
    run = Run.open(Path("runs") / name)
    undisturbed = Run.open(Path("runs") / {"interrupted": "ended", "lora-interrupted": "lora"}[name])
    before = len(pd.read_csv(run.history_file))
    assert not run.finished
    train(resume=run.path, device="cpu")
    found, wanted = (read_predictions(one.predictions_file)[0] for one in (run, undisturbed))
    assert_alike(found, wanted, TRAINED_ALIKE)
    histories = [pd.read_csv(one.history_file) for one in (run, undisturbed)]
    assert 0 < before < len(histories[0])
    pd.testing.assert_frame_equal(*(one[["epoch", "step", "val_loss"]] for one in histories), atol=TRAINED_ALIKE)


def test_an_ended_run_is_reported_evaluated_explained_and_trained_on(written: Path) -> None:
    run = Run.open(Path("runs/ended"))
    assert report(run.path, out="first.html").stat().st_size > 10_000  # of the evaluation that 0.1 made
    before = pd.read_json(run.evaluation / "metrics.json", typ="series")
    again = evaluate(run.path)
    for name in ("n", "accuracy", "balanced_accuracy", "auroc_macro", "log_loss", "ece"):
        assert again[name] == pytest.approx(before[name], abs=1e-9), name
    explain(run.path, per_class=1, device="cpu")
    assert (run.explanations / "explanations.csv").is_file()
    assert report(run.path).stat().st_size > 10_000
    train(resume=run.path, overrides=["training.epochs=+1"], device="cpu")
    assert pd.read_csv(run.history_file)["epoch"].iloc[-1] == 4.0


def test_an_interrupted_tuning_goes_on(written: Path) -> None:
    tables = [pd.read_csv(f"tunings/{name}/tuning.csv") for name in ("interrupted", "ended")]
    assert (len(tables[0]), len(tables[1])) == (1, 3)
    for name in ("interrupted", "ended"):  # what has ended is not trained again
        recipe = json.loads(Path(f"tunings/{name}/tuning.json").read_text())["recipe"]
        Path("tuned.yaml").write_text(yaml.safe_dump(recipe))
        tune("tuned.yaml", "packs/uint8", out=f"tunings/{name}", device="cpu")
    for name in ("interrupted", "ended"):
        found = pd.read_csv(f"tunings/{name}/tuning.csv")
        pd.testing.assert_frame_equal(*(one.drop(columns="seconds") for one in (found, tables[1])), atol=TRAINED_ALIKE)
        assert found["seconds"].iloc[0] == pd.read_csv(WRITTEN / "tunings" / name / "tuning.csv")["seconds"].iloc[0]
