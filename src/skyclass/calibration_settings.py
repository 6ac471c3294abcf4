"""The section of a recipe about calibration and prediction sets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .settings import Settings


class CalibrationRecipe(Settings):
    """How the probabilities of the validation images become those of the classifier, and its sets of classes."""

    method: Literal["auto", "temperature", "vector", "none"] = Field(
        "auto", description="one temperature, or a scale and a bias a class (vector); auto cross-validates the two"
    )
    coverage: float = Field(
        0.9, gt=0.0, lt=1.0, description="share of the prediction sets that shall hold the true class"
    )
    sets: Literal["lac", "aps"] = Field(
        "lac", description="lac: the smallest sets on average; aps: sets that grow with the difficulty of an image"
    )
    class_conditional: bool = Field(False, description="promise the coverage for each class by itself")
