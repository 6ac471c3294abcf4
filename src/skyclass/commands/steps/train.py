"""The run that is trained: a new one, or one that goes on."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ...classifier.run import Run
from ...core.console import say, say_where
from ...core.distributed import rank
from ...core.errors import SkyclassError
from ...core.files.locks import held, remove_dead_holder
from ...data.packs.pack import Pack
from ...data.packs.training_rows import TrainingRows
from ...recipes.recipe import load_recipe
from ...training.ensemble import begin_ensemble
from ...training.launch import finish_on_devices
from ...training.resume import apply_resume, request_resume
from ...training.run import begin_run

ADDED = re.compile(r"training\.epochs=\+([1-9]\d*)")  # epochs behind those that a run has


def finish(run: Run, rows: TrainingRows | None, device: str, devices: int, *, is_new: bool) -> None:
    """Train to the end; if it is interrupted, log how to resume."""
    try:
        finish_on_devices(run, rows, device, devices)
    except SkyclassError:
        # Where there is nothing to resume, the name is free for another try.
        if is_new and rank() == 0 and not run.resumable:
            shutil.rmtree(run.path)
        raise
    except KeyboardInterrupt:
        again = f" --devices {devices}" if devices > 1 else ""
        say(f"To go on: skyclass train --resume {shlex.quote(str(run.path))}{again}")
        raise
    say_where("Run", run.path)


def new_run(
    recipe: str | Path | None,
    pack: str | Path | None,
    out: str | Path | None,
    overrides: Sequence[str],
    ensemble: int | None,
    device: str,
    find_rate: bool,
    check: bool,
) -> tuple[Run, TrainingRows]:
    """Begin a run, or an ensemble of them; arguments as of `train`."""
    if recipe is None or pack is None or out is None:
        fix = "skyclass train RECIPE PACK --out RUN, or skyclass train --resume RUN"
        raise SkyclassError("a recipe, a pack and an output folder are needed", fix=fix)
    if any(ADDED.fullmatch(text.replace(" ", "")) for text in overrides):
        fix = "give the number of epochs, or add some to a run that has ended: skyclass train --resume RUN --set ..."
        raise SkyclassError("a new run has no epochs to add to", where="--set training.epochs", fix=fix)
    settings, data = load_recipe(recipe, overrides), Pack.open(Path(pack))
    if find_rate and not settings.training.epochs:
        fix = "set training.epochs to 1 or more"
        raise SkyclassError("without an epoch there is no learning rate to find", where="--find-rate", fix=fix)
    data.verify(every_byte=check)
    if ensemble is not None:
        return begin_ensemble(settings, data, Path(out), ensemble, device, find_rate=find_rate)
    return begin_run(settings, data, Path(out), device, find_rate=find_rate)


def old_run(path: Path, named_more: bool, overrides: Sequence[str], checkpoint: str | None, holding: ExitStack) -> Run:
    """The run to go on with, turned to where it shall go on, and held."""
    added = [ADDED.fullmatch(text.replace(" ", "")) for text in overrides]
    if named_more or len(added) > 1 or not all(added):
        fix = (
            "leave out the recipe, the pack, --out, --ensemble and --set (but --set training.epochs=+N adds N epochs "
            "to a run that has ended), or train a new run"
        )
        raise SkyclassError("a run is resumed by its own recipe, on its own pack", where=path, fix=fix)
    more = int(added[0][1]) if added and added[0] else None
    run = Run.open(path)
    if run.n_members > 1 and (more or checkpoint):
        fix = "train a new ensemble, with other training.epochs"
        raise SkyclassError("no epochs are added to an ensemble, nor taken back", where=path, fix=fix)
    if run.finished and not more and not checkpoint and run.resume_checkpoint() is None:
        remove_dead_holder(path)
        return run  # there is nothing else to write
    for one in (run.ensemble_path, path):
        if one is not None:
            holding.enter_context(held(one))
    apply_resume(run)
    if more or checkpoint:
        request_resume(run, more, checkpoint)
        apply_resume(run)
    return run
