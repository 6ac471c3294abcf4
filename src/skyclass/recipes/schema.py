"""Validate a YAML document by a Pydantic model: overrides, and errors with their line and the nearest valid key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from ..core.errors import SkyclassError, did_you_mean
from ..core.files.yaml_files import parse_yaml


class Settings(BaseModel):
    """Frozen, and refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


Model = TypeVar("Model", bound=Settings)


def apply_overrides(
    document: dict[str, Any], overrides: Sequence[str], option: str = "--set"
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Write each `a.b=value` into the document; yields its key path and what messages call it."""
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            example = "training.epochs=3" if option == "--set" else "size=128"
            raise SkyclassError("not of the form KEY=VALUE", where=f"{option} {text}", fix=f"as in {option} {example}")
        path = tuple(part.strip() for part in key.split("."))
        set_key(document, path, value_of(value), f"{option} {text}")
        yield path, f"{option} {text}"


def value_of(text: str) -> Any:
    """The value that a text on the command line means; one that is no YAML is a text."""
    try:
        return parse_yaml(text, "value")[0]
    except SkyclassError:
        return text


def set_key(document: dict[str, Any], path: tuple[str, ...], value: Any, where: str) -> None:
    """Write a value at a key path; sections that are not there, or empty, are made."""
    for part in path[:-1]:
        if document.get(part) is None:
            document[part] = {}
        document = document[part]
        if not isinstance(document, dict):
            raise SkyclassError(f"{part!r} has no keys below it", where=where, fix="see `skyclass recipes show`")
    document[path[-1]] = value


def validate(
    model: type[Model],
    document: dict[str, Any],
    where: str,
    node: yaml.Node | None,
    places: dict[tuple[str, ...], str],
) -> Model:
    """The settings that a document describes.

    where : what messages call the document; node : its YAML tree, for line numbers; places : key path -> what messages
        call the override that set it
    Errors: SkyclassError with the place of the first fault and, for an unknown key, the nearest valid one.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
    location = tuple(part for part in first["loc"] if isinstance(part, str))
    line = _line_of(node, location)
    place = next((text for key, text in places.items() if location[: len(key)] == key), None)
    if place is None and line is None:  # a section that an override has brought
        place = next((text for key, text in places.items() if key[: len(location)] == location), None)
    place = place or (f"{where}:{line}" if line else where)
    dotted = ".".join(location)
    if first["type"] == "extra_forbidden":
        valid = _keys_at(model, location[:-1])
        fix = did_you_mean(location[-1], valid) or f"the keys here are {', '.join(valid)}"
        raise SkyclassError(f"unknown key {dotted!r}", where=place, fix=fix)
    message = _message(first)
    what = ": ".join(part for part in (dotted, message) if part)
    raise SkyclassError(f"{what}, got {first['input']!r}", where=place, fix="see `skyclass recipes schema`")


# Messages of pydantic's types of errors; pydantic fills in what is in braces.
_MEANING = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "should be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "should be a number"),
    "finite_number": "should be a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "should be true or false"),
    "string_type": "should be text, in quotes where it reads as something else",
    "greater_than": "should be greater than {gt}",
    "greater_than_equal": "should be {ge} or more",
    "less_than": "should be less than {lt}",
    "less_than_equal": "should be {le} or less",
    "literal_error": "should be {expected}",
    **dict.fromkeys(("tuple_type", "list_type"), "should be a list, such as [first, second]"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "should be a section with keys of its own"),
    "too_short": "should have {min_length} values at least, and has {actual_length}",
    "too_long": "should have {max_length} values at most, and has {actual_length}",
    "missing": "is missing",
    "invalid_key": "has a key that is no text; put it in quotes",
    "value_error": "{error}",
}


def _message(fault: ErrorDetails) -> str:
    """The message of an error that pydantic found."""
    meaning = _MEANING.get(fault["type"])
    return meaning.format(**fault.get("ctx", {})) if meaning else "has a value that does not fit"


def _keys_at(model: type[BaseModel], location: tuple[str, ...]) -> list[str]:
    """Valid keys of the settings that `location` leads to."""
    for part in location:
        field = model.model_fields.get(part)
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        below = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not below:
            return []
        model = below[0]
    return list(model.model_fields)


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
