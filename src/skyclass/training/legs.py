"""Going on with a run from one of its checkpoints: more epochs for one that has ended, or back to an earlier state.

Such a turn is decided in one write of `run.json`, and then carried out step by step. Each step can be done twice, so a
command that was killed at any moment is simply repeated.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from ..classifier_files import META, NOVELTY, WEIGHTS
from ..console import say
from ..errors import SkyclassError
from ..explanation_files import GRADES, remove_listed
from ..files import write_text, written_whole
from ..recipe import dump_recipe
from ..replacing import finish_replacing
from ..run import Leg, Run
from .checkpoints import SUFFIX, Stand, best_names, read_checkpoint, stand_of
from .watching import cut_history, write_history


def turn_to(run: Run, more: int | None, name: str | None) -> None:
    """Let the run go on from the checkpoint `name`, for `more` epochs or to the end that it had then.

    more : epochs behind the one that the checkpoint stands in; the run must have ended. None goes to the end of the
        leg that the checkpoint belongs to, and forgets the later ones
    name : a file in the run's `checkpoints`, `last` or `best`; None is the best one
    Errors: SkyclassError where there is no such checkpoint, or the run has not ended.
    """
    asked = (more, name) if more else None
    if more and not run.finished:
        if run.legs()[-1].asked == asked:
            return  # the same command, after it was stopped
        fix = f"end it first: skyclass train --resume {run.path}"
        raise SkyclassError("epochs are added to a run that has ended, and this one has not", where=run.path, fix=fix)
    path = find_checkpoint(run, name or "best")
    stand = stand_of(read_checkpoint(path))
    legs = [leg for leg in run.legs() if leg.segment < stand.segment] or run.legs()[:1]
    if more:
        epochs = -(-stand.batch // stand.n_batches) + more
        legs.append(Leg(stand.segment, stand.batch, stand.step, epochs, path.name, asked))
    run.turn(legs, path.name)
    at = f"{stand.batch / stand.n_batches:.2f}".removesuffix(".00")
    say(f"Going on from {path.stem}, behind epoch {at}, to epoch {legs[-1].epochs}; what came after it is dropped")


def carry_out(run: Run) -> None:
    """Do what `turn_to` has decided, if that is still to be done."""
    name = run.turned_to()
    if name is None:
        return
    legs, recipe, path = run.legs(), run.recipe(), run.checkpoints / name
    checkpoint = read_checkpoint(path)
    stand = stand_of(checkpoint)
    training = recipe.training.model_copy(update={"epochs": legs[-1].epochs})
    write_text(run.recipe_file, dump_recipe(recipe.model_copy(update={"training": training})))
    _forget_results(run)
    _forget_later_checkpoints(run, stand, {name, *best_names(checkpoint)})
    write_history(run.history_file, cut_history(run.history_file, stand.step))
    with written_whole(run.last_checkpoint) as part:
        shutil.copyfile(path, part)
    run.turn(legs, None)


def find_checkpoint(run: Run, name: str) -> Path:
    """The file of a checkpoint of the run. Errors: SkyclassError where there is none of that name."""
    there = sorted(path.name for path in run.checkpoints.glob(f"*{SUFFIX}"))
    if name == "best" and run.last_checkpoint.is_file():
        best = [one for one in best_names(read_checkpoint(run.last_checkpoint)) if one in there]
        name = best[0] if best else name
    file = name if name.endswith(SUFFIX) else name + SUFFIX
    if file not in there:
        fix = f"it has {', '.join(there)}" if there else "train a new run"
        raise SkyclassError(f"the run has no checkpoint {name!r}", where=run.checkpoints, fix=fix)
    return run.checkpoints / file


def _forget_results(run: Run) -> None:
    """Remove what was made with the old classifier, and it: predictions, evaluation, explanations, report."""
    run.predictions_file.unlink(missing_ok=True)
    for folder in (run.evaluation, run.explanations, run.classifier):
        finish_replacing(folder)  # what a killed command had still to put in place is as old
    run.report_file.unlink(missing_ok=True)
    (run.evaluation / "metrics.json").unlink(missing_ok=True)
    remove_listed(run.explanations)
    for name in GRADES:
        (run.explanations / name).unlink(missing_ok=True)
    for name in ("README.md", META, WEIGHTS, NOVELTY):
        (run.classifier / name).unlink(missing_ok=True)


def _forget_later_checkpoints(run: Run, stand: Stand, kept: set[str]) -> None:
    """Remove the checkpoints that were written after this one: they belong to a future that is given up."""
    for path in run.checkpoints.glob(f"*{SUFFIX}"):
        best, every = re.match(r"epoch=.*-step=(\d+)-", path.name), re.fullmatch(rf"epoch-(\d+)\{SUFFIX}", path.name)
        later = (best and int(best[1]) > stand.step) or (every and int(every[1]) * stand.n_batches > stand.batch)
        if later and path.name not in kept:
            path.unlink()
