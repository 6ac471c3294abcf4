"""The bytes of one kind of image file become an array with named bands; `images` chooses the decoder.

Nothing here names the file: what is refused raises a SkyclassError without a place, which `images` fills in.
"""

from __future__ import annotations

import io
import logging
import math
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import IO, Any

import imagecodecs
import numpy as np
import tifffile
from astropy.io import fits
from PIL import Image as pillow

from .errors import SkyclassError

MAX_PIXELS = 200_000_000  # height * width * bands; more is a decompression bomb, or a mosaic to be cut first
MAX_BANDS = 16  # an axis of an array is taken for the bands up to this length
RGB = ("red", "green", "blue")

# Ways out.
COPY_AGAIN = "copy it again from its source"
CUT = "cut it into smaller images first"
REAL = "save real numbers, such as float32"
_UNPICKLE = 'load it where you trust it and rewrite it: np.save(file, np.stack(list(array)).astype("float32"))'

# tifffile reports damage by logging as well as by raising; without a handler Python prints that on standard error.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

# Pixels (C, H, W) of any type, and C band names.
Decoded = tuple[np.ndarray, tuple[str, ...]]


def _check_shape(shape: Sequence[int]) -> None:
    """Refuse empty and huge images before anything is decoded."""
    if min(shape, default=0) < 1:
        raise SkyclassError(f"an image without pixels (shape {tuple(shape)})", fix="remove it, or write it again")
    if math.prod(shape) > MAX_PIXELS:
        raise SkyclassError(f"more than {MAX_PIXELS:,} pixels (shape {tuple(shape)})", fix=CUT)


def band_names(n_bands: int) -> tuple[str, ...]:
    """What the bands of a file that does not name them are called."""
    return ("grey",) if n_bands == 1 else tuple(f"band_{i}" for i in range(1, n_bands + 1))


def _from_interleaved(pixels: np.ndarray) -> Decoded:
    """(H, W), (H, W, 1 or 2) grey or (H, W, 3 or 4) RGB, with or without alpha -> (1 or 3, H, W) without alpha."""
    planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)  # (H, W, S) -> (S, H, W)
    return (planes[:3], RGB) if len(planes) >= 3 else (planes[:1], ("grey",))


def _from_array(array: np.ndarray, bands_first: bool = False) -> Decoded:
    """(H, W), (C, H, W) or (H, W, C), after any leading axes of length 1 -> (C, H, W).

    Of a three-axis array the shorter of the first and last axes is the bands (the first where they are equal), if it is
    no longer than MAX_BANDS; with `bands_first` it is the first, of any length.
    """
    shape = array.shape
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 2:
        array = array[None]  # (H, W) -> (1, H, W)
    if array.ndim != 3:
        raise SkyclassError(f"not an image (shape {shape})", fix="save it as (H, W) or (C, H, W)")
    if not bands_first:
        if min(array.shape[0], array.shape[-1]) > MAX_BANDS:
            raise SkyclassError(
                f"no axis of the shape {shape} can be the bands (at most {MAX_BANDS})", fix="save it as (C, H, W)"
            )
        if array.shape[-1] < array.shape[0]:
            array = np.moveaxis(array, -1, 0)  # (H, W, C) -> (C, H, W)
    return array, band_names(len(array))


def _decode_common(data: bytes) -> Decoded:
    """JPEG, WebP, GIF and 8-bit PNG, through Pillow; of several frames the first. WebP and palettes are always RGB."""
    with pillow.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP", "GIF")) as picture:
        _check_shape((len(picture.getbands()), picture.height, picture.width))
        mode = "L" if picture.mode in ("1", "L", "LA") and picture.format != "GIF" else "RGB"
        return _from_interleaved(np.asarray(picture if picture.mode == mode else picture.convert(mode)))


def _decode_webp(data: bytes) -> Decoded:
    if 8 + int.from_bytes(data[4:8], "little") > len(data):  # the RIFF header tells the length of what follows it
        raise SkyclassError("the file ends early", fix=COPY_AGAIN)
    return _decode_common(data)


