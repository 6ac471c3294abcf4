"""Recipes: every setting of a training and its default, read from YAML and refused with the line at fault.

A recipe names choices (`loss: cross_entropy`), never import paths. The functions behind a choice live in a dict beside
each other (`training/loop/losses.py`, ...); a test holds those dicts against the names allowed here. The sections are
in `data_settings`, `model_settings` and `training_settings`; this module exports all of them.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field

from ..core.errors import SkyclassError, did_you_mean
from ..core.files.yaml_files import read_yaml
from .data_settings import AugmentSettings, DataSettings, PixelSettings, TrainingPixels, VotesSettings
from .model_settings import LoraSettings, ModelSettings
from .schema import Settings, apply_overrides, validate
from .training_settings import (
    CalibrationSettings,
    RangeSettings,
    RatesSettings,
    TrainingSettings,
    TuneSettings,
    score_mode,
)

logger = logging.getLogger(__name__)

__all__ = [
    "SHIPPED",
    "AugmentSettings",
    "CalibrationSettings",
    "DataSettings",
    "LoraSettings",
    "ModelSettings",
    "PixelSettings",
    "RangeSettings",
    "RatesSettings",
    "Recipe",
    "StoredPixels",
    "TrainingPixels",
    "TrainingSettings",
    "TuneSettings",
    "VotesSettings",
    "dump_recipe",
    "json_schema",
    "load_recipe",
    "parse_pixels",
    "parse_recipe",
    "recipe_hash",
    "recipe_path",
    "score_mode",
    "shipped_recipes",
    "stored_pixels",
    "stored_recipe",
    "with_defaults_of",
]

SHIPPED = Path(__file__).parent / "shipped"

# Defaults that a later version changed: section -> key -> what a stored recipe that lacks the key was made with.
_OLD_DEFAULTS: dict[str, dict[str, Any]] = {"pixels": {"fit": "distort"}, "data.votes": {"question": "all"}}


class Reported(Settings):
    """What the authors of a published system reported on their own data: cited, never claimed as ours."""

    source: str = Field(description="who reported it, on which data")
    scores: dict[str, float] = Field({}, description="score: value, as in accuracy: 0.971")


class About(Settings):
    """What a reader wants to know before running the recipe."""

    question: str = Field("", description="the question this recipe answers")
    command: str = Field("", description="the command that runs it")
    cost: str = Field("", description="what it costs on 2 cores and on one GPU, measured or 'not measured'")
    score: str = Field("", description="the score to expect, on which data")
    reported: Reported | None = Field(None, description="what the authors of a published system reported")


class Recipe(Settings):
    """What to train and how."""

    name: str = Field("recipe", description="a short name")
    about: About = About()
    seed: int = Field(0, ge=0, description="seed of the weights, the order of images and the augmentation")
    data: DataSettings = DataSettings()
    pixels: TrainingPixels = TrainingPixels()
    augment: AugmentSettings = AugmentSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    tune: TuneSettings = TuneSettings()


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


def load_recipe(name: str | Path, overrides: Sequence[str] = (), *, stored: bool = False) -> Recipe:
    """Read a recipe file or a shipped recipe, change it by `KEY.KEY=VALUE` overrides, and check it.

    stored : whether it is one that Skyclass wrote into a run, which has the defaults of its version

    Errors: SkyclassError with the line (or the override) of the first fault and the nearest valid key.
    """
    path = recipe_path(name)
    document, node = read_yaml(path)
    document = document or {}
    if not isinstance(document, dict):
        raise SkyclassError("a recipe is a mapping of keys", where=path, fix="see `skyclass recipes show`")
    places = dict(apply_overrides(document, overrides))
    document.setdefault("name", path.stem)
    if stored:
        _with_old_defaults(document)
    else:
        _say_renamed(document.get("pixels"))
    return validate(Recipe, document, str(path), node, places)


def parse_recipe(document: dict[str, Any], where: str = "recipe") -> Recipe:
    """A recipe from a plain dict, checked as a file is."""
    return validate(Recipe, document, where, None, {})


def stored_recipe(document: Mapping[str, Any], where: str) -> Recipe:
    """A recipe that Skyclass wrote as JSON; missing keys have the defaults of its version."""
    whole = copy.deepcopy(dict(document))
    _with_old_defaults(whole)
    return parse_recipe(whole, where)


def _old_pixels(document: Any) -> Any:
    return {**_OLD_DEFAULTS["pixels"], **document} if isinstance(document, dict) else document


StoredPixels = Annotated[PixelSettings, BeforeValidator(_old_pixels)]
"""Pixel settings in the JSON of an artefact, read as by `stored_pixels`."""


def stored_pixels(document: Mapping[str, Any]) -> PixelSettings:
    """The pixel settings of a pack or a classifier, as stored in JSON; missing keys have that version's defaults."""
    return validate(PixelSettings, {**_OLD_DEFAULTS["pixels"], **document}, "stored pixels", None, {})


def with_defaults_of(recipe: Recipe, older: Recipe) -> Recipe:
    """The recipe with the defaults of the version that wrote `older`, where only these have changed since."""
    now, then = recipe.model_dump(mode="json"), older.model_dump(mode="json")
    new: Any = {"pixels": TrainingPixels(), "data.votes": VotesSettings()}
    for path, defaults in _OLD_DEFAULTS.items():
        section, before = _section(now, path), _section(then, path)
        for key, old in defaults.items():
            if section and before and section[key] == getattr(new[path], key) and before[key] == old:
                section[key] = old
    return parse_recipe(now)


def _section(document: dict[str, Any], path: str) -> dict[str, Any] | None:
    section: Any = document
    for part in path.split("."):
        section = section.get(part) if isinstance(section, dict) else None
    return section if isinstance(section, dict) else None


def _with_old_defaults(document: dict[str, Any]) -> None:
    for path, defaults in _OLD_DEFAULTS.items():
        section = _section(document, path)
        if section is not None:
            section.update({key: value for key, value in defaults.items() if key not in section})
        elif path == "pixels":
            document[path] = dict(defaults)


def parse_pixels(settings: PixelSettings, overrides: Sequence[str]) -> PixelSettings:
    """Pixel settings changed by `KEY=VALUE` overrides, and checked."""
    document = settings.model_dump()
    places = dict(apply_overrides(document, overrides, "--pixels"))
    _say_renamed(document)
    return validate(PixelSettings, document, "pixels", None, places)


def _say_renamed(pixels: Any) -> None:
    """Log that a value has another name now, by which it is stored."""
    if isinstance(pixels, dict) and pixels.get("fit") == "stretch":
        logger.warning("Note: pixels.fit: stretch is now called distort; the old name still works")


def dump_recipe(recipe: Recipe) -> str:
    """The whole recipe, defaults included, as YAML that `load_recipe` reads back."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def recipe_hash(recipe: Settings) -> str:
    """SHA-256 of the settings in canonical JSON.

    A key that recipes of the first version lack is left out where it has the meaning of these, and a value that was
    renamed has its first name, so that their hashes stay.
    """
    document = recipe.model_dump(mode="json")
    for pixels in (document, document.get("pixels") or {}):
        if pixels.get("fit") == "distort":
            pixels["fit"] = "stretch"  # its name in the first version
    votes = (document.get("data") or {}).get("votes") or {}
    if votes.get("question") in (None, "all"):
        votes.pop("question", None)
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def json_schema() -> dict[str, Any]:
    """The JSON schema of a recipe, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}
