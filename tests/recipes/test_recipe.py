"""Recipes: what is refused and where, overrides, the way to YAML and back, the schema, the shipped ones."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from skyclass.core.errors import SkyclassError
from skyclass.models.heads import HEADS
from skyclass.recipes.data_settings import AugmentSettings, PixelSettings
from skyclass.recipes.model_settings import ModelSettings
from skyclass.recipes.recipe import (
    Recipe,
    dump_recipe,
    json_schema,
    load_recipe,
    parse_pixels,
    parse_recipe,
    recipe_hash,
    recipe_path,
    shipped_recipes,
)
from skyclass.recipes.schema import Settings
from skyclass.recipes.training_settings import TrainingSettings
from skyclass.training.loop.losses import LOSSES
from skyclass.training.loop.optimizers import OPTIMIZERS, SCHEDULES

SECTIONS = {name for name, field in Recipe.model_fields.items() if isinstance(field.default, Settings)}


def recipe_file(folder: Path, text: str) -> Path:
    file = folder / "mine.yaml"
    file.write_text(text, encoding="utf-8")
    return file


# What is refused


@pytest.mark.parametrize(
    ("text", "key", "line", "nearest"),
    [
        ("name: x\ntrainin:\n  epochs: 3\n", "trainin", 2, "training"),
        ("training:\n  batch_size: 4\n  epoch: 3\n", "training.epoch", 3, "epochs"),
        ("augment: {rotation: 5, flip_horizontl: 1.0}\n", "augment.flip_horizontl", 1, "flip_horizontal"),
        ("# a remark\n\npixels:\n\n  sise: 64\n", "pixels.sise", 5, "size"),
        ("about:\n  qestion: why\n", "about.qestion", 2, "question"),
        ("data:\n  exclude: [a]\n  exclud: [b]\n", "data.exclud", 3, "exclude"),
        ("model:\n  back_bone: resnet18\n", "model.back_bone", 2, "backbone"),
    ],
)
def test_an_unknown_key_is_refused_with_its_line_and_the_nearest_name(
    tmp_path: Path, text: str, key: str, line: int, nearest: str
) -> None:
    file = recipe_file(tmp_path, text)
    with pytest.raises(SkyclassError) as refusal:
        load_recipe(file)
    assert str(refusal.value) == f"{file}:{line}: unknown key {key!r}; did you mean {nearest!r}?"


def test_every_section_refuses_unknown_keys_and_lists_its_own() -> None:
    assert {"about", "data", "pixels", "augment", "model", "training", "calibration", "tune"} == SECTIONS
    for name in SECTIONS:
        section = type(getattr(Recipe(), name))
        with pytest.raises(SkyclassError, match=f"unknown key '{name}.zzzzzz'") as refusal:
            parse_recipe({name: {"zzzzzz": 1}})
        assert refusal.value.fix == f"the keys here are {', '.join(section.model_fields)}"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("training:\n  epochs: many\n", 2, "training.epochs: should be a whole number"),
        ("training:\n  epochs: -1\n", 2, "training.epochs: should be 0 or more, got -1"),
        ("training:\n  epochs: 2.5\n", 2, "training.epochs"),
        ("training:\n  loss: hinge\n", 2, "training.loss: should be 'cross_entropy' or 'focal', got 'hinge'"),
        ("training:\n  optimizer: sgdd\n", 2, "'adam', 'adamw' or 'sgd'"),
        ("training:\n  betas: [0.9, 1.5]\n", 2, "training.betas: should be less than 1.0, got 1.5"),
        ("training:\n  betas: [0.9]\n", 2, "training.betas"),
        ("training:\n  learning_rate: .nan\n", 2, "training.learning_rate: should be a finite number"),
        ("training:\n  learning_rate: 0\n", 2, "training.learning_rate: should be greater than 0"),
        ("training:\n", 1, "training: should be a section with keys of its own"),
        ("training: 3\n", 1, "training: should be a section with keys of its own"),
        ("pixels:\n  size: [64, 0]\n", 2, "pixels.size: should be greater than 0, got 0"),
        ("pixels:\n  size: [64, 64, 3]\n", 2, "pixels.size"),
        ("pixels:\n  size: 100000\n", 2, "100,000 x 100,000 pixels are more than the 200,000,000"),
        ("pixels:\n  percentile: 40\n", 2, "pixels.percentile"),
        ("augment:\n  flip_vertical: 1.5\n", 2, "augment.flip_vertical: should be 1.0 or less"),
        ("augment:\n  scale: [1.2, 0.8]\n", 1, "scale must be [smallest, largest]"),
        ("augment:\n  mirror_swaps: [[left]]\n", 2, "augment.mirror_swaps"),
        (
            "data:\n  exclude: [no]\n",
            2,
            "data.exclude: should be text, in quotes",
        ),
        ("seed: -1\n", 1, "seed: should be 0 or more"),
    ],
)
def test_wrong_types_ranges_and_choices_are_refused_with_their_line(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    file = recipe_file(tmp_path, text)
    with pytest.raises(SkyclassError, match=re.escape(words)) as refusal:
        load_recipe(file)
    assert refusal.value.where == f"{file}:{line}"
    assert refusal.value.fix == "see `skyclass recipes schema`"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("training: {epochs: 3\n", "not valid YAML"),
        ("a: 1\n  b: 2\n", "not valid YAML"),
        ("- training\n", "a recipe is a mapping of keys"),
        ("just words\n", "a recipe is a mapping of keys"),
        ("yes: 1\n", "has a key that is no text"),
        ("!!python/object/apply:os.getcwd []\n", "not valid YAML"),
    ],
)
def test_files_that_are_no_recipe_are_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    file = recipe_file(tmp_path, text)
    with pytest.raises(SkyclassError, match=words) as refusal:
        load_recipe(file)
    assert str(refusal.value).startswith(f"{file}: {refusal.value.what}")
    assert "\n" not in str(refusal.value)
    assert not refusal.value.what.startswith(":")


def test_an_unknown_recipe_names_the_nearest_shipped_one() -> None:
    with pytest.raises(SkyclassError, match="no such recipe; did you mean 'lensing-demo'"):
        recipe_path("lensing-dmo")
    with pytest.raises(SkyclassError, match=r"the shipped ones are .*lensing-demo"):
        recipe_path("zzzzzzzz")


def test_an_empty_file_is_the_default_recipe_under_the_name_of_the_file(tmp_path: Path) -> None:
    assert load_recipe(recipe_file(tmp_path, "")) == Recipe(name="mine")


# Overrides


def test_overrides_take_yaml_values_and_win_over_the_file(tmp_path: Path) -> None:
    file = recipe_file(tmp_path, "training:\n  epochs: 3\n  batch_size: 7\n")
    overrides = [
        "training.epochs=5",
        "training.learning_rate=1e-2",
        "pixels.size=[48, 64]",
        "pixels.crop=32",
        "model.weights=none",
        "data.exclude=[a, b]",
        "training.early_stopping=null",
        "training.channels_last=false",
        "seed = 4",
    ]
    recipe = load_recipe(file, overrides)
    assert (recipe.training.epochs, recipe.training.batch_size, recipe.seed) == (5, 7, 4)
    assert recipe.training.learning_rate == 0.01
    assert (recipe.pixels.size, recipe.pixels.crop) == ((48, 64), (32, 32))
    assert recipe.model.weights == "none"
    assert recipe.data.exclude == ("a", "b")
    assert recipe.training.early_stopping is None
    assert recipe.training.channels_last is False


def test_of_two_overrides_the_last_holds() -> None:
    assert load_recipe("lensing-demo", ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.epochs=many", "training.epochs: should be a whole number"),
        ("training.epoch=3", "unknown key 'training.epoch'; did you mean 'epochs'"),
        ("trainin.epochs=3", "unknown key 'trainin'; did you mean 'training'"),
        ("augment.scale=[1.2, 0.8]", "scale must be [smallest, largest]"),
        ("training.epochs.first=3", "'epochs' has no keys below it"),
        ("training=3", "training: should be a section with keys of its own"),
        ("training.epochs", "not of the form KEY=VALUE"),
        ("=3", "not of the form KEY=VALUE"),
    ],
)
def test_a_wrong_override_is_named_itself(tmp_path: Path, override: str, words: str) -> None:
    file = recipe_file(tmp_path, "training:\n  epochs: 3\n")
    with pytest.raises(SkyclassError, match=re.escape(words)) as refusal:
        load_recipe(file, [override])
    assert refusal.value.where == f"--set {override}"


def test_a_fault_of_the_file_is_not_blamed_on_an_override(tmp_path: Path) -> None:
    file = recipe_file(tmp_path, "training:\n  batch_size: 0\n")
    with pytest.raises(SkyclassError) as refusal:
        load_recipe(file, ["training.epochs=3"])
    assert refusal.value.where == f"{file}:2"


def test_pixel_overrides() -> None:
    assert parse_pixels(PixelSettings(), ["size=[20, 30]", "interval=zscale"]) == PixelSettings(
        size=(20, 30), interval="zscale"
    )
    with pytest.raises(SkyclassError, match="unknown key 'sise'; did you mean 'size'") as refusal:
        parse_pixels(PixelSettings(), ["sise=20"])
    assert refusal.value.where == "--pixels sise=20"


# To YAML and back

words = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=8)
share = st.floats(0.0, 1.0)
pair = st.tuples(st.integers(1, 999), st.integers(1, 999))
recipes = st.builds(
    Recipe,
    name=words,
    seed=st.integers(0, 2**40),
    data=st.builds(lambda names: {"exclude": names}, st.lists(words, max_size=3)),
    pixels=st.fixed_dictionaries(
        {"bands": st.none() | st.lists(words, min_size=1, max_size=3, unique=True), "size": pair}
    ),
    augment=st.fixed_dictionaries({"crop": st.none() | pair, "noise": share, "mirror_swaps": st.just([("no", "1")])}),
    model=st.fixed_dictionaries({"freeze": st.lists(words, max_size=2), "dropout": st.floats(0.0, 0.99)}),
    training=st.fixed_dictionaries({"eps": st.floats(1e-300, 1.0), "early_stopping": st.none() | st.integers(1, 9)}),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(recipes)
def test_a_recipe_comes_back_from_its_yaml_as_it_was(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> None:
    file = recipe_file(tmp_path_factory.mktemp("recipe"), dump_recipe(recipe))
    assert load_recipe(file) == recipe
    assert recipe_hash(load_recipe(file)) == recipe_hash(recipe)


def test_the_dump_holds_every_default() -> None:
    document = yaml.safe_load(dump_recipe(Recipe()))
    assert set(document) == set(Recipe.model_fields)
    for name in SECTIONS:
        assert set(document[name]) == set(type(getattr(Recipe(), name)).model_fields)


def test_the_hash_changes_with_any_setting() -> None:
    changed = [{}, {"seed": 1}, {"training": {"eps": 1e-7}}, {"pixels": {"size": 8}}, {"data": {"exclude": ["a"]}}]
    assert len({recipe_hash(parse_recipe(document)) for document in changed}) == len(changed)


def test_recipes_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Recipe().training.epochs = 3  # type: ignore[misc]


def test_one_number_is_a_square_and_true_is_none() -> None:
    assert PixelSettings(size=64).size == (64, 64)  # type: ignore[arg-type]
    with pytest.raises(SkyclassError, match=r"pixels\.size"):
        parse_recipe({"pixels": {"size": True}})


def test_less_loss_and_more_of_all_else_is_better() -> None:
    monitors = get_args(TrainingSettings.model_fields["monitor"].annotation)
    modes = {name: TrainingSettings(monitor=name).monitor_mode for name in monitors}
    assert {name for name, mode in modes.items() if mode == "min"} == {"val_loss", "val_log_loss"}
    assert {"val_accuracy", "val_balanced_accuracy", "val_macro_f1", "val_auroc"} < set(modes)


# The schema


def faults(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str = "") -> list[str]:
    """What JSON Schema (the part of it that Pydantic writes) has against a value."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]] | {k: v for k, v in schema.items() if k != "$ref"}
    if "anyOf" in schema:
        found = [faults(value, option, root, path) for option in schema["anyOf"]]
        return [] if [] in found else [line for lines in found for line in lines]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    types = {
        "object": isinstance(value, dict),
        "array": isinstance(value, list),
        "string": isinstance(value, str),
        "boolean": isinstance(value, bool),
        "number": number,
        "integer": number and float(value).is_integer(),
        "null": value is None,
    }
    if "type" in schema and not types[schema["type"]]:  # without one anything goes
        return [f"{path}: {value!r} is no {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{path}: {value!r} is none of {schema['enum']}"]
    if "const" in schema and value != schema["const"]:
        return [f"{path}: {value!r} is not {schema['const']}"]
    if number:
        bad = value < schema.get("minimum", value) or value > schema.get("maximum", value)
        bad = bad or value <= schema.get("exclusiveMinimum", value - 1)
        return [f"{path}: {value} is out of range"] if bad or value >= schema.get("exclusiveMaximum", value + 1) else []
    if isinstance(value, list):
        items = schema.get("prefixItems", [schema.get("items", {})] * len(value))
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            return [f"{path}: {len(value)} items"]
        pairs = zip(value, items, strict=True)
        return [line for index, pair in enumerate(pairs) for line in faults(*pair, root, f"{path}[{index}]")]
    if isinstance(value, dict):
        known = schema.get("properties", {})
        unknown = [f"{path}.{key} is unknown" for key in value if key not in known]
        if isinstance(schema.get("additionalProperties"), dict):  # a mapping from any key
            known, unknown = dict.fromkeys(value, schema["additionalProperties"]), []
        else:
            assert schema.get("additionalProperties") is False
        inner = [faults(value[key], known[key], root, f"{path}.{key}") for key in value if key in known]
        return unknown + [line for lines in inner for line in lines]
    return []


