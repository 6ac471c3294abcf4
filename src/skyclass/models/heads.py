"""Heads: what follows the backbone, from its features to the class scores and to the chance of an error."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..core.errors import SkyclassError

REFINED = 512
CONVOLUTIONS = (512, 256, 128)
HIDDEN = 256  # width inside the gate and the uncertainty head


class LinearHead(nn.Sequential):
    """Dropout and one linear layer on the pooled features."""

    takes_map = False

    def __init__(self, n_features: int, n_classes: int, dropout: float) -> None:
        super().__init__(nn.Dropout(dropout), nn.Linear(n_features, n_classes))
        self.n_refined = n_features

    def refine(self, x: Tensor) -> Tensor:
        """(N, F) -> (N, F): nothing is refined here."""
        return x

    def score(self, refined: Tensor) -> Tensor:
        """(N, F) -> (N, K) logits."""
        logits: Tensor = self(refined)
        return logits


class RefinedHead(nn.Module):
    """Two layers on the pooled features, a gate that weighs the 512 refined ones, and a linear layer.

    The gate is x * sigmoid(W2 relu(W1 x)) with 512 -> 256 -> 512, the channel attention of Hu et al. 2018
    (arXiv:1709.01507, equation 3) on a vector.
    """

    takes_map = False
    n_refined = REFINED

    def __init__(self, n_features: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(*_refining(n_features, dropout), *_refining(REFINED, dropout))
        self.gate = nn.Sequential(nn.Linear(REFINED, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, REFINED), nn.Sigmoid())
        self.classes = nn.Linear(REFINED, n_classes)

    def refine(self, x: Tensor) -> Tensor:
        """(N, F) -> (N, 512). Errors: SkyclassError for one image in training mode, which has no spread."""
        if self.training and len(x) == 1:
            raise _one_image("refined")
        refined: Tensor = self.layers(x)
        return refined

    def score(self, refined: Tensor) -> Tensor:
        """(N, 512) -> (N, K) logits."""
        logits: Tensor = self.classes(refined * self.gate(refined))
        return logits


class ConvolutionalHead(nn.Module):
    """Three 3x3 convolutions of 512, 256 and 128 channels on the feature map, their mean over it, a linear layer."""

    takes_map = True
    n_refined = CONVOLUTIONS[-1]

    def __init__(self, n_features: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.n_features = n_features
        layers: list[nn.Module] = []
        for before, channels in zip((n_features, *CONVOLUTIONS), CONVOLUTIONS, strict=False):
            layers += [nn.Conv2d(before, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)]
            layers += [nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)
        self.classes = nn.Linear(CONVOLUTIONS[-1], n_classes)

    def refine(self, x: Tensor) -> Tensor:
        """(N, F, h, w) -> (N, 128).

        Errors: SkyclassError for a backbone without such a map, and for one pixel of one image in training mode.
        """
        if x.ndim != 4 or x.shape[1] != self.n_features:
            what = f"the convolutional head needs a feature map (images, {self.n_features}, height, width)"
            fix = "take a convolutional backbone, or the head linear or refined"
            raise SkyclassError(f"{what}, not {tuple(x.shape)}", where="model.head", fix=fix)
        if self.training and x.numel() == self.n_features:
            raise _one_image("convolutional")
        return torch.mean(self.layers(x), dim=(2, 3))  # (N, 128, h, w) -> (N, 128)

    def score(self, refined: Tensor) -> Tensor:
        """(N, 128) -> (N, K) logits."""
        logits: Tensor = self.classes(refined)
        return logits


Head = LinearHead | RefinedHead | ConvolutionalHead
HEADS: dict[str, type[Head]] = {
    "linear": LinearHead,
    "refined": RefinedHead,
    "convolutional": ConvolutionalHead,
}


def error_head(n_refined: int, dropout: float) -> nn.Sequential:
    """(N, n_refined) -> (N, 1): the logit of the chance that the predicted class is wrong."""
    return nn.Sequential(nn.Linear(n_refined, HIDDEN), nn.ReLU(), nn.Dropout(dropout), nn.Linear(HIDDEN, 1))


def _refining(n_features: int, dropout: float) -> tuple[nn.Module, ...]:
    return nn.Linear(n_features, REFINED), nn.BatchNorm1d(REFINED), nn.ReLU(), nn.Dropout(dropout)


def _one_image(head: str) -> SkyclassError:
    what = f"the {head} head normalises over a batch, and this one holds a single image"
    # Batches are cut as evenly as can be: of three images or more none has fewer than two.
    return SkyclassError(what, where="training.batch_size", fix="set it to 3 or more, and train on more than one image")
