"""Sources: what folders and tables of every shape become, and what is reported."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers.catalogs import faults, rows, touch
from helpers.logged import Logged
from helpers.paths import PROJECT
from skyclass.core.errors import SkyclassError
from skyclass.data.open import open_source
from skyclass.data.source_options import SourceOptions
from skyclass.data.sources.read import read_source
from skyclass.data.tables.columns import name_columns
from skyclass.data.tables.table_files import read_rows

DATA = PROJECT.parent / "shared" / "data"

LONG_ID = "587725469055320114"


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Make empty files (nothing here opens them) and, for text, full ones."""

    def files(*names: str, **texts: str) -> Path:
        return touch(tmp_path, *names)

    return files


def table(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# Folders


def test_class_folders(make: Callable[..., Path]) -> None:
    root = make("b/2.png", "b/1.jpg", "a/deep/er/x.y_-1.FITS", "a/notes.txt", ".hidden/c.png", "a/.x.png", "top.npy")
    (root / "empty").mkdir()
    source = read_source(root)
    assert source.kind == "folders"
    assert source.path == root
    assert rows(source, "image_id", "label", "split") == [
        ("a/deep/er/x.y_-1", "a", None),
        ("b/1", "b", None),
        ("b/2", "b", None),
        ("top", None, None),
    ]
    assert source.catalog["file"][0] == str(root / "a/deep/er/x.y_-1.FITS")
    assert faults(source) == [
        ("notes.txt", "not an image by its suffix", "warning"),
        ("top.npy", "in no class folder: kept without a label", "warning"),
        ("empty", "no image in this class folder", "warning"),
    ]


def test_split_folders_by_any_name(make: Callable[..., Path]) -> None:
    root = make("Train/a/1.png", "train/b/1.png", "VALID/a/1.png", "test/b/sub/1.png", "test/2.png", "extra/c/1.png")
    (root / "validation" / "b").mkdir(parents=True)
    source = read_source(root)
    assert rows(source, "image_id", "label", "split") == [
        ("Train/a/1", "a", "train"),
        ("VALID/a/1", "a", "val"),
        ("extra/c/1", None, None),
        ("test/2", None, None),
        ("test/b/sub/1", "b", "test"),
        ("train/b/1", "b", "train"),
    ]
    assert faults(source) == [
        ("1.png", "in no class folder: kept without a label", "warning"),
        ("2.png", "in no class folder: kept without a label", "warning"),
        ("b", "no image in this class folder", "warning"),
    ]


def test_a_class_may_be_called_like_a_split_beside_others(make: Callable[..., Path]) -> None:
    source = read_source(make("test/1.png", "star/1.png"))
    assert rows(source, "label", "split") == [("star", None), ("test", None)]


def test_ids_keep_the_suffix_only_where_they_need_it(make: Callable[..., Path]) -> None:
    source = read_source(make("a/1.png", "a/1.jpg", "a/2.fits.gz"))
    assert rows(source, "image_id") == [("a/1.jpg",), ("a/1.png",), ("a/2",)]


def test_images_without_class_folders(make: Callable[..., Path]) -> None:
    root = make("2.png", "1.png", "readme.md")
    source = read_source(root)
    assert source.kind == "files"
    assert rows(source, "image_id", "label", "split") == [("1", None, None), ("2", None, None)]
    assert faults(source) == [("readme.md", "not an image by its suffix", "warning")]


def test_one_image(make: Callable[..., Path]) -> None:
    path = make("m31.fits") / "m31.fits"
    source = read_source(path)
    assert source.kind == "files"
    assert rows(source, "image_id", "file", "label", "split") == [("m31", str(path), None, None)]


def test_a_name_that_is_no_text_costs_its_own_file(make: Callable[..., Path]) -> None:
    root = make("a/1.png", "b/2.png")
    (root / "a/1.png").rename(root / os.fsdecode(b"a/caf\xe9.png"))
    touch(root, "a/3.png")
    found = read_source(root, SourceOptions())
    assert found.catalog["image_id"].tolist() == ["a/3", "b/2"]
    (error,) = found.problems[found.problems["severity"] == "error"].to_dict("records")
    assert error["file"].endswith("caf\\xe9.png")
    assert "not UTF-8" in error["problem"]


def test_linked_folders_are_read_once(make: Callable[..., Path], tmp_path: Path) -> None:
    root = make("root/a/1.png", "elsewhere/2.png") / "root"
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "loop").symlink_to(root)
    assert rows(read_source(root), "image_id", "label") == [("a/1", "a"), ("b/2", "b")]


