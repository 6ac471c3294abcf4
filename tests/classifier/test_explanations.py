"""Explanations of a classifier."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import LayerGradCam

from helpers.classifiers import five_bands
from skyclass.classifier.classifier import Classifier
from skyclass.core.errors import SkyclassError
from skyclass.explanation.gradcam import grad_cam, heatmaps
from skyclass.explanation.maps import FOLDING_PAYS
from skyclass.explanation.methods import METHODS

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures


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


@pytest.mark.slow
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
