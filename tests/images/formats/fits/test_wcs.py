"""Maps over the sky: the WCS is that of the image, whatever else its header holds."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.wcs import WCS

from helpers.logged import Logged
from skyclass.images.formats.fits import wcs as wcs_module
from skyclass.images.formats.fits.wcs import sky_header, write_map
from skyclass.images.formats.locations import BandFiles, ContainerRow, parse_address


def sky(ctype: str = "TAN", **cards: object) -> fits.Header:
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = f"RA---{ctype}", f"DEC--{ctype}"
    header["CRVAL1"], header["CRVAL2"] = 150.1, 2.2
    header["CRPIX1"], header["CRPIX2"] = 20.5, 31.0
    header["CD1_1"], header["CD1_2"], header["CD2_1"], header["CD2_2"] = -1e-4, 2e-5, 2e-5, 1.1e-4
    header.update(cards)
    return header


def write(path: Path, header: fits.Header, shape: tuple[int, ...] = (60, 40)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).random(shape, dtype=np.float32)
    fits.PrimaryHDU(pixels, header).writeto(path, overwrite=True)
    return path


def position(header: fits.Header, x: float, y: float) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.array(WCS(header, naxis=2).all_pix2world(x, y, 0))


SIP = {"A_ORDER": 2, "A_2_0": 2e-4, "B_ORDER": 2, "B_0_2": -1e-4, "A_DMAX": 1.0}


@pytest.mark.parametrize(
    "header", [sky(), sky(RADESYS="FK5", EQUINOX=2000.0, LONPOLE=180.0), sky("TAN-SIP", **SIP), sky("TPV", PV1_1=1.01)]
)
def test_the_sky_is_that_of_the_image(header: fits.Header, tmp_path: Path) -> None:
    header["EXPTIME"], header["OBSERVER"] = 30.0, "nobody"
    path = write(tmp_path / "a.fits", header)
    heatmap = np.zeros((60, 40), np.float32)
    heatmap[45, 7] = 1.0
    found = sky_header(path)
    assert not {"NAXIS", "BITPIX", "SIMPLE", "EXPTIME", "OBSERVER", "BSCALE"} & set(found)
    write_map(tmp_path / "map.fits", heatmap, found, {"OBJECT": ("Nebel \u00fc\n", "image")})
    with fits.open(tmp_path / "map.fits") as hdus:
        hdus.verify("exception")
        assert hdus[0].data.dtype == np.dtype(">f4")
        row, column = np.unravel_index(hdus[0].data.argmax(), hdus[0].shape)
        assert hdus[0].header["OBJECT"] == "Nebel ??"
        np.testing.assert_allclose(position(hdus[0].header, column, row), position(header, 7, 45), rtol=1e-12)


def test_a_header_with_unprintable_and_damaged_cards(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", sky(OBJECT="x" * 20, EQUINOX=2000.0))
    data = path.read_bytes()
    data = data.replace(b"'xxxxxxxxxxxxxxxxxxxx'", b"'xxxx\x00\xe9\x07xxxxxxxxxxxxx'")
    place = data.index(b"EQUINOX =")
    path.write_bytes(data[: place + 10] + b"\x00\xff what is this".ljust(70) + data[place + 80 :])
    found = sky_header(path)
    assert "EQUINOX" not in found
    np.testing.assert_allclose(position(found, 3, 4), position(sky(), 3, 4))


def test_cubes_compressed_and_gzipped_files_and_bands_in_files(tmp_path: Path) -> None:
    expected = position(sky(), 3, 4)
    header = sky(CTYPE3="WAVE", CRVAL3=5e-7, CDELT3=1e-8, CD3_3=1.0, WCSAXES=3)
    cube = sky_header(write(tmp_path / "cube.fits", header, (3, 60, 40)))
    assert cube["WCSAXES"] == 2
    assert not [key for key in cube if "3" in key]
    np.testing.assert_allclose(position(cube, 3, 4), expected)
    pixels = np.random.default_rng(0).random((60, 40), dtype=np.float32)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(pixels, sky())]).writeto(tmp_path / "a.fits.fz")
    np.testing.assert_allclose(position(sky_header(tmp_path / "a.fits.fz"), 3, 4), expected)
    write(tmp_path / "b.fits.gz", sky())
    np.testing.assert_allclose(position(sky_header(tmp_path / "b.fits.gz"), 3, 4), expected)
    write(tmp_path / "m_g.fits", sky())
    bands = BandFiles(f"{tmp_path}/m_", ("g", "r"), ".fits")
    np.testing.assert_allclose(position(sky_header(bands), 3, 4), expected)


@pytest.mark.parametrize(("kind", "x", "y"), [("sky", 150.1003, 2.2), ("pixel", 12, 40.5), ("pixel", 1, 59)])
def test_the_sky_of_a_cutout_is_moved_to_its_corner(kind: str, x: float, y: float, tmp_path: Path) -> None:
    path = write(tmp_path / "frame.fits", sky())
    found = sky_header(parse_address(f"{path}::{kind}({x},{y})[8x13]"))
    wcs = WCS(sky())
    x, y = wcs.all_world2pix(x, y, 0) if kind == "sky" else (x, y)
    expected = Cutout2D(np.zeros((60, 40)), (float(x), float(y)), (8, 13), wcs=wcs, mode="partial").wcs
    np.testing.assert_allclose(position(found, 2, 5), np.array(expected.all_pix2world(2, 5, 0)), rtol=1e-12)


def test_images_without_a_sky_have_no_cards(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    assert not sky_header(tmp_path / "a.png")
    assert not sky_header(tmp_path / "absent.fits")
    assert not sky_header(ContainerRow(tmp_path / "a.npy", "", 3))
    assert not sky_header(write(tmp_path / "none.fits", fits.Header()))
    assert not sky_header(write(tmp_path / "linear.fits", fits.Header({"CTYPE1": "X", "CTYPE2": "Y", "CRVAL1": 1.0})))
    assert not sky_header(write(tmp_path / "broken.fits", sky(CD1_1=0.0, CD1_2=0.0, CD2_1=0.0, CD2_2=0.0)))
    write_map(tmp_path / "map.fits", np.ones((3, 4)), None, {})
    assert fits.getdata(tmp_path / "map.fits").shape == (3, 4)


def test_a_broken_wcs_is_told_of_and_a_bug_of_ours_is_raised(
    tmp_path: Path, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = write(tmp_path / "broken.fits", sky(CD1_1=0.0, CD1_2=0.0, CD2_1=0.0, CD2_2=0.0))
    assert not sky_header(broken)
    assert logged().startswith(f"The map has no coordinates: {broken}: the WCS is broken (")
    (tmp_path / "cut.fits").write_bytes(broken.read_bytes()[:2000])
    assert not sky_header(tmp_path / "cut.fits")
    assert "The map has no coordinates" in logged()
    assert sky_header(write(tmp_path / "text.fits", sky(CRPIX1="'3"))) is not None  # whatever astropy makes of it
    logged()
    assert not sky_header(write(tmp_path / "none.fits", fits.Header()))
    assert logged() == ""  # there is none to tell of

    def bug(*_: object) -> None:
        raise TypeError("a bug of ours")

    monkeypatch.setattr(wcs_module, "wcs_cards", bug)
    with pytest.raises(TypeError, match="a bug of ours"):
        sky_header(broken)
