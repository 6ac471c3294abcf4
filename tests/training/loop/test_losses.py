"""Losses and weights of classes, against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from skyclass.core.errors import SkyclassError
from skyclass.models.heads import error_head
from skyclass.models.network import NetworkOutput
from skyclass.recipes.training_settings import TrainingSettings
from skyclass.training.loop.losses import LOSSES, class_weights, total_loss, uncertainty_loss


def batch(seed: int, n: int = 6, k: int = 3, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(n, k, generator=generator), torch.randint(k, (n,), generator=generator)


def by_hand(logits: Tensor, labels: Tensor, weights: Tensor | None, gamma: float, smoothing: float) -> float:
    """sum_i sum_k q_ik w_k (1 - p_ik)^gamma (-ln p_ik) / sum_i w_yi in loops, in float64."""
    n, k = logits.shape
    w = np.ones(k) if weights is None else weights.double().numpy()
    total = 0.0
    for row in range(n):
        x = logits[row].double().numpy()
        p = np.exp(x - x.max()) / np.exp(x - x.max()).sum()
        for index in range(k):
            q = (1 - smoothing) * (index == int(labels[row])) + smoothing / k
            total -= q * w[index] * (1 - p[index]) ** gamma * np.log(p[index])
    return total / sum(w[int(label)] for label in labels)


def test_cross_entropy_by_hand() -> None:
    logits, labels = batch(0)
    weights = torch.tensor([0.5, 1.0, 2.0])
    found = LOSSES["cross_entropy"](logits, labels, weights, TrainingSettings(label_smoothing=0.1))
    assert float(found) == pytest.approx(by_hand(logits, labels, weights, 0.0, 0.1), rel=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1000),
    n=st.integers(1, 8),
    k=st.integers(2, 6),
    gamma=st.one_of(st.just(0.0), st.floats(0.0, 5.0)),
    smoothing=st.one_of(st.just(0.0), st.floats(0.0, 0.9)),
    scale=st.floats(0.1, 5.0),
    weighted=st.booleans(),
)
def test_focal_follows_its_formula(
    seed: int, n: int, k: int, gamma: float, smoothing: float, scale: float, weighted: bool
) -> None:
    logits, labels = batch(seed, n, k, scale)
    weights = torch.rand(k, generator=torch.Generator().manual_seed(seed)) + 0.1 if weighted else None
    recipe = TrainingSettings(focal_gamma=gamma, label_smoothing=smoothing)
    found = float(LOSSES["focal"](logits, labels, weights, recipe))
    assert found == pytest.approx(by_hand(logits, labels, weights, gamma, smoothing), rel=1e-4, abs=1e-6)
    if gamma == 0.0:
        expected = torch.nn.functional.cross_entropy(logits, labels, weights, label_smoothing=smoothing)
        assert found == pytest.approx(float(expected), rel=1e-5)


def test_focal_is_the_paper_s_for_one_image() -> None:
    """Lin et al. 2017, figure 1: at p_t = 0.9 and gamma = 2 the loss is 100 times smaller than cross-entropy."""
    logits = torch.tensor([[0.9, 0.1]]).log()
    focal, plain = (
        LOSSES[name](logits, torch.tensor([0]), None, TrainingSettings()) for name in ("focal", "cross_entropy")
    )
    assert float(plain / focal) == pytest.approx(100.0, rel=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("size", [1e2, 1e4, 16.0])
def test_focal_is_finite_for_logits_that_are_sure(gamma: float, smoothing: float, size: float) -> None:
    """At p_t = 1 in float32 the slope of (1 - p_t)^gamma is infinite for gamma below 1."""
    logits = torch.tensor([[size, 0.0, -size], [0.0, size, -size]], requires_grad=True)
    settings = TrainingSettings(focal_gamma=gamma, label_smoothing=smoothing)
    for labels in (torch.tensor([0, 1]), torch.tensor([2, 2]), torch.tensor([0, 2])):
        logits.grad = None
        loss = LOSSES["focal"](logits, labels, torch.tensor([1.0, 2.0, 0.5]), settings)
        loss.backward()
        assert torch.isfinite(loss)
        assert loss >= 0
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()
    wrong = LOSSES["focal"](logits, torch.tensor([2, 2]), None, TrainingSettings(focal_gamma=gamma))
    assert float(wrong.detach()) == pytest.approx(2 * size, rel=1e-3)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), gamma=st.floats(0.0, 5.0), smoothing=st.floats(0.0, 0.5))
def test_the_gradient_of_focal_is_that_of_its_formula(seed: int, gamma: float, smoothing: float) -> None:
    logits, labels = batch(seed, scale=2.0)
    logits = logits.double().requires_grad_()
    recipe = TrainingSettings(focal_gamma=gamma, label_smoothing=smoothing)
    weights = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: LOSSES["focal"](x, labels, weights, recipe), logits)


def test_focal_plays_easy_images_down_and_more_so_with_gamma() -> None:
    logits, labels = torch.tensor([[4.0, 0.0], [0.5, 0.0]]), torch.tensor([0, 0])
    shares = []
    for gamma in (0.0, 1.0, 2.0):
        easy, hard = (
            float(LOSSES["focal"](logits[i : i + 1], labels[:1], None, TrainingSettings(focal_gamma=gamma)))
            for i in (0, 1)
        )
        shares.append(easy / hard)
    assert shares[0] > 5 * shares[1] > 25 * shares[2]


def test_the_uncertainty_loss_is_towards_wrong() -> None:
    logits = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0]], requires_grad=True)
    labels = torch.tensor([0, 0, 1])  # right, wrong, wrong
    error_logits = torch.tensor([-1.0, 2.0, 0.5], requires_grad=True)
    loss = uncertainty_loss(NetworkOutput(logits, error_logits), labels)
    chance = 1 / (1 + np.exp(-error_logits.detach().double().numpy()))
    expected = -(np.log(1 - chance[0]) + np.log(chance[1]) + np.log(chance[2])) / 3
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-6)
    loss.backward()
    assert logits.grad is None  # the target is no function of the logits
    assert error_logits.grad.sign().tolist() == [1.0, -1.0, -1.0]  # smaller for the right one, larger for the others
    with pytest.raises(ValueError, match="without an uncertainty head"):
        uncertainty_loss(NetworkOutput(logits, None), labels)


@pytest.mark.parametrize("name", LOSSES)
def test_the_total_is_the_loss_and_the_weighted_error_loss(name: str) -> None:
    logits, labels = batch(3)
    error_logits, weights = torch.randn(6, generator=torch.Generator().manual_seed(4)), torch.tensor([0.5, 1.0, 2.0])
    settings = TrainingSettings(loss=name, uncertainty_weight=0.7)
    own = float(LOSSES[name](logits, labels, weights, settings))
    extra = float(uncertainty_loss(NetworkOutput(logits, error_logits), labels))
    assert float(total_loss(NetworkOutput(logits, None), labels, weights, settings)) == own
    assert float(total_loss(NetworkOutput(logits, error_logits), labels, weights, settings)) == pytest.approx(
        own + 0.7 * extra
    )
    silent = settings.model_copy(update={"uncertainty_weight": 0.0})
    assert float(total_loss(NetworkOutput(logits, error_logits), labels, weights, silent)) == pytest.approx(own)


def test_a_trained_error_probability_is_larger_where_the_prediction_is_wrong() -> None:
    """Images of one kind have a label drawn by lot, which no network can know; those of the other follow their label.

    The published loss pointed the other way (SYSTEMS, 2).
    """
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    scores, head = nn.Linear(2, 2), error_head(2, 0.0)
    optimizer = torch.optim.Adam([*scores.parameters(), *head.parameters()], lr=0.02)

    def drawn() -> tuple[Tensor, Tensor]:
        x = torch.randn(400, 2, generator=generator)
        lot = torch.randint(2, (400,), generator=generator)
        return x, torch.where(x[:, 1] > 0, lot, (x[:, 0] > 0).long())

    x, labels = drawn()
    for _ in range(150):
        output = NetworkOutput(scores(x), head(x)[:, 0])
        optimizer.zero_grad()
        total_loss(output, labels, None, TrainingSettings(uncertainty_weight=1.0)).backward()
        optimizer.step()
    x, labels = drawn()
    with torch.no_grad():
        wrong, chance = scores(x).argmax(1) != labels, torch.sigmoid(head(x)[:, 0])
    assert roc_auc_score(wrong, chance) > 0.7  # 0.75 is the most that can be known, for half of the lots are right
    assert float(chance[x[:, 1] > 0.5].mean()) == pytest.approx(0.5, abs=0.1)
    assert float(chance[x[:, 1] < -0.5].mean()) < 0.1


def test_every_loss_of_the_settings_is_there() -> None:
    from typing import get_args

    assert set(LOSSES) == set(get_args(TrainingSettings.model_fields["loss"].annotation))


# Weights of classes


def test_class_weights() -> None:
    labels = np.repeat([0, 1, 2], [8, 2, 2])
    assert class_weights(labels, ["a", "b", "c"], "none") is None
    balanced, root = (class_weights(labels, ["a", "b", "c"], how) for how in ("balanced", "sqrt"))
    assert balanced is not None
    assert root is not None
    assert balanced.numpy()[1:] / balanced.numpy()[0] == pytest.approx([4.0, 4.0])
    assert root.numpy()[1:] / root.numpy()[0] == pytest.approx([2.0, 2.0])
    for weights in (balanced, root):
        assert weights.numpy()[labels].mean() == pytest.approx(1.0)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.random.default_rng(0).integers(0, 4, 50)
    found = class_weights(labels, list("abcd"), "balanced")
    assert found is not None
    np.testing.assert_allclose(found.numpy(), compute_class_weight("balanced", classes=np.arange(4), y=labels), 1e-6)


@pytest.mark.parametrize("how", ["none", "balanced", "sqrt"])
def test_a_class_without_a_training_image_is_refused_with_an_override_that_works(how: str) -> None:
    from skyclass.recipes.recipe import load_recipe

    with pytest.raises(SkyclassError, match="class 'no' has no training image") as refusal:
        class_weights(np.array([0, 0, 2]), ["a", "no", "c"], how)
    override = str(refusal.value.fix).split("--set ")[1].strip("'")
    assert load_recipe("lensing-demo", [override]).data.exclude == ("no",)
