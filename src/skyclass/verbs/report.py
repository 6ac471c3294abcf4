"""`skyclass report`: one HTML page that a collaborator opens without Python."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

from .. import __version__
from ..console import say_where
from ..documents import SEAL
from ..drawing import page
from ..errors import SkyclassError, one_line
from ..files import write_text
from ..replacing import finish_replacing
from ..reporting import examples, origin, scores, training_data
from ..reporting.checked_metrics import checked_metrics
from ..reporting.material import Material
from ..run import Run, to_resume
from ..run_check import check_run

# The sections in their order; each has a template of its name in templates/report.
SECTIONS = {
    "data": "Data",
    "training": "Training",
    "scores": "Scores",
    "calibration": "Calibration",
    "sets": "Prediction sets",
    "uncertainty": "Uncertainty",
    "columns": "Accuracy by property",
    "explanations": "Explanations",
    "mistakes": "Mistakes",
    "ambiguous": "Ambiguous objects",
    "recipe": "Recipe",
    "environment": "Environment",
    "citation": "How to cite",
}
HEADLINE = ("auroc_macro", "accuracy", "balanced_accuracy", "macro_f1")


def report(run: str | Path, *, out: str | Path | None = None, check: bool = False) -> Path:
    """Write the page of a run that has been evaluated; returns it.

    What was not made, such as explanations, is not shown; the page says what makes it.
    check : first compare every byte of the run and its pack with their hashes
    Errors: SkyclassError where the run has not ended or has no evaluation, or one that is not of its predictions.
    """
    finished = Run.open(Path(run))
    if not finished.finished:
        raise SkyclassError("the run has not ended", where=run, fix=to_resume(Path(run)))
    for folder in (finished.evaluation, finished.explanations):
        finish_replacing(folder)  # a killed command may have left something to be put in place
    if not (finished.evaluation / "metrics.json").is_file():
        raise SkyclassError("the run has no evaluation", where=run, fix=f"run `skyclass evaluate {run}` first")
    if check:
        check_run(finished)
    metrics = checked_metrics(finished)
    target = Path(out) if out else finished.report_file
    write_text(target, _page(Material(finished, metrics)))
    say_where("Report", target)
    return target


def _page(material: Material) -> str:
    """The page. Errors: SkyclassError for an evaluation without a hash whose values are not of their types."""
    try:
        return page("report.html.j2", _content(material))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, UndefinedError) as error:
        if SEAL in material.metrics:
            raise  # it is as `evaluate` wrote it: the fault is ours
        what, where = f"damaged evaluation ({one_line(error)})", material.run.evaluation / "metrics.json"
        fix = f"run `skyclass evaluate {material.run.path}` again"
        raise SkyclassError(what, where=where, fix=fix) from None


def _content(material: Material) -> dict[str, Any]:
    """What the templates show, a section each."""
    in_words = scores.MEANING
    told = {name: material.metrics["intervals"].get(name) for name in HEADLINE}
    return {
        "name": material.recipe.name,
        "about": material.recipe.about,
        "metrics": material.metrics,
        "headline": [scores.Score(in_words[name][0], material.metrics[name], ends) for name, ends in told.items()],
        "sections": SECTIONS,
        "pack_path": material.run.origin()["pack"],
        "data": training_data.data_section(material),
        "training": training_data.training_section(material),
        "scores": scores.scores_section(material),
        "calibration": scores.calibration_section(material),
        "sets": scores.sets_section(material),
        "uncertainty": scores.uncertainty_section(material),
        "novelty": scores.novelty_section(material),
        "columns": scores.columns_section(material),
        "explanations": examples.explanations_section(material),
        "mistakes": examples.mistakes_section(material),
        "ambiguous": examples.ambiguous_section(material),
        "origin": origin.origin_section(material),
        "version": __version__,
        "made": datetime.now(UTC).strftime("%Y-%m-%d at %H:%M UTC"),
    }
