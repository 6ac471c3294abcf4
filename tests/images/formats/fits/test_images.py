from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from helpers.make_data import random_pixels, write_image
from helpers.paths import PROJECT
from skyclass.core.errors import SkyclassError
from skyclass.images.formats.read import Image, decode_image, read_image

SHARED = PROJECT.parent / "shared"
SIZE = (20, 28)
PLANES = random_pixels(0, SIZE, 4, "float32")
NUMBERED = tuple(f"band_{i}" for i in range(1, 5))


def data_of(*hdus: Any) -> bytes:
    stream = io.BytesIO()
    fits.HDUList(list(hdus)).writeto(stream)
    return stream.getvalue()


def read(*hdus: Any) -> Image:
    return decode_image(data_of(*hdus), "x.fits")


def image_hdu(plane: int, size: tuple[int, int] = SIZE, packed: bool = False, **cards: str) -> Any:
    header = fits.Header(cards)
    pixels = PLANES[plane, : size[0], : size[1]]
    return (
        fits.CompImageHDU(pixels, header, quantize_level=0, compression_type="GZIP_1")
        if packed
        else fits.ImageHDU(pixels, header)
    )


@pytest.mark.parametrize(
    ("cards", "names"),
    [
        ({"FILTER1": "g", "FILTER2": "r", "FILTER3": "i", "FILTER4": "z"}, ("g", "r", "i", "z")),
        ({"BAND0": "g", "BAND1": "r", "BAND2": "i", "BAND3": "z"}, ("g", "r", "i", "z")),
        ({"BANDS": "griz"}, ("g", "r", "i", "z")),
        ({"BANDS": "g, r, i, z"}, ("g", "r", "i", "z")),
        ({"FILTERS": "F435W;F606W;F775W;F850LP"}, ("F435W", "F606W", "F775W", "F850LP")),
        ({"FILTERS": "F435W F606W"}, NUMBERED),
        ({"FILTER1": "g", "FILTER2": "r", "FILTER3": "g", "FILTER4": "z"}, NUMBERED),
        ({"FILTER1": "CLEAR1L", "FILTER2": "F814W"}, NUMBERED),
        ({"BAND0": 1, "BAND1": 2, "BAND2": 3, "BAND3": 4}, NUMBERED),
        ({}, NUMBERED),
    ],
)
def test_names_of_the_planes_of_a_cube(cards: dict[str, Any], names: tuple[str, ...]) -> None:
    image = read(fits.PrimaryHDU(PLANES, fits.Header(cards)))
    assert image.bands == names
    np.testing.assert_array_equal(image.pixels, PLANES)


@pytest.mark.parametrize("key", ["FILTER", "BAND", "EXTNAME"])
@pytest.mark.parametrize("packed", [False, True])
def test_extensions_with_names_are_bands(key: str, packed: bool) -> None:
    hdus = [image_hdu(plane, packed=packed, **{key: name}) for plane, name in enumerate("riz")]
    image = read(fits.PrimaryHDU(), *hdus, fits.BinTableHDU(np.zeros(3, [("ra", "f8")])))
    assert (image.bands, image.format) == (("r", "i", "z"), "fits")
    np.testing.assert_array_equal(image.pixels, PLANES[:3])


def test_the_primary_image_may_be_a_band() -> None:
    image = read(fits.PrimaryHDU(PLANES[0], fits.Header({"FILTER": "g"})), image_hdu(1, FILTER="r"))
    assert image.bands == ("g", "r")
    np.testing.assert_array_equal(image.pixels, PLANES[:2])


def test_a_filter_says_more_than_the_name_of_an_extension() -> None:
    assert read(fits.PrimaryHDU(), *[image_hdu(i, FILTER=f"F{i}", EXTNAME=f"CHIP{i}") for i in range(2)]).bands == (
        "F0",
        "F1",
    )


