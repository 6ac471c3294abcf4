"""The learning-rate range test: where it points, where it stops, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from helpers.commands import done, drawn
from helpers.toys import toy_pack, toy_recipe, write_recipe
from helpers.trainings import last_state, same
from skyclass.classifier.run import Run
from skyclass.commands.train import train
from skyclass.core.errors import SkyclassError
from skyclass.data.packs.pack import Pack
from skyclass.models.gradient_checkpointing import checkpoint_blocks
from skyclass.models.network import Network, build_network
from skyclass.recipes.model_settings import ModelSettings
from skyclass.recipes.training_settings import TrainingSettings
from skyclass.training import learning_rate_finder
from skyclass.training.figures import rates_figure
from skyclass.training.learning_rate_finder import find_rate, suggest_rate
from skyclass.training.loop.task import Task

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures

CPU = torch.device("cpu")


class Some(NamedTuple):
    """A batch."""

    images: Tensor
    labels: Tensor
    rows: Tensor


def batches(n: int = 4) -> list[Some]:
    """Two classes that differ in brightness, with two wrong labels in a batch, so that no rate learns them whole."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(n):
        labels = torch.arange(8) % 2
        images = torch.randn(8, 1, 4, 6, generator=generator) + labels[:, None, None, None]
        found.append(Some(images, labels ^ (torch.arange(8) < 2), torch.arange(8)))
    return found


class Pixels(nn.Module):
    """A backbone without normalisation, so that rates can be too large."""

    num_features = 4

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1)

    def forward_features(self, x: Tensor) -> Tensor:
        return 30.0 * self.conv1(x)

    def forward_head(self, x: Tensor, pre_logits: bool = True) -> Tensor:
        return x.mean(dim=(2, 3))

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        return {"stem": "^conv1"}


def toy_network(**changes: object) -> Network:
    torch.manual_seed(0)
    network = build_network(ModelSettings(backbone="resnet20_cifar", **changes), 1, 2)
    network.backbone = Pixels()
    network.head[1] = nn.Linear(4, 2)
    if network.error_head is not None:
        network.error_head[0] = nn.Linear(4, 256)
    return network


def halved(images: Tensor) -> Tensor:
    return images / 2


SGD = TrainingSettings(optimizer="sgd", learning_rate=0.01, precision="float32")


def test_the_suggestion_lies_where_the_loss_falls_below_the_divergence() -> None:
    found = find_rate(toy_network(), batches(), halved, SGD, None, CPU)
    n = len(found.rates)
    assert 20 < n < 100  # it stopped at the divergence
    assert n == len(found.losses) == len(found.smoothed)
    np.testing.assert_allclose(found.rates[:2], [1e-7, 1e-7 * 10 ** (7 / 99)])
    assert 1e-7 < found.suggestion < found.rates[int(found.smoothed.argmin())] < found.rates[-1]
    assert np.isfinite(found.losses).all()
    # A training at the suggestion learns, and one at the last rate does not.
    ends = []
    for rate in (found.suggestion, found.rates[-1]):
        network = toy_network()
        optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9)
        for batch in batches() * 5:
            loss = nn.functional.cross_entropy(network(halved(batch.images)), batch.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        ends.append(float(loss.detach()))
    assert ends[0] < 0.7 * found.losses[0]
    assert not ends[1] < ends[0]


@pytest.mark.slow
def test_the_network_and_the_random_state_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = build_network(ModelSettings(backbone="resnet20_cifar", head="refined", dropout=0.3), 1, 2).eval()
    monkeypatch.setattr(learning_rate_finder, "STEPS", 40)
    checkpoint_blocks(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    found = find_rate(network, batches(), halved, TrainingSettings(clip=1.0, loss="focal"), torch.ones(2), CPU)
    assert len(found.rates) > 5
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module.training for module in network.modules())
    assert torch.equal(torch.get_rng_state(), state)


def test_the_parts_keep_their_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[float]] = []
    monkeypatch.setattr(learning_rate_finder, "STEPS", 20)
    original = torch.optim.SGD.step

    def step(self: torch.optim.SGD) -> None:
        seen.append([group["lr"] for group in self.param_groups])
        original(self)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    recipe = SGD.model_copy(update={"rates": SGD.rates.model_copy(update={"early": 0.001})})
    network = build_network(ModelSettings(backbone="resnet20_cifar"), 1, 2)
    found = find_rate(network, batches(), halved, recipe, None, CPU)
    rates = np.array(seen)
    assert rates.shape[1] == 4
    np.testing.assert_allclose(rates[:, 1:], np.repeat(found.rates[: len(rates), None], 3, axis=1))
    np.testing.assert_allclose(rates[:, 0], 0.1 * rates[:, 1])


