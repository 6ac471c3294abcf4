"""`skyclass demo`: simulated lenses from nothing to a report, by the same commands that a person would type."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ..console import console, say, say_where
from ..data.pack import is_pack
from ..errors import SkyclassError
from ..run import Run, is_run

RECIPE = "lensing-demo"


def demo(
    out: str | Path = "demo",
    *,
    per_class: int = 1600,
    size: int = 75,
    clean: bool = False,
    overrides: tuple[str, ...] = (),
) -> Path:
    """Simulate, train, evaluate, explain and report into `out`; returns the report's path.

    A second call reuses the steps whose results are there and says so; `clean` starts anew. `overrides` change the
    recipe of a new training.
    """
    out = Path(out)
    if clean and out.exists():
        say(f"Starting clean: {out} is removed")
        shutil.rmtree(out)
    pack, run = out / "pack", Run(out / "run")
    changes = [word for text in overrides for word in ("--set", text)]
    simulate = ["simulate", "lensing", pack, "--per-class", per_class, "--size", size, "--overwrite"]
    if is_run(run.path):
        train = ["train", "--resume", run.path]
    else:
        train = ["train", RECIPE, pack, "--out", run.path, *changes]
    _step("Pack", pack, lambda: is_pack(pack), simulate)
    _step("Run", run.path, lambda: run.finished, train)
    _step("Evaluation", run.evaluation, (run.evaluation / "metrics.json").is_file, ["evaluate", run.path])
    _step("Explanations", run.explanations, (run.explanations / "explanations.csv").is_file, ["explain", run.path])
    report = out / "report.html"
    _step("Report", report, report.is_file, ["report", run.path, "--out", report])
    metrics = json.loads((run.evaluation / "metrics.json").read_text(encoding="utf-8"))
    say(f"Macro AUROC {metrics['auroc_macro']:.4f} on {metrics['n']:,} test images that the network never saw")
    say_where("Report", report)
    return report


def _step(name: str, result: Path, is_there: Callable[[], bool], arguments: list[object]) -> None:
    """Run one command of Skyclass, unless its result is there already."""
    if is_there():
        say(f"{name}: {result} is there already, reused")
        return
    words = [str(argument) for argument in arguments]
    console.print(f"\n$ skyclass {shlex.join(words)}", style="bold cyan", markup=False, soft_wrap=True)
    code = subprocess.run([sys.executable, "-m", "skyclass", *words], check=False).returncode
    if code:
        fix = "mend what it says above, then run the demo again: it goes on from there"
        raise SkyclassError(f"`skyclass {words[0]}` ended with exit status {code}", where="demo", fix=fix)
