"""A file, or what an address names, becomes an image with named bands.

Files are of `registry.FORMATS`; an address names a row of NPY, NPZ, HDF5 or Parquet, a cutout of a FITS mosaic, or one
file a band.

What a file is, its first bytes say, not its name. Pixels are given as they are stored: rows in the order of the file
(FITS counts them from the bottom), EXIF orientation ignored, NaN and infinities kept (`preprocess` fills them).
Transparency is dropped, the colours beneath it are kept. What cannot be decoded raises a SkyclassError naming the file.
"""

from __future__ import annotations

import gzip
import io
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image as pillow

from ...core.errors import SkyclassError, one_line
from ...core.limits import MAX_BYTES, MAX_PIXELS, check_unpacking
from .arrays import COPY_AGAIN, CUT, REAL, Image, are_names, check_file, check_shape, naming
from .locations import Address, BandFiles, ContainerRow, Cutout, parse_address
from .registry import FORMATS, IMAGE_SUFFIXES, format_of

_PIECE = 2**20  # bytes unpacked at a time
# Messages of the decoders when a file ends early.
_EARLY = ("truncated", "too small", "eof", "missing end card", "corrupt fits", "not a zip file")


def is_image_name(path: str | Path) -> bool:
    """Whether the name ends as an image's does; hidden files (such as macOS's `._x.jpg`) are not images."""
    name = str(path).lower().replace(os.sep, "/").rpartition("/")[2]  # a million paths would take seconds
    return name.endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def read_image(address: str | Path | Address) -> Image:
    """Read and decode one image: a file, or what an address names (see `locations`), as text or parsed.

    Errors: SkyclassError, in one sentence, when it is absent, not an image, damaged, or larger than MAX_PIXELS.
    """
    address = parse_address(address) if isinstance(address, str | Path) else address
    if isinstance(address, Path):
        return _read_file(address)
    if isinstance(address, BandFiles):
        return _read_band_files(address)
    check_file(address.path)
    return _read_row(address) if isinstance(address, ContainerRow) else _read_cutout(address)


def _read_file(path: Path) -> Image:
    check_file(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SkyclassError(f"the file is larger than {MAX_BYTES:,} bytes", where=path, fix=CUT)
        data = path.read_bytes()
    except OSError as error:
        raise SkyclassError(
            f"cannot be read ({error.strerror})", where=path, fix="check its permissions and its disk"
        ) from error
    return decode_bytes(data, str(path))


def _read_row(row: ContainerRow) -> Image:
    from .containers import read_row

    with naming(str(row), _damage):
        content = read_row(row.path, row.key, row.row)
        if isinstance(content, Image):
            return replace(content, pixels=_stored(content.pixels))
    return _read_file(content) if isinstance(content, Path) else decode_bytes(content, str(row))


def _read_cutout(cutout: Cutout) -> Image:
    from .fits.cutouts import read_cutout

    with naming(str(cutout), _damage):
        image = read_cutout(cutout)
        return replace(image, pixels=_stored(image.pixels), format="fits")


def _read_band_files(address: BandFiles) -> Image:
    """The files of the bands, each with one band and all of one size, as one image."""
    if not are_names(address.bands):
        raise SkyclassError("a band is named twice", where=str(address), fix="name each band once")
    planes: list[np.ndarray] = []
    warnings: list[str] = []
    for file in address.files.values():
        image = _read_file(file)
        n_bands, *size = image.pixels.shape
        if n_bands != 1:
            raise SkyclassError(f"{n_bands} bands in the file of one", where=file, fix="write each band to its own")
        if planes and tuple(size) != planes[0].shape:
            height, width = planes[0].shape
            what = f"its size is {size[0]}x{size[1]}, that of the bands before it {height}x{width}"
            raise SkyclassError(what, where=file, fix="bring the bands to one size")
        check_shape((len(address.bands), *size))
        planes.append(image.pixels[0])
        warnings += [f"{file.name}: {image.warning}"] if image.warning else []
    return Image(_stored(np.stack(planes)), address.bands, image.format, "; ".join(warnings) or None)


def decode_bytes(data: bytes, name: str) -> Image:
    """Decode the bytes of an image file; `name` is what messages call it.

    Errors: SkyclassError as for `read_image`.
    """
    with naming(name, _damage):
        if data[:2] == b"\x1f\x8b":
            data = _gunzip(data)
        kind = format_of(data)
        if kind is None or not FORMATS[kind].decoder:
            raise _no_image(data[:256], kind)
        image = FORMATS[kind].decode(data)
        return replace(image, pixels=_stored(image.pixels), format=kind)


def _no_image(head: bytes, kind: str | None) -> SkyclassError:
    """Why what begins so is not one image, and the way out."""
    if kind:
        return SkyclassError("a file of many images, not one", fix="name a row of it, as in file.h5::images[0]")
    if not head:
        return SkyclassError("the file is empty", fix=COPY_AGAIN)
    if all(byte >= 32 or byte in b"\t\n\f\r" for byte in head):
        return SkyclassError("not an image (it begins as text)", fix="remove it, or download it again")
    *others, last = (one.words for one in FORMATS.values() if one.decoder)
    return SkyclassError("not an image of a known format", fix=f"convert it to {', '.join(others)} or {last}")


def _damage(error: Exception) -> tuple[str, str]:
    """The fault behind a decoder's exception, and the fix."""
    if isinstance(error, pillow.DecompressionBombError):
        return f"more than {MAX_PIXELS:,} pixels", CUT
    if isinstance(error, pillow.UnidentifiedImageError):
        return "the header is damaged, or the file ends early", COPY_AGAIN
    if isinstance(error, PermissionError):
        return f"cannot be read ({error.strerror})", "check its permissions"
    text = one_line(error)
    if text.startswith("No SIMPLE card"):  # astropy goes on with advice for programmers
        return "not a FITS file, or one whose header is damaged", COPY_AGAIN
    if isinstance(error, EOFError) or any(word in text.lower() for word in _EARLY):
        return "the file ends early", COPY_AGAIN
    return f"cannot be decoded ({text.rstrip('.')[:200]})", COPY_AGAIN


def _stored(pixels: np.ndarray) -> np.ndarray:
    """Bring (C, H, W) pixels to uint8, uint16 or float32: booleans become 0 and 255, all other numbers float32."""
    if pixels.ndim != 3 or not pixels.size:  # some decoders make nothing of a damaged header
        raise SkyclassError("the header is damaged", fix=COPY_AGAIN)
    if pixels.dtype == np.bool_:
        pixels = pixels * np.uint8(255)
    if pixels.dtype.kind not in "iuf":
        raise SkyclassError(f"pixels of type {pixels.dtype}", fix=REAL)
    native = pixels.dtype.newbyteorder("=")
    dtype = native if native in (np.uint8, np.uint16) else np.float32
    with np.errstate(all="ignore"):  # a float64 beyond float32 becomes infinite, which `preprocess` fills
        return np.require(pixels, dtype, ["C", "W"])


def _gunzip(data: bytes) -> bytes:
    whole = io.BytesIO()
    with gzip.open(io.BytesIO(data)) as stream:
        while piece := stream.read(_PIECE):
            whole.write(piece)
            check_unpacking(whole.tell(), len(data))
            if whole.tell() > MAX_BYTES:
                raise SkyclassError(f"more than {MAX_BYTES:,} bytes when unpacked", fix=CUT)
    return whole.getvalue()
