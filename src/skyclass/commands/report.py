"""`skyclass report`: one HTML page that a collaborator opens without Python."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.console import shown_messages
from ..core.errors import SkyclassError
from .options.shared import Check


@shown_messages()
def report(
    run: Annotated[Path | str, typer.Argument(help="the run to report on")],
    *,
    out: Annotated[Path | str | None, typer.Option(help="the HTML file (default: report.html in the run)")] = None,
    check: Check = False,
) -> Path:
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
    from ..classifier.run import Run
    from ..classifier.run_paths import resume_hint
    from ..core.console import say_where
    from ..core.files.atomic_files import write_text
    from ..core.files.replacing import finish_replacing
    from ..reports.checked_metrics import checked_metrics
    from ..reports.report_data import ReportData
    from ..reports.run_report import report_page
    from ..training.verify import check_run

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
    write_text(target, report_page(ReportData(finished, metrics)))
    say_where("Report", target)
    return target
