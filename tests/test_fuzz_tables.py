"""Mutated tables: whatever the bytes, a source or one clear sentence, soon and without much memory."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from make_data import write_table
from skyclass.data.sources import read_source
from skyclass.errors import SkyclassError

FORMATS = (".csv", ".tsv", ".ecsv", ".vot", ".fits", ".parquet")
EACH = 50
LONGEST = 2.0  # seconds


def whole(folder: Path, suffix: str) -> bytes:
    """A table with every type of column, whose images exist."""
    frame = pd.DataFrame(
        {
            "id": [f"obj{i}" for i in range(12)],
            "label": ["spiral", "", "ring"] * 4,
            "split": ["train", "val", "test", "train"] * 3,
            "ra": np.linspace(0, 359, 12),
            "dec": ["-01:02:03", "12.5"] * 6,
            "counts": np.arange(12, dtype=np.int16),
            "good": [True, False] * 6,
        }
    )
    for name in frame["id"]:
        (folder / f"{name}.png").touch()
    return write_table(folder / f"whole{suffix}", frame).read_bytes()


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with a few of them changed, a piece cut out, doubled or moved, digits grown, or the end cut off."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        start, length = int(rng.integers(len(changed))), int(rng.integers(1, 200))
        piece = bytes(changed[start : start + length])
        match rng.integers(7):
            case 0:
                changed[start] = int(rng.integers(256))
            case 1:
                changed[start] ^= 1 << int(rng.integers(8))
            case 2:
                del changed[start : start + length]
            case 3:
                changed[start:start] = piece * int(rng.integers(1, 20))
            case 4:
                changed[start : start + length] = rng.bytes(length)
            case 5:
                digits = [place for place, byte in enumerate(changed) if chr(byte).isdigit()]
                if digits:
                    place = int(rng.choice(digits))
                    changed[place : place + 1] = str(rng.integers(10**9)).encode()
            case 6:
                del changed[max(start, 1) :]
        if not changed:
            return b""
    return bytes(changed)


@pytest.mark.parametrize("suffix", FORMATS)
def test_mutated_tables_are_read_or_refused_in_one_sentence(tmp_path: Path, suffix: str) -> None:
    data = whole(tmp_path, suffix)
    assert len(read_source(tmp_path / f"whole{suffix}").catalog) == 12
    rng = np.random.default_rng(FORMATS.index(suffix))
    outcomes = {"read": 0, "refused": 0}
    for number in range(EACH):
        path = tmp_path / f"fuzz{number}{suffix}"
        path.write_bytes(mutated(data, rng))
        began, said = time.perf_counter(), ""
        try:
            assert len(read_source(path).catalog)
        except SkyclassError as refusal:
            said = str(refusal)
        assert time.perf_counter() - began < LONGEST, f"mutation {number}"
        outcomes["refused" if said else "read"] += 1
        assert not said or (str(tmp_path) in said and "\n" not in said and len(said) < 2000)
    assert outcomes["refused"] > EACH // 10