def test_a_table_in_the_folder_is_pointed_out(make: Callable[..., Path], logged: Logged) -> None:
    read_source(make("images/1.png", "labels.csv"))
    assert "give that file instead" in logged()


def test_a_table_beside_split_folders_is_a_warning_alone(make: Callable[..., Path], logged: Logged) -> None:
    source = read_source(make("train/a/1.png", "test/a/2.png", "truth.csv"))
    assert faults(source) == [
        ("truth.csv", "a table; to read the labels from it, give it instead of the folder", "warning")
    ]
    assert logged() == ""


# Tables


def test_table_of_ids_files_and_labels(make: Callable[..., Path], logged: Logged) -> None:
    root = make("sub/1.jpeg", "2.png")
    header = "objid,FileName,class,subset,group,RA,mag,note"
    text = f"{header}\n{LONG_ID},sub/1.jpeg, E ,Validation,7,10.5,1,\n9,2.png,S,,,11,,x\n"
    source = read_source(table(root, text))
    assert source.kind == "table"
    assert rows(source, "image_id", "file", "label", "split", "group", "ra") == [
        (LONG_ID, str(root / "sub/1.jpeg"), "E", "val", "7", 10.5),
        ("9", str(root / "2.png"), "S", None, None, 11.0),
    ]
    assert list(source.catalog.columns[:4]) == ["image_id", "file", "label", "split"]
    assert source.catalog["mag"].dtype == np.float64
    assert source.problems.empty
    said = logged()
    assert "image_id from column 'objid', file from column 'FileName', label from column 'class'" in said


@pytest.mark.parametrize("form", ["tsv", "semicolons", "bom", "parquet"])
def test_other_forms_of_the_same_table(make: Callable[..., Path], form: str) -> None:
    root = make(f"{LONG_ID}.png", "2.png")
    frame = pd.DataFrame({"id": [int(LONG_ID), 2], "label": ["a", "b"]})
    path = root / ("t.parquet" if form == "parquet" else "t.TSV" if form == "tsv" else "t.csv")
    if form == "parquet":
        frame.to_parquet(path)
    else:
        separator = {"tsv": "\t", "semicolons": ";", "bom": ","}[form]
        frame.to_csv(path, index=False, sep=separator, encoding="utf-8-sig" if form == "bom" else "utf-8")
    assert rows(read_source(path), "image_id", "label") == [(LONG_ID, "a"), ("2", "b")]


def test_ids_find_their_files_with_any_suffix(make: Callable[..., Path]) -> None:
    root = make("pics/1.5_-2.fits.gz", "pics/2.JPG", "pics/3.png", "pics/3.jpg")
    source = read_source(
        table(root, "id,y\n1.5_-2,a\n2,b\n3,c\n4,d\n"), SourceOptions(image_root=root / "pics", label_column="y")
    )
    assert rows(source, "image_id", "file", "label") == [
        ("1.5_-2", str(root / "pics/1.5_-2.fits.gz"), "a"),
        ("2", str(root / "pics/2.JPG"), "b"),
        ("3", str(root / "pics/3.jpg"), "c"),
    ]
    assert faults(source) == [("4", "no such file", "error")]


def test_files_give_the_ids(make: Callable[..., Path], tmp_path: Path) -> None:
    root = make("x/1.png", "x/1.jpg", "y/1.5_2.png")
    text = f"filename\nx/1.png\nx/1.jpg\n{tmp_path}/y/1.5_2.png\n"
    assert rows(read_source(table(root, text)), "image_id") == [("x/1.png",), ("x/1.jpg",), ("y/1.5_2",)]


def test_absolute_files_elsewhere(make: Callable[..., Path], tmp_path: Path) -> None:
    make("far/a/1.png", "far/b/2.png", "here/x.txt")
    text = f"file\n{tmp_path}/far/a/1.png\n{tmp_path}/far/b/2.png\n"
    assert rows(read_source(table(tmp_path / "here", text)), "image_id") == [("a/1",), ("b/2",)]


