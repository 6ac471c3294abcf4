"""`skyclass train`: a recipe and a pack become a run."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..core.console import shown_messages
from ..core.errors import SkyclassError
from .options.shared import Check, Device, Overrides, PackArgument, RecipeArgument

if TYPE_CHECKING:
    from ..classifier.run import Run
    from ..data.packs.training_rows import TrainingRows


@shown_messages()
def train(
    recipe: RecipeArgument | None = None,
    pack: PackArgument | None = None,
    *,
    out: Annotated[Path | str | None, typer.Option(help="the new run")] = None,
    overrides: Overrides = (),
    ensemble: Annotated[
        int | None, typer.Option(metavar="N", help="train N members with other seeds, and take their mean")
    ] = None,
    resume: Annotated[
        Path | str | None,
        typer.Option(
            metavar="RUN",
            help="go on with this run; --set training.epochs=+10 adds epochs to one that has ended, "
            "behind its best checkpoint",
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="with --resume: go on from this checkpoint of the run, from last or best"),
    ] = None,
    find_rate: Annotated[
        bool, typer.Option("--find-rate", help="first seek the learning rate by a range test, and train with it")
    ] = False,
    device: Device = "auto",
    devices: Annotated[
        int, typer.Option(min=1, help="GPUs on a machine, or processes on the CPU, that share every batch")
    ] = 1,
    num_nodes: Annotated[
        int, typer.Option(min=1, help="machines; on more than one, torchrun or srun starts this command")
    ] = 1,
    check: Check = False,
) -> Path:
    """Train a classifier by a recipe; --resume continues an interrupted run, or adds epochs to one that has ended.

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
    from ..classifier.run import Run
    from ..core.console import say
    from ..core.devices import check_devices, own_device
    from ..core.distributed import broadcast_from_first, process_group
    from ..core.files.locks import held
    from ..training.verify import check_run
    from .steps.train import finish, new_run, old_run

    check_devices(device, devices, num_nodes)

    def open_run(holding: ExitStack) -> tuple[Run, TrainingRows | None]:
        """The run that is trained, held, and of a new one the rows of its pack."""
        if resume is not None:
            if find_rate:
                fix = "leave out --find-rate, or train a new run"
                raise SkyclassError("a run goes on with the learning rate it has", where="--find-rate", fix=fix)
            if check:
                check_run(Run.open(Path(resume)))
            named_more = bool(recipe or pack or out or ensemble)
            return old_run(Path(resume), named_more, overrides, checkpoint, holding), None
        if checkpoint is not None:
            fix = "skyclass train --resume RUN --checkpoint NAME"
            raise SkyclassError("a checkpoint belongs to a run", where="--checkpoint", fix=fix)
        run, rows = new_run(recipe, pack, out, overrides, ensemble, device, find_rate, check)
        holding.enter_context(held(run.path))
        return run, rows

    with ExitStack() as holding, process_group(own_device(device)):
        run, rows = broadcast_from_first(lambda: open_run(holding))  # of several processes the first one holds the run
        if broadcast_from_first(lambda: run.finished):
            say(f"This run has ended; there is nothing to resume: {run.path}")
        else:
            finish(run, rows, device, devices, is_new=resume is None)
    return run.path
