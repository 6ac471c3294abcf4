"""Time to the first answer of the command line: `skyclass --help` beside a bare Python, median of the runs."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path


def median_seconds(command: list[str], runs: int) -> float:
    """Median wall time of a command, after one run that warms the file cache."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    skyclass = str(Path(sys.executable).with_name("skyclass"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "skyclass --help": [skyclass, "--help"],
        "skyclass train --help": [skyclass, "train", "--help"],
        "skyclass recipes list": [skyclass, "recipes", "list"],
    }
    print(f"| command | median of {runs}, s |\n|---|---:|")
    for name, command in commands.items():
        print(f"| `{name}` | {median_seconds(command, runs):.3f} |")


if __name__ == "__main__":
    main()
