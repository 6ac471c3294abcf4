"""Files that once aborted, hung or fooled Skyclass, through the commands: their own row, and nothing of the others."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from conftest import SmallRun
from helpers import hostile
from helpers.commands import predictions, refused, skyclass
from helpers.make_data import random_pixels, write_image
from helpers.paths import PROJECT

SHARED = PROJECT.parent / "shared" / "data" / "hostile"
SECONDS = 60.0  # of a whole command with three images, on a busy machine; each of these took minutes, or for ever
FITS = ("hc_ztile2", "naxis_999999999", "gcount_minus1", "tfields_huge")

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared files are not here")


def within(words: Callable[[], object]) -> None:
    began = time.process_time()
    words()
    assert time.process_time() - began < SECONDS


def folder_with(folder: Path, file: Path) -> Path:
    """Two classes of one good image each, and the hostile file among the first."""
    for number, label in enumerate(("a", "b")):
        write_image(folder / label / "good.png", random_pixels(number, (15, 20)))
    shutil.copy(file, folder / "a" / file.name)
    return folder


def costs_its_own_row(folder: Path, name: str, run: Path, out: Path) -> None:
    audit = skyclass("inspect", folder, "--out", out / "audit")
    assert audit.code == 0, audit.err
    problems = pd.read_csv(out / "audit" / "problems.csv")
    assert problems["file"].astype(str).str.contains(name).any()
    packed = skyclass("pack", folder, out / "pack", "--no-duplicates")
    assert packed.code == 0, packed.err
    assert len(pd.read_parquet(out / "pack" / "catalog.parquet")) == 2
    assert pd.read_csv(out / "pack" / "problems.csv")["file"].astype(str).str.contains(name).sum() == 1
    table = predictions(run, folder, out / "predictions.parquet")
    assert table["error"].notna().sum() == 1
    bad = table[table["error"].notna()].iloc[0]
    assert name in bad["file"]
    assert str(bad["error"]).isprintable()
    assert table.loc[table["error"].isna(), "predicted"].notna().all()
    assert len(table) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", [*hostile.FITS_FILES])
def test_a_hostile_image_costs_its_own_row(tmp_path: Path, small_run: SmallRun, name: str) -> None:
    file = tmp_path / f"{name}.fits"
    file.write_bytes(hostile.FITS_FILES[name]())
    folder = folder_with(tmp_path / "images", file)
    within(lambda: costs_its_own_row(folder, name, small_run.run, tmp_path))


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize("name", FITS)
def test_each_hostile_image_that_was_found(tmp_path: Path, small_run: SmallRun, name: str) -> None:
    folder = folder_with(tmp_path / "images", SHARED / f"{name}.fits")
    within(lambda: costs_its_own_row(folder, name, small_run.run, tmp_path))


def rows_of_hdf5(folder: Path, file: Path) -> Path:
    """A table of two good images and a row of the hostile file."""
    folder_with(folder, file)
    rows = [("a/good.png", "a"), ("b/good.png", "b"), (f"a/{file.name}::images[0]", "a")]
    pd.DataFrame(rows, columns=["file", "label"]).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


@pytest.mark.slow
def test_pixels_are_never_those_of_another_file(tmp_path: Path, small_run: SmallRun) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(256)) * 20)
    table = rows_of_hdf5(tmp_path / "images", hostile.hdf5_of_another_file(tmp_path / "ext.h5", secret))
    within(lambda: costs_its_own_row(table, "ext.h5", small_run.run, tmp_path))


@pytest.mark.slow
@needs_shared
def test_the_hdf5_file_that_was_found(tmp_path: Path, small_run: SmallRun) -> None:
    import h5py

    with h5py.File(SHARED / "ext.h5") as file:
        (name,) = file
    table = rows_of_hdf5(tmp_path / "images", SHARED / "ext.h5")
    table.write_text(table.read_text().replace("::images[", f"::{name}["))
    within(lambda: costs_its_own_row(table, "ext.h5", small_run.run, tmp_path))
    assert "ext.h5" in refused("inspect", SHARED / "ext.h5", "--out", tmp_path / "alone")


def is_refused_as_a_table(file: Path, run: Path, out: Path) -> None:
    for words in (
        ("inspect", file, "--out", out / "audit"),
        ("pack", file, out / "pack"),
        ("predict", run, file, "--out", out / "p.parquet"),
    ):
        assert "rows lie in another file" in refused(*words)


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_table_never_names_another_file(tmp_path: Path, small_run: SmallRun, encoding: str) -> None:
    (tmp_path / "t.vot").write_bytes(hostile.stream_elsewhere(encoding))
    within(lambda: is_refused_as_a_table(tmp_path / "t.vot", small_run.run, tmp_path))


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize("name", ["gt.vot", "href16.vot"])
def test_each_table_that_was_found(tmp_path: Path, small_run: SmallRun, name: str) -> None:
    within(lambda: is_refused_as_a_table(SHARED / name, small_run.run, tmp_path))


@pytest.mark.slow
def test_a_recipe_of_aliases_is_refused_at_once(tmp_path: Path, small_run: SmallRun) -> None:
    files = [tmp_path / "aliases.yaml", *([SHARED / "bl_map.yaml"] if SHARED.is_dir() else [])]
    files[0].write_text(f"tune:\n  space:\n    {hostile.ALIASES.replace(chr(10), chr(10) + '    ')}")
    for file in files:
        for words in (
            ("train", file, small_run.pack, "--out", tmp_path / "run"),
            ("recipes", "show", file, "--resolved"),
        ):
            within(lambda words=words: refused(*words))
            assert "anchor or alias" in refused(*words)


def test_one_hostile_frame_among_cutouts(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"good{number}.fits").write_bytes(hostile.compressed("HCOMPRESS_1"))
    (tmp_path / "bad.fits").write_bytes(hostile.hcompress_of_other_size())
    rows = [
        (f"{frame}.fits::pixel({x},{y})[{size}]", "ab"[number % 2])
        for number, (frame, x, y, size) in enumerate(
            [("good0", 9, 9, "8x8"), ("bad", 2, 2, "4x4"), ("good1", 20, 9, "8x8"), ("good0", 20, 20, "8x8")]
        )
    ]
    pd.DataFrame(rows, columns=["file", "label"]).to_csv(tmp_path / "table.csv", index=False)
    packed = skyclass(
        *("pack", tmp_path / "table.csv", tmp_path / "pack", "--no-duplicates"),
        *("--pixels", "interval=zscale", "--pixels", "size=8"),
    )
    assert packed.code == 0, packed.err
    assert len(pd.read_parquet(tmp_path / "pack" / "catalog.parquet")) == 3
    problems = pd.read_csv(tmp_path / "pack" / "problems.csv")
    assert problems["file"].str.contains("bad.fits").sum() == 1