@pytest.mark.parametrize("folder", ["images", "png"])
def test_usual_folders_are_tried(make: Callable[..., Path], folder: str, logged: Logged) -> None:
    root = make(f"{folder}/1.png")
    source = read_source(table(root, "file,label\n1.png,a\n"))
    assert rows(source, "image_id", "file") == [("1", str(root / folder / "1.png"))]
    assert f"the images are in {root / folder}" in " ".join(logged().split())


OPTIONS = {
    "id_column": ("image_id", "spare", ["one", "two"]),
    "file_column": ("file", "spare_file", [".other/1.png", ".other/2.png"]),
    "label_column": ("label", "spare", ["one", "two"]),
    "split_column": ("split", "spare_split", ["test", "test"]),
    "group_column": ("group", "spare", ["one", "two"]),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_column_option_counts(make: Callable[..., Path], option: str) -> None:
    root = make("1.png", "2.png", ".other/1.png", ".other/2.png")
    text = (
        "image_id,file,label,split,group,spare,spare_file,spare_split\n"
        "1,1.png,a,train,g,one,.other/1.png,test\n2,2.png,b,val,h,two,.other/2.png,test\n"
    )
    path = table(root, text)
    part, column, expected = OPTIONS[option]
    plain, changed = read_source(path).catalog, read_source(path, SourceOptions(**{option: column})).catalog
    if part == "file":
        expected = [str(root / name) for name in expected]
    assert changed[part].tolist() == expected
    assert plain[part].tolist() != expected
    assert f"table_{part}" in changed.columns  # the user's own column of that name is kept
    others = [name for name in ("image_id", "file", "label", "split", "group") if name != part]
    pd.testing.assert_frame_equal(plain[others], changed[others])


def test_image_root_counts(make: Callable[..., Path]) -> None:
    root = make("1.png", "other/1.png")
    path = table(root, "file\n1.png\n")
    assert rows(read_source(path), "file") == [(str(root / "1.png"),)]
    assert rows(read_source(path, SourceOptions(image_root=root / "other")), "file") == [(str(root / "other/1.png"),)]


def test_faulty_rows_are_reported_and_left_out(make: Callable[..., Path]) -> None:
    root = make("1.png", "2.png", "3.png", "4.png", "5.png")
    text = (
        "id,file,label\n1,1.png,a\n1,2.png,b\n3,3.png,a\n3,3.png,b\n4,4.png,\n4,4.png,\n"
        "5,gone.png,a\n5,5.png,b\n,1.png,a\n8,,a\n"
    )
    source = read_source(table(root, text))
    assert rows(source, "image_id", "file", "label") == [
        ("1", str(root / "1.png"), "a"),
        ("4", str(root / "4.png"), None),
        ("5", str(root / "5.png"), "b"),
    ]
    assert faults(source) == [
        ("2.png", "repeated id: the first row with it is kept", "error"),
        ("3.png", "conflicting labels: a, b", "error"),
        ("3.png", "conflicting labels: a, b", "error"),
        ("4.png", "no label", "warning"),
        ("4.png", "repeated id: the first row with it is kept", "error"),
        ("gone.png", "no such file", "error"),
        ("1.png", "no id", "error"),
        ("table.csv", "row 9 names no file", "error"),
    ]


def test_an_empty_cell_of_a_table_without_ids_is_a_missing_file(make: Callable[..., Path]) -> None:
    root = make("1.png")
    source = read_source(table(root, "file,label\n1.png,a\n,a\n"))
    assert faults(source) == [("table.csv", "row 1 names no file", "error")]


def test_a_column_that_only_sounds_like_splits_is_the_users(make: Callable[..., Path], logged: Logged) -> None:
    path = table(make("1.png"), "file,set\n1.png,Palomar\n")
    catalog = read_source(path).catalog
    assert "'set' is train, val or test: it is not taken for the split" in logged()
    assert catalog["split"].tolist() == [None]
    assert catalog["set"].tolist() == ["Palomar"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("file,y\n1.png,a\n", {"label_column": "label"}, "no column 'label'; its columns are file, y"),
        ("a,b\n1,2\n", {}, "no column of files or ids was recognised; say which it is among a, b"),
        ("file\n", {}, "no rows"),
        ("", {}, "unreadable table"),
        ('file,label\n"1.png,a\n', {}, "unreadable table"),
        ("file,label\nx.png,a\ny.png,b\n", {}, "none of its 2 rows can be used; the first: no such file"),
        ("file,s\n1.png,A\n", {"split_column": "s"}, "unknown split 'A'"),
        ("file\n1.png\n", {"image_root": Path("/no/such/folder")}, "image root is no folder"),
    ],
)
def test_tables_that_cannot_be_read(
    make: Callable[..., Path], text: str, options: dict[str, str], message: str
) -> None:
    root = make("1.png", "2.png")
    with pytest.raises(SkyclassError, match=message):
        read_source(table(root, text), SourceOptions(**options))


