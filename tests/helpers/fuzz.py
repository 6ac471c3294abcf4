"""The fuzzer: damaged files of every kind, each of which must be read or refused in one clear sentence.

    python -m helpers.fuzz --mutants 20000 --seed 7            # all kinds, in processes that may be lost
    python -m helpers.fuzz --seed 7 --kind hdf5 --only 412     # one mutant again

Both with PYTHONPATH=tests.
A mutant follows from the seed, its kind and its number alone. Files that are not dealt with as they should be are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import resource
import subprocess
import sys
import time
import traceback
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from helpers.paths import with_tests

SECONDS = float(os.environ.get("FUZZ_SECONDS", "2"))  # of computing that one file may take
MEMORY = 2**30  # bytes that one file may take, beside those of Python and its libraries
LONGEST = 2000  # characters of a sentence
PATIENCE = 180.0  # seconds without a sign of life, after which a process is ended: the machine may be busy
START = 600.0  # likewise, before the first mutant


@dataclass
class Outcome:
    """What became of the mutants of a kind. slowest: seconds; peak: bytes; faults: one line each."""

    kind: str
    mutants: int
    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    peak: int = 0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.kind:20} {self.mutants:6} mutants {self.read:6} read {self.refused:6} refused {len(self.faults):4} "
            f"faults, slowest {self.slowest:.2f} s, peak {self.peak / 2**20:.0f} MB"
        )


def mutant_of(kind: str, whole: bytes, seed: int, number: int) -> bytes:
    """The bytes of one mutant."""
    from helpers.fuzz_kinds import KINDS

    return KINDS[kind].mutate(whole, np.random.default_rng([seed, zlib.crc32(kind.encode()), number]))


def fault_of(kind: str, file: Path, folder: Path) -> str | None:
    """ "" where the file is read, None where it is refused in one clear sentence, else what is wrong with that."""
    from helpers.fuzz_kinds import KINDS
    from skyclass.core.errors import SkyclassError

    heard = io.StringIO()
    try:
        with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
            KINDS[kind].read(file)
    except SkyclassError as refusal:
        text = str(refusal)
        is_clear = str(folder) in text and text.isprintable() and len(text) < LONGEST
        return None if is_clear else f"refused as {text[:500]!r}"
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if f"{os.sep}skyclass{os.sep}" in frame.filename][-1:]
        places = ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in (*ours, frames[-1]))
        return f"raised {type(error).__name__} at {places}: {str(error)[:200]!r}"
    return ""


def peak_memory() -> int:
    """The most bytes this process has held. Linux counts in `getrusage` what its parent held when it was started."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts in bytes


def read_mutants(kind: str, folder: Path, seed: int, numbers: range) -> None:
    """Write and read mutants of a kind in this process; one line on standard output for each."""
    from helpers.fuzz_kinds import KINDS

    folder.mkdir(parents=True)
    good = KINDS[kind].write(folder / "whole")
    whole = good.read_bytes()
    fault = fault_of(kind, good, folder)
    assert fault == "", f"the whole file of {kind}: {fault}"
    held = peak_memory()
    is_alone = good.parent == folder  # else one file of an artefact, damaged where it lies
    for number in numbers:
        print(f"at {kind} {number}", flush=True)
        file = good.with_name(f"{number}-{good.name}") if is_alone else good
        damaged = mutant_of(kind, whole, seed, number)
        file.write_bytes(damaged)
        start = time.process_time()
        fault = fault_of(kind, file, folder)
        seconds = time.process_time() - start
        if seconds > SECONDS:
            fault = f"took {seconds:.1f} s"
        if (took := peak_memory() - held) > MEMORY:
            fault, held = f"took {took:,} bytes of memory", held + took
        if fault and not is_alone:
            (folder / f"{number}-{good.name}").write_bytes(damaged)
        elif not fault and is_alone:
            file.unlink()
        said = "refused" if fault is None else f"fault {fault}" if fault else "read"
        print(f"done {seconds:.3f} {peak_memory()} {said}", flush=True)