@pytest.mark.parametrize(
    "name", ["ERR", "DQ", "WHT", "VAR", "MASK", "g_ivar", "WEIGHT2", "SCI_ERR", "var-poisson", "SEGMAP"]
)
def test_auxiliary_extensions_are_no_bands(name: str) -> None:
    alone = read(fits.PrimaryHDU(), image_hdu(0, EXTNAME=name), image_hdu(1, EXTNAME="SCI"))
    assert alone.bands == ("grey",)
    np.testing.assert_array_equal(alone.pixels[0], PLANES[1])
    several = read(fits.PrimaryHDU(), image_hdu(1, EXTNAME="g"), image_hdu(0, EXTNAME=name), image_hdu(2, EXTNAME="r"))
    assert several.bands == ("g", "r")
    only = read(fits.PrimaryHDU(), image_hdu(3, EXTNAME=name))
    np.testing.assert_array_equal(only.pixels[0], PLANES[3])


@pytest.mark.parametrize("name", ["CONTRAST", "verygood", "EXPANSE", "AREAL"])
def test_words_that_only_begin_like_auxiliary_ones(name: str) -> None:
    assert read(fits.PrimaryHDU(), image_hdu(0, EXTNAME=name), image_hdu(1, EXTNAME="SCI")).bands == (name, "SCI")


def test_where_there_is_doubt_the_first_image_counts() -> None:
    doubtful = {
        "no names": [image_hdu(0), image_hdu(1)],
        "one has no name": [image_hdu(0, EXTNAME="g"), image_hdu(1)],
        "the same name twice": [image_hdu(0, EXTNAME="SCI"), image_hdu(1, EXTNAME="SCI")],
        "another size": [image_hdu(0, EXTNAME="g"), image_hdu(1, (10, 28), EXTNAME="r")],
        "cubes": [fits.ImageHDU(PLANES[:1], name="g"), fits.ImageHDU(PLANES[1:2], name="r")],
        "packed without names": [image_hdu(0, packed=True), image_hdu(1, packed=True)],
    }
    for why, hdus in doubtful.items():
        image = read(fits.PrimaryHDU(), *hdus)
        assert image.bands == ("grey",), why
        np.testing.assert_array_equal(image.pixels, PLANES[:1])


def test_a_file_cut_in_its_second_band_does_not_become_one_of_a_single_band() -> None:
    data = data_of(fits.PrimaryHDU(), image_hdu(0, EXTNAME="g"), image_hdu(1, EXTNAME="r"))
    for lost in (1000, 2880, 4000):
        with pytest.raises(SkyclassError, match="ends early"):
            decode_image(data[:-lost], "x")


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1", "NOCOMPRESS"])
def test_compressed_images(kind: str) -> None:
    whole = np.arange(SIZE[0] * SIZE[1], dtype=np.int16).reshape(SIZE)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*", fits.verify.VerifyWarning)
        data = data_of(fits.PrimaryHDU(), fits.CompImageHDU(whole, compression_type=kind))
    np.testing.assert_array_equal(decode_image(data, "x").pixels[0], whole.astype("float32"))


def test_an_image_that_compresses_well_is_not_taken_for_a_cut_one() -> None:
    zeros = np.zeros((300, 400), np.int16)
    data = data_of(fits.PrimaryHDU(), fits.CompImageHDU(zeros))
    assert len(data) < zeros.nbytes / 4
    assert not decode_image(data, "x").pixels.any()
    with pytest.raises(SkyclassError):
        decode_image(data[:-2880], "x")


