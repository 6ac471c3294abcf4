"""Edited and rotten artefacts: each file that a command reads, damaged in each way, is one sentence or is not missed.

A seeded part of the matrix of files, damages and commands runs in the suite; `SKYCLASS_MATRIX=1` runs all of it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers import tiny_backbone
from helpers.commands import skyclass
from helpers.paths import WRITTEN
from skyclass.core.errors import SkyclassError

SHARE = 80  # in the suite, one in so many of the matrix
PARTS = 8
WHOLE = bool(os.environ.get("SKYCLASS_MATRIX"))

pytestmark = [
    pytest.mark.skipif(not WRITTEN.is_dir(), reason="a source archive does not carry the artefacts"),
    pytest.mark.usefixtures("blank_figures"),
]

EVALUATE, REPORT = ("evaluate", "runs/ended"), ("report", "runs/ended")
INSPECT = ("inspect", "packs/uint8", "--no-duplicates")
PREDICT = ("predict", "runs/ended", "packs/uint8", "--out", "p.parquet", "--device", "cpu")
EXPLAIN = ("explain", "runs/ended", "--per-class", "1", "--device", "cpu")
TRAIN = ("train", "recipe.yaml", "packs/uint8", "--out", "runs/new", "--set", "training.epochs=0")
TRAIN += ("--set", f"model.backbone={tiny_backbone.NAME}", "--device", "cpu")
RESUME = ("train", "--resume", "runs/interrupted", "--device", "cpu")
MORE = ("train", "--resume", "runs/ended", "--set", "training.epochs=+1", "--device", "cpu")
COMPARE = ("compare", "runs/ended", "runs/lora", "--out", "compared")
TUNE = ("tune", "tuned.yaml", "packs/uint8", "--out", "tunings/ended", "--device", "cpu")
CHECK = ("evaluate", "runs/ended", "--check")

# What a command wants beside the folder of the damaged file and the pack.
READS: dict[str, tuple[str, ...]] = {
    "inspect": (),
    "predict": ("runs/ended",),
    "explain": ("runs/ended",),
    "evaluate": ("runs/ended",),
    "report": ("runs/ended",),
    "compare": ("runs/ended", "runs/lora"),
    "train": ("recipe.yaml", "runs/ended", "runs/interrupted"),
    "tune": ("tuned.yaml", "tunings/ended"),
}
# Each file, and the commands that read it.
READERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "packs/uint8/pack.json": (INSPECT, PREDICT, TRAIN, EXPLAIN, REPORT, EVALUATE, RESUME),
    "packs/uint8/images.npy": (INSPECT, PREDICT, TRAIN, EXPLAIN, REPORT, CHECK),
    "packs/uint8/catalog.parquet": (INSPECT, PREDICT, TRAIN, EXPLAIN, REPORT, EVALUATE, RESUME),
    "packs/uint8/problems.csv": (REPORT,),
    "runs/ended/run.json": (EVALUATE, REPORT, EXPLAIN, COMPARE, MORE, PREDICT),
    "runs/ended/recipe.yaml": (EVALUATE, REPORT, EXPLAIN, COMPARE, MORE),
    "runs/ended/environment.json": (REPORT, EVALUATE),
    "runs/ended/history.csv": (REPORT, MORE),
    "runs/ended/training.json": (REPORT, COMPARE),
    "runs/ended/predictions.parquet": (EVALUATE, REPORT, EXPLAIN, COMPARE),
    "runs/ended/evaluation/metrics.json": (REPORT, EVALUATE),
    "runs/ended/evaluation/ambiguous.csv": (REPORT,),
    "runs/ended/explanations/grades.csv": (REPORT,),
    "runs/ended/classifier/classifier.json": (PREDICT, EXPLAIN, REPORT, EVALUATE),
    "runs/ended/classifier/model.safetensors": (PREDICT, EXPLAIN, CHECK),
    "runs/ended/classifier/novelty.safetensors": (PREDICT, EXPLAIN, CHECK),
    "runs/ended/checkpoints/last.ckpt": (MORE, CHECK),
    "runs/interrupted/run.json": (RESUME,),
    "runs/interrupted/history.csv": (RESUME,),
    "runs/interrupted/checkpoints/last.ckpt": (RESUME,),
    "tunings/ended/tuning.json": (TUNE,),
    "tunings/ended/study.db": (TUNE,),
    "recipe.yaml": (TRAIN,),
}
VALUES: tuple[Any, ...] = ([], {}, "text", "", None, -1, 10**400, 1e308, True, [None], {"a": [1]}, [[["x"]]])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def noise(path: Path) -> None:
    path.write_bytes(random.Random(path.name).randbytes(max(path.stat().st_size, 100)))


def spotted(path: Path) -> None:
    data = bytearray(path.read_bytes())
    chance = random.Random(path.name)
    for _ in range(1 + len(data) // 200):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def nul(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3] + b"\0" * 64 + data[len(data) // 3 + 64 :])


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def utf_16(path: Path) -> None:
    path.write_bytes(path.read_bytes().decode("latin-1").encode("utf-16"))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": cut,
    "emptied": lambda path: path.write_bytes(b""),
    "noise": noise,
    "spotted": spotted,
    "nul": nul,
    "utf-16": utf_16,
    "folder": as_folder,
    "gone": lambda path: path.unlink(),
    "one letter": lambda path: path.write_bytes(b"a"),
    "pickled": lambda path: path.write_bytes(b"\x80\x04K\x01."),
    "zipped": lambda path: path.write_bytes(b"PK\x05\x06" + b"\0" * 18),
}
LISTS = ("[]", "null", "3", '"text"', "NaN", "[" * 3000, '{"a": NaN}', '{"a": 1e999}', '{"a": ' + "9" * 6000 + "}")


def damages_of(name: str) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Every damage of a file: those of bytes, and of JSON and CSV those of values."""
    yield from DAMAGES.items()
    path = WRITTEN / name
    if path.suffix == ".json":
        for text in LISTS:
            yield f"is {text[:8]}", lambda path, text=text: path.write_text(text)
        for key in json.loads(path.read_text()):
            yield f"without {key}", lambda path, key=key: edited(path, key)
            for value in VALUES:
                yield f"{key} = {str(value)[:12]}", lambda path, key=key, value=value: edited(path, key, value)
    elif path.suffix == ".csv":
        header = path.read_text().splitlines()[0]
        rows = (
            header,
            header + "\n" + "x," * 3,
            "a,b\n1,2\n",
            header + "\n" + ",".join("x" for _ in header.split(",")),
        )
        for number, text in enumerate(rows):
            yield f"rows {number}", lambda path, text=text: path.write_text(text + "\n")
    elif path.suffix == ".parquet":
        for column in pq.read_schema(path).names:
            yield f"without {column}", lambda path, column=column: retyped(path, column, None)
            for value in (None, 3, float("nan"), "text", [1]):
                yield f"{column} = {value}", lambda path, c=column, value=value: retyped(path, c, [value])


