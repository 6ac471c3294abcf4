"""The table of kinds of sources: every place is one of them, and the last of each sort takes what is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.make_data import class_folders
from skyclass.core.errors import SkyclassError
from skyclass.data.source_options import SourceOptions
from skyclass.data.sources.kinds import SOURCES, Place, kind_of

ALL = ("folder", "file", "nowhere")


@pytest.mark.parametrize("where", ALL)
def test_the_last_of_a_sort_takes_what_no_other_does(where: str, tmp_path: Path) -> None:
    place = Place(tmp_path, SourceOptions())
    assert [one for one in SOURCES.values() if one.where == where][-1].is_one(place)


def test_a_pack_is_told_of_a_kind_by_few_words() -> None:
    assert {one.kind for one in SOURCES.values()} == {
        *("folders", "table", "files", "arrays", "parquet images", "band files", "cutouts")
    }


def test_options_that_a_kind_refuses_are_options() -> None:
    names = set(SourceOptions.__dataclass_fields__)
    for one in SOURCES.values():
        assert {name for refused in one.refused for name in refused.options} <= names


def test_what_a_kind_refuses_names_the_option_and_what_it_is_for(tmp_path: Path) -> None:
    class_folders(tmp_path, per_class=1)
    assert kind_of(Place(tmp_path, SourceOptions())) is SOURCES["class folders, or images without labels"]
    with pytest.raises(SkyclassError, match="--cutout is for a table, and this is none"):
        kind_of(Place(tmp_path, SourceOptions(cutout=(4, 4))))
