"""`skyclass simulate`: images with their truth, as a pack or as class folders."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from PIL import Image as PillowImage

from ..core.console import progress, say, say_where, shown_messages
from ..core.devices import pick_device
from ..core.errors import SkyclassError
from ..core.files.atomic_files import new_folder, written_whole
from ..core.files.disk_errors import disk_errors
from ..core.files.replacing import finish_replacing, new_contents
from ..core.text import quantity
from ..data.catalog import SPLITS
from ..data.packs.npy_stream import PackChunk
from ..data.packs.pack import OVERWRITE, new_pack, write_pack
from ..data.packs.split import assign_splits
from ..data.simulation.batches import SimulatedBatch
from ..data.simulation.simulators import SIMULATORS, Simulator
from ..recipes.data_settings import PixelSettings

TRUTH = "truth.parquet"


@shown_messages()
def simulate(
    kind: str,
    out: str | Path,
    *,
    per_class: int = 1000,
    size: int | None = None,
    difficulty: float | None = None,
    seed: int = 0,
    form: Literal["pack", "folders"] = "pack",
    splits: Sequence[float] = (0.7, 0.1, 0.2),
    workers: int | None = None,
    device: str = "cpu",
    overwrite: bool = False,
) -> Path:
    """Simulate images of galaxies or of gravitational lenses, with the truth in the catalog.

    Parameters
    ----------
    kind : str
        `lensing` or `galaxies`.
    out : str or Path
        The new folder.
    per_class : int
        Images of each class.
    size : int, optional
        Height and width in pixels. By default 150 for lenses, 64 for galaxies.
    difficulty : float, optional
        Factor on the substructure masses of lenses, by default 2; smaller is harder. Galaxies have none.
    seed : int
        Image i depends on the seed and i alone.
    form : str
        `pack`, or `folders` with `train/no/*.npy` (lenses), `train/smooth_round/*.png` (galaxies) and `truth.parquet`.
    splits : sequence of float
        Shares of train, val and test, drawn by image id.
    workers : int, optional
        Processes. By default one a core where that pays.
    device : str
        Where lenses are computed: auto, cpu or cuda.
    overwrite : bool
        Whether to replace what is there.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    SkyclassError
        For another kind, options that it does not have, and a folder that holds something.
    """
    out = Path(out)
    if kind not in SIMULATORS:
        raise SkyclassError(f"{kind!r} cannot be simulated", where="simulate", fix=f"there are {', '.join(SIMULATORS)}")
    if per_class < 1:
        raise SkyclassError(f"{per_class} images a class", where="--per-class", fix="ask for at least one")
    simulator = SIMULATORS[kind]
    _check_settings(kind, simulator, difficulty, device)
    size = simulator.size if size is None else size
    difficulty = simulator.difficulty if difficulty is None else difficulty
    labels = list(simulator.classes) * per_class
    catalog = _catalog(kind, labels, seed, splits)
    place = str(pick_device(device)) if simulator.on_device else device
    batches = simulator.simulate(labels, size, seed=seed, workers=workers, difficulty=difficulty, device=place)
    chunks = _with_catalog(batches, catalog)
    source = {"simulated": kind, "per_class": per_class, "size": size, "difficulty": difficulty, "seed": seed}
    if form == "pack":
        with new_pack(out, overwrite=overwrite) as folder:
            _as_pack(chunks, folder, simulator, size, source)
    else:
        finish_replacing(out)
        new_folder(out, overwrite=overwrite, fix=OVERWRITE)
        with new_contents(out, TRUTH, lambda: _files_of(out)) as folder:
            _as_folders(chunks, folder, simulator)
    counts = ", ".join(f"{(catalog['split'] == name).sum():,} {name}" for name in SPLITS)
    of = f"{quantity(len(labels), 'image')} of {size}x{size} pixels"
    say(f"{of}, {per_class:,} of each of {', '.join(simulator.classes)} ({counts})")
    say_where("Pack" if form == "pack" else "Folders", out)
    return out


def _check_settings(kind: str, simulator: Simulator, difficulty: float | None, device: str) -> None:
    """Refuse settings that a simulator has not."""
    missing = []
    if difficulty is not None and simulator.difficulty is None:
        missing.append("difficulty")
    if device != "cpu" and not simulator.on_device:
        missing.append("device")
    if missing:
        raise SkyclassError(f"{kind} have no {' and no '.join(missing)}", where="simulate", fix="leave them out")


def _catalog(kind: str, labels: Sequence[str], seed: int, splits: Sequence[float]) -> pd.DataFrame:
    ids = [f"{kind}-{seed}-{index:07d}" for index in range(len(labels))]
    frame = pd.DataFrame({"image_id": ids, "file": [f"simulated:{name}" for name in ids], "label": list(labels)})
    frame["split"] = None
    train, val, test = splits
    return assign_splits(frame, (train, val, test), seed)


def _with_catalog(chunks: Iterator[SimulatedBatch], catalog: pd.DataFrame) -> Iterator[PackChunk]:
    """Chunks with their catalog rows and the truth beside them, under a progress bar."""
    start = 0
    with progress("Simulating", len(catalog)) as advance:
        for images, truth in chunks:
            rows = catalog.iloc[start : start + len(images)].reset_index(drop=True)
            truth = truth.drop(columns=[name for name in rows.columns if name in truth]).reset_index(drop=True)
            yield PackChunk(images, pd.concat([rows, truth], axis=1))
            start += len(images)
            advance(len(images))


def _as_pack(chunks: Iterator[PackChunk], out: Path, simulator: Simulator, size: int, source: dict[str, Any]) -> None:
    pixels = PixelSettings(bands=simulator.bands, size=(size, size), dtype=simulator.dtype)
    write_pack(chunks, out, pixels, classes=list(simulator.classes), source=source)


def _as_folders(chunks: Iterator[PackChunk], out: Path, simulator: Simulator) -> None:
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


def _files_of(out: Path) -> list[str]:
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
