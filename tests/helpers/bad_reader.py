"""A reader with every fault that the fuzzer has to see. Use it as `from helpers.bad_reader import read_badly`."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from skyclass.core.errors import SkyclassError


def read_badly(file: Path) -> None:
    """One fault for each mutant from 2 to 6."""
    match file.name.partition("-")[0]:
        case "2":
            os.kill(os.getpid(), signal.SIGKILL)
        case "3":
            raise ZeroDivisionError
        case "4":
            end = time.process_time() + 0.75
            while time.process_time() < end:
                pass
        case "5":
            raise SkyclassError("two\x1blines", where="somewhere else")
        case "6":
            time.sleep(1000)
