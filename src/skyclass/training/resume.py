"""Resuming a run from one of its checkpoints: more epochs for one that has ended, or back to an earlier state.

`request_resume` records the request in one write of `run.json`, and `apply_resume` carries it out step by step. Each
step can be repeated, so a command that was killed at any moment is run again.
"""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

from ..classifier.files import META, NOVELTY, WEIGHTS
from ..classifier.run import Run, Stage
from ..core.errors import SkyclassError
from ..core.files.atomic_files import write_text, written_whole
from ..core.files.replacing import finish_replacing
from ..explanation.output import GRADES, remove_listed
from ..recipes.recipe import dump_recipe
from .loop.callbacks import cut_history, write_history
from .loop.checkpoint_hash import SUFFIX
from .loop.checkpoints import ResumeState, best_names, read_checkpoint, resume_state

logger = logging.getLogger(__name__)


def request_resume(run: Run, more: int | None, name: str | None) -> None:
    """Request that the run resumes from the checkpoint `name`, for `more` epochs or to the end that it had then.

    more : epochs behind the one that the checkpoint was written in; the run must have ended. None goes to the end of
        the stage that the checkpoint belongs to, and removes the later ones
    name : a file in the run's `checkpoints`, `last` or `best`; None is the best one
    Errors: SkyclassError where there is no such checkpoint, or the run has not ended.
    """
    asked = (more, name) if more else None
    if more and not run.finished:
        if run.stages()[-1].asked == asked:
            return  # the same command, after it was stopped
        fix = f"end it first: skyclass train --resume {run.path}"
        raise SkyclassError("epochs are added to a run that has ended, and this one has not", where=run.path, fix=fix)
    path = find_checkpoint(run, name or "best")
    state = resume_state(read_checkpoint(path))
    stages = [stage for stage in run.stages() if stage.segment < state.segment] or run.stages()[:1]
    if more:
        epochs = -(-state.batch // state.n_batches) + more
        stages.append(Stage(state.segment, state.batch, state.step, epochs, path.name, asked))
    run.write_stages(stages, path.name)
    at = f"{state.batch / state.n_batches:.2f}".removesuffix(".00")
    logger.info(
        f"Going on from {path.stem}, behind epoch {at}, to epoch {stages[-1].epochs}; what came after it is dropped"
    )


def apply_resume(run: Run) -> None:
    """Carry out what `request_resume` recorded, if that is still to be done."""
    name = run.resume_checkpoint()
    if name is None:
        return
    stages, recipe, path = run.stages(), run.recipe(), run.checkpoints / name
    checkpoint = read_checkpoint(path)
    state = resume_state(checkpoint)
    training = recipe.training.model_copy(update={"epochs": stages[-1].epochs})
    write_text(run.recipe_file, dump_recipe(recipe.model_copy(update={"training": training})))
    _remove_results(run)
    _remove_later_checkpoints(run, state, {name, *best_names(checkpoint)})
    write_history(run.history_file, cut_history(run.history_file, state.step))
    with written_whole(run.last_checkpoint) as part:
        shutil.copyfile(path, part)
    run.write_stages(stages, None)


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


def _remove_results(run: Run) -> None:
    """Remove the old classifier and what was made with it: predictions, evaluation, explanations, report."""
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


def _remove_later_checkpoints(run: Run, state: ResumeState, kept: set[str]) -> None:
    """Remove the checkpoints that were written after this one: they belong to the epochs that are dropped."""
    for path in run.checkpoints.glob(f"*{SUFFIX}"):
        best, every = re.match(r"epoch=.*-step=(\d+)-", path.name), re.fullmatch(rf"epoch-(\d+)\{SUFFIX}", path.name)
        later = (best and int(best[1]) > state.step) or (every and int(every[1]) * state.n_batches > state.batch)
        if later and path.name not in kept:
            path.unlink()
