"""Grades of all methods: on a network that looks at one corner, a trained one, and lenses whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from conftest import SmallRun
from helpers.commands import drawn
from skyclass.classifier.classifier import Classifier
from skyclass.core.plotting import save_figure
from skyclass.data.simulation.lensing import draw_truth
from skyclass.explanation import grading
from skyclass.explanation.faithfulness import EVERY, RANDOM
from skyclass.explanation.grading import CHECKS, Grades, grade, grade_table, has_substructure, write_grades
from skyclass.explanation.methods import METHODS
from skyclass.explanation.output import GRADES
from skyclass.models.heads import LinearHead
from skyclass.models.network import Network
from skyclass.recipes.data_settings import PixelSettings
from skyclass.recipes.model_settings import ModelSettings

SIZE = (24, 24)


class Corner(nn.Module):
    """A map of two channels: the light of the upper left quarter, and none."""

    def forward_features(self, x: Tensor) -> Tensor:
        seen = torch.zeros_like(x)
        seen[..., : x.shape[2] // 2, : x.shape[3] // 2] = x[..., : x.shape[2] // 2, : x.shape[3] // 2]
        return torch.cat([seen, torch.zeros_like(seen)], dim=1)

    def forward_head(self, x: Tensor, pre_logits: bool) -> Tensor:
        return x.mean(dim=(2, 3))


def corner_classifier(size: tuple[int, int] = SIZE) -> Classifier:
    """Says `bright` where the corner is, else `dark`."""
    head = LinearHead(2, 2, 0.0)
    with torch.no_grad():
        head[1].weight.copy_(torch.tensor([[200.0, 0.0], [-200.0, 0.0]]))
        head[1].bias.copy_(torch.tensor([-4.0, 4.0]))
    network = Network(Corner(), head).eval()
    settings = ModelSettings(backbone="resnet20_cifar")
    pixels = [PixelSettings(size=size, dtype="float32")]
    return Classifier([network], settings, ["bright", "dark"], ("grey",), pixels, (0.0,), (1.0,))


@pytest.fixture(scope="module")
def bright() -> np.ndarray:
    """Sources on a dark sky."""
    return np.random.default_rng(0).random((10, 1, *SIZE), dtype=np.float32) ** 6


def test_a_network_that_looks_at_a_corner_is_found_out(bright: np.ndarray) -> None:
    done: list[int] = []
    grades = grade(corner_classifier(), bright, ["bright"] * 10, [None] * 10, done.append)
    assert sum(done) == 10 * len(METHODS)
    assert set(grades.images["method"]) == {*METHODS, RANDOM}
    table = grades.table.set_index(["method", "class"])
    assert set(table.index) == {(method, name) for method in METHODS for name in ("bright", EVERY)}
    for method in METHODS:
        row = table.loc[(method, "bright")]
        assert row["deletion"] < row["deletion_random"] - 0.1  # its own pixels are the first to go
        assert row["insertion"] > 0.9  # a blurred image has the light of a sharp one
        assert row["stability"] < 0.5  # it looks at the place, not at what is there
        assert row["n_localised"] == 0
        assert np.isnan(row["heat_near"])
        assert (row["checks"], "localisation" in row["failed"]) == (4, False)
        assert "stability" in row["failed"].split()
        assert "deletion" not in row["failed"].split()
    for curves in grades.curves.values():
        assert all(scores.shape == (10, 21) and scores.min() >= 0 and scores.max() <= 1 for scores in curves.values())
    start = grades.curves["deletion"]["gradcam"][:, 0]
    np.testing.assert_allclose(start, corner_classifier().predict_proba(bright)[:, 0], atol=1e-6)
    assert (grades.curves["deletion"]["gradcam"][:, -1] < 0.1).all()


def test_integers_are_graded_as_the_numbers_that_they_stand_for() -> None:
    stored = np.random.default_rng(0).integers(0, 256, (2, 1, *SIZE), dtype=np.uint8)
    one = grade(corner_classifier(), stored, ["bright"] * 2, [None] * 2)
    other = grade(corner_classifier(), stored / np.float32(255), ["bright"] * 2, [None] * 2)
    np.testing.assert_allclose(one.table["deletion"], other.table["deletion"], atol=1e-5)


def images_table(**changes: object) -> pd.DataFrame:
    """Measures of 12 images of two classes by one method and by random maps; all checks are passed."""
    noise = np.random.default_rng(0).normal(0.0, 0.02, 12)
    own = {"method": "gradcam", "class": ["a", "b"] * 6, "deletion": 0.2 + noise, "insertion": 0.7 + noise}
    own |= {"stability": 0.8, "randomised_head": 0.1, "randomised_network": 0.2, "heat_near": 0.5 + noise}
    own |= {"peak_near": 0.6, "ring_near": 0.3, "area_near": 0.1}
    random = {"method": RANDOM, "class": own["class"], "deletion": 0.4, "insertion": 0.5}
    return pd.concat([pd.DataFrame({**own, **changes}), pd.DataFrame(random)], ignore_index=True)


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, ""),
        ({"deletion": 0.5}, "deletion"),
        ({"deletion": [0.39, 0.39, 0.9, 0.0, 0.0, 0.9] * 2}, "deletion"),  # better on the mean, not for sure
        ({"insertion": 0.4}, "insertion"),
        ({"randomised_network": 0.9}, "randomisation"),
        ({"stability": 0.2}, "stability"),
        ({"heat_near": 0.2}, "localisation"),
        ({"heat_near": 0.2, "stability": 0.1}, "stability localisation"),
    ],
)
def test_a_check_fails_by_its_own_measure(changes: dict[str, object], failed: str) -> None:
    row = grade_table(images_table(**changes)).set_index("class").loc[EVERY]
    assert row["failed"] == failed
    assert row["checks"] == len(CHECKS)
    assert row["passed"] == len(CHECKS) - len(failed.split())


def test_what_is_not_known_is_not_checked_and_means_are_those_of_the_class() -> None:
    table = grade_table(images_table(heat_near=[0.4, np.nan] * 6)).set_index("class")
    assert table["n"].to_dict() == {"a": 6, "b": 6, EVERY: 12}
    assert table["n_localised"].to_dict() == {"a": 6, "b": 0, EVERY: 6}
    assert table["checks"].to_dict() == {"a": 5, "b": 4, EVERY: 5}
    assert table.loc["a", "heat_beyond_ring"] == pytest.approx((0.4 - 0.3) / 0.7)
    assert table.loc["a", "peak_beyond_area"] == pytest.approx((0.6 - 0.1) / 0.9)


def test_too_few_maps_pass_no_check() -> None:
    """Each class has six images of its own, and both together have twelve."""
    table = grade_table(images_table()).set_index("class")
    assert table["cannot_tell"].to_dict() == {
        "a": "6 images, and it takes 10",
        "b": "6 images, and it takes 10",
        EVERY: "",
    }
    assert table["passed"].isna().to_dict() == {"a": True, "b": True, EVERY: False}
    assert not table["deletion"].isna().any()  # the measures themselves are given


@pytest.mark.slow
def test_maps_of_a_network_that_knows_nothing_pass_no_check(bright: np.ndarray, tmp_path: Path) -> None:
    """It says `bright` of all: right of half of the images, as chance is."""
    labels = ["bright", "dark"] * 5
    said = {}
    for name, true in (("guesses", labels), ("unknown", [None] * 10)):
        grades = grade(corner_classifier(), bright, ["bright"] * 10, [None] * 10, labels=true)
        said[name] = "\n".join(write_grades(grades, tmp_path))
        table = pd.read_csv(tmp_path / "grades.csv")
        assert table["passed"].isna().all() == (name == "guesses")
    assert "the network is not surely better than chance (5 of 10 images right)" in said["guesses"]
    assert "checks passed" not in said["guesses"]
    assert said["unknown"].count("checks passed") == len(METHODS)


def lens(label: str, index: int = 0) -> dict[str, object]:
    return {**draw_truth(index, label, seed=0), "pixel_scale": 7.5 / 24}


def test_only_lenses_with_substructure_have_a_truth() -> None:
    assert has_substructure(lens("sphere"))
    assert has_substructure(lens("vort"))
    assert not has_substructure(lens("no"))
    assert not has_substructure({"label": "spiral", "ra": 1.0})
    assert not has_substructure({**lens("no"), "sub_x": None})


def test_maps_are_compared_with_the_truth_on_the_simulated_image() -> None:
    """The vortex lies in the upper left quarter, where the network looks, or in the lower right one, where it does not;
    the simulated image was larger than the network's input, and cropped."""
    images = np.full((2, 1, 24, 24), 0.02, np.float32)
    images[:, :, 6:9, 6:9] = 1.0
    there, elsewhere = ({**lens("vort"), "vort_half_length": 0.4, "pixel_scale": 7.5 / 60} for _ in range(2))
    there |= {"vort_x": -0.9, "vort_y": -0.9}  # 7.2 pixels left of the centre of 60, so 3.6 of the 24 seen of 48
    elsewhere |= {"vort_x": 0.9, "vort_y": 0.9}
    model = corner_classifier()
    model.pixels = [PixelSettings(crop=(48, 48), size=(24, 24), dtype="float32")]
    found = grade(model, images, ["bright"] * 2, [there, elsewhere]).images
    own = found[found["method"] == "layercam"]
    assert own["heat_near"].iloc[0] > 0.2
    assert own["peak_near"].iloc[0] > 0.2
    assert own["heat_near"].iloc[1] == own["peak_near"].iloc[1] == 0.0
    assert own["area_near"].between(0.003, 0.3).all()
    assert own["ring_near"].between(0.001, 0.5).all()
    assert found[found["method"] == RANDOM]["heat_near"].isna().all()