def test_a_compressed_image_that_declares_too_much_is_refused() -> None:
    data = data_of(fits.PrimaryHDU(), fits.CompImageHDU(np.zeros((64, 64), np.int16), tile_shape=(64, 64)))
    for cards in (
        {"ZNAXIS1": 14_000, "ZNAXIS2": 14_000, "ZTILE1": 14_000, "ZTILE2": 14_000},
        {"ZNAXIS1": 10**6, "ZNAXIS2": 10**6},
    ):
        bomb = data
        for key, value in cards.items():
            place = bomb.index(key.encode().ljust(8) + b"=")
            bomb = bomb[:place] + f"{key:8}= {value:20}".encode() + bomb[place + 30 :]
        with pytest.raises(SkyclassError, match=r"bombs|more than|number of its tiles"):
            decode_image(bomb, "x")


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32"])
def test_blank_pixels_become_nan(packed: bool, dtype: str) -> None:
    values = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE).astype(dtype)
    hdu = (fits.CompImageHDU if packed else fits.ImageHDU)(values)
    hdu.header["BLANK"] = 95
    image = decode_image(data_of(fits.PrimaryHDU(), hdu), "x")
    np.testing.assert_array_equal(image.pixels[0], np.where(values == 95, np.nan, values))


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int8"])
@pytest.mark.parametrize("packed", [False, True])
def test_unsigned_and_signed_integers_by_bzero(dtype: str, packed: bool) -> None:
    if packed and dtype == "int8":
        pytest.skip("astropy does not compress them")
    values = random_pixels(1, SIZE, 1, dtype)[0]
    image = read(fits.PrimaryHDU(), (fits.CompImageHDU if packed else fits.ImageHDU)(values))
    np.testing.assert_array_equal(image.pixels[0], values.astype(image.pixels.dtype))
    assert image.pixels.dtype == ("uint16" if dtype == "uint16" else "float32")


BROKEN_CARDS = {
    "a tab": b"COMMENT the\tbeam",
    "no text at all": b"COMMENT \xff\xfe\x00\x01",
    "no value": b"OBJECT  = ",
    "an open quote": b"FILTER  = 'g",
    "half a number": b"EXPTIME = 1.2.3",
    "lower case": b"filter  = 'g'",
    "blanks in the key": b"MY KEY  = 'g'",
}


@pytest.mark.parametrize("what", BROKEN_CARDS)
def test_headers_that_break_the_standard(tmp_path: Path, what: str) -> None:
    header = fits.Header({"SPARE": "x" * 10})
    data = data_of(fits.PrimaryHDU(PLANES[0], header), image_hdu(1, EXTNAME="r"))
    place = data.index(b"SPARE   =")
    data = data[:place] + BROKEN_CARDS[what].ljust(80)[:80] + data[place + 80 :]
    np.testing.assert_array_equal(decode_image(data, "x").pixels[0], PLANES[0])
    (tmp_path / "x.fits").write_bytes(data)
    piece = read_image(f"{tmp_path / 'x.fits'}::pixel(10,8)[3x5]")
    np.testing.assert_array_equal(piece.pixels[0], PLANES[0, 7:10, 8:13])


def test_what_holds_no_image_says_what_it_holds() -> None:
    with pytest.raises(SkyclassError, match=r"x.fits: a FITS file without an image \(it holds PrimaryHDU, ImageHDU\)"):
        read(fits.PrimaryHDU(), fits.ImageHDU(np.zeros(9)))
    with pytest.raises(SkyclassError, match="without an image"):
        read(fits.PrimaryHDU())


def shared(folder: str, pattern: str) -> list[Path]:
    files = sorted((SHARED / "data" / folder).glob(pattern))
    if not files:
        pytest.skip(f"the real images of {folder} are not here")
    return files


def test_real_files_give_what_astropy_gives() -> None:
    with_nan = 0
    for file in [*shared("radio/fits", "*.fits"), *shared("multiband", "*.fits")]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fits.verify.VerifyWarning)  # of the headers with tabs in their comments
            expected = fits.getdata(file)
        image = read_image(file)
        np.testing.assert_array_equal(image.pixels, np.atleast_3d(expected.T).T.astype("float32"))
        with_nan += bool(np.isnan(image.pixels).any())
    assert with_nan == 5


# One file a band


