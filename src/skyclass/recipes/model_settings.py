"""The sections of a recipe about the network: backbone, head, weights, adapters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .schema import Settings
from .training_settings import Positive


class LoraSettings(Settings):
    """Low-rank adaptation: the backbone is frozen, and products of two thin matrices are added to its weights."""

    rank: Positive = Field(8, description="inner dimension of the two matrices")
    alpha: float = Field(16.0, gt=0.0, description="the product is scaled by alpha / rank")
    targets: tuple[str, ...] = Field(
        (), description="backbone modules whose convolutions and linear layers are adapted, as layer3; empty takes all"
    )
    ranks: dict[str, Positive] = Field({}, description="another rank for modules, by name, as in layer4: 16")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="dropout before the first matrix")
    train_norms: bool = Field(True, description="train the normalisation layers too; else they stay in eval()")
    train_also: tuple[str, ...] = Field((), description="backbone modules trained in full, as conv1")


class ModelSettings(Settings):
    """The network."""

    backbone: str = Field("resnet18", description="a timm name, hf_hub:OWNER/NAME, or resnet20_cifar")
    weights: str = Field("none", description="imagenet (downloaded by timm), none, or the path of a weight file")
    freeze: tuple[str, ...] = Field((), description="backbone modules that are not trained, such as layer1")
    lora: LoraSettings | None = Field(None, description="train low-rank adapters instead of the backbone's weights")
    head: Literal["linear", "refined", "convolutional"] = Field(
        "linear",
        description="from features to class scores: a linear layer; two layers and an attention gate before it; "
        "or three convolutions before the pooling",
    )
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="dropout in the head")
    uncertainty: bool = Field(False, description="add a head that learns the chance that the prediction is wrong")

    @model_validator(mode="after")
    def _lora_freezes_already(self) -> ModelSettings:
        if self.lora and self.freeze:
            raise ValueError("model.lora freezes the whole backbone: leave model.freeze empty")
        return self
