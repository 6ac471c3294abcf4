"""Recipes: every setting of a training and its default, read from YAML and refused with the line at fault.

A recipe names choices (`loss: cross_entropy`), never import paths. The functions behind a choice live in a dict beside
each other (`training/losses.py`, ...); a test holds those dicts against the names allowed here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from .errors import SkyclassError, did_you_mean
from .settings import Settings, apply_overrides, refuse_repeats, validate

SHIPPED = Path(__file__).parent / "recipes"


def _pair(value: object) -> object:
    """One number stands for a square: 64 is (64, 64)."""
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value


Positive = Annotated[int, Field(gt=0)]
_SIDE = {"type": "integer", "exclusiveMinimum": 0}
_SIDES = {"type": "array", "prefixItems": [_SIDE, _SIDE], "minItems": 2, "maxItems": 2}
Size = Annotated[
    tuple[Positive, Positive], BeforeValidator(_pair), WithJsonSchema({"anyOf": [_SIDE, _SIDES]}, mode="validation")
]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Decay = Annotated[float, Field(ge=0.0, lt=1.0)]


class About(Settings):
    """What a reader wants to know before running the recipe."""

    question: str = Field("", description="the question this recipe answers")
    command: str = Field("", description="the command that runs it")
    cost: str = Field("", description="what it costs on 2 cores and on one GPU, measured or 'not measured'")
    score: str = Field("", description="the score to expect, on which data")


class PixelRecipe(Settings):
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
    fit: Literal["stretch", "crop", "pad"] = Field(
        "stretch",
        description="another aspect ratio is stretched, cropped at the centre, or padded with zeros",
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


class TrainingPixels(PixelRecipe):
    """The pixel recipe of a training: as for a pack, and the normalisation of the network's input."""

    normalise: Literal["imagenet", "dataset", "none"] = Field(
        "dataset",
        description="subtract a mean and divide by a deviation: ImageNet's, the training split's, or neither",
    )


class AugmentRecipe(Settings):
    """Random changes of the training images; validation and test images never see them."""

    flip_horizontal: Share = Field(0.0, description="probability of mirroring left and right")
    flip_vertical: Share = Field(0.0, description="probability of mirroring up and down")
    rotation: float = Field(0.0, ge=0.0, le=180.0, description="largest rotation either way, degrees; 180 is any angle")
    scale: tuple[float, float] = Field((1.0, 1.0), description="smallest and largest magnification")
    shift: Share = Field(0.0, description="largest shift either way, as a share of the height and of the width")
    crop: Size | None = Field(None, description="resize to this (height, width), then cut pixels.size at random")
    brightness: Share = Field(0.0, description="largest relative change of brightness")
    contrast: Share = Field(0.0, description="largest relative change of contrast about the image's mean")
    saturation: Share = Field(0.0, description="largest relative change of saturation (three bands only)")
    noise: float = Field(0.0, ge=0.0, description="standard deviation of Gaussian noise, in stored units of [0, 1]")
    fill: Literal["zeros", "border", "reflection"] = Field(
        "zeros", description="what fills the corners that a rotation or shift uncovers"
    )
    mirror_swaps: tuple[tuple[str, str], ...] = Field(
        (), description="pairs of classes that turn into each other in a mirror"
    )

    @model_validator(mode="after")
    def _scale_is_ordered(self) -> AugmentRecipe:
        low, high = self.scale
        if not 0.0 < low <= high:
            raise ValueError(f"scale must be [smallest, largest] with 0 < smallest <= largest, not [{low}, {high}]")
        return self


class VotesRecipe(Settings):
    """How vote fractions, a column a possible answer, become labels."""

    columns: tuple[str, ...] = Field(
        (), description="the columns of votes, by name or pattern such as Class1.*; empty takes those of Galaxy Zoo"
    )
    keep: tuple[str, ...] | Positive | None = Field(
        None, description="classes kept, by name, or how many of the most frequent; the other images lose their label"
    )
    threshold: Share = Field(0.0, description="images whose largest fraction is smaller get no label")
    classes: dict[str, str] = Field(
        {}, description="class: expression over the columns, as in smooth: Class1.1 > 0.8; instead of the largest"
    )
    rename: dict[str, str] = Field({}, description="column: the name of its class")


class DataRecipe(Settings):
    """Which rows of the pack are used, and their labels."""

    votes: VotesRecipe | None = Field(None, description="labels by the pack's columns of votes; null takes its labels")
    exclude: tuple[str, ...] = Field((), description="classes left out")
    folds: int | None = Field(
        None, ge=3, description="cross-validation: parts the labelled images are cut into, groups kept whole"
    )
    fold: int = Field(0, ge=0, description="cross-validation: the part, from 0, that is the test split")

    @model_validator(mode="after")
    def _fold_is_one_of_them(self) -> DataRecipe:
        if self.fold and self.fold >= (self.folds or 1):
            raise ValueError(f"fold {self.fold} of {self.folds or 'no'} folds: they are numbered from 0")
        return self


