"""JSON artefacts: validated types, and a seal that shows whether anything was changed since they were written."""

from __future__ import annotations

import hashlib
import json
import reprlib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import SkyclassError
from .atomic_files import read_json

SEAL = "content_sha256"
"""The key of a document under which the hash of all its other keys lies; documents of Skyclass 0.1 have none."""


class Document(BaseModel):
    """What a reader relies on in a JSON artefact; other keys are let through, and types are not converted."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, strict=True, protected_namespaces=())


AnyDocument = TypeVar("AnyDocument", bound=Document)


def sealed(content: dict[str, Any]) -> dict[str, Any]:
    """The content with its hash, by which `read_document` detects changes."""
    return {**content, SEAL: _content_hash(content)}


def _content_hash(content: dict[str, Any]) -> str:
    own = {key: value for key, value in content.items() if key != SEAL}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def read_document(path: Path, what: str, kind: type[AnyDocument], fix: str) -> tuple[dict[str, Any], AnyDocument]:
    """The content of a JSON artefact, as it is and as `kind` describes it; `what` is its kind, for messages.

    Raises
    ------
    SkyclassError
        For a file that is missing or damaged, one that was changed since it was written, a key that is missing, and a
        value of another type, with the fix `fix`.
    """
    content = read_json(path, what, fix=fix)
    if SEAL in content and content[SEAL] != _content_hash(content):
        raise SkyclassError(f"this {what} was changed after it was written, or is damaged", where=path, fix=fix)
    return content, checked(content, what, path, kind, fix)


def checked(content: Any, what: str, path: Path, kind: type[AnyDocument], fix: str) -> AnyDocument:
    """The content as `kind` describes it.

    Errors: SkyclassError for keys that are missing, else for the first one of another type.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        faults = error.errors()
    missing = [_dotted(fault["loc"]) for fault in faults if fault["type"] == "missing"]
    if missing:
        raise SkyclassError(f"damaged {what}: it lacks {', '.join(missing)}", where=path, fix=fix)
    first = faults[0]
    if first["type"] == "value_error":
        raise SkyclassError(f"damaged {what}: {first['ctx']['error']}", where=path, fix=fix)
    place, value = _dotted(first["loc"]), reprlib.repr(first["input"])
    raise SkyclassError(f"damaged {what}: {place} cannot be {value}", where=path, fix=fix)


def _dotted(location: tuple[int | str, ...]) -> str:
    """Such as pixels.0.size."""
    return ".".join(map(str, location)) or "it"
