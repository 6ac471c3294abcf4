"""The bytes of one kind of image file become an array with named bands; `registry.FORMATS` names the decoders.

Nothing here names the file: what is refused raises a SkyclassError without a place, which `read` fills in.
"""

from __future__ import annotations

import io
import logging
import math
import struct
import zipfile
import zlib
from collections.abc import Sequence
from typing import IO, Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image as pillow

from ...core.errors import SkyclassError
from ...core.limits import MAX_BANDS, MAX_PAGES, check_unpacking
from .arrays import (
    COPY_AGAIN,
    RGB,
    Image,
    band_names,
    check_numbers,
    check_shape,
    from_array,
    read_npy_header,
    texts,
    with_bands,
)

_LONGEST_NAMES = 2**16  # bytes of an array of bands' names

# tifffile reports damage by logging as well as by raising; without a handler Python prints that on standard error.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def _from_interleaved(pixels: np.ndarray) -> Image:
    """(H, W), (H, W, 1 or 2) grey or (H, W, 3 or 4) RGB, with or without alpha -> (1 or 3, H, W) without alpha."""
    planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)  # (H, W, S) -> (S, H, W)
    return Image(planes[:3], RGB) if len(planes) >= 3 else Image(planes[:1], ("grey",))


def decode_common(data: bytes) -> Image:
    """JPEG, WebP, GIF and 8-bit PNG, through Pillow; of several frames the first. WebP and palettes are always RGB."""
    with pillow.open(io.BytesIO(data), formats=("JPEG", "PNG", "WEBP", "GIF")) as picture:
        check_shape((len(picture.getbands()), picture.height, picture.width))
        mode = "L" if picture.mode in ("1", "L", "LA") and picture.format != "GIF" else "RGB"
        return _from_interleaved(np.asarray(picture if picture.mode == mode else picture.convert(mode)))


def decode_webp(data: bytes) -> Image:
    """WebP, whose header tells its length."""
    if 8 + int.from_bytes(data[4:8], "little") > len(data):  # the RIFF header tells the length of what follows it
        raise SkyclassError("the file ends early", fix=COPY_AGAIN)
    return decode_common(data)


