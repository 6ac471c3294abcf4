"""The classifier: one answer for files, arrays and packs, saved and loaded without a change, and its explanations."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import LayerGradCam

from conftest import SmallRun
from make_data import bad_files, class_folders, random_pixels, write_image
from skyclass.class_maps import FOLDING_PAYS
from skyclass.classifier import Classifier
from skyclass.data.pack import Pack
from skyclass.errors import SkyclassError
from skyclass.explanation.gradcam import grad_cam, heatmaps
from skyclass.explanation.methods import METHODS
from skyclass.images import read_image
from skyclass.models.network import build_network
from skyclass.pixels import apply_recipes
from skyclass.prediction_formats import read_predictions
from skyclass.predictions import probabilities
from skyclass.recipe import ModelRecipe, PixelRecipe
from skyclass.run import Run


@pytest.fixture(scope="module")
def classifier(small_run: SmallRun) -> Classifier:
    return Classifier.load(small_run.run, "cpu")


@pytest.fixture(scope="module")
def files(small_run: SmallRun) -> list[Path]:
    return sorted((small_run.files / "test").rglob("*.png"))


def p_of(frame: pd.DataFrame, classifier: Classifier) -> np.ndarray:
    return probabilities(frame, classifier.classes)


def five_bands(precision: str = "float32") -> Classifier:
    """An untrained classifier of five bands in float32."""
    torch.manual_seed(1)
    model = ModelRecipe(backbone="resnet20_cifar")
    names = tuple("ugriz")
    recipe = PixelRecipe(bands=names, size=(16, 12), interval="percentile", stretch="asinh", dtype="float32")
    network = build_network(model, 5, 4)
    mean, std = (0.2,) * 5, (0.3,) * 5
    return Classifier([network], model, list("abcd"), names, [recipe], mean, std, precision).to("cpu")


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
    pixels = np.stack([apply_recipes(image.pixels, image.bands, classifier.pixels)[0] for image in images])
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
    p = classifier.probabilities(stored)
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


# Heads and the chance of being wrong


def with_head(head: str, uncertainty: bool, precision: str = "float32") -> Classifier:
    """An untrained classifier of one band."""
    torch.manual_seed(2)
    model = ModelRecipe(backbone="resnet20_cifar", head=head, uncertainty=uncertainty, dropout=0.3)
    recipe = PixelRecipe(bands=("grey",), size=(16, 12), dtype="float32")
    network = build_network(model, 1, 3)
    return Classifier([network], model, list("abc"), ("grey",), [recipe], (0.2,), (0.3,), precision).to("cpu")


def grey_images(n: int = 5) -> np.ndarray:
    return np.stack([random_pixels(row, (20, 24), 1, "float32") for row in range(n)])


@pytest.mark.parametrize("head", ["linear", "refined", "convolutional"])
@pytest.mark.parametrize("uncertainty", [True, False])
def test_any_head_is_saved_and_loaded_without_a_change(tmp_path: Path, head: str, uncertainty: bool) -> None:
    model = with_head(head, uncertainty)
    frame = model.predict(grey_images())
    again = Classifier.load(model.save(tmp_path / "saved"), "cpu")
    assert again.model == model.model
    assert again.networks[0].uncertain is uncertainty
    pd.testing.assert_frame_equal(again.predict(grey_images()), frame, check_exact=True)
    assert again.explain(grey_images(), "b").heatmaps.shape == (5, 16, 12)


@pytest.mark.parametrize("head", ["linear", "refined", "convolutional"])
def test_uncertainty_is_the_chance_of_being_wrong_where_there_is_a_head_for_it(head: str) -> None:
    model = with_head(head, uncertainty=True)
    stored = np.stack([apply_recipes(image, ("grey",), model.pixels)[0] for image in grey_images()])
    p, chance = model.judge(stored)
    assert chance is not None
    assert (p.dtype, chance.dtype) == (np.float64, np.float64)
    with torch.no_grad():
        x = (torch.from_numpy(stored) - 0.2) / 0.3
        logits, doubt = model.networks[0].judge(model.networks[0].features(x))
    assert doubt is not None
    np.testing.assert_allclose(chance, 1 / (1 + np.exp(-doubt.double().numpy())), atol=1e-6)
    np.testing.assert_allclose(p, torch.softmax(logits.double(), 1).numpy(), atol=1e-6)
    np.testing.assert_array_equal(model.probabilities(stored), p)
    frame = model.predict(grey_images())
    np.testing.assert_allclose(frame["uncertainty"], chance, atol=1e-6)
    np.testing.assert_allclose(p_of(frame, model), p, atol=1e-6)
    plain, none = with_head(head, uncertainty=False).judge(stored)
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


def test_bfloat16_doubts_nearly_as_much() -> None:
    stored = np.random.default_rng(0).random((4, 1, 16, 12), dtype=np.float32)
    full, half = (with_head("refined", True, precision).judge(stored)[1] for precision in ("float32", "bfloat16"))
    assert full is not None
    assert half is not None
    assert not np.array_equal(full, half)
    np.testing.assert_allclose(full, half, atol=0.05)


# Saved and loaded


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


# Explanations


def test_explanations_are_grad_cam_of_the_predicted_classes(classifier: Classifier, files: list[Path]) -> None:
    found = classifier.explain(files, batch_size=4)
    assert found.heatmaps.shape == (len(files), 12, 16)
    assert found.heatmaps.dtype == np.float32
    assert found.heatmaps.min() >= 0
    assert found.heatmaps.max() <= 1
    assert found.images.shape == (len(files), 3, 12, 16)
    assert found.classes == found.predictions["predicted"].tolist() == classifier.predict(files)["predicted"].tolist()
    mean, std = (torch.tensor(values)[:, None, None] for values in (classifier.mean, classifier.std))
    network = classifier.networks[0]
    cam = grad_cam(network.features, network.classify, (torch.from_numpy(found.images) - mean) / std)
    np.testing.assert_allclose(found.heatmaps, heatmaps(cam.maps, (12, 16)).numpy(), atol=1e-3)


def test_any_class_can_be_explained(classifier: Classifier, files: list[Path]) -> None:
    every = {name: classifier.explain(files, name) for name in classifier.classes}
    assert all(found.classes == [name] * len(files) for name, found in every.items())
    assert not np.array_equal(every["bar"].heatmaps, every["ring"].heatmaps)
    mixed = [classifier.classes[row % 3] for row in range(len(files))]
    found = classifier.explain(files, mixed)
    assert found.classes == mixed
    for row, name in enumerate(mixed):
        np.testing.assert_allclose(found.heatmaps[row], every[name].heatmaps[row], atol=1e-4)


def test_any_method_explains(classifier: Classifier, files: list[Path]) -> None:
    found = {name: classifier.explain(files, "bar", 4, name).heatmaps for name in METHODS}
    assert all(maps.shape == (len(files), 12, 16) and maps.max() == 1 for maps in found.values())
    assert all(not np.allclose(found["gradcam"], maps, atol=1e-3) for name, maps in found.items() if name != "gradcam")
    with pytest.raises(SkyclassError, match="no method of explanation is called 'lime'"):
        classifier.explain(files, method="lime")


def test_maps_of_another_layer(classifier: Classifier, files: list[Path]) -> None:
    found = {name: classifier.explain(files, "bar", layer=name) for name in (None, "layer3", "layer2")}
    np.testing.assert_allclose(found["layer3"].heatmaps, found[None].heatmaps, atol=1e-5)
    mean, std = (torch.tensor(values)[:, None, None] for values in (classifier.mean, classifier.std))
    network, batch = classifier.networks[0], (torch.from_numpy(found["layer2"].images) - mean) / std
    target = classifier.classes.index("bar")
    expected = LayerGradCam(network, network.backbone.layer2).attribute(batch, target, relu_attributions=True)
    np.testing.assert_allclose(found["layer2"].heatmaps, heatmaps(expected.detach()[:, 0], (12, 16)), atol=1e-3)
    assert classifier.map_size(found["layer2"].images, "gradcam", "layer2") == (6, 8)
    assert found["layer2"].predictions.equals(found[None].predictions)
    plain = classifier.maps(found[None].images, ["bar"] * len(files), method="layercam", layer="layer2")
    assert not np.allclose(plain, found["layer2"].heatmaps, atol=1e-2)


@pytest.mark.parametrize("layer", ["layer2", "layer2.0.conv1", "bn1"])
def test_a_layer_is_the_same_in_a_network_made_faster(layer: str, classifier: Classifier, files: list[Path]) -> None:
    many = classifier.explain((files * 2)[:FOLDING_PAYS], "ring", layer=layer).heatmaps
    few = classifier.explain(files[: FOLDING_PAYS - 1], "ring", layer=layer).heatmaps
    n = min(len(many), len(few))
    assert few.max() == 1
    np.testing.assert_allclose(many[:n], few[:n], atol=1e-3)


def test_a_layer_of_every_member_and_in_the_classifiers_precision() -> None:
    images, wanted = np.random.default_rng(0).random((5, 5, 16, 12), dtype=np.float32), ["b"] * 5
    one, other, half = five_bands(), five_bands(), five_bands("bfloat16")
    torch.nn.init.normal_(other.networks[0].backbone.conv1.weight, std=0.3)
    both = replace(one, networks=[*one.networks, *other.networks])
    parts = [model.maps(images, wanted, layer="layer2") for model in (one, other)]
    np.testing.assert_allclose(both.maps(images, wanted, layer="layer2"), np.mean(parts, axis=0), atol=1e-6)
    assert not np.allclose(*parts, atol=0.01)
    rounded = half.maps(images, wanted, layer="layer2")
    assert not np.allclose(rounded, parts[0], atol=1e-6)
    assert np.corrcoef(rounded.ravel(), parts[0].ravel())[0, 1] > 0.9


def test_layers_that_cannot_be_explained(classifier: Classifier, files: list[Path]) -> None:
    with pytest.raises(SkyclassError, match="layer: the backbone has no module 'layr2'; did you mean 'layer2'"):
        classifier.explain(files, layer="layr2")
    with pytest.raises(SkyclassError, match="layer: the maps of integrated-gradients are of the image itself"):
        classifier.explain(files, method="integrated-gradients", layer="layer2")


def test_what_cannot_be_read_is_left_out_of_the_explanations(
    classifier: Classifier, tmp_path: Path, files: list[Path]
) -> None:
    (tmp_path / "bad.png").write_text("no image")
    mixed = [tmp_path / "bad.png", files[0], tmp_path / "bad.png", files[1]]
    found = classifier.explain(mixed, ["bar", "blob", "bar", "ring"])
    assert found.predictions["file"].tolist() == [str(files[0]), str(files[1])]
    assert found.classes == ["blob", "ring"]
    assert len(found.heatmaps) == len(found.images) == 2


def test_explanations_that_cannot_be(classifier: Classifier, tmp_path: Path, files: list[Path]) -> None:
    with pytest.raises(SkyclassError, match="no class is called 'rong'; the classes are bar, blob, ring"):
        classifier.explain(files, "rong")
    with pytest.raises(SkyclassError, match="2 classes for 3 images; give one class an image"):
        classifier.explain(files[:3], ["bar", "ring"])
    (tmp_path / "bad.png").write_text("no image")
    with pytest.raises(SkyclassError, match="no image can be explained: not an image") as refusal:
        classifier.explain([tmp_path / "bad.png"])
    assert refusal.value.where == str(tmp_path / "bad.png")
    with pytest.raises(SkyclassError, match="no image can be explained: there is none"):
        classifier.explain([])


def test_explaining_leaves_the_network_as_it_was(classifier: Classifier, files: list[Path]) -> None:
    before = {name: value.clone() for name, value in classifier.networks[0].state_dict().items()}
    expected = classifier.predict(files)
    classifier.explain(files)
    assert all(torch.equal(before[name], value) for name, value in classifier.networks[0].state_dict().items())
    assert all(parameter.grad is None for parameter in classifier.networks[0].parameters())
    pd.testing.assert_frame_equal(classifier.predict(files), expected)


# Packs


def test_the_recipes_still_to_apply_to_a_pack(classifier: Classifier, small_run: SmallRun) -> None:
    own = Pack.open(small_run.pack).pixels
    assert classifier.recipes_for(own, small_run.pack) == classifier.pixels[1:]
    as_files = own.model_copy(update={"size": (40, 50)})
    assert classifier.recipes_for(as_files, small_run.pack) == classifier.pixels
    for change in ({"interval": "zscale"}, {"stretch": "log"}, {"crop": (5, 5)}):
        with pytest.raises(SkyclassError, match="made in another way than the classifier's") as refusal:
            classifier.recipes_for(own.model_copy(update=change), small_run.pack)
        assert "name the files themselves, or pack them by" in str(refusal.value.fix)


def test_a_pack_is_predicted_as_its_files_are(classifier: Classifier, small_run: SmallRun) -> None:
    pack = Pack.open(small_run.pack)
    recipes = classifier.recipes_for(pack.pixels, pack.path)
    pixels = np.stack([apply_recipes(np.array(image), pack.bands, recipes)[0] for image in pack.images])
    from_files = classifier.predict(pack.catalog["file"].tolist())
    np.testing.assert_allclose(classifier.probabilities(pixels), p_of(from_files, classifier), atol=1e-6)


def test_images_of_another_size_go_the_same_way(classifier: Classifier, tmp_path: Path) -> None:
    larger = class_folders(tmp_path, ("blob", "ring", "bar"), per_class=2, size=(30, 40))
    frame = classifier.predict([tmp_path / name for name in larger["file"]])
    assert frame["error"].isna().all()
