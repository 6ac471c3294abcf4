"""Several answers about one image: members of an ensemble, orientations, Monte Carlo dropout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from conftest import SmallRun
from helpers.commands import predictions
from helpers.make_data import random_pixels
from skyclass.classifier.classifier import Classifier
from skyclass.classifier.sampling import dropout_layers, mc_dropout, orientation_samples
from skyclass.core.errors import SkyclassError
from skyclass.images.dihedral import Orientation, orientations_of, turned
from skyclass.models.network import Network, build_network
from skyclass.recipes.data_settings import PixelRecipe
from skyclass.recipes.model_settings import ModelRecipe

CLASSES = ["left", "right", "round"]


def network_of(seed: int, **settings: object) -> Network:
    torch.manual_seed(seed)
    model = ModelRecipe.model_validate({"backbone": "resnet20_cifar", **settings})
    return build_network(model, 1, len(CLASSES)).eval()


def ensemble(*seeds: int, size: tuple[int, int] = (16, 16), **settings: object) -> Classifier:
    model = ModelRecipe.model_validate({"backbone": "resnet20_cifar", **settings})
    recipe = PixelRecipe(bands=("grey",), size=size, dtype="float32")
    networks = [network_of(seed, **settings) for seed in seeds]
    swaps = [("left", "right")]
    made = Classifier(networks, model, CLASSES, ("grey",), [recipe], (0.2,), (0.3,), "float32", {}, swaps)
    return made.to("cpu")


def stored(size: tuple[int, int] = (16, 16), n: int = 5) -> np.ndarray:
    return np.stack([random_pixels(row, size, 1, "float32") for row in range(n)])


def inputs(images: np.ndarray) -> Tensor:
    return (torch.from_numpy(images) - 0.2) / 0.3


# Orientations


def test_a_square_has_the_eight_orientations_of_its_symmetry_group() -> None:
    image = torch.arange(9.0).reshape(1, 3, 3)
    seen = {tuple(turned(image, one).flatten().tolist()) for one in orientations_of(3, 3)}
    pixels = np.arange(9.0).reshape(3, 3)
    expected = [np.rot90(side, k) for side in (pixels, pixels.T) for k in range(4)]
    assert seen == {tuple(one.ravel().tolist()) for one in expected}
    assert len(seen) == 8
    assert orientations_of(3, 3)[0] == Orientation(0, False)


def test_other_images_have_the_four_that_keep_their_shape() -> None:
    image = torch.arange(6.0).reshape(1, 2, 3)
    views = [turned(image, one) for one in orientations_of(2, 3)]
    assert all(view.shape == (1, 2, 3) for view in views)
    assert len({tuple(view.flatten().tolist()) for view in views}) == 4


def test_only_mirrored_orientations_change_the_handedness() -> None:
    """The sign of the area of a triangle about the centre, which a mirror turns and a rotation keeps."""
    image = torch.zeros(5, 5)
    image[0, 2], image[2, 0] = 1.0, 2.0  # above the centre, and left of it
    for one in orientations_of(5, 5):
        view = turned(image, one)
        (y1, x1), (y2, x2) = (((view == value).nonzero()[0] - 2).tolist() for value in (1.0, 2.0))
        assert (x1 * y2 - y1 * x2 > 0) is one.mirrored


@pytest.mark.parametrize("size", [(16, 16), (16, 12)])
def test_the_mean_over_the_orientations_swaps_the_classes_of_mirror_images_back(size: tuple[int, int]) -> None:
    model, images = ensemble(1, size=size), stored(size)
    network, total, count = model.networks[0], np.zeros((5, 3)), 0
    for k in range(4) if size[0] == size[1] else (0, 2):
        for mirrored in (False, True):
            view = images[..., ::-1] if mirrored else images
            view = np.rot90(view, k, axes=(2, 3)).copy()
            with torch.no_grad():
                p = torch.softmax(network(inputs(view)).double(), 1).numpy()
            total += p[:, [1, 0, 2]] if mirrored else p
            count += 1
    averaged, _ = model.judge(images, orientations=True)
    np.testing.assert_allclose(averaged, total / count, atol=1e-6)
    assert np.abs(averaged - model.probabilities(images)).max() > 1e-3
    model.mirror_swaps = []
    assert np.abs(averaged - model.judge(images, orientations=True)[0]).max() > 1e-3


def test_a_mirror_image_gets_the_mirrored_probabilities() -> None:
    """What the average is for: the answer no longer depends on how the image is held."""
    model, images = ensemble(1, 2), stored()
    p, _ = model.judge(images, orientations=True)
    for view, order in ((images[..., ::-1], [1, 0, 2]), (np.rot90(images, 1, axes=(2, 3)), [0, 1, 2])):
        np.testing.assert_allclose(model.judge(view.copy(), orientations=True)[0][:, order], p, atol=1e-6)


def test_orientations_change_the_predictions_of_files_arrays_and_packs(small_run: SmallRun, tmp_path: Path) -> None:
    plain = predictions(small_run.run, small_run.pack, tmp_path / "plain.parquet")
    averaged = predictions(small_run.run, small_run.pack, tmp_path / "averaged.parquet", "--orientations")
    of_files = predictions(small_run.run, small_run.files, tmp_path / "files.parquet", "--orientations")
    p = [name for name in plain if name.startswith("p_")]
    assert np.abs(averaged[p] - plain[p]).to_numpy().max() > 1e-3
    np.testing.assert_allclose(averaged[p].sum(axis=1), 1.0, atol=1e-6)
    merged = of_files.set_index("image_id").loc[averaged["image_id"]]
    np.testing.assert_allclose(merged[p], averaged[p], atol=1e-5)


# Members


def test_an_ensemble_predicts_the_mean_of_its_members_and_is_saved_as_one(tmp_path: Path) -> None:
    both, images = ensemble(1, 2, uncertainty=True), stored()
    one, other = ensemble(1, uncertainty=True), ensemble(2, uncertainty=True)
    for orientations in (False, True):
        expected = [model.judge(images, orientations) for model in (one, other)]
        p, doubt = both.judge(images, orientations)
        np.testing.assert_allclose(p, np.mean([p for p, _ in expected], axis=0), atol=1e-9)
        np.testing.assert_allclose(doubt, np.mean([doubt for _, doubt in expected], axis=0), atol=1e-9)
    maps = [model.maps(images, ["left"] * 5) for model in (one, other, both)]
    np.testing.assert_allclose(maps[2], (maps[0] + maps[1]) / 2, atol=1e-6)
    again = Classifier.load(both.save(tmp_path / "saved"), "cpu")
    assert (len(again.networks), again.mirror_swaps) == (2, [("left", "right")])
    pd.testing.assert_frame_equal(again.predict(images), both.predict(images), check_exact=True)
    pd.testing.assert_frame_equal(again.predict(images, 2, True), both.predict(images, 2, True), check_exact=True)


# Monte Carlo dropout


def test_dropout_samples_leave_batch_normalisation_at_rest() -> None:
    network, x = network_of(1, head="refined", dropout=0.5), inputs(stored())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.random.get_rng_state()
    found = mc_dropout(network, x, 6, seed=3)
    assert found.log_p.shape == (6, 5, 3)
    np.testing.assert_allclose(np.exp(found.log_p).sum(axis=2), 1.0)
    assert found.doubt is None
    assert len(np.unique(found.log_p.round(6), axis=0)) == 6
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not any(module.training for module in network.modules())
    assert torch.equal(state, torch.random.get_rng_state())
    np.testing.assert_array_equal(mc_dropout(network, x, 6, seed=3).log_p, found.log_p)
    assert not np.array_equal(mc_dropout(network, x, 6, seed=4).log_p, found.log_p)


def test_dropout_samples_are_those_of_a_network_with_its_dropout_in_training_mode() -> None:
    network, x = network_of(1, dropout=0.5), inputs(stored())
    found = mc_dropout(network, x, 3, seed=3)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    torch.manual_seed(3)
    with torch.no_grad():
        expected = [torch.log_softmax(network(x).double(), 1).numpy() for _ in range(3)]
    np.testing.assert_allclose(found.log_p, expected, atol=1e-6)


def test_the_log_odds_of_dropout_samples_scatter_about_those_of_the_whole_network() -> None:
    """With a linear head they are linear in what is dropped."""
    network, x = network_of(1, dropout=0.1), inputs(stored())
    whole = orientation_samples(network, x, None).log_p
    assert whole.shape == (1, 5, 3)
    odds = np.diff(mc_dropout(network, x, 400, 0).log_p, axis=2)
    np.testing.assert_array_less(np.abs(odds.mean(axis=0) - np.diff(whole[0])), 5 * odds.std(axis=0) / 20)


def test_dropout_in_the_backbone_is_at_work_too() -> None:
    network, x = network_of(1), inputs(stored())
    network.backbone.layer3.add_module("drop", nn.Dropout2d(0.5))  # type: ignore[operator, union-attr]
    network.backbone.layer3.drop.eval()  # type: ignore[operator, union-attr]
    assert len(dropout_layers(network)) == 1
    found = mc_dropout(network, x, 4, seed=0).log_p
    assert len(np.unique(found.round(6), axis=0)) == 4


def test_a_network_without_dropout_says_so() -> None:
    with pytest.raises(SkyclassError, match=r"no dropout to take samples of; train with dropout: .*model\.dropout"):
        mc_dropout(network_of(1), inputs(stored()), 2, 0)
    with pytest.raises(SkyclassError, match="no dropout"):
        ensemble(1).samples(stored(), dropout=2)


def test_a_classifier_samples_each_of_its_networks() -> None:
    model = ensemble(1, 2, dropout=0.3, uncertainty=True)
    assert model.samples(stored()).log_p.shape == (2, 5, 3)
    assert model.samples(stored(), orientations=True).log_p.shape == (16, 5, 3)
    dropped = model.samples(stored(), dropout=4, seed=1)
    assert dropped.log_p.shape == (8, 5, 3)
    assert dropped.doubt is not None
    assert dropped.doubt.shape == (8, 5)
    assert not np.array_equal(dropped.log_p, model.samples(stored(), dropout=4, seed=2).log_p)
