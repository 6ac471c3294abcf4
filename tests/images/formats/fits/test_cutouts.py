from __future__ import annotations

import gzip
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.make_data import random_pixels
from helpers.paths import PROJECT
from skyclass.core.errors import SkyclassError
from skyclass.core.parallel import in_order
from skyclass.images.formats.fits import cutouts
from skyclass.images.formats.read import read_image

SHARED = PROJECT.parent / "shared"
SIZE = (60, 90)


def sky_header(ra: float = 150.0, dec: float = 2.0, frame: str = "ICRS") -> fits.Header:
    """A gnomonic projection, turned by 30 degrees, of 0.2 arcseconds a pixel, about (ra, dec) at the middle of SIZE."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["GLON-TAN", "GLAT-TAN"] if frame == "galactic" else ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [(SIZE[1] + 1) / 2, (SIZE[0] + 1) / 2]
    wcs.wcs.cdelt = [-0.2 / 3600, 0.2 / 3600]
    angle = np.deg2rad(30)
    wcs.wcs.pc = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    if frame != "galactic":
        wcs.wcs.radesys = frame
    return wcs.to_header()


def write_frame(path: Path, *hdus: Any) -> Path:
    fits.HDUList(list(hdus)).writeto(path)
    return path


@pytest.fixture(scope="module")
def frame(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = random_pixels(0, SIZE, 1, "float32")[0]
    return write_frame(tmp_path_factory.mktemp("cutouts") / "frame.fits", fits.PrimaryHDU(pixels, sky_header()))


def oracle(pixels: np.ndarray, position: Any, size: tuple[int, int], wcs: WCS | None = None) -> np.ndarray:
    return Cutout2D(pixels, position, size, wcs, mode="partial", fill_value=np.nan).data


@given(
    x=st.floats(-8, SIZE[1] + 8),
    y=st.floats(-8, SIZE[0] + 8),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
)
@settings(deadline=None)
def test_pieces_about_pixels_are_those_of_astropy(frame: Path, x: float, y: float, size: tuple[int, int]) -> None:
    address = f"{frame}::pixel({x!r},{y!r})[{size[0]}x{size[1]}]"
    try:
        expected = oracle(fits.getdata(frame), (x, y), size)
    except ValueError:
        with pytest.raises(SkyclassError, match="outside the frame"):
            read_image(address)
        return
    image = read_image(address)
    np.testing.assert_array_equal(image.pixels[0], expected)
    outside = np.isnan(expected).mean()
    assert image.warning == (f"{outside:.1%} of the cutout lies outside the frame" if outside else None)


def test_pixels_are_counted_from_zero_at_the_centre_of_the_first(tmp_path: Path) -> None:
    pixels = np.zeros(SIZE, np.uint8)
    pixels[7, 30] = 9
    file = write_frame(tmp_path / "x.fits", fits.PrimaryHDU(pixels))
    image = read_image(f"{file}::pixel(30,7)[3x5]").pixels[0]
    assert image.shape == (3, 5)
    assert image[1, 2] == 9
    assert read_image(f"{file}::pixel(30.4,6.6)[3x5]").pixels[0, 1, 2] == 9


@pytest.mark.parametrize("world", ["ICRS", "FK5", "galactic"])
def test_pieces_about_positions_on_the_sky(tmp_path: Path, world: str) -> None:
    centre = SkyCoord(150.0, 2.0, unit="deg")
    pair = (centre.galactic.l.deg, centre.galactic.b.deg) if world == "galactic" else (150.0, 2.0)
    pixels = random_pixels(1, SIZE, 1, "float32")[0]
    header = sky_header(*pair, frame=world)
    file = write_frame(tmp_path / "x.fits", fits.PrimaryHDU(pixels, header))
    rng = np.random.default_rng(0)
    for ra, dec in zip(150 + rng.uniform(-6, 6, 10) / 3600, 2 + rng.uniform(-4, 4, 10) / 3600, strict=True):
        expected = oracle(pixels, SkyCoord(ra, dec, unit="deg"), (11, 16), WCS(header))
        image = read_image(f"{file}::sky({ra},{dec})[11x16]")
        np.testing.assert_array_equal(image.pixels[0], expected)


@pytest.mark.parametrize("world", ["ICRS", "FK5", "FK4", "galactic"])
def test_a_frame_whose_first_axis_is_the_latitude(tmp_path: Path, world: str) -> None:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["GLAT-TAN", "GLON-TAN"] if world == "galactic" else ["DEC--TAN", "RA---TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [2.0, 150.0], [30, 20], [1e-3, -2e-3]
    if world != "galactic":
        wcs.wcs.radesys = world
    pixels = np.arange(SIZE[0] * SIZE[1], dtype="float32").reshape(SIZE)
    file = write_frame(tmp_path / "x.fits", fits.PrimaryHDU(pixels, wcs.to_header()))
    for x, y in ((12, 5), (80, 33)):
        place = wcs.pixel_to_world(x, y).icrs
        assert read_image(f"{file}::sky({place.ra.deg},{place.dec.deg})[1x1]").pixels.item() == pixels[y, x]


def test_the_position_that_the_fits_standard_gives(frame: Path) -> None:
    middle = read_image(f"{frame}::sky(150.0,2.0)[60x90]")  # CRVAL lies at CRPIX, by definition
    np.testing.assert_array_equal(middle.pixels[0], fits.getdata(frame))


SCALED: dict[str, dict[str, Any]] = {
    "int16": {"data": random_pixels(2, SIZE, 1, "int16")[0]},
    "uint16": {"data": random_pixels(3, SIZE, 1, "uint16")[0]},
    "float64": {"data": random_pixels(4, SIZE, 1, "float64")[0]},
}


@pytest.mark.parametrize("kind", SCALED)
@pytest.mark.parametrize("packed", [False, True])
def test_stored_types(tmp_path: Path, kind: str, packed: bool) -> None:
    data = SCALED[kind]["data"]
    hdu = fits.CompImageHDU(data, compression_type="GZIP_1", quantize_level=0) if packed else fits.ImageHDU(data)
    file = write_frame(tmp_path / "x.fits", fits.PrimaryHDU(), hdu)
    inside = read_image(f"{file}::pixel(40,20)[9x14]")
    assert inside.pixels.dtype == ("uint16" if kind == "uint16" else "float32")
    np.testing.assert_array_equal(inside.pixels[0], data[16:25, 33:47].astype(inside.pixels.dtype))
    corner = read_image(f"{file}::pixel(0,0)[5x7]").pixels[0]
    np.testing.assert_array_equal(corner[2:, 3:], data[:3, :4].astype(corner.dtype))
    filling = np.isnan(corner) if kind == "float64" else corner == 0
    assert filling[:2].all()
    assert filling[:, :3].all()


@pytest.mark.parametrize("packed", [False, True])
def test_scaling_and_blank_pixels(tmp_path: Path, packed: bool) -> None:
    values = np.arange(SIZE[0] * SIZE[1], dtype=np.int16).reshape(SIZE)
    kind = fits.CompImageHDU if packed else fits.ImageHDU
    hdu = kind(values)
    hdu.header["BSCALE"], hdu.header["BZERO"], hdu.header["BLANK"] = 0.5, 10.0, 95
    file = tmp_path / "x.fits"
    write_frame(file, fits.PrimaryHDU(), hdu)
    expected = fits.getdata(file, 1)[:4, :10]
    image = read_image(f"{file}::pixel(4.5,1.5)[4x10]")
    np.testing.assert_array_equal(image.pixels[0], expected)
    np.testing.assert_array_equal(read_image(file).pixels[0, :4, :10], expected)
    assert np.isnan(image.pixels[0, 1, 5])
    assert image.pixels[0, 0, 3] == 0.5 * 3 + 10


def test_cubes_give_bands_by_name(tmp_path: Path) -> None:
    cube = random_pixels(5, SIZE, 3, "float32")
    header = sky_header()
    header["BANDS"] = "g,r,i"
    file = write_frame(tmp_path / "x.fits", fits.PrimaryHDU(cube, header))
    for position in ("pixel(3,50)", "sky(150,2)"):
        image = read_image(f"{file}::{position}[9x12]")
        assert image.bands == ("g", "r", "i")
        assert image.pixels.shape == (3, 9, 12)
    np.testing.assert_array_equal(read_image(f"{file}::pixel(3,50)[3x4]").pixels, cube[:, 49:52, 1:5])


def test_the_hdu_that_a_position_means(tmp_path: Path) -> None:
    mask, plain, located = (random_pixels(seed, SIZE, 1, "float32")[0] for seed in (6, 7, 8))
    file = write_frame(
        tmp_path / "x.fits",
        fits.PrimaryHDU(),
        fits.ImageHDU(mask, name="MASK"),
        fits.ImageHDU(plain, name="A"),
        fits.ImageHDU(located, sky_header(), name="B"),
    )
    np.testing.assert_array_equal(read_image(f"{file}::pixel(44.5,29.5)[60x90]").pixels[0], plain)
    np.testing.assert_array_equal(read_image(f"{file}::sky(150,2)[60x90]").pixels[0], located)


def test_gzipped_frames(tmp_path: Path, frame: Path) -> None:
    (tmp_path / "x.fits.gz").write_bytes(gzip.compress(frame.read_bytes()))
    for _ in range(2):
        image = read_image(f"{tmp_path / 'x.fits.gz'}::pixel(40,20)[9x14]")
        np.testing.assert_array_equal(image.pixels, read_image(f"{frame}::pixel(40,20)[9x14]").pixels)


def test_threads_over_more_frames_than_stay_open(tmp_path: Path) -> None:
    pixels = random_pixels(9, SIZE, 1, "float32")[0]
    files = [write_frame(tmp_path / f"{i}.fits", fits.PrimaryHDU(pixels + i)) for i in range(cutouts._AT_MOST + 3)]
    asked = [(i, x) for x in range(20, 60) for i in range(len(files))]
    pieces = in_order(lambda at: read_image(f"{files[at[0]]}::pixel({at[1]},30)[4x3]").pixels[0], asked, threads=4)
    for (i, x), piece in zip(asked, pieces, strict=True):
        np.testing.assert_array_equal(piece, (pixels + i)[28:32, x - 1 : x + 2])


def test_a_frame_is_not_read_as_a_whole(tmp_path: Path) -> None:
    side = 30_000  # more than MAX_PIXELS
    header = fits.PrimaryHDU(np.zeros((2, 2), np.float32)).header
    header["NAXIS1"] = header["NAXIS2"] = side
    data = header.tostring().encode()
    with (tmp_path / "x.fits").open("wb") as file:  # its pixels are a hole in the file, which takes no room
        file.write(data)
        file.truncate((len(data) + 4 * side * side + 2879) // 2880 * 2880)
    tracemalloc.start()
    assert not read_image(f"{tmp_path / 'x.fits'}::pixel(20000,29000)[64x48]").pixels.any()
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("position", "words"),
    [
        ("sky(150.1,2)[9x9]", "outside the frame"),
        ("sky(330,-2)[9x9]", "outside the frame"),  # behind the tangent plane
        ("sky(150,91)[9x9]", "declination"),
        ("sky(nan,2)[9x9]", "no position"),
        ("sky(inf,2)[9x9]", "no position"),
        ("pixel(-5,20)[9x9]", "outside the frame"),
        ("pixel(1e300,20)[9x9]", "outside the frame"),
        ("pixel(5,5)[0x9]", "0x9 pixels"),
        ("pixel(5,5)[90000x90000]", "more than"),
        ("pixel(5;5)[9x9]", "no such file; nor is it an address"),
    ],
)
def test_refusals(frame: Path, position: str, words: str) -> None:
    with pytest.raises(SkyclassError) as caught:
        read_image(f"{frame}::{position}")
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{frame}::")
    assert caught.value.fix
    assert "\n" not in str(caught.value)


def test_frames_of_no_use_are_refused(tmp_path: Path) -> None:
    pixels = random_pixels(10, SIZE, 1, "float32")[0]
    linear, broken, singular = fits.Header(), sky_header(), sky_header()
    linear["CTYPE1"], linear["CTYPE2"] = "DETX", "DETY"
    broken["CTYPE1"] = "RA---XYZ"
    singular["CDELT1"] = 0.0
    third = fits.Header()
    third.update({"CTYPE1": "FREQ", "CTYPE2": "RA---TAN", "CTYPE3": "DEC--TAN", "CRVAL2": 150.0, "CRVAL3": 2.0})
    text, table = tmp_path / "text.fits", tmp_path / "table.fits"
    text.write_text("no frame")
    write_frame(table, fits.PrimaryHDU(), fits.BinTableHDU(np.zeros(3, [("ra", "f8")])))
    cut = write_frame(tmp_path / "cut.fits", fits.PrimaryHDU(pixels, sky_header()))
    cut.write_bytes(cut.read_bytes()[:9000])
    expected = {
        write_frame(tmp_path / "none.fits", fits.PrimaryHDU(pixels)): "no WCS",
        write_frame(tmp_path / "linear.fits", fits.PrimaryHDU(pixels, linear)): "no WCS",
        write_frame(tmp_path / "broken.fits", fits.PrimaryHDU(pixels, broken)): "WCS",
        write_frame(tmp_path / "singular.fits", fits.PrimaryHDU(pixels, singular)): "WCS",
        write_frame(tmp_path / "third.fits", fits.PrimaryHDU(pixels[None], third)): "not on the first two axes",
        text: "not a FITS file",
        table: "without an image",
        cut: "ends early",
    }
    for file, words in expected.items():
        with pytest.raises(SkyclassError) as caught:
            read_image(f"{file}::sky(150,2)[9x9]")
        message = str(caught.value)
        assert words in message
        assert message.startswith(str(file))
        assert "\n" not in message
    with pytest.raises(SkyclassError, match="no such file"):
        read_image(f"{tmp_path / 'absent.fits'}::sky(150,2)[9x9]")
    assert read_image(f"{tmp_path / 'broken.fits'}::pixel(9,9)[3x4]").warning is None


def test_real_frames() -> None:
    files = sorted((SHARED / "data/radio/fits").glob("*.fits")) + sorted(
        (SHARED / "data/multiband").glob("Cut_H*.fits")
    )
    if not files:
        pytest.skip("the real images of radio and multiband are not here")
    for file in files:
        image = read_image(file)
        height, width = image.pixels.shape[1:]
        piece = read_image(f"{file}::pixel({width // 2},{height // 2})[21x30]")
        top, left = height // 2 - 10, width // 2 - 15
        np.testing.assert_array_equal(piece.pixels, image.pixels[:, top : top + 21, left : left + 30])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)  # of the headers with tabs in their comments
            world = WCS(fits.getheader(file)).celestial.pixel_to_world(width // 2, height // 2).icrs
        located = read_image(f"{file}::sky({world.ra.deg},{world.dec.deg})[21x31]")
        np.testing.assert_array_equal(located.pixels[:, :, :30], piece.pixels)
