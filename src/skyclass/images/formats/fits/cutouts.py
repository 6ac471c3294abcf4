"""Cutouts of large FITS mosaics: only the requested pixels are read, so a mosaic may have any size."""

from __future__ import annotations

import math
import os
import threading
import weakref
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.coordinates import FK5, ICRS, BaseCoordinateFrame, Galactic, UnitSphericalRepresentation
from astropy.io import fits
from astropy.nddata import NoOverlapError, overlap_slices
from astropy.units import deg
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame

from ....core.errors import SkyclassError, one_line
from ....core.limits import check_unpacking
from ..arrays import Image, check_shape, from_array, with_bands
from ..isolated.process import decode_apart
from ..locations import Cutout
from ..open_files import KeptOpen, file_version, plain_fits
from .cards import check_cards
from .images import allowance, check_whole, cube_names, image_hdus

_AT_MOST = 4  # mosaics kept open
_SCALING = ("BSCALE", "BZERO", "BLANK")
_BROKEN = "solve its astrometry again, or give x and y in pixels"


@dataclass(eq=False)
class Mosaic:
    """An open FITS file: the HDU that pixel positions mean; that of sky positions, or what is wrong with its WCS.

    numbers : the place of each HDU in the file, by its identity
    version : of the file, by which a change is detected
    system : the coordinates of the WCS
    rotation : (3, 3), which turns unit vectors of the ICRS into the system's, where that is all there is to it
    """

    image: Any
    path: Path
    numbers: dict[int, int]
    version: tuple[int, int, int]
    sky_image: Any = None
    wcs: WCS | None = None
    system: BaseCoordinateFrame | None = None
    rotation: np.ndarray | None = None
    fault: str = "no WCS of the sky in any of its images"
    lock: threading.Lock = field(default_factory=threading.Lock)

    def number_of(self, hdu: Any) -> int:
        """The place of an HDU in the file, from 0."""
        return self.numbers[id(hdu)]


def read_cutout(cutout: Cutout) -> Image:
    """The piece of a mosaic, bands first where it has three axes.

    The mosaic's first image HDU counts; for a position on the sky the first that has a celestial WCS. RA and Dec are
    ICRS. Rows and columns follow `astropy.nddata.Cutout2D`: an even size has half a pixel more below and to the left.
    What lies outside the mosaic is NaN (0 among integers), and the warning gives its share.

    Errors: SkyclassError where nothing lies inside or the WCS is of no use, and whatever damage makes astropy raise.
    """
    if min(cutout.size) < 1:
        raise SkyclassError(f"a cutout of {cutout.size[0]}x{cutout.size[1]} pixels", fix="ask for 1x1 or more")
    if not (math.isfinite(cutout.x) and math.isfinite(cutout.y)):
        raise SkyclassError("a cutout about no position (a coordinate is no number)", fix="leave the row out")
    mosaic = _mosaics.get(cutout.path)
    with mosaic.lock:  # astropy does not say that an HDU may be read by several threads at once
        x, y = _pixel_of(mosaic, cutout) if cutout.on_sky else (cutout.x, cutout.y)
    image, place = _piece(mosaic, mosaic.sky_image if cutout.on_sky else mosaic.image, x, y, cutout.size)
    pixels, bands = image.pixels, image.bands
    missing = 1 - pixels[0].size / math.prod(cutout.size)
    if not missing:
        return image
    filling = np.nan if pixels.dtype.kind == "f" else 0
    whole = np.full((len(bands), *cutout.size), filling, pixels.dtype.newbyteorder("="))
    whole[(slice(None), *place)] = pixels
    return Image(whole, bands, warning=f"{max(missing, 0.001):.1%} of the cutout lies outside the mosaic")


def mosaic_header(cutout: Cutout) -> tuple[fits.Header, tuple[int, int]]:
    """The header of the image that a cutout is taken of, and the mosaic's x and y of the cutout's first pixel.

    Errors: as `read_cutout`.
    """
    mosaic = _mosaics.get(cutout.path)
    with mosaic.lock:
        x, y = _pixel_of(mosaic, cutout) if cutout.on_sky else (cutout.x, cutout.y)
        header = (mosaic.sky_image if cutout.on_sky else mosaic.image).header.copy()
    height, width = cutout.size
    return header, (math.ceil(x - width / 2), math.ceil(y - height / 2))  # as `overlap_slices` rounds


