"""Recipes: every setting of a training and its default, read from YAML and refused with the line at fault.

A recipe names choices (`loss: cross_entropy`), never import paths. The functions behind a choice live in a dict beside
each other (`training/losses.py`, ...); a test holds those dicts against the names allowed here.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from .errors import SkyclassError

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


class Settings(BaseModel):
    """Frozen, and refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Model = TypeVar("Model", bound=Settings)


class About(Settings):
    """What a reader wants to know before running the recipe."""

    question: str = Field("", description="the question this recipe answers")
    command: str = Field("", description="the command that runs it")
    cost: str = Field("", description="what it costs on 2 cores and on one GPU, measured or 'not measured'")
    score: str = Field("", description="the score to expect, on which data")


class PixelRecipe(Settings):
    """How a decoded image becomes stored pixels: bands, NaN, stretch, crop, resize, in this order."""

    bands: tuple[str, ...] | None = Field(None, description="bands to keep, by name and in order; null keeps all")
    fill_nan: Literal["zero", "min", "median"] = Field(
        "zero",
        description="what replaces NaN and infinite pixels: zero, or the finite minimum or median of the band",
    )
    interval: Literal["none", "minmax", "percentile", "zscale"] = Field(
        "none", description="range of values mapped to [0, 1] and clipped; none keeps the values as they are"
    )
    percentile: float = Field(99.5, gt=50.0, le=100.0, description="central percentage kept by interval: percentile")
    per_band: bool = Field(False, description="take the interval of each band by itself (colours are lost)")
    stretch: Literal["linear", "sqrt", "log", "asinh"] = Field("linear", description="transfer curve on [0, 1]")
    softening: float | None = Field(
        None, gt=0.0, description="`a` of astropy's LogStretch (default 1000) or AsinhStretch (default 0.1)"
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


class DataRecipe(Settings):
    """Which rows of the pack are used."""

    exclude: tuple[str, ...] = Field((), description="classes left out")


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
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="moment decays of Adam and AdamW")
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
    hint = _nearest(str(name), shipped) or f"the shipped ones are {', '.join(shipped)}"
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
    _refuse_repeats(node, path)
    if not isinstance(document, dict):
        raise SkyclassError("a recipe is a mapping of keys", where=path, fix="see `skyclass recipes show`")
    origin = dict(_apply_overrides(document, overrides))
    document.setdefault("name", path.stem)
    return _validate(Recipe, document, str(path), node, origin)


def parse_recipe(document: dict[str, Any], where: str = "recipe") -> Recipe:
    """A recipe from a plain dict, checked as a file is."""
    return _validate(Recipe, document, where, None, {})


def parse_pixels(recipe: PixelRecipe, overrides: Sequence[str]) -> PixelRecipe:
    """A pixel recipe changed by `KEY=VALUE` overrides, and checked."""
    document = recipe.model_dump()
    origin = dict(_apply_overrides(document, overrides, "--pixels"))
    return _validate(PixelRecipe, document, "pixels", None, origin)


def dump_recipe(recipe: Recipe) -> str:
    """The whole recipe, defaults included, as YAML that `load_recipe` reads back."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def recipe_hash(recipe: Settings) -> str:
    """SHA-256 of the settings in canonical JSON."""
    return hashlib.sha256(json.dumps(recipe.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()


def json_schema() -> dict[str, Any]:
    """The JSON schema of a recipe, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}


def _apply_overrides(
    document: dict[str, Any], overrides: Sequence[str], option: str = "--set"
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Write each `a.b=value` into the document; yields its key path and what messages call it."""
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            example = "training.epochs=3" if option == "--set" else "size=128"
            raise SkyclassError("not of the form KEY=VALUE", where=f"{option} {text}", fix=f"as in {option} {example}")
        path = tuple(part.strip() for part in key.split("."))
        target = document
        for part in path[:-1]:
            below = target.setdefault(part, {})
            if not isinstance(below, dict):
                what = f"{part!r} has no keys below it"
                raise SkyclassError(what, where=f"{option} {text}", fix="see `skyclass recipes show`")
            target = below
        try:
            target[path[-1]] = yaml.safe_load(value)
        except yaml.YAMLError:
            target[path[-1]] = value
        yield path, f"{option} {text}"


def _validate(
    model: type[Model],
    document: dict[str, Any],
    where: str,
    node: yaml.Node | None,
    origin: dict[tuple[str, ...], str],
) -> Model:
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
    location = tuple(part for part in first["loc"] if isinstance(part, str))
    line = _line_of(node, location)
    place = next((text for key, text in origin.items() if location[: len(key)] == key), None)
    if place is None and line is None:  # a section that an override has brought
        place = next((text for key, text in origin.items() if key[: len(location)] == location), None)
    place = place or (f"{where}:{line}" if line else where)
    dotted = ".".join(location)
    if first["type"] == "extra_forbidden":
        valid = _keys_at(model, location[:-1])
        fix = _nearest(location[-1], valid) or f"the keys here are {', '.join(valid)}"
        raise SkyclassError(f"unknown key {dotted!r}", where=place, fix=fix)
    message = first["msg"].removeprefix("Value error, ")
    what = ": ".join(part for part in (dotted, message) if part)
    raise SkyclassError(f"{what}, got {first['input']!r}", where=place, fix="see `skyclass recipes schema`")


def _nearest(name: str, valid: Sequence[str] | dict[str, Any]) -> str | None:
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else None


def _keys_at(model: type[BaseModel], location: tuple[str, ...]) -> list[str]:
    """Valid keys of the settings that `location` leads to."""
    for part in location:
        field = model.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return []
        model = field.annotation
    return list(model.model_fields)


def _refuse_repeats(node: yaml.Node | None, path: Path) -> None:
    """Errors: SkyclassError for a key that stands twice in one section, of which YAML would take the last."""
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        lines = [other.start_mark.line + 1 for other, _ in node.value if other.value == key.value]  # type: ignore[union-attr]
        if len(lines) > 1:
            what = f"the key {key.value!r} stands on line {lines[0]} already"
            raise SkyclassError(what, where=f"{path}:{lines[1]}", fix="keep one of them")
        _refuse_repeats(value, path)


def _line_of(node: yaml.Node | None, location: tuple[str, ...]) -> int | None:
    """Line (from 1) of the key at `location`, or of the deepest key above it that the file has."""
    line = None
    for part in location:
        if not isinstance(node, yaml.MappingNode):
            break
        for key, value in node.value:
            if key.value == part:
                line, node = key.start_mark.line + 1, value
                break
        else:
            break
    return line
