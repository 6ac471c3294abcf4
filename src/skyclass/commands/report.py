"""`skyclass report`: one HTML page that a collaborator opens without Python."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import UndefinedError

from ..classifier.run import Run
from ..classifier.run_paths import resume_hint
from ..core.console import say_where, shown_messages
from ..core.errors import SkyclassError, one_line
from ..core.files.atomic_files import write_text
from ..core.files.json_documents import SEAL
from ..core.files.replacing import finish_replacing
from ..core.version import __version__
from ..reports import examples, provenance, scores, training_data
from ..reports.checked_metrics import checked_metrics
from ..reports.pages import page
from ..reports.report_data import ReportData
from ..training.verify import check_run

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


@shown_messages()
def report(run: str | Path, *, out: str | Path | None = None, check: bool = False) -> Path:
    """Write the report of a run as one HTML page.

    What was not made, such as explanations, is not shown; the page names the command that makes it.

    Parameters
    ----------
    run : str or Path
        The folder of a run that has been evaluated.
    out : str or Path, optional
        The page. By default `report.html` in the run.
    check : bool
        Whether to compare every byte of the run and its pack with their hashes first.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    SkyclassError
        Where the run has not ended or has no evaluation, or one that is not of its predictions.
    """
    finished = Run.open(Path(run))
    if not finished.finished:
        raise SkyclassError("the run has not ended", where=run, fix=resume_hint(Path(run)))
    for folder in (finished.evaluation, finished.explanations):
        finish_replacing(folder)  # a killed command may have left something to be put in place
    if not (finished.evaluation / "metrics.json").is_file():
        raise SkyclassError("the run has no evaluation", where=run, fix=f"run `skyclass evaluate {run}` first")
    if check:
        check_run(finished)
    metrics = checked_metrics(finished)
    target = Path(out) if out else finished.report_file
    write_text(target, _page(ReportData(finished, metrics)))
    say_where("Report", target)
    return target


def _page(report_data: ReportData) -> str:
    """The page. Errors: SkyclassError for an evaluation without a hash whose values are not of their types."""
    try:
        return page("report.html.j2", _content(report_data))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, UndefinedError) as error:
        if SEAL in report_data.metrics:
            raise  # it is as `evaluate` wrote it: the fault is ours
        what, where = f"damaged evaluation ({one_line(error)})", report_data.run.evaluation / "metrics.json"
        fix = f"run `skyclass evaluate {report_data.run.path}` again"
        raise SkyclassError(what, where=where, fix=fix) from None


def _content(report_data: ReportData) -> dict[str, Any]:
    """What the templates show, a section each."""
    in_words = scores.MEANING
    intervals = {name: report_data.metrics["intervals"].get(name) for name in HEADLINE}
    return {
        "name": report_data.recipe.name,
        "about": report_data.recipe.about,
        "metrics": report_data.metrics,
        "headline": [
            scores.ScoreRow(in_words[name][0], report_data.metrics[name], ends) for name, ends in intervals.items()
        ],
        "sections": SECTIONS,
        "pack_path": report_data.run.provenance()["pack"],
        "data": training_data.data_section(report_data),
        "training": training_data.training_section(report_data),
        "scores": scores.scores_section(report_data),
        "calibration": scores.calibration_section(report_data),
        "sets": scores.sets_section(report_data),
        "uncertainty": scores.uncertainty_section(report_data),
        "novelty": scores.novelty_section(report_data),
        "columns": scores.columns_section(report_data),
        "explanations": examples.explanations_section(report_data),
        "mistakes": examples.mistakes_section(report_data),
        "ambiguous": examples.ambiguous_section(report_data),
        "provenance": provenance.provenance_section(report_data),
        "version": __version__,
        "made": datetime.now(UTC).strftime("%Y-%m-%d at %H:%M UTC"),
    }