def test_band_files_become_one_image(tmp_path: Path) -> None:
    for name, plane in zip("gri", PLANES, strict=False):
        write_image(tmp_path / f"m51_{name}.fits", plane[None])
    image = read_image(f"{tmp_path}/m51_{{i,g}}.fits")
    assert (image.bands, image.format) == (("i", "g"), "fits")
    np.testing.assert_array_equal(image.pixels, PLANES[[2, 0]])
    assert image.pixels.flags.c_contiguous


@pytest.mark.parametrize(
    ("types", "kept"), [("uint8 uint8", "uint8"), ("uint8 uint16", "uint16"), ("uint16 float32", "float32")]
)
def test_band_files_of_several_types(tmp_path: Path, types: str, kept: str) -> None:
    planes = [random_pixels(i, SIZE, 1, dtype) for i, dtype in enumerate(types.split())]
    for i, plane in enumerate(planes):
        np.save(tmp_path / f"x{i}.npy", plane)
    image = read_image(f"{tmp_path}/x{{0,1}}.npy")
    assert image.pixels.dtype == kept
    np.testing.assert_array_equal(image.pixels, np.concatenate(planes).astype(kept))


def test_refusals_of_band_files_name_the_file(tmp_path: Path) -> None:
    write_image(tmp_path / "g.png", random_pixels(0, SIZE, 1))
    write_image(tmp_path / "r.png", random_pixels(0, (20, 27), 1))
    write_image(tmp_path / "i.png", random_pixels(0, SIZE, 3))
    (tmp_path / "z.png").write_bytes(b"nothing")
    expected = {
        "g,r": "r.png: its size is 20x27, that of the bands before it 20x28",
        "g,i": "i.png: 3 bands in the file of one",
        "g,y": "y.png: no such file",
        "g,z": "z.png: not an image",
        "g,g": "{g,g}.png: a band is named twice",
    }
    for bands, words in expected.items():
        with pytest.raises(SkyclassError) as caught:
            read_image(f"{tmp_path}/{{{bands}}}.png")
        assert str(caught.value).startswith(f"{tmp_path}/{words}")
        assert caught.value.fix


def test_images_that_are_left_out_are_a_warning() -> None:
    def hdu(*shape: int, **cards: str) -> Any:
        return fits.ImageHDU(np.ones(shape, "f4"), fits.Header(cards))

    image = read(fits.PrimaryHDU(np.ones((4, 6), "f4")), hdu(5, 7), hdu(2, 8, 9))
    assert image.pixels.shape == (1, 4, 6)
    assert image.warning == "2 other images in the file are left out: 5x7, 2x8x9"
    assert read(fits.PrimaryHDU(), hdu(4, 6), hdu(5, 7)).warning == "1 other image in the file is left out: 5x7"
    bands = read(fits.PrimaryHDU(), hdu(4, 6, EXTNAME="g"), hdu(4, 6, EXTNAME="r"), hdu(4, 6, EXTNAME="WEIGHT"))
    assert (bands.bands, bands.warning) == (("g", "r"), None)  # all are read, but for what goes with them
    five = read(fits.PrimaryHDU(), *(hdu(side, 7) for side in range(3, 8)))
    assert five.warning == "4 other images in the file are left out: 4x7, 5x7, 6x7, ..."


def test_a_warning_of_one_band_file_is_that_of_the_image(tmp_path: Path) -> None:
    for band in "gr":
        others = [fits.ImageHDU(np.ones((5, 7), "f4"))] if band == "r" else []
        fits.HDUList([fits.PrimaryHDU(np.ones((4, 6), "f4")), *others]).writeto(tmp_path / f"m51_{band}.fits")
    image = read_image(tmp_path / "m51_{g,r}.fits")
    assert image.warning == "m51_r.fits: 1 other image in the file is left out: 5x7"


def test_a_damaged_header_is_not_answered_with_advice_for_programmers() -> None:
    with pytest.raises(SkyclassError, match="not a FITS file, or one whose header is damaged") as refusal:
        decode_image(b"SIMPLE  =" + b" " * 5000, "x.fits")
    assert "ignore_missing_simple" not in str(refusal.value)
