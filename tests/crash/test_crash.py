"""A sample of the crash certificate: `make test-crash` strikes at all points."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SEED = os.environ.get("CRASH_SEED", "0")  # another one takes other points
SLOW = "train --devices 2"  # starts two processes anew each time

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("gcc") is None,
    reason="the shim that strikes is compiled with gcc, for Linux",
)


def certificate(folder: Path, *options: str) -> str:
    command = [sys.executable, str(Path(__file__).with_name("certificate.py")), str(folder), "--seed", SEED, *options]
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=1500)
    assert result.returncode == 0, f"seed {SEED}:\n{result.stdout[-8000:]}\n{result.stderr[-3000:]}"
    return result.stdout


def number_in(cell: str) -> int:
    """Of a table, with commas between thousands."""
    return int(cell.replace(",", ""))


@pytest.mark.kill
@pytest.mark.timeout(1600)
def test_no_crash_needs_hands_or_is_silently_different(tmp_path: Path) -> None:
    """Killed, on a full disk and on one that fails: what the commands leave is what they would have left."""
    table = certificate(tmp_path, "--within", "30", "--without", SLOW).partition("| command |")[2]
    rows = [re.split(r" ?\| ?", line)[1:-1] for line in table.splitlines()[2:] if line.startswith("|")]
    assert len(rows) == 15
    for name, points, kinds, n, _, *struck in rows:
        assert 5 < number_in(kinds) <= number_in(points), name
        kills, full, broken, clean, said, hands, different = (number_in(cell) for cell in struck)
        assert 1 <= number_in(n) == kills + full + broken == clean + said, name
        assert hands == different == 0, name