def _piece(mosaic: Mosaic, hdu: Any, x: float, y: float, size: tuple[int, int]) -> tuple[Image, tuple[slice, slice]]:
    """What lies inside the mosaic (C, h, w), and its rows and columns in the cutout."""
    *planes, height, width = hdu.shape
    check_shape((*planes, *size))
    try:
        inside, place = overlap_slices((height, width), size, (y, x), mode="partial")
    except NoOverlapError:
        what = f"the cutout lies outside the mosaic (its centre is at x = {x:.8g}, y = {y:.8g} of {width}x{height})"
        raise SkyclassError(what, fix="leave the row out, or give the mosaic it lies in") from None
    if isinstance(hdu, fits.CompImageHDU):
        piece = _decoded_apart(mosaic, hdu, inside)
    else:
        with mosaic.lock:
            piece = np.stack([_plane(hdu, plane, inside) for plane in np.ndindex(*planes)])
        piece = piece.reshape(*planes, *piece.shape[1:])  # (C, h, w) -> the axes of the HDU
    image = from_array(piece, bands_first=True)
    return with_bands(image, cube_names(hdu, len(image.bands))), place


def _plane(hdu: Any, plane: tuple[int, ...], inside: tuple[slice, slice]) -> np.ndarray:
    """(h, w) pixels of one plane of an HDU."""
    if not any(
        key in hdu.header for key in _SCALING
    ):  # whole rows cost nothing before they are touched, where astropy would read row after row
        return hdu.section[(*plane, inside[0])][:, inside[1]]
    return hdu.section[(*plane, *inside)]