def edited(path: Path, key: str, *value: Any) -> None:
    content = json.loads(path.read_text())
    content.pop(key)
    path.write_text(json.dumps(content | dict(zip([key], value, strict=False))))


def retyped(path: Path, column: str, value: list[Any] | None) -> None:
    """A table without a column, or with one value in all its rows."""
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    table = table.remove_column(place)
    if value is not None:
        table = table.add_column(place, column, pa.array(value * len(table)))
    pq.write_table(table, path)


def matrix(share: int) -> list[tuple[str, str, int]]:
    """File, damage and number of the command that reads it: one in `share` of all, chosen by a hash."""
    every = [
        (name, what, number) for name in READERS for what, _ in damages_of(name) for number in range(len(READERS[name]))
    ]
    return [one for one in every if zlib.crc32(str(one).encode()) % share == 0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the artefacts, with the recipe of the tuning."""
    folder = tmp_path_factory.mktemp("whole") / "written"
    shutil.copytree(WRITTEN, folder)
    recipe = json.loads((folder / "tunings/ended/tuning.json").read_text())["recipe"]
    (folder / "tuned.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    return folder


def test_the_matrix_is_large() -> None:
    assert len(matrix(1)) > 5000
    assert {name for name, _, _ in matrix(SHARE)} >= {"packs/uint8/pack.json", "runs/ended/predictions.parquet"}


@pytest.mark.fuzz
@pytest.mark.parametrize("number", range(PARTS))
def test_a_damaged_file_is_one_sentence(
    whole: Path, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = matrix(1 if WHOLE else SHARE)[number::PARTS]
    assert chosen
    problems = [problem for one in chosen if (problem := attacked(whole, *one, tmp_path, monkeypatch))]
    assert not problems, "\n".join(problems)


def attacked(
    whole: Path, name: str, what: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str | None:
    """Damage a file of a copy, and run the command; what is wrong with how it ends."""
    words, folder = READERS[name][number], tmp_path / "attacked"
    for part in {"packs/uint8", *READS[words[0]], "/".join(name.split("/")[:2])}:
        source = whole / part
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / part)
    monkeypatch.chdir(folder)
    dict(damages_of(name))[what](folder / name)
    problem = outcome(words)
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(folder)
    return problem and f"{name}, {what}, {' '.join(words)}: {problem}"


def outcome(words: tuple[str, ...]) -> str | None:
    """What is wrong with how a command ends; None where it succeeds, or fails with one sentence of ours."""
    try:
        result = skyclass(*words, "--debug")
    except SkyclassError as error:
        text = str(error)
        return None if error.fix and "\n" not in text and len(text) < 1000 else f"no clear sentence: {text[:500]}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None if result.code == 0 else f"{result.code}: {result.err[-300:]}"
