"""Kills commands at every change that they make on the disk, lets the disk be full or broken there, and goes on.

One process, which has imported everything and computed nothing, forks for each attempt. shim.c, preloaded, counts the
changes and strikes.

    python certificate.py FOLDER [--each N] [--points N] [--within SECONDS] [--seed SEED] [--only NAME ...]
        [--without NAME ...]
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from artefacts import differences
from points import HOW, Point, points_of, shuffled
from scenarios import PREPARED, SCENARIOS, Scenario, write_recipes

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))  # for make_data, which the other tests share

PATIENCE = 900.0  # seconds for one command
CLEAN, SAID, HANDS, DIFFERENT = "clean", "said clearly", "needs hands", "silently different"
OUTCOMES = (CLEAN, SAID, HANDS, DIFFERENT)


class Result(NamedTuple):
    """How a command ended."""

    code: int
    said: str

    @property
    def sentence(self) -> str | None:
        """The one sentence of a command that was refused; None where it said something else."""
        lines = [line for line in self.said.splitlines() if line.startswith("Error: ")]
        clear = self.code == 1 and len(lines) == 1 and "Traceback" not in self.said and "--debug" not in lines[0]
        return lines[0] if clear else None


class Attempt(NamedTuple):
    """What came of one point."""

    point: Point
    outcome: str
    why: str


def build(folder: Path) -> Path:
    """Compile the shim."""
    library = folder / "shim.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "shim.c"), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return library


class Bench:
    """A folder `work` in which commands run, and the files that they need beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.work, self.made = folder, folder / "work", folder / "made"
        self.log, self.report, self.modules = folder / "log.txt", folder / "report.txt", folder / "modules.json"

    def prepare(self, needs: set[str]) -> None:
        """Make what scenarios need."""
        from make_data import class_folders

        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        class_folders(self.work / "images", ("bar", "blob", "ring"), splits={"train": 4, "val": 2, "test": 2})
        class_folders(self.work / "few", ("bar", "ring"), splits={"train": 2, "val": 1, "test": 1})
        write_recipes(self.work)
        for name, commands in PREPARED.items():
            if name in needs or (name in ("pack", "run") and needs & {"run", "evaluated"}):
                for words in commands:
                    self._made(words)
        shutil.rmtree(self.made, ignore_errors=True)
        self.work.rename(self.made)

    def _made(self, words: Sequence[str]) -> None:
        if words[0] == "copy":
            shutil.copytree(self.work / words[1], self.work / words[2])
        else:
            result = self.command(words, record=True)
            if result.code:
                raise RuntimeError(f"{' '.join(words)}: {result.said}")
            self.import_all()

    def reset(self, scenario: Scenario) -> None:
        """A new `work` with what the scenario needs."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        for name in scenario.needs:
            source = self.made / name
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, self.work / name)

    def command(
        self, words: Sequence[str], point: Point | None = None, devices: int = 1, record: bool = False
    ) -> Result:
        """Run a command in a fork, struck at the point."""
        child = os.fork()
        if child == 0:
            self._child(words, point, devices, record)
        end = time.monotonic() + PATIENCE
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
            if time.monotonic() > end:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return Result(-1, f"it hangs: {self.log.read_text(encoding='utf-8')}")
            time.sleep(0.005)
        return Result(os.waitstatus_to_exitcode(ended[1]), self.log.read_text(encoding="utf-8", errors="replace"))

    def _child(self, words: Sequence[str], point: Point | None, devices: int, record: bool) -> NoReturn:
        code = 70
        try:
            os.chdir(self.work)
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.argv = ["skyclass", *words]
            if point or record:
                self.report.unlink(missing_ok=True)
                self._arm(point, devices)
            from skyclass import cli

            try:
                cli.main()
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            sys.stderr.flush()
            if record:
                names = sorted(name for name in sys.modules if not name.startswith("__"))
                self.modules.write_text(json.dumps(names), encoding="utf-8")
        except BaseException:
            traceback.print_exc()
        os._exit(code)

    def _arm(self, point: Point | None, devices: int) -> None:
        how, number = (HOW[point.how], point.number) if point else (0, 0)
        if devices == 1:
            shim = ctypes.CDLL(None)
            shim.crash_arm(str(self.work).encode(), how, ctypes.c_long(number), str(self.report).encode())
            return
        told = {
            "CRASH_ROOT": self.work,
            "CRASH_RANK": 0,
            "CRASH_MODE": how,
            "CRASH_AT": number,
            "CRASH_REPORT": self.report,
        }
        os.environ.update({name: str(value) for name, value in told.items()})

    def import_all(self) -> None:
        """Import what the command recorded last has imported, so that the next fork need not."""
        for name in json.loads(self.modules.read_text(encoding="utf-8")):
            if name not in sys.modules:
                try:
                    importlib.import_module(name)
                except Exception:
                    continue  # a module that exists only inside another's work


def struck(bench: Bench, scenario: Scenario, point: Point, wanted: Path) -> Attempt:
    """Strike the command at the point, go on as a person would, and compare."""
    bench.reset(scenario)
    first = bench.command(scenario.words, point, scenario.devices)
    said = first.code == 1
    if point.how == "kill" and first.code == 0:
        return Attempt(point, CLEAN, "not reached")  # a thread of the log was quicker this time
    if point.how != "kill" and first.code not in (0, 1):
        return Attempt(point, HANDS, f"exit status {first.code}: {first.said[-500:]}")
    if first.code == 1 and (first.sentence is None or not _names_a_place(first.sentence)):
        return Attempt(point, HANDS, f"not one clear sentence: {first.said[-500:]}")
    if first.code == 0:
        changed = differences(bench.work / scenario.output, wanted)
        return Attempt(point, DIFFERENT if changed else CLEAN, "; ".join(changed))
    words = list(scenario.again(bench.work))
    again = bench.command(words)
    if again.code == 1 and again.sentence and "train --resume" in again.sentence and scenario.resumed:
        said, again = True, bench.command(scenario.resumed)
    if again.code == 1 and again.sentence and "--overwrite" in again.sentence:
        said, again = True, bench.command([*words, "--overwrite"])
    if again.code:
        return Attempt(point, HANDS, f"then `{' '.join(words)}`: {again.said[-700:]}")
    changed = differences(bench.work / scenario.output, wanted)
    if changed:
        return Attempt(point, DIFFERENT, f"{'; '.join(changed)} (it had said: {first.sentence})")
    return Attempt(point, SAID if said else CLEAN, first.sentence or "")


def _names_a_place(sentence: str) -> bool:
    return ": " in sentence.removeprefix("Error: ") and "; " in sentence


def certify(
    bench: Bench, scenario: Scenario, asked: argparse.Namespace, seconds: float
) -> tuple[list[Point], list[Attempt]]:
    """The points of a scenario, and what came of those that were struck."""
    bench.reset(scenario)
    recorded = bench.command(scenario.words, devices=scenario.devices, record=True)
    if recorded.code:
        raise RuntimeError(f"{scenario.name}: {recorded.said}")
    wanted = bench.folder / "wanted"
    shutil.rmtree(wanted, ignore_errors=True)
    shutil.copytree(bench.work / scenario.output, wanted)
    points = points_of(bench.report)
    bench.import_all()
    attempts, end = [], time.monotonic() + seconds
    # Those of other kinds come first, so that little time sees most of them.
    for point in shuffled(points, asked.seed, asked.each)[: asked.points]:
        attempts.append(struck(bench, scenario, point, wanted))
        if attempts[-1].outcome in (HANDS, DIFFERENT):
            print(f"  {attempts[-1].outcome}: {point}\n    {attempts[-1].why}", flush=True)
        if time.monotonic() > end:
            break
    return points, attempts


def line_of(name: str, points: Sequence[Point], attempts: Sequence[Attempt]) -> str:
    """A line of the table."""
    how = Counter(attempt.point.how for attempt in attempts)
    what = Counter(attempt.outcome for attempt in attempts)
    counts = [
        len(points),
        len({point.kind for point in points}),
        len(attempts),
        len({attempt.point.kind for attempt in attempts}),
        *(how[name] for name in HOW),
        *(what[one] for one in OUTCOMES),
    ]
    return f"| {name} | " + " | ".join(f"{count:,}" for count in counts) + " |"


COLUMNS = ("command", "points", "kinds", "struck", "of kinds", *HOW, *OUTCOMES)
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def main() -> None:
    """Strike the scenarios, print the table; exit status 1 where one needs hands or is silently different."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--points", type=int, help="of each command (default: all)")
    parser.add_argument("--each", type=int, help="of each kind of points of each command (default: all)")
    parser.add_argument("--within", type=float, help="seconds for all commands together, more or less")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="names of commands")
    parser.add_argument("--without", nargs="*", default=[], help="names of commands to leave out")
    asked = parser.parse_args()
    if "CRASH_SHIM" not in os.environ:
        asked.folder.mkdir(parents=True, exist_ok=True)
        library = build(asked.folder)
        still = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "CRASH_SHIM": "1", "LD_PRELOAD": str(library)}
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **still})
    import optuna

    optuna.storages.RDBStorage("sqlite://")  # imports what every tuning would import
    bench = Bench(asked.folder.resolve())
    chosen = [one for one in SCENARIOS if (not asked.only or one.name in asked.only) and one.name not in asked.without]
    bench.prepare({need for one in chosen for need in one.needs})
    lines, bad, end = [], 0, time.monotonic() + (asked.within or float("inf"))
    for left, scenario in zip(range(len(chosen), 0, -1), chosen, strict=True):
        start = time.monotonic()
        points, attempts = certify(bench, scenario, asked, (end - start) / left)
        lines.append(line_of(scenario.name, points, attempts))
        bad += sum(attempt.outcome in (HANDS, DIFFERENT) for attempt in attempts)
        print(f"{lines[-1]}  in {time.monotonic() - start:.0f} s", flush=True)
    print("\n".join([HEAD, *lines]))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