def fuzz(folder: Path, seed: int, mutants: int, kinds: list[str]) -> list[Outcome]:
    """So many mutants in all, in equal shares, in a process that is started again where a mutant ends or stops it."""
    share = -(-mutants // len(kinds))
    outcomes = {kind: Outcome(kind, share) for kind in kinds}
    left, start, part = list(kinds), 0, 0
    while left:
        place = folder / f"part-{part}"
        log, end = _run_part(place, seed, left, start, share)
        kind, number = _counted(log, outcomes)
        if end is None:
            break
        outcomes[kind or left[0]].faults.append(f"{kind} {number} {end}")
        part += 1
        if kind is None or number + 1 >= share:  # it ended before the first mutant, or with the last
            left, start = left[left.index(kind) + 1 if kind else 1 :], 0
        else:
            left, start = left[left.index(kind) :], number + 1
    return list(outcomes.values())


def _run_part(place: Path, seed: int, kinds: list[str], start: int, stop: int) -> tuple[Path, str | None]:
    """The log of a process that reads mutants, and how it ended where that was before its time."""
    place.mkdir(parents=True)
    log = place / "log"
    words = [str(place), str(seed), ",".join(kinds), str(start), str(stop)]
    with log.open("w") as stream:
        command = [sys.executable, "-m", "helpers.fuzz", "--worker", *words]
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=with_tests())
        seen, since = -1, time.monotonic()
        while process.poll() is None:
            time.sleep(0.2)
            if (size := log.stat().st_size) != seen:
                seen, since = size, time.monotonic()
            if time.monotonic() - since > (PATIENCE if size else START):
                process.kill()
                process.wait()
                return log, "never came back"
    return log, None if process.returncode == 0 else f"ended the process ({process.returncode})"


def _counted(log: Path, outcomes: dict[str, Outcome]) -> tuple[str | None, int]:
    """Add what a log says to the outcomes; the kind and the number of its last mutant."""
    kind, number = None, 0
    for line in log.read_text(errors="replace").splitlines():
        word, _, rest = line.partition(" ")
        if word == "at":
            kind, number = rest.split()[0], int(rest.split()[1])
        elif word == "done" and kind is not None:
            seconds, peak, said = rest.split(" ", 2)
            outcome = outcomes[kind]
            outcome.slowest, outcome.peak = max(outcome.slowest, float(seconds)), max(outcome.peak, int(peak))
            outcome.read += said == "read"
            outcome.refused += said == "refused"
            if said.startswith("fault "):
                outcome.faults.append(f"{kind} {number} {said.removeprefix('fault ')}")
        else:  # a library that prints, or the traceback of a process that ends
            outcomes[kind or next(iter(outcomes))].faults.append(f"{kind} {number} printed {line[:300]!r}")
    return kind, number


def main() -> int:
    """The command."""
    from helpers.fuzz_kinds import KINDS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--kind", action="append", choices=[*KINDS], help="may be given more than once")
    parser.add_argument("--only", type=int, help="the number of one mutant, to read it again")
    parser.add_argument("--out", type=Path, default=Path("fuzz"), help="where files are kept that broke something")
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    if given.only is not None:
        for kind in given.kind or []:
            place = given.out.absolute() / f"{given.seed}-{given.only}-{time.time_ns()}" / kind
            read_mutants(kind, place, given.seed, range(given.only, given.only + 1))
        return 0
    folder = given.out.absolute() / f"{given.seed}-{time.time_ns()}"
    outcomes = fuzz(folder, given.seed, given.mutants, given.kind or [*KINDS])
    for outcome in outcomes:
        print(outcome, *outcome.faults, sep="\n  ", flush=True)
    n_faults = sum(len(outcome.faults) for outcome in outcomes)
    print(f"{sum(outcome.mutants for outcome in outcomes):,} mutants, seed {given.seed}: {n_faults} faults")
    again = f"PYTHONPATH=tests python -m helpers.fuzz --seed {given.seed} --kind KIND --only NUMBER"
    print(f"again: {again}; files in {folder}")
    return int(n_faults > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        place, seed, kinds, start, stop = sys.argv[2:]
        for index, kind in enumerate(kinds.split(",")):
            read_mutants(kind, Path(place) / kind, int(seed), range(0 if index else int(start), int(stop)))
    else:
        sys.exit(main())
