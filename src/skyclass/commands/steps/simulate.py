"""Simulated images with their catalog, and how they are written."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image as PillowImage

from ...core.console import progress
from ...core.files.atomic_files import written_whole
from ...core.files.disk_errors import disk_errors
from ...data.packs.npy_stream import PackChunk
from ...data.packs.pack import write_pack
from ...data.packs.split import assign_splits
from ...data.simulation.batches import SimulatedBatch
from ...data.simulation.simulators import Simulator
from ...recipes.data_settings import PixelSettings

TRUTH = "truth.parquet"


def simulated_catalog(kind: str, labels: Sequence[str], seed: int, splits: Sequence[float]) -> pd.DataFrame:
    """The catalog of images with these labels, with their splits."""
    ids = [f"{kind}-{seed}-{index:07d}" for index in range(len(labels))]
    frame = pd.DataFrame({"image_id": ids, "file": [f"simulated:{name}" for name in ids], "label": list(labels)})
    frame["split"] = None
    train, val, test = splits
    return assign_splits(frame, (train, val, test), seed)


def with_catalog(chunks: Iterator[SimulatedBatch], catalog: pd.DataFrame) -> Iterator[PackChunk]:
    """Chunks with their catalog rows and the truth beside them, under a progress bar."""
    start = 0
    with progress("Simulating", len(catalog)) as advance:
        for images, truth in chunks:
            rows = catalog.iloc[start : start + len(images)].reset_index(drop=True)
            truth = truth.drop(columns=[name for name in rows.columns if name in truth]).reset_index(drop=True)
            yield PackChunk(images, pd.concat([rows, truth], axis=1))
            start += len(images)
            advance(len(images))


def as_pack(chunks: Iterator[PackChunk], out: Path, simulator: Simulator, size: int, source: dict[str, Any]) -> None:
    """Write a pack; `source` says what it was made from."""
    pixels = PixelSettings(bands=simulator.bands, size=(size, size), dtype=simulator.dtype)
    write_pack(chunks, out, pixels, classes=list(simulator.classes), source=source)


def as_folders(chunks: Iterator[PackChunk], out: Path, simulator: Simulator) -> None:
    """One file an image, as the published lens set has them; the truth goes to `truth.parquet`."""
    suffix, write = simulator.suffix, WRITERS[simulator.suffix]
    frames = []
    for chunk in chunks:
        files = []
        for image, row in zip(chunk.images, chunk.rows.itertuples(), strict=True):
            file = Path(str(row.split)) / str(row.label) / f"{row.image_id}{suffix}"
            with disk_errors(out / file):
                (out / file).parent.mkdir(parents=True, exist_ok=True)
                write(image, out / file)
            files.append(file.as_posix())
        frames.append(chunk.rows.assign(file=files))
    with written_whole(out / TRUTH) as part:
        pd.concat(frames, ignore_index=True).to_parquet(part, index=False)


def folder_files(out: Path) -> list[str]:
    """The images of an earlier simulation, which would mix with the new ones; other files are not ours."""
    if not (out / TRUTH).is_file():
        return []
    return [TRUTH, *pd.read_parquet(out / TRUTH, columns=["file"])["file"]]


def _write_npy(image: np.ndarray, file: Path) -> None:
    content = io.BytesIO()  # NumPy's own way to a file answers a full disk without the system's number of the error
    np.save(content, image, allow_pickle=False)
    file.write_bytes(content.getvalue())


def _write_png(image: np.ndarray, file: Path) -> None:
    PillowImage.fromarray(image.transpose(1, 2, 0)).save(file)


WRITERS: dict[str, Callable[[np.ndarray, Path], None]] = {".npy": _write_npy, ".png": _write_png}
