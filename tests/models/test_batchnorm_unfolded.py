"""Folded batch normalisations: found where they were loaded, set apart without a change of function."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from skyclass.models.batchnorm import folded_norms, unfold_batchnorm


def convolutions() -> nn.Sequential:
    """Two convolutions, each with a batch normalisation that is an identity with a bias, as an export leaves them."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3))
    for norm in (net[1], net[4]):
        nn.init.normal_(norm.bias)
        nn.init.constant_(norm.weight, (1.0 + norm.eps) ** 0.5)  # makes up for epsilon
    return net


def some_images() -> Tensor:
    return 5.0 + 3.0 * torch.randn(16, 2, 9, 12, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("training", [True, False])
def test_the_function_stays_and_training_mode_keeps_it(training: bool) -> None:
    net, images = convolutions().train(training), some_images()
    folded = copy.deepcopy(net)
    with torch.no_grad():
        expected = copy.deepcopy(net).eval()(images)
        assert unfold_batchnorm(net, net.state_dict().keys(), images) == 2
        assert net.training is training
        torch.testing.assert_close(net.eval()(images), expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(net.train()(images), expected, rtol=1e-3, atol=1e-3)
        assert (folded.train()(images) - expected).abs().max() > 0.5  # what it would have been


def test_the_statistics_are_those_of_the_images() -> None:
    net, images = convolutions().eval(), some_images()
    inputs = net[0](images).detach()
    unfold_batchnorm(net, net.state_dict().keys(), images)
    torch.testing.assert_close(net[1].running_mean, inputs.mean(dim=(0, 2, 3)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(net[1].running_var, inputs.var(dim=(0, 2, 3), unbiased=False), rtol=1e-5, atol=1e-5)


def test_only_identities_that_were_loaded_are_folded() -> None:
    net = convolutions()
    assert folded_norms(net, net.state_dict().keys()) == [net[1], net[4]]
    assert folded_norms(net, ["4.running_mean", "1.weight"]) == [net[4]]  # the first is still at random
    net[4].running_var[0] = 2.0
    assert folded_norms(net, net.state_dict().keys()) == [net[1]]
    nn.init.constant_(net[1].weight, 0.5)
    assert folded_norms(net, net.state_dict().keys()) == []


def test_without_a_folded_one_nothing_is_computed_or_changed() -> None:
    net = convolutions()
    before = copy.deepcopy(net.state_dict())
    net.register_forward_pre_hook(lambda *_: pytest.fail("it ran the network"))
    assert unfold_batchnorm(net, [], some_images()) == 0
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
