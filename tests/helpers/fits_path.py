"""The path of a FITS file to its row of predictions: the functions of ours that it passes.

`python -m helpers.fits_path`, in `tests`, prints the table of docs/architecture.md.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import numpy as np
from astropy.io import fits

import skyclass
from helpers import tiny_backbone  # noqa: F401  (timm has to know the backbone)
from helpers.paths import WRITTEN
from skyclass.classifier.classifier import Classifier

SOURCE = Path(skyclass.__file__).parent


class Trace(NamedTuple):
    """What was called between the file and its row."""

    calls: int
    """Of functions of ours; a generator counts at every step."""
    functions: dict[str, list[str]]
    """File -> functions, both in the order of their first call."""
    order: list[tuple[str, str]]
    """Files and functions in the order of their first call."""

    @property
    def n_functions(self) -> int:
        """How many different functions."""
        return sum(map(len, self.functions.values()))


def trace_prediction(folder: Path) -> Trace:
    """Predict one FITS image of 16 x 12 pixels, written into the folder, in all threads.

    The classifier is one of Skyclass 0.1 with calibration, prediction sets and novelty. Lambdas and comprehensions are
    not counted: which of them have a frame of their own differs between versions of Python.
    """
    classifier = Classifier.load(WRITTEN / "runs" / "lora", "cpu")
    file = folder / "galaxy.fits"
    fits.PrimaryHDU(np.random.default_rng(0).random((16, 12), dtype=np.float32)).writeto(file)
    classifier.predict([file])  # what is imported or made once is there already
    calls: list[tuple[str, str]] = []

    def count(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(str(SOURCE)) and not code.co_name.startswith("<"):
            calls.append((Path(code.co_filename).relative_to(SOURCE).as_posix(), code.co_qualname))

    before = sys.getprofile()
    threading.setprofile(count)
    sys.setprofile(count)
    try:
        classifier.predict([file])
    finally:
        sys.setprofile(before)
        threading.setprofile(before)
    functions: dict[str, list[str]] = {}
    order = list(dict.fromkeys(calls))
    for name, function in order:
        functions.setdefault(name, []).append(function)
    return Trace(len(calls), functions, order)


def table(trace: Trace) -> str:
    """The table of docs/architecture.md."""
    rows = []
    for name, functions in trace.functions.items():
        rows.append(f"| `{name}` | {', '.join(f'`{one}`' for one in functions)} |")
    return "\n".join(["| file | functions |", "|---|---|", *rows])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        found = trace_prediction(Path(scratch))
    print(f"{found.calls} calls of {found.n_functions} functions in {len(found.functions)} files\n")
    print(table(found))