def test_rows_longer_than_the_header_are_refused(make: Callable[..., Path]) -> None:
    path = table(make("1.png"), "file,label\n1.png,a,b\n1.png,a,b\n")
    with pytest.raises(SkyclassError, match="more fields than its header"):
        read_source(path)


def test_a_ragged_row_costs_no_other(make: Callable[..., Path]) -> None:
    root = make("1.png", "2.png", "3.png", "4.png")
    text = 'file,label,run\n1.png,a,1234567890123456789\n2.png,b,7,extra\n"3.png","a,b",\n4.png\n'
    source = read_source(table(root, text))
    assert rows(source, "image_id", "label") == [("1", "a"), ("3", "a,b"), ("4", None)]
    assert source.catalog["run"][0] == 1234567890123456789  # every digit, although a cell is empty
    assert faults(source) == [
        ("table.csv", "row 1 (line 3) has 4 fields, the header 3", "error"),
        ("4.png", "no label", "warning"),
    ]


def test_a_ragged_row_keeps_its_place_beside_a_stack(make: Callable[..., Path]) -> None:
    root = make()
    np.save(root / "stack.npy", np.zeros((3, 4, 5, 5), "u1"))
    path = table(root, "label,z\na,1,2\nb,3\nc,4\n")
    source = read_source(path, SourceOptions(image_root=root / "stack.npy"))
    assert rows(source, "image_id", "label") == [("1", "b"), ("2", "c")]
    assert source.catalog["file"].tolist() == [f"{root}/stack.npy::[1]", f"{root}/stack.npy::[2]"]
    assert source.problems["problem"].tolist() == ["row 0 (line 2) has 3 fields, the header 2"]


@pytest.mark.parametrize(
    "text",
    [
        "file,label\n1.png,a,\n2.png,b,\n",
        "file,label,\n1.png,a,\n2.png,b,\n",
        "#Table1\nfile,label\n1.png,a\n2.png,b\n",
        "\n# from a server\n\n#Table1\nfile;label\n1.png;a\n2.png;b;\n",
        "\ufefffile;label;flux, mJy\n1.png;a;1\n2.png;b;2\n",
        "file;label;flux\n1.png;a;1,5\n2.png;b;2,5\n",
        "file|label|flux, mJy; of x\n1.png|a|1,0;2\n2.png|b|2\n",
    ],
)
def test_separated_text_as_people_and_servers_write_it(make: Callable[..., Path], text: str) -> None:
    source = read_source(table(make("1.png", "2.png"), text))
    assert rows(source, "file", "label") == [(str(source.path.parent / f"{n}.png"), "ab"[n - 1]) for n in (1, 2)]
    assert source.problems.empty
    assert not [name for name in source.catalog.columns if "Unnamed" in name]


def test_a_very_long_cell_costs_nothing(make: Callable[..., Path]) -> None:
    source = read_source(table(make("1.png"), f"file;label;notes\n1.png;a;{'x,' * 100_000}\n"))
    assert rows(source, "image_id", "label") == [("1", "a")]


def test_one_column_may_be_called_like_a_comment(make: Callable[..., Path]) -> None:
    source = read_source(table(make("1.png"), "#name\n1.png\n"), SourceOptions(file_column="#name"))
    assert source.catalog["image_id"].tolist() == ["1"]


def test_damaged_and_foreign_files_are_refused(make: Callable[..., Path]) -> None:
    root = make("folder/x.txt", "table.parquet", "notes.doc")
    latin = root / "latin.csv"
    latin.write_bytes("file,étoile\n1.png,é\n".encode("latin-1"))
    for path, message in [
        (root / "table.parquet", "unreadable table"),
        (latin, "unreadable table"),
        (root / "notes.doc", "neither a table nor an image"),
        (root / "folder", "no image in this folder"),
        (root / "absent", "no such file or folder"),
    ]:
        with pytest.raises(SkyclassError, match=message):
            read_source(path)