class ModelRecipe(Settings):
    """The network."""

    backbone: str = Field("resnet18", description="a timm name, hf_hub:OWNER/NAME, or resnet20_cifar")
    weights: str = Field("none", description="imagenet (downloaded by timm), none, or the path of a weight file")
    freeze: tuple[str, ...] = Field((), description="backbone modules that are not trained, such as layer1")
    head: Literal["linear"] = Field("linear", description="what turns pooled features into class scores")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="dropout before the head")


class TrainingRecipe(Settings):
    """Optimisation."""

    epochs: int = Field(20, ge=1, description="epochs at most")
    batch_size: int = Field(64, ge=1, description="images in a step")
    loss: Literal["cross_entropy"] = Field("cross_entropy", description="the loss")
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0, description="share of each label spread over all classes")
    class_weights: Literal["none", "balanced", "sqrt"] = Field(
        "none", description="weight of a class in the loss: equal, 1/frequency, or its square root"
    )
    optimizer: Literal["adam", "adamw"] = Field("adamw", description="the optimiser")
    learning_rate: float = Field(1e-3, gt=0.0, description="learning rate (the highest one of a onecycle schedule)")
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="moment decays of Adam; onecycle moves the first")
    eps: float = Field(1e-8, gt=0.0, description="epsilon of Adam and AdamW")
    weight_decay: float = Field(1e-4, ge=0.0, description="weight decay")
    schedule: Literal["none", "plateau", "onecycle"] = Field("onecycle", description="how the learning rate moves")
    warmup: float = Field(0.3, gt=0.0, lt=1.0, description="onecycle: share of the steps in which the rate rises")
    start_divisor: float = Field(25.0, ge=1.0, description="onecycle: first rate = learning_rate / start_divisor")
    end_divisor: float = Field(1e4, ge=1.0, description="onecycle: last rate = first rate / end_divisor")
    plateau_factor: float = Field(0.1, gt=0.0, lt=1.0, description="plateau: factor on the rate")
    plateau_patience: int = Field(3, ge=0, description="plateau: epochs without progress before the rate falls")
    monitor: Literal["val_loss", "val_accuracy", "val_balanced_accuracy", "val_auroc"] = Field(
        "val_loss", description="what decides the best checkpoint, the plateau and the early stop"
    )
    early_stopping: int | None = Field(None, ge=1, description="stop after so many epochs without progress")
    keep_best: int = Field(1, ge=1, description="best checkpoints kept")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto takes bfloat16 where the hardware computes in it"
    )
    channels_last: bool = Field(True, description="memory order that convolutions are faster in")

    @property
    def monitor_mode(self) -> Literal["min", "max"]:
        """Whether less or more of the monitored quantity is better."""
        return "min" if self.monitor == "val_loss" else "max"


class Recipe(Settings):
    """What to train and how."""

    name: str = Field("recipe", description="a short name")
    about: About = About()
    seed: int = Field(0, ge=0, description="seed of the weights, the order of images and the augmentation")
    data: DataRecipe = DataRecipe()
    pixels: TrainingPixels = TrainingPixels()
    augment: AugmentRecipe = AugmentRecipe()
    model: ModelRecipe = ModelRecipe()
    training: TrainingRecipe = TrainingRecipe()


def shipped_recipes() -> dict[str, Path]:
    """Name -> file of the recipes that come with Skyclass."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def recipe_path(name: str | Path) -> Path:
    """The file of a recipe given by its path or by the name of a shipped one."""
    path = Path(name)
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if str(name) in shipped:
        return shipped[str(name)]
    hint = did_you_mean(str(name), shipped) or f"the shipped ones are {', '.join(shipped)}"
    raise SkyclassError("no such recipe", where=name, fix=hint)


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file or a shipped recipe, change it by `KEY.KEY=VALUE` overrides, and check it.

    Errors: SkyclassError with the line (or the override) of the first fault and the nearest valid key.
    """
    path = recipe_path(name)
    text = path.read_text(encoding="utf-8")
    try:
        document = yaml.safe_load(text) or {}
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise SkyclassError(f"not valid YAML: {error}", where=path, fix="mend that line") from None
    refuse_repeats(node, path)
    if not isinstance(document, dict):
        raise SkyclassError("a recipe is a mapping of keys", where=path, fix="see `skyclass recipes show`")
    origin = dict(apply_overrides(document, overrides))
    document.setdefault("name", path.stem)
    return validate(Recipe, document, str(path), node, origin)


def parse_recipe(document: dict[str, Any], where: str = "recipe") -> Recipe:
    """A recipe from a plain dict, checked as a file is."""
    return validate(Recipe, document, where, None, {})


def parse_pixels(recipe: PixelRecipe, overrides: Sequence[str]) -> PixelRecipe:
    """A pixel recipe changed by `KEY=VALUE` overrides, and checked."""
    document = recipe.model_dump()
    origin = dict(apply_overrides(document, overrides, "--pixels"))
    return validate(PixelRecipe, document, "pixels", None, origin)


def dump_recipe(recipe: Recipe) -> str:
    """The whole recipe, defaults included, as YAML that `load_recipe` reads back."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def recipe_hash(recipe: Settings) -> str:
    """SHA-256 of the settings in canonical JSON."""
    return hashlib.sha256(json.dumps(recipe.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def json_schema() -> dict[str, Any]:
    """The JSON schema of a recipe, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}
