"""The sections of a recipe about images and labels: pixels, augmentation, votes, and which rows are used."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from ..core.limits import MAX_PIXELS
from .schema import Settings


def _pair(value: object) -> object:
    """One number is a square: 64 is (64, 64)."""
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


def _text(value: object) -> object:
    """Question 1 is question "1"."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _bounded(size: tuple[int, int]) -> tuple[int, int]:
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"{size[0]:,} x {size[1]:,} pixels are more than the {MAX_PIXELS:,} of the largest image")
    return size


Positive = Annotated[int, Field(gt=0)]
_SIDE = {"type": "integer", "exclusiveMinimum": 0}
_SIDES = {"type": "array", "prefixItems": [_SIDE, _SIDE], "minItems": 2, "maxItems": 2}
Size = Annotated[
    tuple[Positive, Positive],
    BeforeValidator(_pair),
    AfterValidator(_bounded),
    WithJsonSchema({"anyOf": [_SIDE, _SIDES]}, mode="validation"),
]


def _fit(value: object) -> object:
    """Skyclass 0.1 called `distort` `stretch`, which is the name of another setting too."""
    return "distort" if value == "stretch" else value


Share = Annotated[float, Field(ge=0.0, le=1.0)]


class PixelSettings(Settings):
    """How a decoded image becomes stored pixels: bands, NaN, stretch, crop, resize, in this order."""

    file_bands: tuple[str, ...] | None = Field(
        None, description="names, in order, of the bands of files that do not name theirs, such as [g, r, i, z, y]"
    )
    bands: tuple[str, ...] | None = Field(None, description="bands to keep, by name and in order; null keeps all")
    fill_nan: Literal["zero", "min", "median"] = Field(
        "zero",
        description="what replaces NaN and infinite pixels: zero, or the finite minimum or median of the band",
    )
    interval: Literal["none", "minmax", "percentile", "zscale"] = Field(
        "none", description="range of values mapped to [0, 1] and clipped; none keeps the values as they are"
    )
    percentile: float = Field(99.5, gt=50.0, le=100.0, description="central percentage kept by interval: percentile")
    per_band: bool = Field(
        False, description="take the interval (or lupton's noise) of each band by itself; colours are lost"
    )
    stretch: Literal["linear", "sqrt", "log", "asinh", "lupton"] = Field(
        "linear", description="transfer curve on [0, 1]; lupton makes a colour picture of three bands, red first"
    )
    softening: float | None = Field(
        None, gt=0.0, description="`a` of astropy's LogStretch (default 1000) or AsinhStretch (0.1), `Q` of lupton (8)"
    )
    crop: Size | None = Field(None, description="central (height, width) kept before resizing, in pixels")
    size: Size | None = Field(None, description="(height, width) to resize to; null keeps the size")
    fit: Annotated[Literal["distort", "crop", "pad"], BeforeValidator(_fit)] = Field(
        "pad", description="another aspect ratio is distorted, cropped at the centre, or padded with zeros"
    )
    interpolation: Literal["area", "bilinear"] = Field("area", description="how pixels are averaged in a resize")
    dtype: Literal["uint8", "uint16", "float16", "float32"] | None = Field(
        None, description="stored type; integers hold [0, 1] scaled to their range; null follows the image"
    )

    @field_validator("file_bands", "bands")
    @classmethod
    def _bands_differ(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        twice = sorted({name for name in names or () if (names or ()).count(name) > 1})
        if twice:
            raise ValueError(f"each band can be named once, and {', '.join(twice)} is named again")
        if names == ():
            raise ValueError("at least one band must be named; null stands for all")
        return names

    @field_validator("stretch")
    @classmethod
    def _colours_are_three(cls, stretch: str, info: ValidationInfo) -> str:
        bands = info.data.get("bands")
        if stretch == "lupton" and bands and len(bands) != 3:
            raise ValueError(f"lupton makes a colour picture of three bands, red first, and bands names {len(bands)}")
        return stretch


class TrainingPixels(PixelSettings):
    """The pixel settings of a training: as for a pack, and the normalisation of the network's input."""

    normalise: Literal["imagenet", "dataset", "none"] = Field(
        "dataset",
        description="subtract a mean and divide by a deviation: ImageNet's (of three bands or one; others take the "
        "training split's), the training split's, or neither",
    )


class AugmentSettings(Settings):
    """Random changes of the training images; validation and test images never see them."""

    flip_horizontal: Share = Field(0.0, description="probability of mirroring left and right")
    flip_vertical: Share = Field(0.0, description="probability of mirroring up and down")
    rotation: float = Field(0.0, ge=0.0, le=180.0, description="largest rotation either way, degrees; 180 is any angle")
    scale: tuple[float, float] = Field((1.0, 1.0), description="smallest and largest magnification")
    shift: Share = Field(0.0, description="largest shift either way, as a share of the height and of the width")
    crop: Size | None = Field(None, description="resize to this (height, width), then cut pixels.size at random")
    brightness: Share = Field(0.0, description="largest relative change of brightness")
    contrast: Share = Field(0.0, description="largest relative change of contrast about the image's mean")
    saturation: Share = Field(0.0, description="largest relative change of saturation, of images of three bands")
    noise: float = Field(0.0, ge=0.0, description="standard deviation of Gaussian noise, in stored units of [0, 1]")
    fill: Literal["zeros", "border", "reflection"] = Field(
        "zeros", description="what fills the corners that a rotation or shift uncovers"
    )
    mirror_swaps: tuple[tuple[str, str], ...] = Field(
        (), description="pairs of classes that turn into each other in a mirror"
    )

    @model_validator(mode="after")
    def _scale_is_ordered(self) -> AugmentSettings:
        low, high = self.scale
        if not 0.0 < low <= high:
            raise ValueError(f"scale must be [smallest, largest] with 0 < smallest <= largest, not [{low}, {high}]")
        return self


class VotesSettings(Settings):
    """How vote fractions, a column a possible answer, become labels."""

    columns: tuple[str, ...] = Field(
        (), description="the columns of votes, by name or pattern such as Class1.*; empty takes those of Galaxy Zoo"
    )
    question: Annotated[str, BeforeValidator(_text)] | None = Field(
        None,
        description="the question whose answers are the classes: 1 of Class1.1 to Class1.3, smooth-or-featured of "
        "smooth-or-featured_smooth_fraction; all takes the largest fraction of all questions",
    )
    keep: tuple[str, ...] | Positive | None = Field(
        None, description="classes kept, by name, or how many of the most frequent; the other images lose their label"
    )
    threshold: Share = Field(0.0, description="images whose largest fraction is smaller get no label")
    classes: dict[str, str] = Field(
        {}, description="class: expression over the columns, as in smooth: Class1.1 > 0.8; instead of the largest"
    )
    rename: dict[str, str] = Field({}, description="column: the name of its class")


class DataSettings(Settings):
    """Which rows of the pack are used, and their labels."""

    votes: VotesSettings | None = Field(
        None, description="labels by the pack's columns of votes; null takes its labels"
    )
    exclude: tuple[str, ...] = Field((), description="classes left out")
    folds: int | None = Field(
        None, ge=3, description="cross-validation: parts the labelled images are cut into, groups kept whole"
    )
    fold: int = Field(0, ge=0, description="cross-validation: the part, from 0, that is the test split")

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> DataSettings:
        if self.fold and self.fold >= (self.folds or 1):
            raise ValueError(f"fold {self.fold} of {self.folds or 'no'} folds: they are numbered from 0")
        return self
