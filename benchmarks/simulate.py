"""How fast lenses are simulated: one Markdown table, per class and for the mixture of the three."""

from __future__ import annotations

import argparse
import time

import torch

from skyclass.core.parallel import available_cores
from skyclass.data.simulation import lensing


def measure(labels: list[str], size: int, workers: int) -> float:
    """Seconds to simulate these lenses, the start of the worker processes included."""
    start = time.perf_counter()
    done = sum(len(images) for images, _ in lensing.simulate(labels, size, workers=workers))
    assert done == len(labels)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=30_000, help="images of the mixture; a tenth of it for a class")
    parser.add_argument("--size", type=int, default=150, help="height and width, pixels")
    arguments = parser.parse_args()
    n, cores = arguments.images, available_cores()
    classes = len(lensing.CLASSES)
    jobs = [(label, [label] * max(1, n // 10), 1) for label in lensing.CLASSES]
    jobs.append(("mixture", [lensing.CLASSES[i % classes] for i in range(n)], cores))
    measure(list(lensing.CLASSES), arguments.size, 1)  # the first call allocates and loads

    print("| lenses | images | size | workers | seconds | images/s | cores | torch |")
    print("|---|---:|---|---:|---:|---:|---:|---|")
    for name, labels, workers in jobs:
        seconds = measure(labels, arguments.size, workers)
        size = f"{arguments.size}x{arguments.size}"
        cells = (name, len(labels), size, workers, f"{seconds:.1f}", f"{len(labels) / seconds:.0f}", cores)
        print("|", " | ".join(map(str, (*cells, torch.__version__))), "|", flush=True)


if __name__ == "__main__":
    main()