def test_the_schema_accepts_the_defaults_and_short_sizes() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert faults(yaml.safe_load(dump_recipe(Recipe())), schema, schema) == []
    assert faults({"pixels": {"size": 64, "crop": [48, 64]}}, schema, schema) == []


@pytest.mark.parametrize(
    "document",
    [
        {"trainin": {}},
        {"training": {"epochs": "many"}},
        {"training": {"epochs": -1}},
        {"training": {"loss": "hinge"}},
        {"training": {"optimizer": "sgdd"}},
        {"training": {"betas": [0.9]}},
        {"training": {"betas": [0.9, 1.5]}},
        {"pixels": {"size": [64, 0]}},
        {"pixels": {"size": 0}},
        {"pixels": {"size": [1, 2, 3]}},
        {"augment": {"flip_vertical": 1.5}},
        {"seed": -1},
    ],
)
def test_the_schema_refuses_what_loading_refuses(document: dict[str, Any]) -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert faults(document, schema, schema)
    with pytest.raises(SkyclassError):
        parse_recipe(document)


def test_the_schema_describes_every_key() -> None:
    schema = json_schema()
    for section in SECTIONS:
        definition = schema["$defs"][type(getattr(Recipe(), section)).__name__]
        assert all(key.get("description") for key in definition["properties"].values()), section


