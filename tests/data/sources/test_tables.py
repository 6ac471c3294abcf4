"""Tables of every format: what their columns become, and what is said of damaged ones."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from helpers.catalogs import rows, touch
from helpers.logged import Logged
from helpers.make_data import random_pixels, write_image, write_table
from skyclass.core.errors import SkyclassError
from skyclass.data.source_options import SourceOptions
from skyclass.data.sources.read import read_source
from skyclass.data.tables import columns as columns_module
from skyclass.data.tables import table_files
from skyclass.data.tables.columns import name_columns
from skyclass.data.tables.table_files import read_rows
from skyclass.images.formats.read import read_image

FORMATS = (".csv", ".tsv", ".parquet", ".ecsv", ".fits", ".fits.gz", ".vot", ".votable", ".xml", ".xml.gz")
OWN_TYPES = tuple(suffix for suffix in FORMATS if suffix not in (".csv", ".tsv"))
LONG_ID = 587725469055320114


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_catalog(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"{LONG_ID}.png", "7.png", "8.png")
    frame = pd.DataFrame(
        {
            "objid": [LONG_ID, 7, 8, 9],
            "class": ["E", "S", "", "S"],
            "split": ["train", "Validation", "test", "test"],
            "RA": [10.5, np.nan, 12.0, 0.0],
            "mag": np.array([1.5, 2.5, 3.5, 4.5], "f4"),
            "seen": [3, 4, 5, 6],
        }
    )
    source = read_source(write_table(tmp_path / f"t{suffix}", frame))
    assert source.kind == "table"
    assert rows(source, "image_id", "file", "label", "split") == [
        (str(LONG_ID), str(tmp_path / f"{LONG_ID}.png"), "E", "train"),
        ("7", str(tmp_path / "7.png"), "S", "val"),
        ("8", str(tmp_path / "8.png"), None, "test"),
    ]
    np.testing.assert_array_equal(source.catalog["ra"], [10.5, np.nan, 12.0])
    np.testing.assert_array_equal(source.catalog["mag"], [1.5, 2.5, 3.5])
    assert source.catalog["seen"].tolist() == [3, 4, 5]
    problems = source.problems[["image_id", "problem", "severity"]].values.tolist()
    assert problems == [["8", "no label", "warning"], ["9", "no such file", "error"]]


@pytest.mark.parametrize("suffix", FORMATS)
def test_repeated_ids_and_conflicting_labels_of_every_format(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png")
    frame = pd.DataFrame({"id": ["a", "a", "b", "b", "c"], "label": ["x", "x", "x", "y", "y"]})
    source = read_source(write_table(tmp_path / f"t{suffix}", frame))
    assert rows(source, "image_id", "label") == [("a", "x"), ("c", "y")]
    assert source.problems["problem"].tolist() == [
        "repeated id: the first row with it is kept",
        "conflicting labels: x, y",
        "conflicting labels: x, y",
    ]


@pytest.mark.parametrize("suffix", [".ecsv", ".fits", ".vot"])
def test_masked_values_are_absent(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, "1.png", "2.png")
    table = Table(
        {
            "id": [1, 2],
            "label": MaskedColumn(["a", "bb"], mask=[False, True]),
            "dec": MaskedColumn([1.5, 2.5], mask=[True, False]),
        }
    )
    kinds = {".ecsv": "ascii.ecsv", ".fits": "fits", ".vot": "votable"}
    table.write(tmp_path / f"t{suffix}", format=kinds[suffix])
    catalog = read_source(tmp_path / f"t{suffix}").catalog
    assert catalog["label"].tolist() == ["a", None]
    np.testing.assert_array_equal(catalog["dec"], [np.nan, 2.5])


@pytest.mark.parametrize("suffix", [".ecsv", ".fits", ".vot"])
@pytest.mark.parametrize("unit", ["rad", "hourangle", "arcmin", "deg", "h"])
def test_coordinates_in_other_units_become_degrees(tmp_path: Path, suffix: str, unit: str) -> None:
    if unit == "hourangle" and suffix != ".ecsv":
        pytest.skip("neither FITS nor VOTable has a name for it")
    touch(tmp_path, "1.png", "2.png")
    angles = [150.0, 15.0] * u.deg
    values = angles.to_value("hourangle" if unit == "h" else unit)
    table = Table({"id": [1, 2], "RA": values, "dec": [1.0, -2.0], "size": [1.0, 2.0]})
    table["RA"].unit, table["dec"].unit, table["size"].unit = unit, "deg", "arcsec"
    kinds = {".ecsv": "ascii.ecsv", ".fits": "fits", ".vot": "votable"}
    table.write(tmp_path / f"t{suffix}", format=kinds[suffix])
    catalog = read_source(tmp_path / f"t{suffix}").catalog
    np.testing.assert_allclose(catalog["ra"], [150.0, 15.0])
    np.testing.assert_allclose(catalog["dec"], [1.0, -2.0])
    np.testing.assert_allclose(catalog["size"], [1.0, 2.0])


def test_a_coordinate_in_a_unit_that_is_no_angle_is_refused(tmp_path: Path) -> None:
    table = Table({"id": [1], "ra": [10.0] * u.kg})
    table.write(tmp_path / "t.ecsv")
    with pytest.raises(SkyclassError, match=r"t\.ecsv: column 'ra' has the unit 'kg', which is no angle"):
        read_source(tmp_path / "t.ecsv")


def test_positions_as_one_column_of_astropy(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    Table({"id": [1], "where": SkyCoord([10.0], [-5.0], unit="deg")}).write(tmp_path / "t.ecsv")
    catalog = read_source(tmp_path / "t.ecsv").catalog
    np.testing.assert_allclose(catalog[["ra", "dec"]], [[10.0, -5.0]])


@pytest.mark.parametrize("suffix", FORMATS)
def test_sexagesimal_coordinates(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, "1.png", "2.png", "3.png", "4.png")
    frame = pd.DataFrame(
        {
            "id": ["1", "2", "3", "4"],
            "RA": ["10:12:33.1", "0h30m00s", "11 59 60", ""],
            "Dec": ["-00:30:00", "+10d12m00s", "1 30 0", "5.25"],
        }
    )
    catalog = read_source(write_table(tmp_path / f"t{suffix}", frame)).catalog
    # By hand: 15 (10 + 12/60 + 33.1/3600), and so on.
    np.testing.assert_allclose(catalog["ra"], [153.13791666666667, 7.5, 180.0, np.nan])
    np.testing.assert_allclose(catalog["dec"], [-0.5, 10.2, 1.5, 5.25])


@pytest.mark.parametrize("value", ["25:61:00", "east", "10:20:30:40"])
def test_a_column_called_ra_without_coordinates_is_kept_as_it_is(tmp_path: Path, logged: Logged, value: str) -> None:
    touch(tmp_path, "1.png")
    path = write_table(tmp_path / "t.csv", pd.DataFrame({"id": ["1"], "ra": [value], "dec": [1.5]}))
    catalog = read_source(path).catalog
    assert catalog["table_ra"].tolist() == [value]
    assert "ra" not in catalog.columns
    assert catalog["dec"].tolist() == [1.5]
    said = " ".join(logged().split())
    assert f"column 'ra' holds no coordinates, such as {value!r}: it is kept as 'table_ra'" in said


@pytest.mark.parametrize("value", ["--", "east", "10:61:00"])
def test_a_bad_coordinate_costs_that_coordinate_alone(tmp_path: Path, value: str) -> None:
    touch(tmp_path, "1.png", "2.png", "3.png", "4.png")
    frame = pd.DataFrame(
        {"id": ["1", "2", "3", "4"], "ra": ["10.5", value, "1:00:00", ""], "dec": ["1", "2", "3", "x"]}
    )
    source = read_source(write_table(tmp_path / "t.csv", frame))
    np.testing.assert_allclose(source.catalog["ra"], [10.5, np.nan, 15.0, np.nan])
    np.testing.assert_allclose(source.catalog["dec"], [1, 2, 3, np.nan])
    assert source.problems[["image_id", "problem", "severity"]].values.tolist() == [
        ["2", f"row 1: {value!r} in column 'ra' is no number of degrees", "warning"],
        ["4", "row 3: 'x' in column 'dec' is no number of degrees", "warning"],
    ]


def test_a_bad_split_costs_that_split_alone(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "3.png")
    frame = pd.DataFrame({"id": ["1", "2", "3"], "split": ["train", "foo", ""]})
    source = read_source(write_table(tmp_path / "t.csv", frame))
    assert source.catalog["split"].tolist() == ["train", None, None]
    assert source.problems[["image_id", "file", "problem", "severity"]].values.tolist() == [
        ["2", str(tmp_path / "2.png"), "row 1: 'foo' in column 'split' is no split, and the row has none", "warning"]
    ]


def test_columns_of_arrays_are_left_out_and_said(tmp_path: Path, logged: Logged) -> None:
    touch(tmp_path, "1.png", "2.png")
    for name, kind in (("t.fits", "fits"), ("t.vot", "votable"), ("t.ecsv", "ascii.ecsv")):
        Table({"id": [1, 2], "flux": np.zeros((2, 3)), "label": [b"x", b"y"]}).write(tmp_path / name, format=kind)
        source = read_source(tmp_path / name)
        assert rows(source, "image_id", "label") == [("1", "x"), ("2", "y")]
        assert "flux" not in source.catalog.columns
        assert "more than one value a row are left out: flux" in logged()


def test_a_fits_image_stays_an_image(tmp_path: Path) -> None:
    write_image(tmp_path / "image.fits", random_pixels(0, (4, 6), 1, "float32"))
    both = fits.HDUList(
        [fits.PrimaryHDU(), fits.BinTableHDU(np.zeros(3, [("id", "i4")])), fits.ImageHDU(np.ones((4, 6)))]
    )
    both.writeto(tmp_path / "both.fits")
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.ones((4, 6), "f4"))]).writeto(tmp_path / "packed.fits.fz")
    for name in ("image.fits", "both.fits", "packed.fits.fz"):
        assert read_source(tmp_path / name).kind == "files"


def test_the_folder_of_the_images_is_found_beside_the_table(tmp_path: Path, logged: Logged) -> None:
    touch(tmp_path, "images_training_rev1/1.jpg", "images_training_rev1/2.jpg", "a/1.jpg", "images/1.jpg", "z/3.txt")
    path = write_table(tmp_path / "t.csv", pd.DataFrame({"id": [1, 2, 3], "label": list("abc")}))
    source = read_source(path)
    assert rows(source, "file") == [(str(tmp_path / f"images_training_rev1/{i}.jpg"),) for i in (1, 2)]
    assert "the images are in" in logged()


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").touch()
    pd.DataFrame({"id ": [1], "id": [2]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(SkyclassError, match="two columns are called 'id'"):
        read_source(tmp_path / "t.parquet")


def test_other_columns_are_left_alone(tmp_path: Path) -> None:
    frame = pd.DataFrame({"name": ["x"], "votes": np.array([3], dtype=np.int16), "DEC": [1.5]})
    path = write_table(tmp_path / "t.parquet", frame)
    read = name_columns(read_rows(path, frozenset()), {"image_id": "name"}, path)
    assert list(read.columns) == ["image_id", "votes", "dec", "name"]
    assert read["votes"].dtype == np.int16


@pytest.mark.parametrize("suffix", [suffix for suffix in OWN_TYPES if suffix != ".fits.gz"])
def test_damaged_tables_are_refused_in_one_sentence(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"id": np.arange(2000), "label": ["x"] * 2000})
    path = write_table(tmp_path / f"t{suffix}", frame)
    data = path.read_bytes()
    # Without its header a FITS file is as good an image as a table, and refused when it is decoded.
    for cut in (len(data) // 2,) if suffix == ".fits" else (0, 10, len(data) // 2):
        path.write_bytes(data[:cut])
        with pytest.raises(SkyclassError) as refusal:
            read_source(path)
        assert "\n" not in str(refusal.value)
        assert f"t{suffix}" in str(refusal.value)
        assert refusal.value.fix


@pytest.mark.parametrize("suffix", [".fits", ".vot", ".parquet", ".ecsv"])
def test_tables_without_rows_are_refused(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"id": np.arange(0), "label": np.arange(0)})
    with pytest.raises(SkyclassError, match="no rows"):
        read_source(write_table(tmp_path / f"t{suffix}", frame))


# VOTables that are more than a table

LAUGHS = '<!DOCTYPE lol [<!ENTITY a "haha">' + "".join(
    f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(12)
)


def votable(fields: str, data: str, before: str = "", encoding: str = "utf-8") -> bytes:
    text = (
        f'<?xml version="1.0" encoding="{encoding}"?>{before}<VOTABLE version="1.3"><RESOURCE><TABLE>{fields}'
        f"<DATA>{data}</DATA></TABLE></RESOURCE></VOTABLE>"
    )
    return text.encode(encoding)


ID = '<FIELD name="id" datatype="char" arraysize="*"/>'
ROW = "<TABLEDATA><TR><TD>1</TD></TR></TABLEDATA>"


@pytest.mark.timeout(10)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_an_xml_bomb_is_refused(tmp_path: Path, encoding: str) -> None:
    row = "<TABLEDATA><TR><TD>&m;</TD></TR></TABLEDATA>"
    (tmp_path / "t.xml").write_bytes(votable(ID, row, f"{LAUGHS}]>", encoding))
    with pytest.raises(SkyclassError, match="declares entities"):
        read_source(tmp_path / "t.xml")


@pytest.mark.parametrize("link", ["file:///etc/passwd", "http://127.0.0.1:9/x", "httpg://x"])
def test_a_votable_never_reads_another_file(tmp_path: Path, link: str) -> None:
    touch(tmp_path, "1.png")
    stream = f'<BINARY><STREAM encoding="base64"\n href="{link}"/></BINARY>'
    (tmp_path / "t.vot").write_bytes(votable(ID, stream))
    with pytest.raises(SkyclassError, match="rows lie in another file"):
        read_source(tmp_path / "t.vot")


@pytest.mark.parametrize(
    "stream",
    [
        '<STREAM type="&gt;" href="file:///etc/hostname"/>',
        '<STREAM type=">" href="file:///etc/hostname"/>',
        '<v:STREAM xmlns:v="http://www.ivoa.net/xml/VOTable/v1.3" href="file:///etc/hostname"/>',
        "<STREAM\n\thref = 'file:///etc/hostname' />",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_however_a_stream_is_written_it_is_seen(tmp_path: Path, stream: str, encoding: str) -> None:
    data = votable(ID, f"<BINARY>{stream}</BINARY>", encoding=encoding).replace(b"utf-8-sig", b"utf-8")
    for name, content in (("t.vot", data), ("t.vot.gz", gzip.compress(data))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SkyclassError, match="rows lie in another file"):
            read_source(tmp_path / name)


def test_a_default_that_a_doctype_brings_is_refused_and_the_dtd_of_old_is_not(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    default = '<!DOCTYPE VOTABLE [<!ATTLIST STREAM href CDATA "file:///etc/hostname">]>'
    (tmp_path / "t.vot").write_bytes(votable(ID, "<BINARY><STREAM/></BINARY>", default))
    with pytest.raises(SkyclassError, match="declares entities"):
        read_source(tmp_path / "t.vot")
    old = '<!DOCTYPE VOTABLE SYSTEM "http://us-vo.org/xml/VOTable.dtd">'
    (tmp_path / "t.vot").write_bytes(votable(ID, ROW, old))
    assert len(read_source(tmp_path / "t.vot").catalog) == 1


MANY = "".join(f'<FIELD name="f{i}" datatype="double" arraysize="60000"/>' for i in range(40))
NARROW = "".join(f'<FIELD name="f{i}" datatype="double"/>' for i in range(2000))


@pytest.mark.parametrize(
    ("fields", "words"),
    [(ID + MANY, "values in a row"), (ID + NARROW, "more than 999 columns"), ("<GROUP>" * 5000, "deep")],
)
def test_votables_that_take_more_than_they_hold(tmp_path: Path, fields: str, words: str) -> None:
    (tmp_path / "t.vot").write_bytes(votable(fields, ROW))
    with pytest.raises(SkyclassError, match=words):
        read_source(tmp_path / "t.vot")


def test_a_votable_with_enormous_cells_is_refused(tmp_path: Path) -> None:
    field = '<FIELD name="v" datatype="double" arraysize="100000x100000"/>'
    (tmp_path / "t.vot").write_bytes(votable(field, ROW))
    with pytest.raises(SkyclassError, match="values in a cell"):
        read_source(tmp_path / "t.vot")


def test_a_votable_that_claims_too_many_rows(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    claim = votable(ID, ROW).replace(b"<TABLE>", b'<TABLE nrows="100000000000000">')
    (tmp_path / "t.vot").write_bytes(claim)
    with pytest.raises(SkyclassError, match=r"t\.vot: .* claim to unpack"):
        read_source(tmp_path / "t.vot")


def test_other_xml_and_other_tables_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "page.xml").write_text("<html><body>404</body></html>")
    with pytest.raises(SkyclassError, match=r"page\.xml: unreadable table"):
        read_source(tmp_path / "page.xml")


def test_a_packed_table_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "MAX_TABLE", 10_000)
    (tmp_path / "t.xml.gz").write_bytes(gzip.compress(votable(ID, ROW) + b" " * 10_000))
    with pytest.raises(SkyclassError, match="more than 10,000 bytes when unpacked; unpack it and give that file"):
        read_source(tmp_path / "t.xml.gz")


def test_columns_given_by_name_reach_every_format(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png")
    frame = pd.DataFrame({"name": ["1", "2"], "kind": ["a", "b"], "night": [7, 8]})
    options = SourceOptions(id_column="name", label_column="kind", group_column="night")
    for suffix in FORMATS:
        source = read_source(write_table(tmp_path / f"t{suffix[1:]}{suffix}", frame), options)
        assert rows(source, "image_id", "label", "group") == [("1", "a", "7"), ("2", "b", "8")]


def test_addresses_stand_in_tables_of_files(tmp_path: Path) -> None:
    touch(tmp_path, "sky/a.h5", "sky/f.fits", "sky/m_g.fits", "sky/m_r.fits", "sky/n_g.fits", "sky/odd{1}.png")
    names = [
        "a.h5::images[3]",
        "f.fits::pixel(4.0,5.5)[6x8]",
        "m_{g,r}.fits",
        "n_{g,r}.fits",
        "b.h5::x[0]",
        "odd{1}.png",
    ]
    path = write_table(tmp_path / "t.csv", pd.DataFrame({"id": list("abcdef"), "file": names}))
    source = read_source(path, SourceOptions(image_root=tmp_path / "sky"))
    found = [names[i] for i in (0, 1, 2, 5)]
    assert source.catalog["file"].tolist() == [f"{tmp_path}/sky/{name}" for name in found]
    assert source.problems["image_id"].tolist() == ["d", "e"]
    without_ids = write_table(tmp_path / "u.csv", pd.DataFrame({"file": found}))
    assert read_source(without_ids, SourceOptions(image_root=tmp_path / "sky")).catalog["image_id"].is_unique


def test_class_names_of_a_table(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "3.png")
    path = write_table(tmp_path / "t.csv", pd.DataFrame({"id": [1, 2, 3], "label": [1, None, 0]}))
    named = read_source(path, SourceOptions(class_names=("lens", "not_lens"))).catalog["label"]
    assert named.tolist() == ["not_lens", None, "lens"]
    with pytest.raises(SkyclassError, match=r"t\.csv: label '1.0' is none of the numbers 0 to 0"):
        read_source(path, SourceOptions(class_names=("lens",)))


def test_text_stored_as_bytes_in_parquet(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png", "3.png")
    table = pa.table({"id": pa.array([1, 2, 3]), "label": pa.array([b"spiral", b"bar ", None], pa.binary())})
    pq.write_table(table, tmp_path / "t.parquet")
    assert read_source(tmp_path / "t.parquet").catalog["label"].tolist() == ["spiral", "bar", None]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_long_numbers_beside_an_empty_cell_keep_every_digit(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, f"{LONG_ID}.png", "7.png")
    frame = pd.DataFrame({"objid": [LONG_ID, None, 7], "spectrum": [LONG_ID, 7, None]}, dtype="Int64")
    frame["flux"] = [2e20, 1.5, np.nan]
    source = read_source(write_table(tmp_path / f"t{suffix}", frame))
    assert source.catalog["image_id"].tolist() == [str(LONG_ID), "7"]
    assert source.catalog["spectrum"][0] == LONG_ID
    assert source.catalog["flux"].dtype == "float64"


def test_the_index_of_a_data_frame_is_a_column(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png")
    frame = pd.DataFrame({"id": [2, 1], "field": ["a", "b"], "label": ["x", "y"]}, index=[5, 3])
    frame.to_parquet(tmp_path / "plain.parquet")
    frame.set_index(["field", "id"]).to_parquet(tmp_path / "index.parquet")
    for name in ("plain", "index"):
        source = read_source(tmp_path / f"{name}.parquet")
        assert rows(source, "image_id", "label", "field") == [("2", "x", "a"), ("1", "y", "b")]
        assert set(source.catalog) == {"image_id", "file", "label", "split", "field", "id"}


def test_text_of_a_fits_table_that_is_not_ascii(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png")
    columns = [
        fits.Column("id", "K", array=[1, 2]),
        fits.Column("label", "8A", array=np.array(["étoile".encode("latin-1"), b"galaxie"])),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "t.fits")
    assert read_source(tmp_path / "t.fits").catalog["label"].tolist() == ["étoile", "galaxie"]


def test_a_table_that_is_not_utf_8_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("file,label\n1.png,étoile\n".encode("latin-1"))
    with pytest.raises(SkyclassError, match=r"t\.csv: .* \(its text is not UTF-8\); save it again as UTF-8"):
        read_source(tmp_path / "t.csv")


def test_names_that_no_disk_could_bear_cost_no_other_row(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    names = ["1.png", "x" * 300 + "/a.png", "y" * 300 + ".png", "x" * 300 + "/s.npy::[1]", "a/\0/b.png"]
    source = read_source(write_table(tmp_path / "t.csv", pd.DataFrame({"file": names, "label": list("abcde")})))
    assert source.catalog["label"].tolist() == ["a"]
    assert source.problems["problem"].tolist() == ["no such file"] * 4
    for name in names[1:]:
        with pytest.raises(SkyclassError, match="no such file"):
            read_image(name)
        with pytest.raises(SkyclassError, match="no such file"):
            read_source(name)


@pytest.mark.parametrize(
    ("names", "unit"), [(("_RAJ2000", "_DEJ2000"), "rad"), (("ALPHA_J2000", "DELTA_J2000"), "arcmin")]
)
def test_positions_by_any_name_have_units(tmp_path: Path, names: tuple[str, str], unit: str) -> None:
    (tmp_path / "frame.fits").touch()
    places = np.array([[150.0, 2.0], [151.0, -3.0]])
    columns = {name: (column * u.deg).to(unit) for name, column in zip(names, places.T, strict=True)}
    Table({"id": [1, 2], **columns}).write(tmp_path / "t.ecsv")
    options = SourceOptions(image_root=tmp_path / "frame.fits", cutout=(4, 6))
    np.testing.assert_allclose(read_source(tmp_path / "t.ecsv", options).catalog[["ra", "dec"]], places)


def test_ids_of_files_that_share_no_folder(tmp_path: Path) -> None:
    touch(tmp_path, "1.png")
    elsewhere = Path(sys.executable)
    files = [str(tmp_path / "1.png"), str(elsewhere)]
    shared = Path(os.path.commonpath(files))
    source = read_source(write_table(tmp_path / "t.csv", pd.DataFrame({"file": files})))
    expected = [(tmp_path / "1").relative_to(shared).as_posix(), elsewhere.relative_to(shared).as_posix()]
    assert source.catalog["image_id"].tolist() == expected


def test_a_coordinate_of_400_digits_is_none(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "2.png")
    frame = pd.DataFrame({"id": ["1", "2"], "ra": ["9" * 400 + ":0:0", "1:00:00"], "dec": ["1:00:00", "1:00:00"]})
    catalog = read_source(write_table(tmp_path / "t.csv", frame)).catalog
    assert catalog["ra"].isna().tolist() == [True, False]


def test_a_bug_of_ours_is_no_damage_of_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object, **__: object) -> None:
        raise TypeError("a bug of ours")

    touch(tmp_path, "1.png")
    path = write_table(tmp_path / "t.csv", pd.DataFrame({"id": ["1"], "ra": ["10:41:00"], "dec": ["1:00:00"]}))
    with monkeypatch.context() as patch:
        patch.setattr(columns_module, "Angle", bug)
        with pytest.raises(TypeError, match="a bug of ours"):
            read_source(path)
    table = write_table(tmp_path / "t.fits", pd.DataFrame({"id": ["1"]}))
    monkeypatch.setattr(table_files, "check_cards", bug)
    with pytest.raises(TypeError, match="a bug of ours"):
        table_files.is_fits_table(table)