def decode_png(data: bytes) -> Image:
    """PNG of any depth."""
    # Bytes 16 to 26 are width, height, bit depth and colour type (PNG specification, 11.2.2).
    if len(data) < 26 or data[24] != 16:
        return decode_common(data)
    # Pillow would halve the depth of 16-bit colours.
    samples = {0: 1, 2: 3, 4: 2, 6: 4}.get(data[25], 4)
    check_shape((samples, int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")))
    return _from_interleaved(imagecodecs.png_decode(_critical_chunks(data)))


def _critical_chunks(data: bytes) -> bytes:
    """A PNG without comments and colour profiles, checksums verified: libpng prints its warnings on standard error."""
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


def decode_tiff(data: bytes) -> Image:
    """The first page, or all pages if the file marks them as channels or one (C, H, W) array."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        _check_pages(data, file.tiff)
        series, page = file.series[0], file.pages.first
        are_bands = series.axes == "CYX" or (series.kind == "shaped" and series.ndim == 3)
        source = series if are_bands and series.shape[0] <= MAX_BANDS else page
        check_shape(source.shape)
        if _tiff_is_cut(file, source, data):
            raise SkyclassError("the file ends early", fix=COPY_AGAIN)
        if math.prod(page.chunked) > len(page.dataoffsets):  # tifffile fills what is missing with zeros
            raise SkyclassError("it has fewer pixels than its header says", fix=COPY_AGAIN)
        check_unpacking(source.nbytes, len(data))
        pixels, axes = source.asarray(maxworkers=1), source.axes
        photometric, colours = page.photometric, page.colormap
        alpha = [kind in (1, 2) for kind in page.extrasamples]  # TIFF 6.0, ExtraSamples: 0 is not alpha
    if axes not in ("YX", "YXS") and axes[1:] != "YX":
        raise SkyclassError(f"a TIFF with the axes {axes}", fix="save it as (H, W) or (C, H, W)")
    planes = pixels[None] if axes == "YX" else np.moveaxis(pixels, -1, 0) if axes == "YXS" else pixels  # -> (C, H, W)
    if photometric == tifffile.PHOTOMETRIC.PALETTE and colours is not None:
        return Image(colours[:, planes[0]], RGB)  # (3, levels)[:, (H, W)] -> (3, H, W)
    if photometric == tifffile.PHOTOMETRIC.MINISWHITE and pixels.dtype.kind in "bu":
        planes = ~planes
    kept = len(planes) - len(alpha)
    planes = np.concatenate([planes[:kept], planes[kept:][np.logical_not(alpha)]]) if any(alpha) else planes
    names = band_names(len(planes))
    is_rgb = photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR) and len(planes) >= 3
    return Image(planes, (*RGB, *names[3:]) if is_rgb else names)


def _check_pages(data: bytes, tiff: Any) -> None:
    """Refuse a chain of directories that leads back into itself: tifffile would follow it for ever.

    Each directory is the number of its entries, the entries, and the place of the next one (TIFF 6.0, section 2).
    """
    size, end = tiff.offsetsize, len(data)
    place, seen = size if size == 8 else 4, set[int]()  # the header of a BigTIFF is twice as long
    while place + size <= end:
        (directory,) = struct.unpack(tiff.offsetformat, data[place : place + size])
        if directory in seen or len(seen) > MAX_PAGES:
            raise SkyclassError("damaged (its pages lead back to each other)", fix=COPY_AGAIN)
        if not 0 < directory <= end - tiff.tagnosize:
            return
        seen.add(directory)
        (entries,) = struct.unpack(tiff.tagnoformat, data[directory : directory + tiff.tagnosize])
        place = directory + tiff.tagnosize + entries * tiff.tagsize


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


def decode_npy(data: bytes) -> Image:
    """NumPy's format, one array."""
    return from_array(_read_npy(io.BytesIO(data)))


def decode_npz(data: bytes) -> Image:
    """The only array, or the one called `image`; or `images` where an array `filters` or `bands` names its bands."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        names = _names_in(archive, keys)
        if "image" in keys or len(keys) == 1:
            return with_bands(from_array(_read_member(archive, "image" if "image" in keys else keys[0])), names)
        if "images" in keys and names:
            shape = _shape_in(archive, "images")
            if len(shape) == 3 and len(names) in (shape[0], shape[-1]):
                image = from_array(_read_member(archive, "images"))
                if len(image.bands) == len(names):
                    return with_bands(image, names)
    found = f"{len(keys)} arrays: {', '.join(keys)}" if keys else "no array"
    fix = "save one array a file, name the one to read `image`, or name a row of a stack: file.npz::images[0]"
    raise SkyclassError(f"an archive of {found}", fix=fix)


def _names_in(archive: zipfile.ZipFile, keys: Sequence[str]) -> tuple[str, ...] | None:
    """The text of the array `filters` or `bands`, if there is such a vector."""
    for key in ("filters", "bands"):
        if key not in keys:
            continue
        with archive.open(f"{key}.npy") as stream:
            shape, _, dtype = read_npy_header(stream)
            if len(shape) == 1 and dtype.kind in "SU" and math.prod(shape) * dtype.itemsize < _LONGEST_NAMES:
                raw = stream.read(math.prod(shape) * dtype.itemsize)
                return tuple(texts(np.frombuffer(raw, dtype)).tolist())
    return None


def _shape_in(archive: zipfile.ZipFile, key: str) -> tuple[int, ...]:
    with archive.open(f"{key}.npy") as stream:
        return read_npy_header(stream)[0]


def _read_member(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    with archive.open(f"{key}.npy") as stream:
        return _read_npy(stream)


def _read_npy(stream: IO[bytes]) -> np.ndarray:
    """One array in NumPy's format. Unlike np.load, type and size are checked before memory is allocated."""
    shape, fortran_order, dtype = read_npy_header(stream)
    check_numbers(dtype)
    if len(shape) < 2:
        raise SkyclassError(f"not an image (shape {shape})", fix="save it as (H, W) or (C, H, W)")
    check_shape(shape)
    n_bytes = math.prod(shape) * dtype.itemsize
    raw = stream.read(n_bytes)
    if len(raw) < n_bytes:
        raise SkyclassError("the file ends early", fix=COPY_AGAIN)
    flat = np.frombuffer(raw, dtype)
    return flat.reshape(shape[::-1]).T if fortran_order else flat.reshape(shape)
