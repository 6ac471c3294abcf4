"""The distance of an image from all that a classifier has seen, against scikit-learn's Mahalanobis distance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image as pillow
from sklearn.covariance import LedoitWolf

from conftest import SmallRun
from helpers.commands import done
from helpers.toys import toy_recipe, write_recipe
from skyclass.classifier.classifier import Classifier
from skyclass.classifier.novelty import Gaussians, fit_gaussians, fit_novelty
from skyclass.classifier.prediction_formats import read_predictions
from skyclass.classifier.run import Run
from skyclass.commands.train import train
from skyclass.core.errors import SkyclassError
from skyclass.data.packs.pack import Pack
from skyclass.data.packs.resize import resize_for_training
from skyclass.data.packs.training_rows import training_rows
from skyclass.training import finish

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures


def features_of(n: int, seed: int, n_classes: int = 3, n_features: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian classes with correlated features of very different spread."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    mixing = np.random.default_rng(0).normal(size=(n_features, n_features)) * np.logspace(-2, 1, n_features)
    centres = np.random.default_rng(1).normal(0, 20, (n_classes, n_features))
    return (random.normal(size=(n, n_features)) @ mixing + centres[labels]).astype(np.float32), labels


def test_distances_are_scikit_learns() -> None:
    x, labels = features_of(300, seed=2)
    new, _ = features_of(40, seed=3)
    means = np.stack([x[labels == k].mean(axis=0, dtype=np.float64) for k in range(3)])
    oracle = LedoitWolf(assume_centered=True).fit(x - means[labels])
    expected = np.sqrt(np.min([oracle.mahalanobis(new - mean) for mean in means], axis=0))
    np.testing.assert_allclose(fit_gaussians(x, labels).distances(new), expected, rtol=2e-3)


def test_fewer_images_than_features_and_features_that_never_light_up() -> None:
    x, labels = features_of(20, seed=2, n_features=40)
    x[:, 7] = 0.0
    fitted = fit_gaussians(x, labels)
    near, far = x[:1].copy(), x[:1].copy()
    far[0, 7] = 1e3
    assert np.isfinite(fitted.distances(x)).all()
    assert fitted.distances(far) > 3 * fitted.distances(near)


def test_features_that_do_not_vary_leave_a_finite_distance() -> None:
    ones = np.ones((1, 6, 4), np.float32)
    fitted = fit_novelty(ones, np.arange(6) % 2)
    fitted = fitted.limited(fitted.score(ones))
    assert np.isfinite(fitted.score(np.ones((1, 2, 4), np.float32))).all()
    assert (fitted.score(2 * np.ones((1, 2, 4), np.float32)) > 1).all()


def test_a_class_without_training_images_has_no_mean() -> None:
    x, labels = features_of(60, seed=2)
    some = labels != 1
    assert fit_gaussians(x[some], labels[some]).means.shape == (2, 6)
    assert fit_gaussians(x[some], labels[some]).distances(x[labels == 1]).min() > 3


def test_one_in_a_hundred_validation_images_is_beyond_the_limit() -> None:
    (x, labels), (val, _), (new, _) = (features_of(n, seed) for n, seed in ((900, 2), (1000, 3), (5000, 4)))
    fitted = fit_novelty(x[None], labels)
    fitted = fitted.limited(fitted.score(val[None]))
    assert (fitted.score(val[None]) > 1).sum() == 10
    assert (fitted.score(new[None]) > 1).mean() == pytest.approx(0.01, abs=0.006)
    assert (fitted.score(new[None] + 50.0) > 1).all()
    assert (fitted.n_train, fitted.n_val) == (900, 1000)


def test_an_ensembles_distance_is_the_mean_of_its_members() -> None:
    x, labels = features_of(90, seed=2)
    both = np.stack([x, np.tanh(x)])
    fitted = fit_novelty(both, labels)
    one, other = (own.distances(seen) for own, seen in zip(fitted.gaussians, both, strict=True))
    np.testing.assert_allclose(fitted.score(both), (one + other) / 2, rtol=1e-6)
    assert all(isinstance(own, Gaussians) for own in fitted.gaussians)


# In a classifier


def test_a_training_measures_what_it_has_seen(small_run: SmallRun) -> None:
    """The distance in the predictions is that of the pooled features, by scikit-learn's covariance."""
    model, pack = Classifier.load(small_run.run, "cpu"), Pack.open(small_run.pack)
    rows = training_rows(pack, Run(small_run.run).recipe().data)
    images = resize_for_training(pack, Run(small_run.run).recipe().pixels)

    def pooled(chosen: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            mean, std = (torch.tensor(values)[:, None, None] for values in (model.mean, model.std))
            found = model.networks[0].features((torch.from_numpy(images[chosen]) - mean) / std)
        return found.mean(dim=(2, 3)).double().numpy()

    train, labels = pooled(rows.train), rows.labels[rows.train]
    means = np.stack([train[labels == k].mean(axis=0) for k in range(3)])
    oracle = LedoitWolf(assume_centered=True).fit(train - means[labels])
    val, test = (
        np.sqrt(np.min([oracle.mahalanobis(pooled(chosen) - mean) for mean in means], axis=0))
        for chosen in (rows.val, rows.test)
    )
    limit = np.quantile(val, 0.99)
    frame = read_predictions(Run(small_run.run).predictions_file)[0]
    np.testing.assert_allclose(frame["novelty"], np.concatenate([val, test]) / limit, rtol=0.01)
    assert frame["unlike"].tolist() == (frame["novelty"] > 1).tolist()
    assert frame.loc[frame["split"] == "val", "unlike"].sum() == 1
    assert model.novelty is not None
    assert (model.novelty.n_train, model.novelty.n_val) == (24, 9)


def test_images_of_something_else_are_marked_and_told_of(small_run: SmallRun, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(6):
        noise = random.integers(0, 256, (15, 20, 3)).astype(np.uint8)
        pillow.fromarray(noise).save(tmp_path / f"noise-{number}.png")
    (tmp_path / "noise-9.png").write_text("no image")
    said = done("predict", small_run.run, tmp_path, "--out", tmp_path / "p.parquet").err
    frame = pd.read_parquet(tmp_path / "p.parquet")
    assert frame["unlike"].iloc[:6].all()
    assert pd.isna(frame["unlike"].iloc[6])
    assert np.isnan(frame["novelty"].iloc[6])
    assert "6 images are unlike all that the classifier was trained on" in said
    again = Classifier.load(small_run.run, "cpu").predict(sorted(tmp_path.glob("*.png")))
    np.testing.assert_allclose(again["novelty"], frame["novelty"], rtol=1e-5)


def test_the_novelty_is_that_of_the_image_as_it_is(small_run: SmallRun) -> None:
    model = Classifier.load(small_run.run, "cpu")
    files = sorted((small_run.files / "test").rglob("*.png"))
    plain, averaged = model.predict(files), model.predict(files, orientations=True)
    np.testing.assert_allclose(plain["novelty"], averaged["novelty"], rtol=1e-5)


def test_a_classifier_keeps_its_novelty_and_refuses_another_ones(small_run: SmallRun, tmp_path: Path) -> None:
    model = Classifier.load(small_run.run, "cpu")
    files = sorted((small_run.files / "test").rglob("*.png"))
    folder = model.save(tmp_path / "copy")
    pd.testing.assert_frame_equal(Classifier.load(folder, "cpu").predict(files), model.predict(files))
    content = bytearray((folder / "novelty.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "novelty.safetensors").write_bytes(content)
    with pytest.raises(SkyclassError, match=r"the file is not the one that classifier\.json names; copy the"):
        Classifier.load(folder, "cpu")
    model.novelty = None
    plain = Classifier.load(model.save(folder), "cpu").predict(files)
    assert not (folder / "novelty.safetensors").exists()
    assert plain[["novelty", "unlike"]].isna().all(axis=None)


def test_large_training_sets_are_measured_by_a_sample(
    small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finish, "MOST_IMAGES", 10)
    recipe = write_recipe(tmp_path, toy_recipe(training={"epochs": 0}))
    found = [
        Classifier.load(train(recipe, small_run.pack, out=tmp_path / name, device="cpu"), "cpu").novelty
        for name in ("one", "other")
    ]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].n_train == found[1].n_train == 10
    np.testing.assert_array_equal(found[0].gaussians[0].means, found[1].gaussians[0].means)
