"""The model card in the classifier's folder, read by the Hub's own class."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from helpers.commands import done
from skyclass.classifier.classifier import Classifier
from skyclass.evaluation.weighted_metrics import METRICS
from skyclass.recipes.data_settings import PixelSettings
from skyclass.reports.model_card import pixel_steps


@pytest.fixture
def run(toy_run: Path) -> Path:
    """A run that has not been evaluated."""
    return toy_run / "run"


def card_of(run: Path) -> ModelCard:
    return ModelCard.load(run / "classifier" / "README.md")


def test_a_training_leaves_a_card_without_scores(run: Path) -> None:
    card = card_of(run)
    data = card.data.to_dict()
    assert (data["library_name"], data["pipeline_tag"]) == ("skyclass", "image-classification")
    assert "astronomy" in data["tags"]
    assert "resnet20_cifar" in data["tags"]
    assert "license" not in data
    assert "model-index" not in data
    assert "It has not been evaluated yet" in card.text
    meta = json.loads((run / "classifier" / "classifier.json").read_text())
    for told in ("`bar`", "`blob`", "`ring`", "24 × 32 pixels (height × width)", meta["weights_sha256"]):
        assert told in card.text
    assert meta["made_from"]["pack"] in card.text
    assert Classifier.load(run / "classifier").classes == ["bar", "blob", "ring"]  # the card does not disturb it


@pytest.mark.slow
def test_an_evaluation_writes_its_scores_into_the_card(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    done("evaluate", copy, "--split", "val", "--out", tmp_path / "elsewhere")
    assert card_of(copy).data.eval_results is None
    done("evaluate", copy)
    metrics = json.loads((copy / "evaluation" / "metrics.json").read_text())
    card = card_of(copy)
    results = card.data.eval_results
    assert {one.metric_type: one.metric_value for one in results} == {
        metric.hub[0]: metrics[name] for name, metric in METRICS.items() if metric.hub
    }
    assert {(one.dataset_split, one.dataset_revision) for one in results} == {
        ("test", json.loads((copy / "run.json").read_text())["pack_hash"])
    }
    low, high = metrics["intervals"]["accuracy"]
    assert f"| accuracy | {metrics['accuracy']:.3f} | {low:.3f} to {high:.3f} |" in card.text
    tables = [line for line in card.text.splitlines() if line.startswith("|")]
    assert len(tables) == 3 * 2 + 2 * 3 + 12 + (metrics.get("top_3_accuracy") is not None)
    assert "undefined" not in card.text.lower()


STEPS = [
    ({"bands": ("g", "r")}, "The bands `g`, `r` are taken"),
    ({"fill_nan": "median"}, "the median of the band"),
    ({"interval": "percentile", "percentile": 99.0, "per_band": True}, "percentile (99 %), each band by itself"),
    ({"stretch": "asinh", "softening": 0.2}, "The stretch is asinh with softening 0.2"),
    ({"crop": (20, 30)}, "The central 20 × 30 pixels (height × width) are kept"),
    (
        {"size": (24, 32), "fit": "pad"},
        "resized to 24 × 32 pixels (height × width) by areas; other aspect ratios are padded",
    ),
    ({"size": (24, 32), "interpolation": "bilinear"}, "by bilinear interpolation"),
    ({"dtype": "uint8"}, "stored as uint8"),
]


@pytest.mark.parametrize(("settings", "sentence"), STEPS)
def test_the_pixel_recipe_is_told_in_words(settings: dict[str, object], sentence: str) -> None:
    def steps(*recipes: PixelSettings) -> str:
        pixels = [recipe.model_dump(mode="json") for recipe in recipes]
        return "\n".join(pixel_steps({"pixels": pixels, "bands": ["a|b`"], "mean": [0.5], "std": [0.25]}))

    plain, told = steps(PixelSettings()), steps(PixelSettings(), PixelSettings.model_validate(settings))
    assert sentence in told
    assert sentence not in plain
    assert "`a\\|b'` (0.5, 0.25)" in told
    assert plain.splitlines()[0] == "NaN and infinite pixels become zero."