def _decode_png(data: bytes) -> Decoded:
    # Bytes 16 to 26 are width, height, bit depth and colour type (PNG specification, 11.2.2).
    if len(data) < 26 or data[24] != 16:
        return _decode_common(data)
    # Pillow would halve the depth of 16-bit colours.
    samples = {0: 1, 2: 3, 4: 2, 6: 4}.get(data[25], 4)
    _check_shape((samples, int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")))
    return _from_interleaved(imagecodecs.png_decode(_critical_chunks(data)))


def _critical_chunks(data: bytes) -> bytes:
    """A PNG without comments and colour profiles, checksums verified: libpng prints its doubts on standard error."""
    kept, place = [data[:8]], 8
    while data[place + 4 : place + 8] != b"IEND":
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")  # length, type, content, checksum
        if end > len(data):
            raise SkyclassError("the file ends early", fix=COPY_AGAIN)
        if zlib.crc32(data[place + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise SkyclassError("damaged (a checksum is wrong)", fix=COPY_AGAIN)
        if data[place + 4 : place + 5].isupper():  # critical chunks have a capital (PNG specification, 5.4)
            kept.append(data[place:end])
        place = end
    return b"".join([*kept, data[place : place + 12]])


def _decode_tiff(data: bytes) -> Decoded:
    """The first page, or all pages where the file says that they are channels or one (C, H, W) array."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        series, page = file.series[0], file.pages.first
        are_bands = series.axes == "CYX" or (series.kind == "shaped" and series.ndim == 3)
        source = series if are_bands and series.shape[0] <= MAX_BANDS else page
        _check_shape(source.shape)
        if _tiff_is_cut(file, source, data):
            raise SkyclassError("the file ends early", fix=COPY_AGAIN)
        pixels, axes = source.asarray(maxworkers=1), source.axes
        photometric, colours = page.photometric, page.colormap
        alpha = [kind in (1, 2) for kind in page.extrasamples]  # TIFF 6.0, ExtraSamples: 0 is not alpha
    if axes not in ("YX", "YXS") and axes[1:] != "YX":
        raise SkyclassError(f"a TIFF with the axes {axes}", fix="save it as (H, W) or (C, H, W)")
    planes = pixels[None] if axes == "YX" else np.moveaxis(pixels, -1, 0) if axes == "YXS" else pixels  # -> (C, H, W)
    if photometric == tifffile.PHOTOMETRIC.PALETTE and colours is not None:
        return colours[:, planes[0]], RGB  # (3, levels)[:, (H, W)] -> (3, H, W)
    if photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype.kind in "bu":
        planes = ~planes
    kept = len(planes) - len(alpha)
    planes = np.concatenate([planes[:kept], planes[kept:][np.logical_not(alpha)]]) if any(alpha) else planes
    names = band_names(len(planes))
    is_rgb = photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR) and len(planes) >= 3
    return planes, (*RGB, *names[3:]) if is_rgb else names


def _tiff_is_cut(file: tifffile.TiffFile, source: Any, data: bytes) -> bool:
    """Whether pixels of the page or series `source`, or the directories of further bands, lie beyond the end."""
    if getattr(source, "dataoffset", None) is not None:  # a series in one piece
        pieces = [(source.dataoffset, source.nbytes)]
    else:
        pages = [source] if isinstance(source, tifffile.TiffPage) else source.pages
        pieces = [piece for page in pages for piece in zip(page.dataoffsets, page.databytecounts, strict=False)]
    # tifffile stops quietly at a directory that is not there, and would give fewer bands than the first one announces.
    end = file.pages.next_page_offset or 0
    lacks_pages = any(data[end : end + file.tiff.offsetsize]) and (file.is_shaped or file.is_imagej)
    return lacks_pages or any(start + count > len(data) for start, count in pieces)


def _decode_fits(data: bytes) -> Decoded:
    """The first image HDU of two axes or more, compressed or not; bands first, BSCALE and BZERO applied."""
    with fits.open(io.BytesIO(data), memmap=False) as hdus:
        for hdu in hdus:
            if not hdu.is_image or len(hdu.shape) < 2:
                continue
            _check_shape(hdu.shape)
            span = hdu.fileinfo()
            if span["datLoc"] + hdu.size > len(data):
                raise SkyclassError("the file ends early", fix=COPY_AGAIN)
            return _from_array(hdu.data, bands_first=True)
        kinds = ", ".join(type(hdu).__name__ for hdu in hdus)
    raise SkyclassError(f"a FITS file without an image (it holds {kinds})", fix="keep the file that has the image")


def _decode_npy(data: bytes) -> Decoded:
    return _from_array(_read_npy(io.BytesIO(data)))


def _decode_npz(data: bytes) -> Decoded:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        if "image" not in keys and len(keys) != 1:
            found = f"{len(keys)} arrays: {', '.join(keys)}" if keys else "no array"
            raise SkyclassError(f"an archive of {found}", fix="save one array a file, or name the one to read `image`")
        with archive.open(f"{'image' if 'image' in keys else keys[0]}.npy") as stream:
            return _from_array(_read_npy(stream))


def _read_npy(stream: IO[bytes]) -> np.ndarray:
    """One array in NumPy's format. Unlike np.load: type and size are judged by the header, before memory is taken."""
    version = np.lib.format.read_magic(stream)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(stream)
    if dtype.hasobject:
        raise SkyclassError("a pickled object array, which runs code when it is loaded", fix=_UNPICKLE)
    if dtype.kind not in "biuf":
        raise SkyclassError(f"pixels of type {dtype.str if dtype.names is None else 'structured'}", fix=REAL)
    if len(shape) < 2:
        raise SkyclassError(f"not an image (shape {shape})", fix="save it as (H, W) or (C, H, W)")
    _check_shape(shape)
    n_bytes = math.prod(shape) * dtype.itemsize
    raw = stream.read(n_bytes)
    if len(raw) < n_bytes:
        raise SkyclassError("the file ends early", fix=COPY_AGAIN)
    flat = np.frombuffer(raw, dtype)
    return flat.reshape(shape[::-1]).T if fortran_order else flat.reshape(shape)


MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"RIFF", "webp"),
    (b"GIF8", "gif"),
    *((magic, "tiff") for magic in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    (b"SIMPLE  =", "fits"),
    (b"\x93NUMPY", "npy"),
    (b"PK\x03\x04", "npz"),
)
DECODERS: dict[str, Callable[[bytes], Decoded]] = {
    "jpeg": _decode_common,
    "gif": _decode_common,
    "webp": _decode_webp,
    "png": _decode_png,
    "tiff": _decode_tiff,
    "fits": _decode_fits,
    "npy": _decode_npy,
    "npz": _decode_npz,
}
