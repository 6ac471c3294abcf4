"""YAML documents read so that no text can cost more than it is long, or make anything but plain values.

Anchors and aliases are refused: a recipe needs none, and a few lines of them describe billions of values, or a value
that holds itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ..errors import SkyclassError
from ..limits import MAX_YAML, MAX_YAML_DEPTH

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's reads a hundred times as fast
_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null"))
_MEND = "mend that line"
# What the constructors of PyYAML raise for a date, number or truth value that is none, beside errors of their own.
_NO_VALUE = (ValueError, KeyError, AttributeError)


def read_yaml(path: Path) -> tuple[Any, yaml.Node | None]:
    """The content of a YAML file, and its tree for the numbers of lines.

    Raises
    ------
    SkyclassError
        With the line, where it is no YAML, is not UTF-8, holds aliases or is longer or deeper than any recipe.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_YAML + 1).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SkyclassError(
            f"not valid YAML (byte {error.start} is not UTF-8)", where=path, fix="save it again as UTF-8"
        ) from None
    except OSError as error:
        raise SkyclassError(f"cannot be read ({error.strerror})", where=path, fix="check the path") from None
    return parse_yaml(text, path)


def parse_yaml(text: str, where: str | Path) -> tuple[Any, yaml.Node | None]:
    """As `read_yaml`, of a text that messages call `where`."""
    if len(text) > MAX_YAML:
        raise SkyclassError(f"a YAML text of more than {MAX_YAML:,} characters", where=where, fix="shorten it")
    try:
        _check_events(text, where)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            document = None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise SkyclassError(f"not valid YAML: {error}", where=where, fix=_MEND) from None
    except _NO_VALUE as error:
        raise SkyclassError(f"not valid YAML: no such value ({error})", where=where, fix="mend it") from None
    _refuse_repeats(node, where)
    return document, node


def _check_events(text: str, where: str | Path) -> None:
    """Refuse aliases, types of a program's own and great depth, before anything is made of the text."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        number = event.start_mark.line + 1 if event.start_mark else 1
        line = f"{where}:{number}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            fix = "write the value out where it is needed"
            raise SkyclassError("an anchor or alias of YAML, which may stand for itself", where=line, fix=fix)
        tag = getattr(event, "tag", None)
        if tag is not None and tag not in _PLAIN_TAGS:
            what = f"not valid YAML: a value of the type {tag!r} on line {number}"
            raise SkyclassError(what, where=where, fix=_MEND)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_YAML_DEPTH:
            raise SkyclassError(f"sections more than {MAX_YAML_DEPTH} deep", where=line, fix="write them less deep")


def _refuse_repeats(node: yaml.Node | None, where: str | Path) -> None:
    """Errors: SkyclassError for a key that occurs twice in one section, of which YAML would take the last."""
    if not isinstance(node, yaml.MappingNode):
        for part in node.value if isinstance(node, yaml.SequenceNode) else ():
            _refuse_repeats(part, where)
        return
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if isinstance(key.value, str) and key.value in lines:
            what = f"the key {key.value!r} stands on line {lines[key.value]} already"
            raise SkyclassError(what, where=f"{where}:{line}", fix="keep one of them")
        if isinstance(key.value, str):
            lines[key.value] = line
        _refuse_repeats(value, where)
