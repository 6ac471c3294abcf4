"""Small untrained classifiers, and images for them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from helpers.make_data import random_pixels
from skyclass.classifier.classifier import Classifier
from skyclass.evaluation.predictions import probabilities
from skyclass.models.network import build_network
from skyclass.recipes.data_settings import PixelSettings
from skyclass.recipes.model_settings import ModelSettings


def p_of(frame: pd.DataFrame, classifier: Classifier) -> np.ndarray:
    return probabilities(frame, classifier.classes)


def five_bands(precision: str = "float32") -> Classifier:
    """An untrained classifier of five bands in float32."""
    torch.manual_seed(1)
    model = ModelSettings(backbone="resnet20_cifar")
    names = tuple("ugriz")
    settings = PixelSettings(bands=names, size=(16, 12), interval="percentile", stretch="asinh", dtype="float32")
    network = build_network(model, 5, 4)
    mean, std = (0.2,) * 5, (0.3,) * 5
    return Classifier([network], model, list("abcd"), names, [settings], mean, std, precision).to("cpu")


def with_head(head: str, uncertainty: bool, precision: str = "float32") -> Classifier:
    """An untrained classifier of one band."""
    torch.manual_seed(2)
    model = ModelSettings(backbone="resnet20_cifar", head=head, uncertainty=uncertainty, dropout=0.3)
    settings = PixelSettings(bands=("grey",), size=(16, 12), dtype="float32")
    network = build_network(model, 1, 3)
    return Classifier([network], model, list("abc"), ("grey",), [settings], (0.2,), (0.3,), precision).to("cpu")


def grey_images(n: int = 5) -> np.ndarray:
    return np.stack([random_pixels(row, (20, 24), 1, "float32") for row in range(n)])
