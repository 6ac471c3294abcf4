"""One file a band, and cutouts about positions: addresses of what exists, and problems for the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from helpers.catalogs import faults, rows, touch
from helpers.logged import Logged
from helpers.make_data import random_pixels, sky_frame, write_image, write_table
from skyclass.core.errors import SkyclassError
from skyclass.data.source_options import SourceOptions
from skyclass.data.sources.band_files import by_wavelength
from skyclass.data.sources.read import Source, read_source
from skyclass.images.formats.locations import Cutout, parse_address
from skyclass.images.formats.read import read_image

PATTERN = SourceOptions(band_files="{id}_{band}.fits")


# One file a band


@pytest.mark.parametrize(
    ("bands", "ordered"),
    [
        ("izgru", "u g r i z"),
        (["y", "Y", "K", "J", "H", "z"], "z y Y J H K"),
        (["F814W", "F606W", "F160W", "F105W", "F435W"], "F435W F606W F814W F105W F160W"),
        (["f444w", "f090w", "f200w", "f150w", "f356w"], "f090w f150w f200w f356w f444w"),
        (["F410M", "F335M", "F210M", "F090W", "F322W2"], "F090W F210M F322W2 F335M F410M"),
        (["F300X", "F390W", "F200LP", "F225W"], "F200LP F225W F300X F390W"),
        (["ch2", "ch1"], "ch1 ch2"),
        (["halpha", "r", "g"], "g r halpha"),
    ],
)
def test_bands_are_ordered_by_wavelength(bands: list[str], ordered: str) -> None:
    assert by_wavelength(bands) == tuple(ordered.split())


def test_a_folder_of_band_files(tmp_path: Path) -> None:
    pixels = random_pixels(0, (6, 8), 3, "float32")
    for name in ("m51_a", "m51_b"):
        for plane, band in zip(pixels, "gri", strict=True):
            write_image(tmp_path / f"{name}_{band}.fits", plane[None])
    source = read_source(tmp_path, PATTERN)
    assert source.kind == "band files"
    assert rows(source, "image_id", "file", "label") == [
        (name, f"{tmp_path}/{name}_{{g,r,i}}.fits", None) for name in ("m51_a", "m51_b")
    ]
    assert source.problems.empty
    image = read_image(source.catalog["file"][0])
    np.testing.assert_array_equal(image.pixels, pixels)
    assert image.bands == ("g", "r", "i")


def test_class_folders_and_splits_above_band_files(tmp_path: Path) -> None:
    touch(
        tmp_path, *(f"{split}/{label}/1_{band}.fits" for split in ("train", "test") for label in "ES" for band in "ur")
    )
    source = read_source(tmp_path, PATTERN)
    assert rows(source, "image_id", "label", "split") == [
        (f"{split}/{label}/1", label, split) for split in ("test", "train") for label in "ES"
    ]


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{band}_{id}.fits", "{band}_ngc_1.fits"),
        ("{band}/{id}.fits", "{band}/ngc_1.fits"),
        ("cut-{id}.{band}.npy", "cut-ngc_1.{band}.npy"),
        ("{id}/{band}.fits", "ngc_1/{band}.fits"),
    ],
)
def test_other_patterns(tmp_path: Path, pattern: str, name: str) -> None:
    touch(tmp_path, *(name.replace("{band}", band) for band in "rg"))
    source = read_source(tmp_path, SourceOptions(band_files=pattern))
    assert rows(source, "image_id", "file") == [("ngc_1", f"{tmp_path}/{name}".replace("{band}", "{g,r}"))]


def test_objects_that_lack_a_band_are_left_out(tmp_path: Path) -> None:
    names = [f"{name}_{band}.fits" for name in ("1", "2", "4") for band in "gr"]
    source = read_source(touch(tmp_path, *names, "3_g.fits", "4_z.fits", "notes.txt"), PATTERN)
    assert source.catalog["image_id"].tolist() == ["1", "2", "4"]
    assert source.catalog["file"][2] == f"{tmp_path}/4_{{g,r}}.fits"
    assert faults(source) == [
        ("3_{g,r}.fits", "no such file: 3_r.fits", "error"),
        ("notes.txt", "not called {id}_{band}.fits", "warning"),
        ("4_z.fits", "a band that most objects lack: z", "warning"),
    ]


def test_band_files_of_a_table(tmp_path: Path) -> None:
    touch(tmp_path, *(f"cut/{name}_{band}.fits" for name in "12" for band in "gr"), "cut/3_g.fits", "cut/deep/4_g.fits")
    touch(tmp_path, "cut/deep/4_r.fits", "cut/other/4_g.fits")
    table = write_table(tmp_path / "t.csv", pd.DataFrame({"id": list("12345"), "label": list("abcde")}))
    source = read_source(table, SourceOptions(band_files="{id}_{band}.fits", image_root=tmp_path / "cut"))
    assert rows(source, "image_id", "file", "label") == [
        (name, f"{tmp_path}/cut/{name}_{{g,r}}.fits", label) for name, label in ("1a", "2b")
    ]
    problems = source.problems["problem"].tolist()
    assert problems[0] == "no such file: 3_r.fits"
    assert "in several folders" in problems[1]
    assert problems[2] == "no such file"


@pytest.mark.parametrize("pattern", ["{id}.fits", "{band}.fits", "{id}_{id}_{band}.fits", "{id}_{band}_{x}.fits"])
def test_patterns_that_say_too_little_are_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(SkyclassError, match=r"does not hold {id} and {band}, each once"):
        read_source(touch(tmp_path, "1_g.fits"), SourceOptions(band_files=pattern))


def test_folders_without_band_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SkyclassError, match="none of its 1 files is called"):
        read_source(touch(tmp_path, "m51.fits"), PATTERN)
    with pytest.raises(SkyclassError, match="--label-column is for a table"):
        read_source(touch(tmp_path, "1_g.fits"), SourceOptions(band_files="{id}_{band}.fits", label_column="x"))
    with pytest.raises(SkyclassError, match="--band-files is for"):
        read_source(tmp_path / "m51.fits", PATTERN)


# Cutouts


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    return sky_frame(tmp_path / "frame.fits")


def cutouts(table: Path, root: Path | None, **columns: str) -> Source:
    return read_source(table, SourceOptions(image_root=root, cutout=(8, 12), **columns))


def test_cutouts_on_the_sky(tmp_path: Path, frame: Path) -> None:
    with fits.open(frame) as hdus:
        pixels, wcs = hdus[0].data, WCS(hdus[0].header)
    ra, dec = wcs.pixel_to_world_values([40, 29.5], [30, 19.5])
    table = write_table(
        tmp_path / "t.csv", pd.DataFrame({"name": ["a", "b"], "RA": ra, "Dec": dec, "label": ["x", "y"]})
    )
    source = cutouts(table, frame)
    assert source.kind == "cutouts"
    assert rows(source, "image_id", "label") == [("0", "x"), ("1", "y")]
    assert source.catalog["file"][0] == f"{frame}::sky({float(ra[0])!r},{float(dec[0])!r})[8x12]"
    cut = read_image(source.catalog["file"][1]).pixels
    np.testing.assert_array_equal(cut[0], pixels[16:24, 24:36])
    np.testing.assert_allclose(source.catalog["ra"], ra)
    assert cutouts(table, frame, id_column="name").catalog["image_id"].tolist() == ["a", "b"]


def test_sexagesimal_and_catalogue_names_of_positions(tmp_path: Path, frame: Path) -> None:
    text = pd.DataFrame({"ra": ["10:00:00"], "dec": ["02:00:00"]})
    address = parse_address(cutouts(write_table(tmp_path / "t.csv", text), frame).catalog["file"][0])
    assert isinstance(address, Cutout)
    np.testing.assert_allclose([address.x, address.y], [150.0, 2.0])
    vizier = pd.DataFrame({"RAJ2000": [150.0], "DEJ2000": [2.0]})
    source = cutouts(write_table(tmp_path / "v.csv", vizier), frame)
    assert source.catalog["file"][0] == f"{frame}::sky(150.0,2.0)[8x12]"
    np.testing.assert_array_equal(source.catalog[["ra", "dec"]], [[150.0, 2.0]])


def test_cutouts_about_pixels(tmp_path: Path, frame: Path, logged: Logged) -> None:
    zero = write_table(tmp_path / "zero.csv", pd.DataFrame({"x": [40.0], "y": [30.5]}))
    one = write_table(tmp_path / "one.csv", pd.DataFrame({"X_IMAGE": [41.0], "Y_IMAGE": [31.5]}))
    assert cutouts(zero, frame).catalog["file"].tolist() == [f"{frame}::pixel(40.0,30.5)[8x12]"]
    assert "'x' and 'y', pixels counted from 0" in logged()
    assert cutouts(one, frame).catalog["file"].tolist() == [f"{frame}::pixel(40.0,30.5)[8x12]"]
    assert "pixels counted from 1" in logged()


def test_frames_named_by_the_rows(tmp_path: Path) -> None:
    sky_frame(tmp_path / "frames" / "a.fits")
    sky_frame(tmp_path / "frames" / "b.fits")
    rows_ = {"id": ["1", "2", "3"], "file": ["b.fits", "a.fits", "c.fits"], "ra": 150.0, "dec": 2.0}
    source = cutouts(write_table(tmp_path / "t.csv", pd.DataFrame(rows_)), tmp_path / "frames")
    assert rows(source, "image_id", "file") == [
        ("1", f"{tmp_path}/frames/b.fits::sky(150.0,2.0)[8x12]"),
        ("2", f"{tmp_path}/frames/a.fits::sky(150.0,2.0)[8x12]"),
    ]
    assert faults(source) == [("c.fits", "no such file", "error")]


def test_rows_without_a_position_are_problems(tmp_path: Path, frame: Path) -> None:
    table = {"id": list("abcde"), "ra": [150.0, np.nan, 150.0, 400.0, "--"], "dec": [2.0, 2.0, 95.0, 0.0, 2.0]}
    source = cutouts(write_table(tmp_path / "t.csv", pd.DataFrame(table)), frame)
    assert source.catalog["image_id"].tolist() == ["a"]
    assert source.problems["problem"].tolist() == [
        "row 1 has no position",
        "no place on the sky: 150, 95",
        "no place on the sky: 400, 0",
        "row 4: '--' in column 'ra' is no number of degrees",
    ]


@pytest.mark.parametrize("names", [("x", "y"), ("RAJ2000", "DEJ2000")])
def test_a_bad_position_costs_no_other(tmp_path: Path, frame: Path, names: tuple[str, str]) -> None:
    table = pd.DataFrame({"id": ["a", "b"], names[0]: ["150", "foo"], names[1]: [2.0, 2.0]})
    source = cutouts(write_table(tmp_path / "t.csv", table), frame)
    assert source.catalog["image_id"].tolist() == ["a"]
    assert source.problems[["image_id", "problem", "severity"]].values.tolist() == [
        ["b", "row 1 has no position", "error"]
    ]


def test_cutouts_about_coordinates_that_are_none_are_refused(tmp_path: Path, frame: Path) -> None:
    for name, other, message in (
        ("ra", "dec", "no columns of positions"),
        ("raj2000", "dej2000", "not one of degrees"),
    ):
        path = write_table(tmp_path / f"{name}.csv", pd.DataFrame({name: ["east", "west"], other: [1, 2]}))
        with pytest.raises(SkyclassError, match=message):
            cutouts(path, frame)


def test_cutouts_that_cannot_be_made_are_refused(tmp_path: Path, frame: Path) -> None:
    good = write_table(tmp_path / "t.csv", pd.DataFrame({"ra": [150.0], "dec": [2.0]}))
    with pytest.raises(SkyclassError, match="cutouts of which mosaic"):
        cutouts(good, None)
    with pytest.raises(SkyclassError, match="not a FITS mosaic by its suffix"):
        cutouts(good, touch(tmp_path, "a.png") / "a.png")
    with pytest.raises(SkyclassError, match="no columns of positions"):
        cutouts(write_table(tmp_path / "u.csv", pd.DataFrame({"name": [1]})), frame)
    with pytest.raises(SkyclassError, match="'x' is not one of pixel positions"):
        cutouts(write_table(tmp_path / "v.csv", pd.DataFrame({"x": ["left"], "y": [1]})), frame)
    with pytest.raises(SkyclassError, match="none of its 1 rows can be used; the first: row 0 has no position"):
        cutouts(write_table(tmp_path / "w.csv", pd.DataFrame({"x": [np.nan], "y": [1]})), frame)
    with pytest.raises(SkyclassError, match="no size of cutouts"):
        read_source(good, SourceOptions(image_root=frame, cutout=(0, 4)))
    with pytest.raises(SkyclassError, match="--cutout is for a table"):
        read_source(frame, SourceOptions(cutout=(4, 4)))
    with pytest.raises(SkyclassError, match="neither a stack nor a mosaic"):
        read_source(good, SourceOptions(image_root=frame))


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        ([f"{i}_{band}.fits" for i in range(3) for band in "gr"], "{id}_{band}.fits"),
        ([f"x/{i}-{band}.fits.gz" for i in range(3) for band in ("F814W", "F606W")], "{id}-{band}.fits.gz"),
        ([f"x/{i}.{band}.npy" for i in range(5) for band in "uy"[: max(1, i)]], "{id}.{band}.npy"),
        ([f"{i}_{band}.fits" for i in range(2) for band in "griz"], None),  # two objects
        ([f"{i}_g.fits" for i in range(9)], None),  # one band each
        ([f"{i}_{band}.fits" for i in range(3) for band in "ab"], None),
        ([f"{i}_{band}" for i in range(3) for band in ("g.fits", "r.png")], None),
    ],
)
def test_names_like_one_file_a_band_are_pointed_out(
    tmp_path: Path, logged: Logged, names: list[str], pattern: str | None
) -> None:
    assert len(read_source(touch(tmp_path, *names)).catalog) == len(names)
    said = " ".join(logged().split())
    assert ("one file a band" in said) == (pattern is not None)
    assert pattern is None or f"these names look like one file a band: --band-files '{pattern}'" in said
    if pattern:
        assert read_source(tmp_path, SourceOptions(band_files=pattern)).kind == "band files"
