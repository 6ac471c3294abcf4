"""`skyclass simulate`: images with their truth, as a pack or as class folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..core.console import shown_messages
from ..core.errors import SkyclassError
from ..data.simulation.simulators import SIMULATORS, Simulator
from .options.shared import Overwrite, Splits
from .options.written import one_of

USUAL_SIZES = ", ".join(f"{name}: {one.size}" for name, one in SIMULATORS.items())


@shown_messages()
def simulate(
    kind: Annotated[str, typer.Argument(help="what to simulate"), one_of(SIMULATORS)],
    out: Annotated[Path | str, typer.Argument(help="the new folder")],
    *,
    per_class: Annotated[int, typer.Option(help="images of each class")] = 1000,
    size: Annotated[int | None, typer.Option(help=f"pixels a side ({USUAL_SIZES})")] = None,
    difficulty: Annotated[
        float | None, typer.Option(help="lensing: factor on the substructure masses (2), smaller is harder")
    ] = None,
    seed: Annotated[int, typer.Option(help="another seed, other images")] = 0,
    form: Annotated[Literal["pack", "folders"], typer.Option("--as", help="a pack, or class folders")] = "pack",
    splits: Splits = (0.7, 0.1, 0.2),
    workers: Annotated[int | None, typer.Option(min=1, help="processes (default: one a core)")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    overwrite: Overwrite = False,
) -> Path:
    """Simulate gravitational lenses or galaxies, with the truth in the catalog.

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
    from ..core.console import say, say_where
    from ..core.devices import pick_device
    from ..core.files.atomic_files import new_folder
    from ..core.files.replacing import finish_replacing, new_contents
    from ..core.text import quantity
    from ..data.catalog import SPLITS
    from ..data.packs.pack import OVERWRITE, new_pack
    from .steps.simulate import TRUTH, as_folders, as_pack, folder_files, simulated_catalog, with_catalog

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
    catalog = simulated_catalog(kind, labels, seed, splits)
    place = str(pick_device(device)) if simulator.on_device else device
    batches = simulator.simulate(labels, size, seed=seed, workers=workers, difficulty=difficulty, device=place)
    chunks = with_catalog(batches, catalog)
    source = {"simulated": kind, "per_class": per_class, "size": size, "difficulty": difficulty, "seed": seed}
    if form == "pack":
        with new_pack(out, overwrite=overwrite) as folder:
            as_pack(chunks, folder, simulator, size, source)
    else:
        finish_replacing(out)
        new_folder(out, overwrite=overwrite, fix=OVERWRITE)
        with new_contents(out, TRUTH, lambda: folder_files(out)) as folder:
            as_folders(chunks, folder, simulator)
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