@pytest.mark.slow
def test_the_recipe_s_loss_optimiser_precision_and_weights_are_used() -> None:
    def losses(weights: Tensor | None = None, uncertainty: bool = False, **changes: object) -> np.ndarray:
        settings = TrainingSettings(**{"precision": "float32", "optimizer": "sgd", **changes})
        return find_rate(toy_network(uncertainty=uncertainty), batches(), halved, settings, weights, CPU).losses

    plain = losses()
    assert np.array_equal(losses(), plain)
    for other in (
        losses(torch.tensor([1.0, 5.0])),
        losses(loss="focal"),
        losses(label_smoothing=0.1),
        losses(precision="bfloat16"),
        losses(optimizer="adam"),
        losses(clip=1e-3),
        losses(uncertainty=True),
    ):
        assert not np.array_equal(other[:50], plain[:50])


def test_batches_are_begun_again_where_they_end() -> None:
    asked = []

    class Loader:
        def __iter__(self) -> Iterator[Some]:
            asked.append(1)
            return iter(batches(3))

    found = find_rate(toy_network(), Loader(), halved, SGD, None, CPU)
    assert len(asked) == -(-(len(found.rates) + 1) // 3)
    for nothing in ([], iter(batches(3))):
        with pytest.raises(SkyclassError, match="there are no more batches"):
            find_rate(toy_network(), nothing, halved, SGD, None, CPU)


def test_the_steepest_fall_of_a_known_course() -> None:
    """1 - logistic(x) in the logarithm of the rate falls most steeply at its middle; behind it the loss grows."""
    rates = np.geomspace(1e-7, 1.0, 100)
    x = np.log10(rates)
    course = 2.0 - 1.0 / (1 + np.exp(-4 * (x + 3.0))) + 20 * np.maximum(0.0, x + 1.0)
    noise = np.random.default_rng(0).normal(0.0, 0.02, 100)
    smoothed, suggestion = suggest_rate(rates, course + noise)
    assert np.log10(suggestion) == pytest.approx(-3.0, abs=0.25)
    assert np.abs(smoothed - course)[5:75].max() < 0.06
    with pytest.raises(SkyclassError, match="the loss falls at no learning rate"):
        suggest_rate(rates, 1.0 + np.arange(100.0))
    with pytest.raises(SkyclassError, match="the loss falls at no learning rate"):
        suggest_rate(rates[:0], np.array([]))


def test_batches_of_unlike_difficulty_are_made_alike() -> None:
    """While the rates are too small for any change the loss is flat, whatever the batches and the dropout."""
    torch.manual_seed(0)
    network = build_network(ModelSettings(backbone="resnet20_cifar", dropout=0.5), 1, 2)
    unlike = [Some(one.images * (1 + k), one.labels, one.rows) for k, one in enumerate(batches())]
    unlike[2] = unlike[2]._replace(labels=1 - unlike[2].labels)
    found = find_rate(network, unlike, halved, SGD, None, CPU)
    with torch.no_grad():
        plain = [float(nn.functional.cross_entropy(network(halved(one.images)), one.labels)) for one in unlike]
    assert np.std(plain) > 1e-2
    assert np.std(found.losses[:12]) < 1e-3 * np.std(plain)
    assert found.losses.min() < found.losses[0] - 0.1


def test_a_loss_that_is_no_number_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [0]
    original = learning_rate_finder.total_loss

    def total(*arguments: object) -> Tensor:
        calls[0] += 1
        return original(*arguments) * (float("nan") if calls[0] > 80 else 1.0)  # type: ignore[arg-type]

    monkeypatch.setattr(learning_rate_finder, "total_loss", total)
    found = find_rate(build_network(ModelSettings(backbone="resnet20_cifar"), 1, 2), batches(), halved, SGD, None, CPU)
    assert len(found.losses) == 40
    assert np.isfinite(found.losses).all()


# A training with the rate that was found


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return toy_pack(tmp_path_factory.mktemp("packs") / "pack")


OWN = {"class_weights": "sqrt", "optimizer": "sgd", "rates": {"early": 1e-4}, "epochs": 1, "learning_rate": 1e-3}


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_figures")
def test_a_training_takes_the_rate_that_was_found(tmp_path: Path, pack: Pack) -> None:
    """And is to the last bit the training with that rate, which is what the run's recipe says."""
    file = write_recipe(tmp_path, toy_recipe(model={"dropout": 0.3}, training=OWN))
    told = done("train", file, pack.path, "--out", tmp_path / "run", "--find-rate", "--device", "cpu").err
    run = Run(tmp_path / "run")
    table = pd.read_csv(run.rates_file)
    assert list(table) == ["learning_rate", "loss", "smoothed"]
    smoothed, suggestion = suggest_rate(table["learning_rate"].to_numpy(), table["loss"].to_numpy())
    np.testing.assert_allclose(table["smoothed"], smoothed)
    training = run.recipe().training
    assert training.learning_rate == pytest.approx(suggestion, rel=5e-3) != 1e-3
    assert training.rates.early == pytest.approx(0.1 * training.learning_rate)
    assert f"Learning rate: {training.learning_rate:g} instead of 0.001" in told
    assert drawn(run.path / "learning_rates.png")
    assert not run.needs_learning_rate()
    again = train(run.recipe_file, pack.path, out=tmp_path / "again", device="cpu")
    assert same(last_state(run.path), last_state(again))
    assert not Run(again).rates_file.exists()


@pytest.mark.slow
def test_a_search_that_was_stopped_is_begun_again(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it has ended, and between the rate and the training."""
    file = write_recipe(tmp_path, toy_recipe(training=OWN))
    expected = Run(train(file, pack.path, out=tmp_path / "whole", find_rate=True, device="cpu"))
    assert expected.recipe().training.learning_rate != 1e-3
    for k, (owner, name) in enumerate(
        ((learning_rate_finder, "_losses"), (Run, "write_learning_rate"), (Task, "on_train_start"))
    ):
        run = Run(tmp_path / str(k))
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, interrupting)
            with pytest.raises(KeyboardInterrupt):
                train(file, pack.path, out=run.path, find_rate=True, device="cpu")
        train(resume=run.path, device="cpu")
        assert run.recipe() == expected.recipe()
        assert same(last_state(run.path), last_state(expected.path))


def interrupting(*_: object) -> None:
    raise KeyboardInterrupt


# The figure


def test_the_figure_shows_the_search() -> None:
    search = find_rate(toy_network(), batches(), halved, SGD, None, CPU)
    figure = rates_figure(*search)
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_xscale()) == ("learning rate", "loss", "log")
    dots, line, mark = axes.get_lines()
    np.testing.assert_array_equal(dots.get_xdata(), search.rates)
    np.testing.assert_array_equal(dots.get_ydata(), search.losses)
    np.testing.assert_array_equal(line.get_ydata(), search.smoothed)
    assert set(mark.get_xdata()) == {search.suggestion}
    (legend,) = figure.legends
    assert legend.get_texts()[-1].get_text() == f"steepest fall: {search.suggestion:.2g}"
    fall = search.smoothed[: int(search.smoothed.argmin()) + 1]
    assert axes.get_ylim()[0] < fall.min() < fall.max() < axes.get_ylim()[1] < search.losses.max() * 1.06
    with pytest.raises(SkyclassError, match="no loss to draw"):
        rates_figure(np.array([]), np.array([]), np.array([]), 0.1)
