"""`skyclass demo`: simulated lenses, trained and evaluated up to a report, by the commands that a user would type."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from ..core.console import shown_messages
from ..core.errors import SkyclassError
from .options.shared import Overrides

RECIPE = "lensing-demo"
SPLITS = "0.68,0.1,0.22"  # about 1,000 of 4,500 images are left for the test


@shown_messages()
def demo(
    out: Annotated[Path | str, typer.Argument(help="folder of the demo")] = "demo",
    *,
    per_class: Annotated[int, typer.Option(help="simulated images of each class")] = 1500,
    size: Annotated[int, typer.Option(help="pixels a side")] = 75,
    clean: Annotated[bool, typer.Option("--clean", help="remove what an earlier demo left, and start anew")] = False,
    overrides: Overrides = (),
) -> Path:
    """Simulate lenses, train, evaluate, explain and report, in one go.

    A second call reuses the steps whose results are there, and logs it.

    Parameters
    ----------
    out : str or Path
        The folder of the demo.
    per_class : int
        Simulated images of each class.
    size : int
        Height and width of the images in pixels.
    clean : bool
        Whether to remove what an earlier demo left in `out`, and start anew.
    overrides : sequence of str
        KEY.KEY=VALUE changes of the recipe of a new training.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    SkyclassError
        As its steps do, and for a folder that holds something else.
    """
    from ..classifier.run import Run, is_run
    from ..core.console import say, say_where
    from ..core.files.atomic_files import read_json
    from ..data.packs.pack import is_pack
    from ..explanation.output import LIST

    out = Path(out)
    pack, run, report = out / "pack", Run(out / "run"), out / "report.html"
    if clean:
        say(f"Starting clean: an earlier demo in {out} is removed")
        for folder in (pack, run.path):  # and nothing else: the folder may be somebody's home
            shutil.rmtree(folder, ignore_errors=True)
        report.unlink(missing_ok=True)
    changes = [word for text in overrides for word in ("--set", text)]
    choices = ["--per-class", per_class, "--size", size, "--splits", SPLITS]
    simulate = ["simulate", "lensing", pack, *choices, "--overwrite"]
    if is_run(run.path):
        train = ["train", "--resume", run.path]
    else:
        train = ["train", RECIPE, pack, "--out", run.path, *changes]
    _step("Pack", pack, lambda: is_pack(pack), simulate)
    _step("Run", run.path, lambda: run.finished, train)
    evaluation, explanations = run.evaluation / "metrics.json", run.explanations / LIST
    new = _step("Evaluation", run.evaluation, evaluation.is_file, ["evaluate", run.path])
    new |= _step("Explanations", run.explanations, explanations.is_file, ["explain", run.path])
    _step("Report", report, lambda: report.is_file() and not new, ["report", run.path, "--out", report])
    metrics = read_json(evaluation, "evaluation")
    auroc = "undefined" if metrics["auroc_macro"] is None else f"{metrics['auroc_macro']:.4f}"
    say(f"Macro AUROC {auroc} on {metrics['n']:,} {metrics['split']} images that the network never saw")
    say_where("Report", report)
    return report


def _step(name: str, result: Path, is_there: Callable[[], bool], arguments: list[object]) -> bool:
    """Run one command of Skyclass, unless its result is there already; returns whether it was run."""
    from ..core.console import console, say

    if is_there():
        say(f"{name}: {result} is there already, reused")
        return False
    words = [str(argument) for argument in arguments]
    console.print(f"\n$ skyclass {shlex.join(words)}", style="bold cyan", markup=False, soft_wrap=True)
    code = subprocess.run([sys.executable, "-m", "skyclass", *words], check=False).returncode
    if code:
        fix = "mend what it says above, then run the demo again: it goes on from there"
        raise SkyclassError(f"`skyclass {words[0]}` ended with exit status {code}", where="demo", fix=fix)
    return True