# Choices


@pytest.mark.parametrize(
    ("functions", "settings_of", "key"),
    [
        (LOSSES, TrainingSettings, "loss"),
        (OPTIMIZERS, TrainingSettings, "optimizer"),
        (SCHEDULES, TrainingSettings, "schedule"),
        (HEADS, ModelSettings, "head"),
    ],
)
def test_every_choice_has_a_function_and_every_function_is_a_choice(
    functions: dict[str, Any], settings_of: type[Settings], key: str
) -> None:
    assert set(functions) == set(get_args(settings_of.model_fields[key].annotation))
    assert all(callable(function) for function in functions.values())


def test_augmentation_is_off_by_default() -> None:
    defaults = AugmentSettings().model_dump(exclude={"fill", "scale"})
    assert not any(defaults.values())
    assert AugmentSettings().scale == (1.0, 1.0)


# The shipped recipes


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_tells_what_a_reader_wants_to_know(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    about = recipe.about
    assert all(text.strip() for text in (about.question, about.command, about.cost, about.score)), about
    assert "?" in recipe.about.question
    assert re.search(rf"skyclass train {re.escape(name)} ", recipe.about.command), recipe.about.command


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_satisfies_the_schema_and_opens_with_its_question(name: str) -> None:
    schema = json.loads(json.dumps(json_schema()))
    document = yaml.safe_load(recipe_path(name).read_text(encoding="utf-8"))
    assert faults(document, schema, schema) == []
    assert next(iter(document)) == "about"


def test_there_are_shipped_recipes() -> None:
    assert "lensing-demo" in shipped_recipes()
