"""Ids of images: which columns of a table are ids, that long ones stay exact, and that those of files all differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.catalogs import rows, touch
from helpers.logged import Logged
from helpers.make_data import write_table
from skyclass.data.sources.read import read_source
from skyclass.images.formats.locations import image_ids_of

LONG = 6917528997577384321  # of Gaia's length: the nearest float64 is another number
NAMES = (
    *("SOURCE_ID", "source_id", "object_id", "ObjectID", "objid", "objID", "TARGETID", "target id", "designation"),
    *("iauname", "IAU_NAME", "dr8objid", "GalaxyID", "galaxy-id", "dr17objid", "gaia_source_id", "COADD_OBJECT_ID"),
)


@pytest.mark.parametrize("name", NAMES)
def test_columns_of_ids_are_found_in_any_spelling(tmp_path: Path, logged: Logged, name: str) -> None:
    touch(tmp_path, "a.png", "b.png")
    frame = pd.DataFrame({"filename": ["a.png", "b.png"], name: [LONG, 7], "class": ["x", "y"]})
    source = read_source(write_table(tmp_path / "t.csv", frame))
    assert rows(source, "image_id", "label") == [(str(LONG), "x"), ("7", "y")]
    assert f"image_id from column '{name}'" in logged()


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".fits", ".vot", ".ecsv"])
def test_an_id_stays_under_its_own_name_with_every_digit(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"{LONG}.png", "7.png")
    frame = pd.DataFrame({"SOURCE_ID": np.array([LONG, 7]), "label": ["x", "y"]})
    catalog = read_source(write_table(tmp_path / f"t{suffix}", frame)).catalog
    assert catalog["image_id"].tolist() == [str(LONG), "7"]
    assert catalog["SOURCE_ID"].dtype == np.int64
    assert catalog["SOURCE_ID"].tolist() == [LONG, 7]


def test_ids_with_leading_zeros_stay_text(tmp_path: Path) -> None:
    touch(tmp_path, "007.png", "8.png")
    catalog = read_source(write_table(tmp_path / "t.csv", pd.DataFrame({"objid": ["007", "8"]}))).catalog
    assert catalog["objid"].tolist() == ["007", "8"]


def test_an_object_with_several_images_gives_its_id_to_none(tmp_path: Path, logged: Logged) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png", "d.png")
    frame = pd.DataFrame({"object_id": [1, 1, 2, 2], "file": ["a.png", "b.png", "c.png", "d.png"]})
    source = read_source(write_table(tmp_path / "t.csv", frame))
    assert rows(source, "image_id", "object_id") == [("a", 1), ("b", 1), ("c", 2), ("d", 2)]
    said = logged()
    assert "4 of 4 rows share 'object_id' with another file, so it is no id of images; --group-column object_id" in said
    assert "image_id from the names of the files" in said


def test_ids_of_files_are_all_different() -> None:
    assert image_ids_of(["/sky/n1/a.fits", "/sky/n2/b.fits"]) == ["a", "b"]
    assert image_ids_of(["/sky/n1/a.fits", "/sky/n2/a.fits", "/sky/n2/b.fits"]) == ["n1/a", "n2/a", "b"]
    assert image_ids_of(["n1/a.fits", "n1/a.png"]) == ["a.fits", "a.png"]
    assert image_ids_of(["a.png", "a.png", "a.png", "a.png#2"]) == ["a", "a#2", "a#3", "a.png#2"]
    assert image_ids_of(["s.npy::[0]", "t.npy::[0]"]) == ["s.npy::[0]", "t.npy::[0]"]
    assert image_ids_of(["a/1.png", "1.png"]) == ["a/1", "1"]
    assert image_ids_of([]) == []
    many = [f"/d/{i % 7}/x.png" for i in range(5000)]
    assert len(set(image_ids_of(many))) == 5000
