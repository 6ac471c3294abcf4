"""Damaged files of every kind: read, or one clear sentence; no crash, no hang, no memory eaten.

The reading goes on in processes that may be lost: libraries in C can take Python down with them. `make fuzz` does the
same with ten times as many files and another seed each time; `helpers.fuzz` says how to read one of them again.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from helpers import fuzz, hostile
from helpers.fuzz_kinds import IMAGES, KINDS, OUR_OWN, TABLES
from skyclass.core.errors import SkyclassError
from skyclass.images.formats.read import read_image

MUTANTS = 2000
SEED = 11


@pytest.mark.timeout(900)  # it takes two minutes of computing, and other tests may want the cores
@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits there")
@pytest.mark.parametrize("kinds", [IMAGES, TABLES, OUR_OWN], ids=["images", "tables", "artefacts"])
def test_damaged_files_are_read_or_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: dict[str, object]
) -> None:
    share = -(-MUTANTS // len(KINDS))
    outcomes = fuzz.fuzz(tmp_path / "fuzz", SEED, share * len(kinds), [*kinds])
    assert [fault for outcome in outcomes for fault in outcome.faults] == [], f"seed {SEED}"
    assert [outcome.kind for outcome in outcomes] == [*kinds]
    assert all(outcome.read + outcome.refused == share for outcome in outcomes)
    assert all(outcome.refused > 0 for outcome in outcomes), outcomes  # the damage is not harmless
    assert sum(outcome.read > 0 for outcome in outcomes) > len(kinds) / 2, outcomes  # nor is it total


def test_a_mutant_follows_from_seed_kind_and_number() -> None:
    whole = hostile.plain()
    mutants = [fuzz.mutant_of("fits", whole, 7, number) for number in range(20)]
    assert mutants == [fuzz.mutant_of("fits", whole, 7, number) for number in range(20)]
    assert len(set(mutants)) > 15
    assert mutants != [fuzz.mutant_of("fits", whole, 8, number) for number in range(20)]


def test_what_ends_or_stops_a_process_is_a_fault_and_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUZZ_BROKEN_READER", "1")
    # Of the faults, only the reader that never comes back may be waited for so long: the one that takes too long
    # computes for 0.75 s, and for that it has 13 times as much on a busy machine.
    monkeypatch.setenv("FUZZ_SECONDS", "0.5")
    monkeypatch.setattr(fuzz, "PATIENCE", 10.0)
    (outcome,) = fuzz.fuzz(tmp_path / "fuzz", SEED, 8, ["npy"])
    texts = " ".join(outcome.faults)
    assert "npy 2 ended the process (-9)" in texts
    assert "npy 3 raised ZeroDivisionError" in texts
    assert "npy 4 took" in texts
    assert "npy 5 refused as" in texts
    assert "npy 6 never came back" in texts
    assert outcome.read + outcome.refused == 3  # 0, 1 and 7


def test_bombs_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (3, 10**6, 10**6)})
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive:
            archive.writestr("image.npy", stream.getvalue())
        for address in ("x.npz", "x.npz::image[0]"):
            with pytest.raises(SkyclassError, match=r"more than|does not agree"):
                read_image(tmp_path / address)
