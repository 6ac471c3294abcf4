"""Heads of a classifier, and the chance that it is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.classifiers import grey_images, p_of, with_head
from helpers.make_data import write_image
from skyclass.classifier.classifier import Classifier
from skyclass.images.preprocess import preprocess

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures


@pytest.mark.parametrize("head", ["linear", "refined", "convolutional"])
@pytest.mark.parametrize("uncertainty", [True, False])
def test_any_head_is_saved_and_loaded_without_a_change(tmp_path: Path, head: str, uncertainty: bool) -> None:
    model = with_head(head, uncertainty)
    frame = model.predict(grey_images())
    again = Classifier.load(model.save(tmp_path / "saved"), "cpu")
    assert again.model == model.model
    assert (again.networks[0].error_head is not None) is uncertainty
    pd.testing.assert_frame_equal(again.predict(grey_images()), frame, check_exact=True)
    assert again.explain(grey_images(), "b").heatmaps.shape == (5, 16, 12)


@pytest.mark.parametrize("head", ["linear", "refined", "convolutional"])
def test_uncertainty_is_the_chance_of_being_wrong_where_there_is_a_head_for_it(head: str) -> None:
    model = with_head(head, uncertainty=True)
    stored = np.stack([preprocess(image, ("grey",), model.pixels)[0] for image in grey_images()])
    p, chance = model.predict_proba_and_error(stored)
    assert chance is not None
    assert (p.dtype, chance.dtype) == (np.float64, np.float64)
    with torch.no_grad():
        x = (torch.from_numpy(stored) - 0.2) / 0.3
        logits, error_logits = model.networks[0].head_output(model.networks[0].features(x))
    assert error_logits is not None
    np.testing.assert_allclose(chance, 1 / (1 + np.exp(-error_logits.double().numpy())), atol=1e-6)
    np.testing.assert_allclose(p, torch.softmax(logits.double(), 1).numpy(), atol=1e-6)
    np.testing.assert_array_equal(model.predict_proba(stored), p)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(stored)), p, atol=1e-12)
    frame = model.predict(grey_images())
    np.testing.assert_allclose(frame["uncertainty"], chance, atol=1e-6)
    np.testing.assert_allclose(p_of(frame, model), p, atol=1e-6)
    plain, none = with_head(head, uncertainty=False).predict_proba_and_error(stored)
    assert none is None
    np.testing.assert_allclose(plain.sum(1), 1.0)


def test_images_that_cannot_be_read_have_no_chance_of_being_wrong(tmp_path: Path) -> None:
    model = with_head("refined", uncertainty=True)
    (tmp_path / "bad.fits").write_text("no image")
    good = write_image(tmp_path / "good.fits", grey_images()[0])
    alone = model.predict(good)["uncertainty"].iloc[0]
    for files in ([tmp_path / "bad.fits", good], [good, tmp_path / "bad.fits"]):
        found = model.predict(files).set_index("file")["uncertainty"]
        assert np.isnan(found[str(tmp_path / "bad.fits")])
        assert found[str(good)] == pytest.approx(alone, abs=1e-6)
    assert model.predict([tmp_path / "bad.fits"])["uncertainty"].isna().all()


def test_a_table_takes_a_chance_of_being_wrong_or_the_entropy() -> None:
    model = with_head("linear", uncertainty=False)
    p = np.array([[0.5, 0.5, 0.0], [np.nan] * 3, [1 / 3] * 3])
    assert model.table("xyz", p)["uncertainty"].tolist() == pytest.approx(
        [np.log(2) / np.log(3), np.nan, 1.0], nan_ok=True
    )
    given = model.table("xyz", p, np.array([0.125, 0.5, 0.75]))
    assert given["uncertainty"].tolist() == pytest.approx([0.125, np.nan, 0.75], nan_ok=True)
    assert given["uncertainty"].dtype == np.float32


def test_bfloat16_gives_nearly_the_same_error_probability() -> None:
    stored = np.random.default_rng(0).random((4, 1, 16, 12), dtype=np.float32)
    full, half = (
        with_head("refined", True, precision).predict_proba_and_error(stored)[1]
        for precision in ("float32", "bfloat16")
    )
    assert full is not None
    assert half is not None
    assert not np.array_equal(full, half)
    np.testing.assert_allclose(full, half, atol=0.05)
