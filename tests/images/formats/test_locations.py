from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyclass.core.errors import SkyclassError
from skyclass.core.limits import MAX_ADDRESS
from skyclass.images.formats.locations import (
    Address,
    BandFiles,
    ContainerRow,
    Cutout,
    files_of,
    image_id_of,
    parse_address,
    stem_of,
)
from skyclass.images.formats.read import read_image

NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=("Cs",)), min_size=1, max_size=20)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join).map(Path).filter(lambda path: str(path) != ".")
KEYS = st.text(st.characters(exclude_categories=("Cs",)), max_size=20).filter(
    lambda key: "::" not in key and key[:1] != ":"
)
NUMBERS = st.floats(allow_nan=False)
SIZES = st.tuples(st.integers(0, 10**9 - 1), st.integers(0, 10**9 - 1))
PARTS = st.text(st.characters(exclude_characters="{}:\0", exclude_categories=("Cs",)), max_size=20)
BANDS = st.lists(PARTS.filter(lambda band: band and "," not in band), min_size=1, max_size=5).map(tuple)
ADDRESSES = st.one_of(
    st.builds(ContainerRow, PATHS, KEYS, st.integers(-5, 10**18 - 1)),
    st.builds(Cutout, PATHS, NUMBERS, NUMBERS, SIZES, st.booleans()),
    st.builds(BandFiles, PARTS, BANDS, PARTS),
)


@given(ADDRESSES)
def test_what_is_written_is_read_back(address: Address) -> None:
    assert parse_address(str(address)) == address


@given(
    st.text(max_size=60) | st.from_regex(r"\A[a-z]{0,3}(::)?[a-z({]{0,3}[0-9.,einf+-]{0,9}[)}]?(\[[0-9x]{0,5}\])?\Z")
)
def test_no_text_makes_parsing_raise(text: str) -> None:
    assert parse_address(text) is not None


@given(PARTS.filter(lambda text: "/" not in text and text not in ("", ".", "..")))
def test_a_plain_name_is_a_file(name: str) -> None:
    assert parse_address(name) == Path(name)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("a/galaxies.h5::images[17]", ContainerRow(Path("a/galaxies.h5"), "images", 17)),
        ("g.h5::group/images[0]", ContainerRow(Path("g.h5"), "group/images", 0)),
        ("t.parquet::image (png) [2][3]", ContainerRow(Path("t.parquet"), "image (png) [2]", 3)),
        ("stack.npy::[17]", ContainerRow(Path("stack.npy"), "", 17)),
        ("odd::name.npy::[1]", ContainerRow(Path("odd::name.npy"), "", 1)),
        ("f.fits::sky(150.1,-2.2)[64x48]", Cutout(Path("f.fits"), 150.1, -2.2, (64, 48), True)),
        ("f.fits::pixel( 812, 40.5 )[64x48]", Cutout(Path("f.fits"), 812.0, 40.5, (64, 48), False)),
        ("f.fits::pixel(1e2,.5)[1x1]", Cutout(Path("f.fits"), 100.0, 0.5, (1, 1), False)),
        ("m51_{g,r,i}.fits", BandFiles("m51_", ("g", "r", "i"), ".fits")),
        ("J0100+02.5.fits", Path("J0100+02.5.fits")),
        ("f.fits::sky(1.2.3,4)[8x8]", Path("f.fits::sky(1.2.3,4)[8x8]")),
        ("a{}.png", Path("a{}.png")),
        ("a{g,}.png", Path("a{g,}.png")),
        ("{g}{r}.png", Path("{g}{r}.png")),
    ],
)
def test_examples(text: str, address: Address) -> None:
    assert parse_address(text) == address


def test_positions_that_are_none_are_read_back_too() -> None:
    cutout = parse_address(str(Cutout(Path("f.fits"), math.nan, -math.inf, (4, 6), True)))
    assert isinstance(cutout, Cutout)
    assert math.isnan(cutout.x)
    assert cutout.y == -math.inf


def test_a_file_with_the_name_of_an_address_is_that_file(tmp_path: Path) -> None:
    file = tmp_path / "m51_{g,r}.fits"
    assert isinstance(parse_address(file), BandFiles)
    file.touch()
    assert parse_address(file) == file


@pytest.mark.parametrize(
    ("text", "image_id", "files"),
    [
        ("a/b.jpg", "b", ["a/b.jpg"]),
        ("a/100_016.732+000.523.fits.gz", "100_016.732+000.523", ["a/100_016.732+000.523.fits.gz"]),
        ("a/100_016.732+000.523", "100_016.732+000.523", ["a/100_016.732+000.523"]),
        ("g.h5::images[17]", "17", ["g.h5"]),
        ("f.fits::sky(150.1,-2.25)[6x4]", "150.1_-2.25", ["f.fits"]),
        ("f.fits::pixel(812,40.5)[6x4]", "812_40.5", ["f.fits"]),
        ("d/m51_{g,r}.fits", "m51", ["d/m51_g.fits", "d/m51_r.fits"]),
        ("d/{g,r}-m51.fits.gz", "m51", ["d/g-m51.fits.gz", "d/r-m51.fits.gz"]),
        ("{g,r}/m51.fits", "m51", ["g/m51.fits", "r/m51.fits"]),
        ("d/m51/{g,r}.fits", "m51", ["d/m51/g.fits", "d/m51/r.fits"]),
    ],
)
def test_ids_and_files(text: str, image_id: str, files: list[str]) -> None:
    address = parse_address(text)
    assert image_id_of(address) == image_id
    assert files_of(address) == [Path(file) for file in files]


def test_stems_keep_other_dots() -> None:
    assert [stem_of(name) for name in ("a.b.JPG", "a.fits.fz", "a.5", ".png")] == ["a.b", "a", "a.5", ""]


@pytest.mark.parametrize(
    "text",
    ["a" + "::a" * 400_000, ":" * 500_000, "f.fits::sky(" + "1" * 500_000, "a::b[" * 200_000, "{" * 500_000 + "::"],
)
def test_long_texts_are_parsed_at_once_and_refused_in_a_short_sentence(text: str) -> None:
    for size in (len(text), 4000):
        began = time.process_time()
        parsed = parse_address(text[:size])
        assert time.process_time() - began < 1
    assert isinstance(parse_address(text), Path)
    assert parsed is not None
    with pytest.raises(SkyclassError, match=rf"an address of {len(text):,} characters; give one of at most") as refusal:
        read_image(text)
    assert len(str(refusal.value)) < 300


def test_an_address_as_long_as_a_path_may_be() -> None:
    text = "/".join(["f" * 200] * 20) + "/g.h5::images[3]"
    assert len(text) < MAX_ADDRESS
    assert parse_address(text) == ContainerRow(Path(text.partition("::")[0]), "images", 3)
