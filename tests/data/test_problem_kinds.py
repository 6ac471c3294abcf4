"""Problems by kind: their order, what the terminal says of them, tables without kinds, and what files give away."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as pillow

from helpers.commands import done
from helpers.make_data import write_image
from skyclass.core.console import console_to_file, shown_messages
from skyclass.data.audit.file_kinds import PixelFormat, file_problems, mixture_problems
from skyclass.data.catalog import problems_frame, say_problems
from skyclass.data.problem_kinds import KINDS, OTHER, group_problems
from skyclass.images.formats.read import read_image


def problem(kind: str, file: str, severity: str = "warning", text: str = "odd") -> dict[str, str]:
    return {"image_id": file, "file": f"/data/{file}", "problem": text, "severity": severity, "kind": kind}


MANY = problems_frame(
    [
        *(problem("pixels", f"p{n}.png", text=f"saturated: {n} %") for n in range(300)),
        problem("size", "s.png"),
        *(problem("unreadable", f"u{n}.png", "error", "the file is empty") for n in range(20)),
        problem("leak", "l.png", text="shows the same as b, which is in test: a leak"),
        problem("conflict", "c.png"),
    ]
)


def test_what_spoils_a_result_comes_first() -> None:
    groups = group_problems(MANY)
    assert [(group.kind, len(group.rows)) for group in groups] == [
        ("leak", 1),
        ("conflict", 1),
        ("unreadable", 20),
        ("size", 1),
        ("pixels", 300),
    ]
    assert groups[2].example == ("/data/u0.png", "the file is empty")
    assert list(groups[2].faults) == ["the file is empty"]


def test_the_terminal_has_a_line_a_kind(tmp_path: Path) -> None:
    stream = StringIO()
    with console_to_file(stream), shown_messages():
        say_problems(MANY, tmp_path / "problems.csv", most=4)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "20 left out, 303 warnings, of /data:"
    assert lines[1].startswith("  copies across splits: l.png: shows the same as b")
    assert lines[3] == "  files that cannot be read: 20, the first u0.png: the file is empty"
    assert lines[5] == "  and 300 more of 1 kind"
    assert lines[6].endswith("problems.csv")
    assert len(lines) == 7


def test_an_older_table_names_no_kinds() -> None:
    groups = group_problems(MANY.drop(columns="kind"))
    assert [(group.kind, group.severity) for group in groups] == [(OTHER, "error"), (OTHER, "warning")]
    assert group_problems(pd.DataFrame([problem("of a later version", "x")]))[0].kind == OTHER
    assert list(KINDS)[:2] == ["leak", "conflict"]


def picture(path: Path, mode: str, kind: str = "PNG", **options: object) -> Path:
    colours = np.random.default_rng(0).integers(0, 255, (8, 12, 3), dtype=np.uint8)
    made = pillow.fromarray(colours).convert(mode) if mode != "RGBA" else pillow.fromarray(colours).convert("RGBA")
    made.save(path, kind, **options)
    return path


@pytest.mark.parametrize(
    ("name", "mode", "kind", "expected"),
    [
        ("a.png", "RGB", "PNG", []),
        ("a.jpg", "RGB", "JPEG", []),
        ("a.jpg", "RGB", "PNG", ["extension"]),
        ("a.JPG", "RGB", "WEBP", ["extension"]),
        ("a.png", "P", "PNG", ["palette"]),
        ("a.jpg", "P", "PNG", ["extension", "palette"]),
        ("a.gif", "P", "GIF", []),
        ("a.png", "RGBA", "PNG", ["colour"]),
        ("a.png", "LA", "PNG", ["colour"]),
        ("a.jpg", "CMYK", "JPEG", ["colour"]),
        ("a.png", "L", "PNG", []),
    ],
)
def test_what_a_file_gives_away(tmp_path: Path, name: str, mode: str, kind: str, expected: list[str]) -> None:
    file = picture(tmp_path / name, mode, kind)
    found = file_problems("a", str(file), read_image(file))
    assert [one["kind"] for one in found] == expected
    assert all(one["severity"] == "warning" and one["file"] == str(file) for one in found)


def test_mixtures_are_named_once_for_the_whole_set() -> None:
    looks = [PixelFormat(f"{n}x{n}", "red green blue", "uint8") for n in range(20, 30)]
    looks += [PixelFormat("20x20", "grey", "uint16")] * 5 + [PixelFormat(None, None, None)]
    found = {one["kind"]: one["problem"] for one in mixture_problems(looks, "/data")}
    assert set(found) == {"size", "depth", "colour"}
    assert found["size"].startswith("10 sizes (height x width): 20x20 (6), ")
    assert found["depth"].startswith("2 types of pixels: uint8 (10), uint16 (5)")
    assert found["colour"].startswith("5 grey images among 10 in colour")
    assert mixture_problems([PixelFormat("20x20", "grey", "uint8")] * 5, "/data") == []
    assert mixture_problems([], "/data") == []


def test_a_pack_that_was_just_made_says_what_became_of_mixed_images(tmp_path: Path) -> None:
    for number, (side, kind) in enumerate([(16, np.uint8), (16, np.uint8), (20, np.uint16), (24, np.uint16)]):
        pixels = np.random.default_rng(number).integers(0, np.iinfo(kind).max, (side, side)).astype(kind)
        write_image(tmp_path / "images" / "ab"[number % 2] / f"{number}.npy", pixels)
    before = done("inspect", tmp_path / "images", "--no-duplicates").err
    assert "`skyclass pack SOURCE PACK --pixels size=...` brings them to one" in before
    done("pack", tmp_path / "images", tmp_path / "pack", "--no-duplicates")
    problems = pd.read_csv(tmp_path / "pack" / "problems.csv").set_index("kind")["problem"]
    assert problems["size"].startswith("3 sizes (height x width): 16x16 (2), ")
    assert problems["size"].endswith("all are 16x16 in the pack (pixels.size chooses another size)")
    assert "all are float32 in the pack, where scales may differ" in problems["depth"]
    assert not problems.str.contains("skyclass pack SOURCE").any()
    scaled = ("--no-duplicates", "--pixels", "interval=minmax", "--pixels", "size=12")
    done("pack", tmp_path / "images", tmp_path / "scaled", *scaled)
    problems = pd.read_csv(tmp_path / "scaled" / "problems.csv").set_index("kind")["problem"]
    assert "all are 12x12 in the pack" in problems["size"]
    assert problems["depth"].endswith("; each was scaled by interval=minmax in the pack")