@pytest.mark.slow
def test_a_kill_while_grades_are_written_leaves_the_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def grades(**changes: object) -> Grades:
        images, curve = images_table(**changes), np.linspace(0.0, 1.0, 21)[None].repeat(12, 0)
        table = grade_table(images)
        table.insert(1, "layer", None)
        curves = {name: dict.fromkeys(("gradcam", RANDOM), curve) for name in ("deletion", "insertion")}
        return Grades(images, curves, table)

    def killed(figure: object, path: Path) -> None:
        if path.name == "grades-sanity.png":
            raise KeyboardInterrupt
        save_figure(figure, path)

    (tmp_path / "grades-notes.txt").write_text("mine")
    write_grades(grades(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {*GRADES, "grades-notes.txt"}
    with monkeypatch.context() as patch:
        patch.setattr(grading, "save_figure", killed)
        with pytest.raises(KeyboardInterrupt):
            write_grades(grades(stability=0.1), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    write_grades(grades(stability=0.1, heat_near=np.nan), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*before} - {"grades-localisation.png"}
    assert (tmp_path / "grades.csv").read_bytes() != before["grades.csv"]


@pytest.mark.slow
def test_grades_are_written_and_told(small_run: SmallRun, tmp_path: Path) -> None:
    model = Classifier.load(small_run.run, "cpu")
    explained = model.explain(sorted(small_run.files.glob("test/*/*.png")))
    truth = [lens("vort", 1), lens("sphere", 2)] + [None] * (len(explained.images) - 2)
    grades = grade(model, explained.images, explained.classes, truth)
    lines = write_grades(grades, tmp_path)
    table = pd.read_csv(tmp_path / "grades.csv")
    assert table["method"].unique().tolist() == list(METHODS)
    content = json.loads((tmp_path / "grades.json").read_text())
    assert len(content["grades"]) == len(table)
    assert len(content["curves"]["insertion"]["gradcam++"]) == 21
    assert all(drawn(tmp_path / f"grades-{name}.png") for name in ("curves", "sanity", "localisation"))
    assert sum("checks passed" in line for line in lines) == len(METHODS)
    assert table["layer"].isna().all()
    assert not any("class activation maps are" in line for line in lines)
    deeper = grade(model, explained.images, explained.classes, [None] * len(truth), layer="layer2")
    assert "class activation maps are those of layer2" in write_grades(deeper, tmp_path)
    assert not (tmp_path / "grades-localisation.png").exists()
    again = pd.read_csv(tmp_path / "grades.csv")
    is_integrated = again["method"] == "integrated-gradients"
    assert set(again.loc[~is_integrated, "layer"]) == {"layer2"}
    assert again.loc[is_integrated, "layer"].isna().all()
    differs = (
        again[["deletion", "stability", "randomised_network"]] != table[["deletion", "stability", "randomised_network"]]
    ).any(axis=1)
    assert differs[~is_integrated].all()
    assert not differs[is_integrated].any()
