"""Train an ensemble: several members by one recipe, in one run.

The members differ by their seeds, so by their first weights, the order of the images and their augmentation (deep
ensembles, Lakshminarayanan et al. 2017, arXiv:1612.01474, section 2.4). Each is a run of its own under `members`; what
the ensemble itself has beside them is made of theirs, so that a killed ensemble goes on where its last member was.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from ..classifier.classifier import Classifier
from ..classifier.run import Run
from ..classifier.run_documents import Cost
from ..classifier.training_data import data_of
from ..core.distributed import broadcast_from_first, rank
from ..core.errors import SkyclassError
from ..core.files.atomic_files import write_json
from ..core.files.csv_files import write_csv
from ..core.plotting import save_figure
from ..data.packs.pack import Pack
from ..data.packs.resize import resize_for_training
from ..data.packs.training_rows import TrainingRows
from ..evaluation.calibration.scaling import Calibration
from ..evaluation.figures.training import training_curves_figure
from ..recipes.recipe import Recipe, recipe_hash
from .finish import save_results
from .resume import apply_resume
from .run import begin_run, finish_run

logger = logging.getLogger(__name__)


def begin_ensemble(
    recipe: Recipe, pack: Pack, out: Path, members: int, device: str = "auto", *, find_rate: bool = False
) -> tuple[Run, TrainingRows]:
    """As `begin_run`, for an ensemble of so many members, none of which is started.

    find_rate : each member shall find a learning rate of its own

    Errors: SkyclassError for fewer than two members, and those of `begin_run`.
    """
    if members < 2:
        fix = "ask for 2 or more; 5 are usual"
        raise SkyclassError(f"{members} members are no ensemble", where="--ensemble", fix=fix)
    return begin_run(recipe, pack, out, device, members=members, find_rate=find_rate)


def finish_ensemble(run: Run, rows: TrainingRows | None = None, device: str = "auto") -> None:
    """Train all members to their ends, from where they are; pool them to one classifier, and save its predictions.

    Errors: as `finish_run`.
    """
    recipe = run.recipe()
    data, rows = data_of(run, rows)
    for number, path in enumerate(run.member_paths, 1):
        member = broadcast_from_first(
            partial(_to_train, run, path, recipe.model_copy(update={"seed": recipe.seed + number - 1}))
        )
        if member:
            logger.info(f"Member {number} of {run.n_members}, seed {member.recipe().seed}")
            finish_run(member, rows, device)
    members = broadcast_from_first(lambda: [Run.open(path) for path in run.member_paths])
    classifier = pooled([Classifier.load(member.path, device) for member in members], recipe)
    if rank() == 0:
        _write_training(run, members, classifier.made_from["best_epoch"])
    logger.info(f"The ensemble of {len(members)}")
    save_results(run, classifier, rows, resize_for_training(data, recipe.pixels))


def _to_train(run: Run, path: Path, recipe: Recipe) -> Run | None:
    """The member's run, ready to be trained; None where it has ended."""
    member = _member(run, path, recipe)
    apply_resume(member)
    return None if member.finished else member


def _member(run: Run, path: Path, recipe: Recipe) -> Run:
    """The member's run, a new one if there is none."""
    if (path / "run.json").is_file():
        return Run.open(path)
    shutil.rmtree(path, ignore_errors=True)  # what a process that was killed in these lines has left
    return run.create_member(path, recipe)


def pooled(members: Sequence[Classifier], recipe: Recipe) -> Classifier:
    """One classifier that holds the networks of all `members`, trained by `recipe` but for its seed.

    What its answers are worth is still to be learnt: an ensemble is calibrated on the mean of its members, and not
    through them (Rahaman & Thiery 2021, arXiv:2007.08792, section 3).
    """
    first = members[0]
    made_from = {
        "pack": first.made_from["pack"],
        "recipe": recipe_hash(recipe),
        "best_epoch": float(np.mean([member.made_from["best_epoch"] for member in members])),
        "members": [member.made_from["weights_sha256"] for member in members],
    }
    return replace(
        first,
        networks=[network for member in members for network in member.networks],
        made_from=made_from,
        calibration=Calibration(),
        prediction_sets=None,
        novelty=None,
    )


def _write_training(run: Run, members: Sequence[Run], best_epoch: float) -> None:
    """The members' cost in all; their mean history, with the mean of their best epochs marked in the curves."""
    costs = [cost for member in members if (cost := member.cost())]
    if len(costs) == len(members):
        write_json(run.training_file, _total(costs).model_dump())
    histories = [member.history() for member in members]
    history = pd.concat(histories).groupby("epoch", as_index=False).mean().astype({"step": int})[histories[0].columns]
    write_csv(history, run.history_file)
    if len(history):
        save_figure(training_curves_figure(history, best_epoch), run.curves_file)


def _total(costs: Sequence[Cost]) -> Cost:
    """Members are trained one after the other: time and images add up, memory does not."""
    seconds, images = sum(cost.seconds for cost in costs), sum(cost.images for cost in costs)
    return Cost(
        seconds=seconds,
        images=images,
        images_per_second=images / seconds if seconds else None,
        peak_memory_bytes=max(cost.peak_memory_bytes for cost in costs),
        trained_parameters=sum(cost.trained_parameters for cost in costs),
        total_parameters=sum(cost.total_parameters for cost in costs),
        epochs=float(np.mean([cost.epochs for cost in costs])),
        device=costs[-1].device,
    )
