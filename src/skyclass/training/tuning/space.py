"""The search space of a tuning: recipe keys, the values of each, and the recipe that a choice of them makes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from pydantic import JsonValue

from ...core.errors import SkyclassError
from ...recipes.recipe import Recipe, parse_recipe
from ...recipes.schema import set_key, validate
from ...recipes.training_settings import RangeSettings, TuneSettings

Values = dict[str, JsonValue]
"""Recipe key -> value, as in {"training.rates.early": 1e-4}."""
SearchSpace = dict[str, tuple[JsonValue, ...] | RangeSettings]
"""Recipe key -> the values that are tried, or the range that they are drawn from."""

LARGEST_GRID = 1_000_000


def recipe_with(recipe: Recipe, values: Mapping[str, JsonValue]) -> Recipe:
    """The recipe with those values, and without the settings of the tuning.

    Errors: SkyclassError that names the key of `tune.space` that the recipe does not have, or whose value it refuses.
    """
    document = recipe.model_dump(mode="json", exclude={"tune"})
    places = {}
    for key, value in values.items():
        path, where = tuple(key.split(".")), f"tune.space: {key}"
        set_key(document, path, value, where)
        places[path] = where
    return validate(Recipe, document, "recipe", None, places)


def with_space(recipe: Recipe, texts: Mapping[str, Any]) -> Recipe:
    """The recipe with other keys in `tune.space`, as the command line brings them, in place of those of that name."""
    document = recipe.model_dump(mode="json")
    document["tune"]["space"].update(texts)
    return parse_recipe(document, "--space")


def search_space(recipe: Recipe) -> SearchSpace:
    """The recipe's `tune.space`, each value of which the recipe accepts, as the recipe keeps it (1e-3 as a number).

    Errors: SkyclassError where nothing is searched, for an unknown key or a value that is refused, and for a value that
    occurs twice.
    """
    if not recipe.tune.space:
        fix = "give the recipe a tune.space, or --space 'training.learning_rate=[0.001,0.01]'"
        raise SkyclassError("there is nothing to tune: tune.space is empty", where=recipe.name, fix=fix)
    space: SearchSpace = {}
    for key, allowed in recipe.tune.space.items():
        if key.split(".")[0] == "tune":
            fix = "leave it out"
            raise SkyclassError("a tuning does not search its own settings", where=f"tune.space: {key}", fix=fix)
        if isinstance(allowed, RangeSettings):
            for end in (allowed.low, allowed.high):
                recipe_with(recipe, {key: int(end) if allowed.integer else end})
            space[key] = allowed
        else:
            values = tuple(_accepted(recipe, key, value) for value in allowed)
            space[key], choices = values, [as_choice(value) for value in values]
            twice = next((one for k, one in enumerate(choices) if one in choices[:k]), None)
            if twice is not None:
                raise SkyclassError(f"{twice} stands twice", where=f"tune.space: {key}", fix="name it once")
    return space


def _accepted(recipe: Recipe, key: str, value: JsonValue) -> JsonValue:
    """The value as the recipe keeps it; a section stays as it is written, without its defaults, and a name too."""
    accepted: Any = recipe_with(recipe, {key: value}).model_dump(mode="json")
    for part in key.split("."):
        accepted = accepted[part]
    return value if isinstance(accepted, dict) or (isinstance(accepted, str) and isinstance(value, str)) else accepted


def as_choice(value: JsonValue) -> str | int | float | bool | None:
    """A value as the study stores it: lists and sections as JSON."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def method_of(tune: TuneSettings) -> str:
    """The sampler: the recipe's, else grid for lists alone and tpe where there is a range."""
    ranges = any(isinstance(allowed, RangeSettings) for allowed in tune.space.values())
    return tune.sampler or ("tpe" if ranges else "grid")


def grid_size(space: SearchSpace) -> int:
    """The number of combinations of a space of lists. Errors: SkyclassError for more than a million."""
    size = math.prod(len(allowed) for allowed in space.values() if not isinstance(allowed, RangeSettings))
    if size > LARGEST_GRID:
        fix = "list fewer values, or choose with tune.sampler: tpe"
        raise SkyclassError(f"the grid has {size:,} combinations", where="tune.space", fix=fix)
    return size


def grid_values(space: SearchSpace, seed: int, number: int) -> Values:
    """Combination `number` of the grid, in an order drawn from the seed: a part of the grid is a sample of it."""
    lists = {key: allowed for key, allowed in space.items() if not isinstance(allowed, RangeSettings)}
    place = np.random.default_rng(seed).permutation(grid_size(space))[number]
    indices = np.unravel_index(place, [len(allowed) for allowed in lists.values()])
    return {key: allowed[int(index)] for (key, allowed), index in zip(lists.items(), indices, strict=True)}


def suggest_parameters(trial: optuna.trial.Trial, space: SearchSpace) -> Values:
    """The values of a trial: those it has already, or those that the study's sampler chooses."""
    return {key: _suggest(trial, key, allowed) for key, allowed in space.items()}


def _suggest(trial: optuna.trial.Trial, key: str, allowed: tuple[JsonValue, ...] | RangeSettings) -> JsonValue:
    if isinstance(allowed, RangeSettings):
        if allowed.integer:
            return trial.suggest_int(key, int(allowed.low), int(allowed.high), log=allowed.log)
        return trial.suggest_float(key, allowed.low, allowed.high, log=allowed.log)
    choices = [as_choice(value) for value in allowed]
    return allowed[choices.index(trial.suggest_categorical(key, choices))]


class GridSampler(optuna.samplers.BaseSampler):
    """Gives trial number n the combination number n.

    The study hands out each number once, whatever the processes: no combination is trained twice. (Optuna's own grid
    sampler draws from those that it sees neither finished nor running, and two processes may draw the same.)
    """

    def __init__(self, values: Values) -> None:
        self.values = values

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        """Nothing is drawn together."""
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        """Nothing is drawn together."""
        return {}

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        """The value of that key."""
        return as_choice(self.values[param_name])


def sampler_for(method: str, space: SearchSpace, seed: int, number: int) -> optuna.samplers.BaseSampler:
    """What chooses the values of trial `number`: its draws come from the seed and that number, in any process."""
    if method == "grid":
        return GridSampler(grid_values(space, seed, number))
    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    return {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}[method](seed=own)
