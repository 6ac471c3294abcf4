"""`skyclass train`: a recipe and a pack become a run."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ..classifier.run import Run
from ..core.console import say, say_where, shown_messages
from ..core.devices import check_devices, own_device
from ..core.distributed import broadcast_from_first, process_group, rank
from ..core.errors import SkyclassError
from ..core.files.locks import held
from ..data.packs.pack import Pack
from ..data.packs.training_rows import TrainingRows
from ..recipes.recipe import load_recipe
from ..training.ensemble import begin_ensemble
from ..training.launch import finish_on_devices
from ..training.resume import apply_resume, request_resume
from ..training.run import begin_run
from ..training.verify import check_run

ADDED = re.compile(r"training\.epochs=\+([1-9]\d*)")  # epochs behind those that a run has


@shown_messages()
def train(
    recipe: str | Path | None = None,
    pack: str | Path | None = None,
    *,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    ensemble: int | None = None,
    resume: str | Path | None = None,
    checkpoint: str | None = None,
    find_rate: bool = False,
    device: str = "auto",
    devices: int = 1,
    num_nodes: int = 1,
    check: bool = False,
) -> Path:
    """Train a classifier, or go on with a run.

    Parameters
    ----------
    recipe : str or Path, optional
        A recipe file, or the name of a shipped one. None with `resume`.
    pack : str or Path, optional
        The pack to train on. None with `resume`.
    out : str or Path, optional
        The new run.
    overrides : sequence of str
        KEY.KEY=VALUE changes of the recipe. With `resume` only training.epochs=+N, which adds N epochs to a run that
        has ended, behind its best checkpoint.
    ensemble : int, optional
        Members, each a run under `members` with a seed of its own: the recipe's, the next one, and so on. The run's
        classifier predicts the mean of their probabilities.
    resume : str or Path, optional
        The run to go on with.
    checkpoint : str, optional
        With `resume`, the checkpoint to go on from: a file in the run's `checkpoints`, `last` or `best`. What came
        after it is given up.
    find_rate : bool
        Whether to seek the learning rate by a range test first (Smith 2017), and train with the one that it suggests;
        `recipe.yaml` in the run has it, `learning_rates.csv` and `.png` the test.
    device : str
        auto, cpu, cuda or cuda:N.
    devices : int
        GPUs on a machine, or processes on the CPU, that share every batch.
    num_nodes : int
        Machines. On more than one, torchrun or SLURM's `srun` starts this command, once for each device.
    check : bool
        Whether to compare every byte of the pack, and of a run that is resumed, with their hashes. Without it the pack
        is read where its size or the time of its last change are not those of the check before.

    Returns
    -------
    Path
        The folder of the run.

    Raises
    ------
    SkyclassError
        For devices that are not there, and all that a training refuses.
    """
    check_devices(device, devices, num_nodes)

    def open_run(holding: ExitStack) -> tuple[Run, TrainingRows | None]:
        if resume is not None:
            if find_rate:
                fix = "leave out --find-rate, or train a new run"
                raise SkyclassError("a run goes on with the learning rate it has", where="--find-rate", fix=fix)
            if check:
                check_run(Run.open(Path(resume)))
            named_more = bool(recipe or pack or out or ensemble)
            return _old_run(Path(resume), named_more, overrides, checkpoint, holding), None
        if checkpoint is not None:
            fix = "skyclass train --resume RUN --checkpoint NAME"
            raise SkyclassError("a checkpoint belongs to a run", where="--checkpoint", fix=fix)
        run, rows = _new_run(recipe, pack, out, overrides, ensemble, device, find_rate, check)
        holding.enter_context(held(run.path))
        return run, rows

    with ExitStack() as holding, process_group(own_device(device)):
        run, rows = broadcast_from_first(lambda: open_run(holding))  # of several processes the first one holds the run
        if broadcast_from_first(lambda: run.finished):
            say(f"This run has ended; there is nothing to resume: {run.path}")
        else:
            _finish(run, rows, device, devices, is_new=resume is None)
    return run.path


def _finish(run: Run, rows: TrainingRows | None, device: str, devices: int, *, is_new: bool) -> None:
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


def _new_run(
    recipe: str | Path | None,
    pack: str | Path | None,
    out: str | Path | None,
    overrides: Sequence[str],
    ensemble: int | None,
    device: str,
    find_rate: bool,
    check: bool,
) -> tuple[Run, TrainingRows]:
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


def _old_run(path: Path, named_more: bool, overrides: Sequence[str], checkpoint: str | None, holding: ExitStack) -> Run:
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
        return run  # there is nothing to write
    for one in (run.ensemble_path, path):
        if one is not None:
            holding.enter_context(held(one))
    apply_resume(run)
    if more or checkpoint:
        request_resume(run, more, checkpoint)
        apply_resume(run)
    return run
