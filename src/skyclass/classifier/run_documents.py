"""The JSON files of a run, as models that are validated when they are read."""

from __future__ import annotations

from pydantic import Field

from ..core.files.json_documents import Document
from ..core.text import duration


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


class MetricsDocument(Document):
    """What the table of scores relies on in metrics.json."""

    predictions_sha256: str
    n: int
    classes: list[str] = Field(min_length=1)
    confusion_matrix: list[list[int]]


class Cost(Document, frozen=True):
    """What the training of a run took, as training.json has it.

    seconds : of training, with its validations and checkpoints, over all sessions and legs, also those that were given
        up for an earlier checkpoint. Where a process was killed, the time since its last checkpoint is not known
    images : training images that were gone through in that time, repetitions counted
    images_per_second : their ratio; None where nothing was trained
    peak_memory_bytes : the most memory at once: of the GPU, as torch allocated it, else resident memory of the process,
        with its code and its images. Of one of the processes, where several trained
    trained_parameters, total_parameters : as the recipe has them trained; adapters are not among all
    epochs : epochs done, such as 2.25
    device : in words
    """

    seconds: float
    images: int
    images_per_second: float | None
    peak_memory_bytes: int
    trained_parameters: int
    total_parameters: int
    epochs: float
    device: str

    def __str__(self) -> str:
        """Such as 3 min 12 s (83 images/s), 1.2 GB at most."""
        rate = self.images_per_second
        speed = f" ({rate:{',.0f' if rate >= 10.0 else '.2g'}} images/s)" if rate else ""
        return f"{duration(self.seconds)}{speed}, {self.peak_memory_bytes / 1e9:.2g} GB at most"


class EnvironmentDocument(Document):
    """What readers of environment.json rely on."""

    skyclass: str
    python: str
    machine: str
    device: str
    command: str
    packages: dict[str, str]
