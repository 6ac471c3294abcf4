"""Statistics of the images of a catalog: size, format, bands, type and range, each image opened once, in threads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ...core.console import progress
from ...core.errors import SkyclassError, one_line
from ...core.parallel import in_order
from ...core.plotting import thumbnail
from ...images.decode import check_pixels
from ...images.formats.arrays import Image
from ..catalog import UNLABELLED, Problem, pixel_problems
from .file_kinds import file_problems
from .fingerprints import Fingerprint, fingerprint

SAMPLES = 8  # images a class on the sample sheet

CatalogRow = Mapping[Any, Any]
Reader = Callable[[CatalogRow], Image]


class ImageMeasurement(NamedTuple):
    """Size, format, bands, type and range of one image, or why it cannot be read (`error` alone)."""

    error: str | None
    warning: str | None = None
    size: str | None = None
    format: str | None = None
    bands: str | None = None
    type: str | None = None
    ranges: Mapping[str, tuple[float, float]] = {}
    sample: np.ndarray | None = None
    fingerprint: Fingerprint | None = None
    file_problems: Sequence[Problem] = ()


@dataclass
class ImageStatistics:
    """Statistics of images, in the order of the catalog.

    sizes, formats, bands, types : one an image, None where it could not be read
    ranges : band -> least and largest finite value
    samples : class -> ids and thumbnails of its first readable images
    fingerprints, fingerprinted : of the images that can be used, and their rows
    """

    sizes: list[str | None] = field(default_factory=list)
    formats: list[str | None] = field(default_factory=list)
    bands: list[str | None] = field(default_factory=list)
    types: list[str | None] = field(default_factory=list)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    samples: dict[str, list[tuple[str, np.ndarray]]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    fingerprints: list[Fingerprint] = field(default_factory=list)
    fingerprinted: list[int] = field(default_factory=list)

    def needs_sample(self, row: CatalogRow) -> bool:
        """Whether the class of the row has too few samples so far."""
        return len(self.samples.get(class_of(row), ())) < SAMPLES

    def add(self, row: CatalogRow, measured: ImageMeasurement) -> None:
        """Count one image."""
        self.problems += [
            *pixel_problems(row["image_id"], row["file"], measured.error, measured.warning),
            *measured.file_problems,
        ]
        self.sizes.append(measured.size)
        self.formats.append(measured.format)
        self.bands.append(measured.bands)
        self.types.append(measured.type)
        for band, (low, high) in measured.ranges.items():
            least, largest = self.ranges.get(band, (low, high))
            self.ranges[band] = (min(least, low), max(largest, high))
        if measured.sample is not None and self.needs_sample(row):
            self.samples.setdefault(class_of(row), []).append((row["image_id"], measured.sample))
        if measured.fingerprint is not None:
            self.fingerprints.append(measured.fingerprint)
            self.fingerprinted.append(row["row"])

    @property
    def readable(self) -> int:
        """How many images could be read."""
        return sum(size is not None for size in self.sizes)


def measure_images(catalog: pd.DataFrame, read: Reader, *, fingerprints: bool) -> ImageStatistics:
    """Measure every image of a catalog, with `fingerprints` of those that can be used.

    `read` opens the image of a row, a mapping with `row` (its number), `image_id`, `file` and `label`. The statistics
    do not depend on which thread ends first; what is kept of an image is small.
    """
    statistics = ImageStatistics()

    def measure(row: CatalogRow) -> tuple[CatalogRow, ImageMeasurement]:
        # Samples only grow: an image that is needed when it is added was needed here too.
        return row, _measure(row, read, statistics.needs_sample(row), fingerprints)

    with progress("Inspecting", len(catalog)) as advance:
        for row, measured in in_order(measure, _rows(catalog)):
            statistics.add(row, measured)
            advance(1)
    return statistics


def _rows(catalog: pd.DataFrame) -> Iterator[CatalogRow]:
    columns = (catalog[name] for name in ("image_id", "file", "label"))
    for number, (image_id, file, label) in enumerate(zip(*columns, strict=True)):
        yield {"row": number, "image_id": image_id, "file": file, "label": label}


def _measure(row: CatalogRow, read: Reader, sampled: bool, fingerprinted: bool) -> ImageMeasurement:
    """Read and measure one image; a bad file is a finding, and a bug of ours an exception with the file as a note."""
    try:
        image = read(row)
        error, warning = check_pixels(image, [])
        _, height, width = image.pixels.shape
        return ImageMeasurement(
            error,
            warning,
            size=f"{height}x{width}",
            format=image.format,
            bands=" ".join(image.bands),
            type=str(image.pixels.dtype),
            ranges=_ranges(image),
            sample=thumbnail(image.pixels) if sampled and not error else None,
            fingerprint=fingerprint(image.pixels) if fingerprinted and not error else None,
            file_problems=file_problems(row["image_id"], row["file"], image) if image.format != "pack" else (),
        )
    except SkyclassError as refusal:
        return ImageMeasurement(f"{refusal.what}; {refusal.fix}" if refusal.fix else refusal.what)
    except MemoryError as error:
        return ImageMeasurement(f"cannot be decoded: {one_line(error)}")
    except Exception as error:
        error.add_note(f"while inspecting {row['file']}")
        raise


def _ranges(image: Image) -> dict[str, tuple[float, float]]:
    """Band -> least and largest finite value."""
    ranges = {}
    for name, band in zip(image.bands, image.pixels, strict=True):
        finite = band if band.dtype.kind == "u" else band[np.isfinite(band)]
        if finite.size:
            ranges[name] = (float(finite.min()), float(finite.max()))
    return ranges


def class_of(row: CatalogRow) -> str:
    """The class that a row is shown under."""
    return UNLABELLED if pd.isna(row["label"]) else str(row["label"])


def counted(values: Sequence[str | None]) -> dict[str, int]:
    """How often each value occurs, the commonest first, without the images that could not be read."""
    return dict(Counter(value for value in values if value is not None).most_common())
