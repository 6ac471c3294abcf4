"""The JSON files of a run, as models that are validated when they are read."""

from __future__ import annotations

from pydantic import Field

from ..core.files.json_documents import Document


class StageDocument(Document):
    """A `Stage` in run.json, where they are called legs."""

    segment: int = Field(0, ge=0)
    batch: int = Field(0, ge=0)
    step: int = Field(0, ge=0)
    epochs: int = Field(0, ge=0)
    checkpoint: str | None = None
    asked: list[int | str | None] | None = Field(None, min_length=2, max_length=2)


class RunDocument(Document):
    """What readers of run.json rely on; those of older versions lack what has a default."""

    pack: str
    pack_hash: str
    classes: list[str]
    members: int = Field(1, ge=1, le=1000)
    find_rate: bool = False
    legs: list[StageDocument] | None = None
    turning_to: str | None = None


class CostDocument(Document):
    """A `Cost` in training.json."""

    seconds: float
    images: int
    images_per_second: float | None
    peak_memory_bytes: int
    trained_parameters: int
    total_parameters: int
    epochs: float
    device: str


class EnvironmentDocument(Document):
    """What readers of environment.json rely on."""

    skyclass: str
    python: str
    machine: str
    device: str
    command: str
    packages: dict[str, str]