@pytest.mark.parametrize("options", [{"image_root": Path()}, {"label_column": "label"}])
def test_options_of_tables_are_refused_elsewhere(make: Callable[..., Path], options: dict[str, str]) -> None:
    with pytest.raises(SkyclassError, match=r"is for (a )?table"):
        read_source(make("a/1.png"), SourceOptions(**options))


def test_read_table_leaves_other_columns_alone(tmp_path: Path) -> None:
    frame = pd.DataFrame({"name": ["x"], "votes": np.array([3], dtype=np.int16), "DEC": [1.5]})
    frame.to_parquet(tmp_path / "t.parquet")
    parts = dict.fromkeys(("image_id", "file", "label", "split", "group"))
    path = tmp_path / "t.parquet"
    read = name_columns(read_rows(path, frozenset()), {**parts, "image_id": "name"}, path)
    assert list(read.columns) == ["image_id", "votes", "dec", "name"]
    assert read["votes"].dtype == np.int16


# Real tables


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared real images are not here")
@pytest.mark.parametrize(
    ("name", "images", "n", "classes"), [("galaxies", "images", 2778, 6), ("radio", "png", 635, 2)]
)
@pytest.mark.parametrize("explicit", [True, False])
def test_real_tables(name: str, images: str, n: int, classes: int, explicit: bool) -> None:
    folder = DATA / name
    source = read_source(folder / "labels.csv", SourceOptions(image_root=folder / images if explicit else None))
    assert source.problems.empty
    assert len(source.catalog) == n
    assert source.catalog["label"].nunique() == classes
    for row in source.catalog.sample(20, random_state=0).itertuples():
        assert Path(row.file).is_file()
        assert Path(row.file).name.startswith(row.image_id)


@pytest.mark.parametrize("name", ["pack.json", "run.json", "inspect.html"])
def test_outputs_in_the_source_are_no_classes(make: Callable[..., Path], name: str) -> None:
    root = make("a/1.png", "b/2.png", f"audit/{name}", "audit/samples.png", "audit/figures/x.png", f"a/own/{name}")
    make("a/own/3.png")
    source = read_source(root)
    assert rows(source, "image_id", "label") == [("a/1", "a"), ("b/2", "b")]
    said = "an output of Skyclass's own, no class: left out"
    assert faults(source) == [("own", said, "warning"), ("audit", said, "warning")]


def test_a_source_may_hold_its_own_inspection(make: Callable[..., Path]) -> None:
    source = read_source(make("a/1.png", "b/2.png", "inspect.html"))
    assert source.catalog["label"].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("files", "address", "image_id"),
    [
        (["stack.npy"], "stack.npy::[1]", "1"),
        (["Galaxy10.h5"], "Galaxy10.h5::images[17]", "17"),
        (["f.fits"], "f.fits::pixel(3.0,4.0)[5x6]", "3_4"),
        (["m51_g.fits", "m51_r.fits"], "m51_{g,r}.fits", "m51"),
    ],
)
def test_an_address_is_a_source_of_one_image(
    make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, files: list[str], address: str, image_id: str
) -> None:
    root = make(*files)
    monkeypatch.chdir(root)
    for path in (address, root / address):
        source = read_source(path)
        assert source.kind == "files"
        assert rows(source, "image_id", "file", "label") == [(image_id, str(root / address), None)]
    with pytest.raises(SkyclassError, match=r"--label-column is for .*, and this is the address of one"):
        read_source(address, SourceOptions(label_column="x"))
    (root / files[-1]).unlink()
    with pytest.raises(SkyclassError, match=f"{files[-1]}: no such file"):
        read_source(address)


def test_options_are_called_as_they_are_written(make: Callable[..., Path]) -> None:
    root = make("cat.dat")
    with pytest.raises(SkyclassError, match=r"--image-root is for a table, and this is none: tables end in \.csv, "):
        read_source(root / "cat.dat", SourceOptions(image_root=root))
    (root / "pack.json").write_text("{}")
    with pytest.raises(SkyclassError, match="--image-root, --id-column: these options are for sources"):
        open_source(root, SourceOptions(image_root=root, id_column="x"))
