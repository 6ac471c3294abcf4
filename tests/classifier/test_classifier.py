"""The classifier: one answer for files, arrays and packs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import SmallRun
from helpers.classifiers import five_bands, p_of
from helpers.make_data import bad_files, class_folders, random_pixels, write_image
from skyclass.classifier.classifier import Classifier
from skyclass.classifier.prediction_formats import read_predictions
from skyclass.classifier.run import Run
from skyclass.core.errors import SkyclassError
from skyclass.data.packs.pack import Pack
from skyclass.images.formats.read import read_image
from skyclass.images.preprocess import preprocess

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures

# Predictions


def test_a_notebook_shows_a_classifier_in_a_line(classifier: Classifier) -> None:
    shown = repr(classifier)
    assert "classes=['bar', 'blob', 'ring']" in shown
    assert len(shown) < 500


def test_the_shape_of_an_array_that_is_no_image_is_named_whole(classifier: Classifier) -> None:
    with pytest.raises(SkyclassError, match=r"images of shape \(15, 20\); give \(N, 3, H, W\)"):
        classifier.predict(np.zeros((15, 20)))


def test_files_arrays_and_the_run_agree(classifier: Classifier, small_run: SmallRun, files: list[Path]) -> None:
    from_files = classifier.predict(files)
    arrays = np.stack([read_image(file).pixels for file in files])
    from_arrays = classifier.predict(arrays)
    frame, classes, _ = read_predictions(Run(small_run.run).predictions_file)
    assert classes == classifier.classes
    in_run = frame[frame["split"] == "test"].set_index("file").loc[[str(file) for file in files]]
    np.testing.assert_allclose(p_of(from_arrays, classifier), p_of(from_files, classifier), atol=1e-6)
    np.testing.assert_allclose(p_of(in_run, classifier), p_of(from_files, classifier), atol=1e-6)
    assert from_files["predicted"].tolist() == in_run["predicted"].tolist() == from_arrays["predicted"].tolist()
    assert from_files["file"].tolist() == [str(file) for file in files]
    assert from_files["image_id"].tolist() == [file.stem for file in files]
    assert from_arrays["image_id"].tolist() == [str(row) for row in range(len(files))]


def test_predictions_follow_the_formula(classifier: Classifier, files: list[Path]) -> None:
    """The softmax of the network on (pixels - mean) / deviation, in plain torch."""
    images = [read_image(file) for file in files]
    pixels = np.stack([preprocess(image.pixels, image.bands, classifier.pixels)[0] for image in images])
    mean, std = (np.array(values)[:, None, None] for values in (classifier.mean, classifier.std))
    with torch.no_grad():
        p = torch.softmax(classifier.networks[0](torch.from_numpy((pixels - mean) / std).float()), 1).numpy()
    frame = classifier.predict(files)
    np.testing.assert_allclose(p_of(frame, classifier), p, atol=1e-5)
    assert frame["predicted"].tolist() == [classifier.classes[index] for index in p.argmax(1)]
    np.testing.assert_allclose(frame["confidence"], p.max(1), atol=1e-5)
    np.testing.assert_allclose(frame["uncertainty"], -(p * np.log(p)).sum(1) / np.log(3), atol=1e-5)
    assert frame["error"].isna().all()
    assert frame["warning"].isna().all()


@pytest.mark.parametrize("batch_size", [1, 4, 15])
def test_the_batch_size_does_not_matter(classifier: Classifier, files: list[Path], batch_size: int) -> None:
    whole, parts = classifier.predict(files), classifier.predict(files, batch_size=batch_size)
    np.testing.assert_allclose(p_of(parts, classifier), p_of(whole, classifier), atol=1e-6)
    pd.testing.assert_frame_equal(parts, whole, check_dtype=False, atol=1e-5)
    assert next(len(frame) for frame in classifier.stream(files, batch_size)) == batch_size


def test_probabilities_sum_to_one(classifier: Classifier) -> None:
    wild = np.stack([random_pixels(row, (30, 11)) for row in range(9)])
    np.testing.assert_allclose(p_of(classifier.predict(wild), classifier).sum(1), 1.0, atol=1e-6)
    stored = np.stack([random_pixels(row, (12, 16), 3, "float32") * 1e3 for row in range(5)])
    p = classifier.predict_proba(stored)
    assert p.dtype == np.float64
    np.testing.assert_allclose(p.sum(1), 1.0, rtol=1e-12)
    assert (p >= 0).all()


def test_one_file_one_array_and_nothing_at_all(classifier: Classifier, files: list[Path]) -> None:
    expected = classifier.predict(files[:1])
    pd.testing.assert_frame_equal(classifier.predict(files[0]), expected)
    pd.testing.assert_frame_equal(classifier.predict(str(files[0])), expected)
    one = read_image(files[0]).pixels
    np.testing.assert_allclose(p_of(classifier.predict(one), classifier), p_of(expected, classifier), atol=1e-6)
    for nothing in ([], np.empty((0, 3, 15, 20), np.uint8)):
        empty = classifier.predict(nothing)
        assert len(empty) == 0
        assert list(empty.columns) == list(expected.columns)


def test_bad_files_have_their_reason_in_their_place(classifier: Classifier, tmp_path: Path, files: list[Path]) -> None:
    words = bad_files(tmp_path)
    zero = write_image(tmp_path / "zero.png", np.zeros((3, 15, 20), np.uint8))
    five = write_image(tmp_path / "five.npy", random_pixels(0, (15, 20), 5))
    bad = [*(tmp_path / name for name in words), zero, five, tmp_path / "absent.png"]
    mixed = [file for pair in zip(bad, files * 3, strict=False) for file in pair]
    good = classifier.predict(mixed[1::2])
    for batch_size in (3, 64):
        frame = classifier.predict(mixed, batch_size=batch_size)
        assert frame["file"].tolist() == [str(file) for file in mixed]
        np.testing.assert_allclose(p_of(frame.iloc[1::2], classifier), p_of(good, classifier), atol=1e-6)
        assert frame["error"].iloc[1::2].isna().all()
        wrong = frame.iloc[::2].set_index("file")
        for name, word in words.items():
            assert word in wrong.loc[str(tmp_path / name), "error"]
        assert "blank" in wrong.loc[str(zero), "error"]
        assert "the recipe wants red, green, blue" in wrong.loc[str(five), "error"]
        assert "no such file" in wrong.loc[str(tmp_path / "absent.png"), "error"]
        assert wrong["predicted"].isna().all()
        assert wrong[["confidence", "uncertainty", *(f"p_{name}" for name in classifier.classes)]].isna().all(axis=None)


def test_only_bad_files_make_a_table_of_errors(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    frame = classifier.predict([tmp_path / "a.png"])
    assert frame["predicted"].isna().all()
    assert frame["error"].notna().all()


def test_odd_images_are_predicted_with_a_warning(tmp_path: Path) -> None:
    pixels = random_pixels(3, (20, 24), 5, "float32")
    pixels[2, :3, :4] = np.nan
    frame = five_bands().predict(pixels)
    assert "NaN or infinite" in frame["warning"].iloc[0]
    assert frame["error"].isna().all()
    assert frame["confidence"].iloc[0] > 0


@pytest.mark.parametrize("shape", [(2, 1, 15, 20), (2, 5, 15, 20), (15, 20), (2, 15, 20, 3)])
def test_arrays_of_other_bands_are_refused(classifier: Classifier, shape: tuple[int, ...]) -> None:
    with pytest.raises(SkyclassError, match=r"give \(N, 3, H, W\) with the bands red, green, blue"):
        classifier.predict(np.ones(shape, np.uint8))


def test_arrays_of_any_number_type_never_give_a_silent_nonsense(classifier: Classifier) -> None:
    """An 8-bit classifier cannot know the scale of int64 or float64 pixels."""
    image = random_pixels(0, (15, 20))
    for dtype in ("int64", "float64", ">f4"):
        frame = classifier.predict(image.astype(dtype))
        assert "floating-point pixels among 8-bit images" in frame["error"].iloc[0]
    floats = random_pixels(3, (20, 24), 5, "float32")
    expected = five_bands().predict(floats)
    for dtype in ("float64", ">f4"):
        found = five_bands().predict(floats.astype(dtype))
        np.testing.assert_array_equal(p_of(found, five_bands()), p_of(expected, five_bands()))


# Five bands


def test_five_bands(tmp_path: Path) -> None:
    model = five_bands()
    images = np.stack([random_pixels(row, (20, 24), 5, "float32") for row in range(3)])
    paths = [write_image(tmp_path / f"{row}.fits", image) for row, image in enumerate(images)]
    frame = model.predict(images)
    assert frame["error"].isna().all()
    np.testing.assert_allclose(p_of(frame, model).sum(1), 1.0, atol=1e-6)
    # Of files no one knows the names of the bands, and five anonymous ones are not u, g, r, i and z.
    assert model.predict(paths)["error"].str.contains("the recipe wants u, g, r, i, z").all()
    explained = model.explain(images, "c")
    assert explained.heatmaps.shape == (3, 16, 12)
    assert explained.images.shape == (3, 5, 16, 12)
    again = Classifier.load(model.save(tmp_path / "five"), "cpu")
    np.testing.assert_array_equal(p_of(again.predict(images), again), p_of(frame, model))


def test_bfloat16_is_near_float32_and_not_the_same() -> None:
    images = np.stack([random_pixels(row, (20, 24), 5, "float32") for row in range(3)])
    full, half = (p_of(five_bands(precision).predict(images), five_bands()) for precision in ("float32", "bfloat16"))
    assert not np.array_equal(full, half)
    np.testing.assert_allclose(full, half, atol=0.05)
    np.testing.assert_allclose(half.sum(1), 1.0, atol=1e-6)


# Packs


def test_the_recipes_still_to_apply_to_a_pack(classifier: Classifier, small_run: SmallRun) -> None:
    own = Pack.open(small_run.pack).pixels
    assert classifier.remaining_settings(own, small_run.pack) == classifier.pixels[1:]
    as_files = own.model_copy(update={"size": (40, 50)})
    assert classifier.remaining_settings(as_files, small_run.pack) == classifier.pixels
    for change in ({"interval": "zscale"}, {"stretch": "log"}, {"crop": (5, 5)}):
        with pytest.raises(SkyclassError, match="made in another way than the classifier's") as refusal:
            classifier.remaining_settings(own.model_copy(update=change), small_run.pack)
        assert "name the files themselves, or pack them by" in str(refusal.value.fix)


def test_a_pack_is_predicted_as_its_files_are(classifier: Classifier, small_run: SmallRun) -> None:
    pack = Pack.open(small_run.pack)
    recipes = classifier.remaining_settings(pack.pixels, pack.path)
    pixels = np.stack([preprocess(np.array(image), pack.bands, recipes)[0] for image in pack.images])
    from_files = classifier.predict(pack.catalog["file"].tolist())
    np.testing.assert_allclose(classifier.predict_proba(pixels), p_of(from_files, classifier), atol=1e-6)


def test_images_of_another_size_go_the_same_way(classifier: Classifier, tmp_path: Path) -> None:
    larger = class_folders(tmp_path, ("blob", "ring", "bar"), per_class=2, size=(30, 40))
    frame = classifier.predict([tmp_path / name for name in larger["file"]])
    assert frame["error"].isna().all()
