"""FITS headers that lie: refused by a read of the cards, before astropy follows them."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from helpers.hostile import FITS_FILES, card, compressed, fits_file, frame, with_card
from helpers.make_data import random_pixels
from helpers.paths import PROJECT
from skyclass.core.errors import SkyclassError
from skyclass.core.limits import MAX_HDUS, MAX_HEADER_BLOCKS
from skyclass.data.tables.table_files import is_fits_table
from skyclass.images.formats.fits.cards import check_cards
from skyclass.images.formats.read import decode_image, read_image

SHARED = PROJECT.parent / "shared" / "data"


def refusal(data: bytes) -> str:
    began = time.process_time()
    with pytest.raises(SkyclassError) as error:
        decode_image(data, "x.fits")
    assert time.process_time() - began < 2
    text = str(error.value)
    assert text.startswith("x.fits: ")
    assert text.isprintable()
    assert len(text) < 300
    return text


@pytest.mark.parametrize("name", FITS_FILES)
def test_a_header_that_lies_is_refused_at_once(name: str) -> None:
    assert "damaged" in refusal(FITS_FILES[name]())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("BITPIX", "7"),
        ("BITPIX", "'16'"),
        ("NAXIS", "-1"),
        ("NAXIS", "33"),
        ("NAXIS", "2.0"),
        ("NAXIS1", "-28"),
        ("NAXIS2", "999999999999999999999"),
        ("PCOUNT", "-1"),
        ("GCOUNT", "-1"),
        ("GCOUNT", "4611686018427387905"),
    ],
)
def test_cards_of_an_image(key: str, value: str) -> None:
    data = fits_file(fits.PrimaryHDU(), fits.ImageHDU(random_pixels(0, (20, 28), 1, "int16")[0]))
    place = data.index(b"XTENSION")
    refusal(data[:place] + with_card(data[place:], key, value))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("TFIELDS", "1000"),
        ("TFIELDS", "-1"),
        ("TFORM1", "'999999999PB(9)'"),
        ("TFORM1", "'?'"),
        ("ZBITPIX", "1"),
        ("ZNAXIS", "0"),
        ("ZNAXIS", "-2"),
        ("ZNAXIS", "999999999"),
        ("ZNAXIS1", "-28"),
        ("ZNAXIS1", "0"),
        ("ZTILE1", "0"),
        ("ZTILE2", "-1"),
        ("ZTILE2", "5"),
        ("ZCMPTYPE", "'LZMA_9'"),
        ("ZCMPTYPE", "7"),
        ("NAXIS2", "7"),
        ("ZVAL1", "0"),
        ("ZVAL2", "99"),
    ],
)
def test_cards_of_a_compressed_image(key: str, value: str) -> None:
    data = compressed("RICE_1")
    place = data.index(b"XTENSION")
    refusal(data[:place] + with_card(data[place:], key, value))


def test_cards_that_programs_read_differently() -> None:
    data = fits_file(fits.PrimaryHDU(random_pixels(0, (20, 28), 1, "int16")[0]))
    for odd in (card("NAXIS1", "999999999"), b"naxis1  =            999999999", b"HIERARCH NAXIS1 = 999999999"):
        assert "stands twice" in refusal(data.replace(card("EXTEND", "T"), odd.ljust(80)))
    second = fits_file(fits.PrimaryHDU(), fits.ImageHDU(np.zeros((4, 4), "u1")))[2880:]
    second = b" SIMPLE =                    T".ljust(80) + with_card(second, "NAXIS", "999999999")[80:]
    assert "out of range" in refusal(data + second)
    again = data.replace(card("EXTEND", "T"), card("NAXIS1", "28"))
    assert decode_image(again, "x.fits").pixels.shape == (1, 20, 28)  # untidy, and no lie


def test_headers_without_end_and_too_many_of_them() -> None:
    data = fits_file(fits.PrimaryHDU(random_pixels(0, (20, 28), 1, "int16")[0]))
    assert "ends early" in refusal(data.replace(b"END     ", b"ENDE    ")[:2880])
    comments = (b"COMMENT".ljust(80) * 36) * (MAX_HEADER_BLOCKS + 1)
    assert "cards" in refusal(data.replace(b"END".ljust(80), b"COMMENT".ljust(80))[:2880] + comments)
    empty = fits_file(fits.PrimaryHDU(), fits.ImageHDU())[2880:]
    assert "HDUs" in refusal(data + empty * MAX_HDUS)


def test_what_follows_the_last_hdu_costs_nothing() -> None:
    pixels = random_pixels(0, (20, 28), 1, "int16")
    data = fits_file(fits.PrimaryHDU(pixels[0]))
    for junk in (b"\0" * 2880, b"x" * 3000, b"SIMPLE"):
        np.testing.assert_array_equal(decode_image(data + junk, "x.fits").pixels, pixels)
    whole = fits_file(fits.PrimaryHDU(pixels[0]), fits.BinTableHDU(np.zeros(3000, [("ra", "f8")])))
    np.testing.assert_array_equal(decode_image(whole[:-2880], "x.fits").pixels, pixels)


@pytest.mark.parametrize("name", FITS_FILES)
@pytest.mark.parametrize("address", ["{file}::pixel(9,9)[4x4]", "{file}::sky(10,2)[4x4]"])
@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
def test_frames_and_tables_are_checked_likewise(tmp_path: Path, name: str, address: str, suffix: str) -> None:
    file = frame(tmp_path / f"x{suffix}", FITS_FILES[name]())
    began = time.process_time()
    with pytest.raises(SkyclassError, match="damaged"):
        read_image(address.format(file=file))
    assert not is_fits_table(file)
    assert time.process_time() - began < 2


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared images are not here")
def test_no_real_file_is_refused() -> None:
    files = [*(SHARED / "radio" / "fits").iterdir(), *(SHARED / "multiband").rglob("*.fits")]
    assert len(files) > 37
    for file in files:
        assert check_cards(io.BytesIO(file.read_bytes())).n_hdus > 0
