"""Damage to what Skyclass itself writes: JSON, YAML, safetensors and torch's checkpoints, by their structure.

Use it as `from artefact_mutators import JSON`.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np

from helpers.mutators import damaged_bytes, number, one_of, sometimes_bytes

TEXTS = ("", "x" * 100_000, "\x1b[31m", "a\nb", "../../etc", "nan", "\ud800", "é" * 50)
VALUES_OF_JSON = (None, True, False, -1, 0, 1e308, float("nan"), float("inf"), [], {}, [[]], [None], {"": 0}, *TEXTS)
DEEP = "[" * 100_000


def damaged_json(content: bytes, rng: np.random.Generator) -> bytes:
    """Values of a JSON document replaced by others, keys dropped or renamed, nesting beyond any parser."""
    document = json.loads(content)
    for _ in range(rng.integers(1, 4)):
        parent, key = _some_place(document, rng)
        if parent is None:
            break
        match rng.integers(6):
            case 0 | 1 | 2:
                parent[key] = one_of(VALUES_OF_JSON, rng)
            case 3:
                parent[key] = number(rng)
            case 4:
                del parent[key]
            case 5:
                parent[key] = [parent[key]] if rng.random() < 0.5 else {"x": parent[key]}
    text = json.dumps(document)
    chance = rng.random()
    if chance < 0.03:
        return text.encode("utf-16")
    return (text[: int(rng.integers(len(text)))] + DEEP).encode() if chance < 0.06 else text.encode()


def _some_place(document: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    places = []

    def walk(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            places.append((node, key))
            walk(value)

    walk(document)
    return one_of(places, rng) if places else (None, None)


YAML_VALUES = (
    *("&a", "*a", "!!python/name:os.system", "{", "[" * 3000, "nan", ".inf", "1e400", "2001-99-99", "9" * 5000, "null"),
    *("[1, 2, 3]", "{a: {b: {c: 1}}}", "-1", "0", "true", "''", "|", "<<: *a", "'\\x1b'", "\t", "? ", "- - - -"),
)


def damaged_yaml(content: bytes, rng: np.random.Generator) -> bytes:
    """Lines of a YAML document doubled, dropped, indented or given other values."""
    lines = content.decode("utf-8").splitlines()
    for _ in range(rng.integers(1, 4)):
        row = int(rng.integers(len(lines)))
        key, colon, _value = lines[row].partition(":")
        match rng.integers(6):
            case 0 | 1 | 2:
                lines[row] = f"{key}{colon} {one_of(YAML_VALUES, rng)}"
            case 3:
                lines.insert(row, lines[row])
            case 4:
                lines[row] = "  " * int(rng.integers(1, 30)) + lines[row]
            case 5:
                lines[row] = f"{key}{colon} {number(rng)}"
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def damaged_safetensors(content: bytes, rng: np.random.Generator) -> bytes:
    """The JSON header of a safetensors file, whose length stays true, or not."""
    length = int.from_bytes(content[:8], "little")
    header = damaged_json(content[8 : 8 + length], rng)
    told = len(header) if rng.random() < 0.8 else number(rng) % 2**64
    return told.to_bytes(8, "little") + header + content[8 + length :]


def damaged_members(content: bytes, rng: np.random.Generator) -> bytes:
    """Members of a ZIP archive (npz, torch's checkpoints) with checksums that agree with the damage."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as whole, zipfile.ZipFile(packed, "w") as archive:
        members = whole.infolist()
        chosen = one_of(members, rng)
        for member in members:
            body = whole.read(member)
            if member is chosen:
                if rng.random() < 0.1:
                    continue
                body = damaged_bytes(body, rng)
            archive.writestr(zipfile.ZipInfo(member.filename), body)
    return packed.getvalue()


JSON = sometimes_bytes(damaged_json)
YAML = sometimes_bytes(damaged_yaml)
SAFETENSORS = sometimes_bytes(damaged_safetensors)
ZIP = sometimes_bytes(damaged_members, 0.4)