def _decoded_apart(mosaic: Mosaic, hdu: Any, inside: tuple[slice, slice]) -> np.ndarray:
    """The rows and columns `inside` of all planes of a compressed HDU, from a process that keeps the mosaic open."""
    tiles = hdu.tile_shape
    extents = [*hdu.shape[:-2], *(piece.stop - piece.start for piece in inside)]
    n_tiles = math.prod(-(-int(extent) // int(tile)) + 1 for extent, tile in zip(extents, tiles, strict=True))
    n_pixels = n_tiles * math.prod(map(int, tiles))
    check_shape((n_pixels,))
    place = {
        "path": str(mosaic.path),
        "hdu": mosaic.number_of(hdu),
        "rows": [int(inside[0].start), int(inside[0].stop)],
        "columns": [int(inside[1].start), int(inside[1].stop)],
    }
    limits = allowance(n_pixels, n_tiles, 0)
    return decode_apart("fits_section", place, file=f"{mosaic.path} {mosaic.version}", **limits).array


def decode_section(arguments: dict[str, Any], _content: bytearray) -> tuple[dict[str, Any], np.ndarray]:
    """The task of `isolated.process` that reads a piece of a mosaic with compressed tiles."""
    hdu = _open_again.get(Path(arguments["path"]))[arguments["hdu"]]
    planes = [slice(None)] * (len(hdu.shape) - 2)
    return {}, hdu.section[(*planes, slice(*arguments["rows"]), slice(*arguments["columns"]))]


def _pixel_of(mosaic: Mosaic, cutout: Cutout) -> tuple[float, float]:
    """x and y, from 0 at the centre of the first pixel, of a position on the sky."""
    if mosaic.wcs is None:
        raise SkyclassError(mosaic.fault, fix=_BROKEN)
    if not -90 <= cutout.y <= 90:
        raise SkyclassError(f"a declination of {cutout.y:g} degrees", fix="correct it, or leave the row out")
    try:
        longitude, latitude = _in_system(mosaic, cutout.x, cutout.y)
        is_latitude_first = mosaic.wcs.wcs.lat < mosaic.wcs.wcs.lng
        world = (latitude, longitude) if is_latitude_first else (longitude, latitude)
        x, y = mosaic.wcs.all_world2pix(*world, 0)
    except Exception as error:  # the WCS of a mosaic can be wrong in any way
        raise SkyclassError(f"the WCS has no pixel for this position ({one_line(error)[:200]})", fix=_BROKEN) from error
    if not (np.isfinite(x) and np.isfinite(y)):
        raise SkyclassError("the cutout lies outside the mosaic, where its WCS has no pixels", fix="leave the row out")
    return float(x), float(y)


def _in_system(mosaic: Mosaic, ra: float, dec: float) -> tuple[float, float]:
    """Longitude and latitude, in degrees, of a position of the ICRS in the coordinates of the mosaic's WCS."""
    if mosaic.rotation is not None:
        a, d = math.radians(ra), math.radians(dec)
        u, v, w = mosaic.rotation @ (math.cos(d) * math.cos(a), math.cos(d) * math.sin(a), math.sin(d))
        return math.degrees(math.atan2(v, u)), math.degrees(math.atan2(w, math.hypot(u, v)))
    if isinstance(mosaic.system, ICRS):
        return ra, dec
    place = ICRS(ra * deg, dec * deg).transform_to(mosaic.system).represent_as(UnitSphericalRepresentation)
    return float(place.lon.deg), float(place.lat.deg)


def _rotation(system: BaseCoordinateFrame) -> np.ndarray | None:
    """The matrix of a system that is the ICRS turned; a transformation by astropy takes as long as ten cutouts."""
    if not isinstance(system, FK5 | Galactic):
        return None
    axes = ICRS([0, 90, 0] * deg, [0, 0, 90] * deg)  # the unit vectors x, y and z
    return np.array(axes.transform_to(system).cartesian.xyz.value)


def _open_mosaic(path: Path) -> Mosaic:
    with ExitStack() as opened:
        hdus, n_bytes = _open_hdus(path, opened)
        mosaic = _mosaic_of(path, hdus, n_bytes)
        weakref.finalize(mosaic, opened.pop_all().close)
    return mosaic


def _open_hdus(path: Path, opened: ExitStack) -> tuple[fits.HDUList, int]:
    """The HDUs of a mosaic, which `opened` closes, and the bytes of its file as unpacked."""
    file = opened.enter_context(plain_fits(path))
    check_cards(file)
    n_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    return opened.enter_context(fits.open(file)), n_bytes


def _open_until_the_end(path: Path) -> fits.HDUList:
    """As `_open_hdus`, in a process that ends with its file."""
    return _open_hdus(path, ExitStack())[0]


def _mosaic_of(path: Path, hdus: fits.HDUList, n_bytes: int) -> Mosaic:
    images = image_hdus(hdus)
    mosaic = Mosaic(images[0], path, {id(hdu): number for number, hdu in enumerate(hdus)}, file_version(path))
    for hdu in images:
        check_whole(hdu, n_bytes)
        if isinstance(hdu, fits.CompImageHDU):
            check_shape(hdu.tile_shape)
            check_unpacking(8 * math.prod(hdu.tile_shape), n_bytes)
        try:
            wcs = WCS(hdu.header, hdus)  # distortions may lie in other HDUs
            if wcs.has_celestial and {wcs.wcs.lng, wcs.wcs.lat} != {0, 1}:
                mosaic.fault = "the sky is not on the first two axes of its WCS"
            elif wcs.has_celestial:
                system = wcs_to_celestial_frame(wcs.celestial)
                mosaic.sky_image, mosaic.wcs = hdu, wcs.celestial
                mosaic.system, mosaic.rotation = system, _rotation(system)
                break
        except Exception as error:  # the WCS of a mosaic can be wrong in any way
            mosaic.fault = f"the WCS is broken ({one_line(error)[:200]})"
    return mosaic


_mosaics: KeptOpen[Mosaic] = KeptOpen(_open_mosaic, _AT_MOST)
_open_again: KeptOpen[fits.HDUList] = KeptOpen(_open_until_the_end, 1)
