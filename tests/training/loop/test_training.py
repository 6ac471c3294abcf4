"""Training: the Trainer against a plain loop, what validation and test see, the best epoch, and no epoch at all."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from helpers.toys import toy_pack, toy_recipe
from helpers.trainings import AUGMENT, cut, fit_toy, last_state, names_in, new_network, plain_loop, run_of, same
from skyclass.classifier.classifier import Classifier
from skyclass.classifier.run import Run
from skyclass.core.errors import SkyclassError
from skyclass.data.packs.pack import Pack

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("blank_figures")]

# The plain loop


def test_the_trainer_does_what_a_plain_loop_does(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path / "pack", bands=3)
    recipe = toy_recipe(seed=3, augment=AUGMENT, model={"dropout": 0.2}, training={"label_smoothing": 0.1})
    expected = plain_loop(recipe, pack)
    run = run_of(tmp_path, pack, recipe)
    found = last_state(run.path)
    assert set(found) == set(expected)
    assert same(found, expected)  # to the last bit
    assert not torch.equal(expected["backbone.conv1.weight"], new_network(recipe, 3, 3).backbone.conv1.weight)


def test_the_same_recipe_twice_is_the_same_to_the_last_bit_and_another_seed_is_not(tmp_path: Path, pack: Pack) -> None:
    recipe = toy_recipe(augment=AUGMENT, model={"dropout": 0.2})
    first, again = (fit_toy(recipe, pack, tmp_path / name)[1] for name in ("first", "again"))
    assert same(first, again)
    other = fit_toy(recipe.model_copy(update={"seed": 1}), pack, tmp_path / "other")[1]
    assert not same(first, other)


# What validation and test see


def test_validation_and_test_see_every_image_and_no_augmentation(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path / "pack", classes=("blob", "ring"), splits={"train": 7, "val": 11, "test": 17})
    recipe = toy_recipe(augment={**AUGMENT, "mirror_swaps": [], "noise": 0.5}, model={"dropout": 0.5})
    run = run_of(tmp_path, pack, recipe)
    classifier = Classifier.load(run.path, "cpu")
    network = new_network(recipe, 1, 2)
    network.load_state_dict(last_state(run.path))
    truth = np.array([pack.classes.index(label) for label in pack.catalog["label"]])
    split = pack.catalog["split"].to_numpy()
    pixels = torch.from_numpy(np.array(pack.images)).float() / 255
    inputs = (pixels - classifier.mean[0]) / classifier.std[0]
    with torch.no_grad():
        logits = network.eval()(inputs[split == "val"]).double()
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(truth[split == "val"]))
        network.load_state_dict(load_file(run.classifier / "model.safetensors"))
        p = torch.softmax(network(inputs[split != "train"]).double(), 1)
    history = pd.read_csv(run.history_file)
    assert history["val_loss"].iloc[-1] == pytest.approx(float(loss), rel=1e-5)
    hits = (logits.argmax(1).numpy() == truth[split == "val"]).mean()
    assert history["val_accuracy"].iloc[-1] == pytest.approx(hits, abs=1e-6)
    predictions = pd.read_parquet(run.predictions_file)
    assert predictions["image_id"].tolist() == pack.catalog["image_id"][split != "train"].tolist()
    assert predictions["label"].tolist() == pack.catalog["label"][split != "train"].tolist()
    assert set(predictions["split"]) == {"val", "test"}
    np.testing.assert_allclose(predictions[["p_blob", "p_ring"]].to_numpy(), p.numpy(), atol=1e-5)


@pytest.mark.parametrize("monitor", ["val_loss", "val_balanced_accuracy", "val_auroc"])
def test_a_class_that_validation_lacks_is_no_trouble(tmp_path: Path, pack: Pack, monitor: str) -> None:
    keep = (pack.catalog["split"] != "val") | (pack.catalog["label"] != "ring")
    folder = cut(pack, tmp_path / "pack", keep.to_numpy())
    run = run_of(tmp_path, folder, toy_recipe(training={"monitor": monitor}))
    assert pd.read_csv(run.history_file)["val_auroc"].between(0, 1).all()


def test_a_single_class_in_validation_is_no_trouble(tmp_path: Path, pack: Pack) -> None:
    keep = (pack.catalog["split"] != "val") | (pack.catalog["label"] == "ring")
    folder = cut(pack, tmp_path / "pack", keep.to_numpy())
    run = run_of(tmp_path, folder, toy_recipe(training={"monitor": "val_auroc"}))
    assert pd.read_csv(run.history_file)["val_auroc"].isna().all()
    assert run.finished


# A loss that is no number


def test_a_loss_that_is_not_finite_stops_with_the_images_at_fault(tmp_path: Path) -> None:
    pack = toy_pack(tmp_path / "pack", dtype="float32")
    with pytest.raises(SkyclassError) as refusal:
        run_of(tmp_path, pack, toy_recipe(training={"learning_rate": 1e30, "schedule": "none"}))
    assert refusal.value.what.startswith(("the loss is nan at epoch 1, step ", "the loss is inf at epoch 1, step "))
    assert re.search(
        r"lower training.learning_rate, .* of this step: train-(blob|ring|bar)-\d, ", str(refusal.value.fix)
    )
    assert not Run(tmp_path / "run").finished


# Checkpoints, logs


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
def test_the_classifier_is_the_best_epoch_and_the_best_are_kept(tmp_path: Path, pack: Pack, monitor: str) -> None:
    # Only the running statistics move, which makes an early epoch the best.
    settings = {"epochs": 7, "monitor": monitor, "keep_best": 3, "learning_rate": 1e-12, "schedule": "none"}
    run = run_of(tmp_path, pack, toy_recipe(training=settings))
    scores = pd.read_csv(run.history_file).set_index("epoch")[monitor]
    better = scores if monitor == "val_loss" else -scores
    best = Classifier.load(run.path, "cpu").made_from["best_epoch"]
    assert better[best] == better.min()
    assert best < 7
    kept = {float(path.name.split("-")[0][6:]): path for path in run.checkpoints.glob("epoch=*.ckpt")}
    assert len(kept) == 3
    assert sorted(better[list(kept)]) == sorted(better)[:3]
    state = torch.load(kept[best], weights_only=True)["state_dict"]
    weights = load_file(run.classifier / "model.safetensors")
    assert same({name.removeprefix("network."): value for name, value in state.items()}, weights)
    assert names_in(run.checkpoints)[-1] == "last.ckpt"


@pytest.mark.usefixtures("drawn_figures")
def test_the_history_has_a_row_a_validation_and_is_drawn(tmp_path: Path, pack: Pack) -> None:
    run = run_of(tmp_path, pack, toy_recipe(training={"epochs": 3}))
    assert pd.read_csv(run.history_file)["epoch"].tolist() == [1, 2, 3]
    assert run.curves_file.stat().st_size > 1000


def test_no_epochs_take_the_network_as_it_begins(tmp_path: Path, pack: Pack) -> None:
    """The published way of judging a pretrained network; all that follows a training works."""
    from skyclass.commands.evaluate import evaluate
    from skyclass.commands.explain import explain
    from skyclass.commands.report import report

    recipe = toy_recipe(training={"epochs": 0})
    run = run_of(tmp_path, pack, recipe)
    assert same(load_file(run.classifier / "model.safetensors"), new_network(recipe, 1, 3).state_dict())
    assert Classifier.load(run.path, "cpu").made_from["best_epoch"] == 0
    assert pd.read_csv(run.history_file).empty
    assert not run.curves_file.exists()
    assert evaluate(run.path)["n"] == 9
    explain(run.path, per_class=1, device="cpu")
    assert "the classifier is the network as it begins" in report(run.path).read_text()
