"""The structural cards of a FITS file, checked before astropy or a decoder uses them.

Astropy loops over as many axes, columns and groups as a header names, and its decoders of compressed tiles write as
much as a header promises. Here each header is read once, 80 bytes a card (FITS 4.0, sections 3, 4, 7.3 and 10.1).
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO

from ....core.errors import SkyclassError
from ....core.limits import MAX_AXES, MAX_FIELDS, MAX_HDUS, MAX_HEADER_BLOCKS, MAX_PIXELS

_BLOCK = 2880  # bytes
_CARD = 80
_FARTHEST = 2**62  # bytes: no offset of a file is larger
_BITPIX = frozenset((8, 16, 32, 64, -32, -64))
_COMPRESSIONS = frozenset(("RICE_1", "RICE_ONE", "GZIP_1", "GZIP_2", "PLIO_1", "HCOMPRESS_1", "NOCOMPRESS"))
_DITHERS = frozenset(("NONE", "NO_DITHER", "SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2"))
_BYTES = dict(zip("LXBIJKAEDCMPQ", (1, 1, 1, 2, 4, 8, 1, 4, 8, 8, 16, 8, 16), strict=True))
_LAYOUT = re.compile(
    rb"SIMPLE|XTENSION|BITPIX|NAXIS[0-9]*|[PG]COUNT|GROUPS|TFIELDS|TFORM[0-9]+|THEAP"
    rb"|ZIMAGE|ZCMPTYPE|ZBITPIX|ZNAXIS[0-9]*|ZTILE[0-9]+|ZQUANTIZ|ZNAME[0-9]+|ZVAL[0-9]+"
)
_WHOLE = re.compile(rb" *([+-]?[0-9]{1,18}) *(?:/.*)?", re.DOTALL)
_TEXT = re.compile(rb" *'((?:[^']|'')*)'.*", re.DOTALL)
_FORM = re.compile(r"([0-9]{0,18})([LXBIJKAEDCMPQ])[!-~]*")
_FIX = "copy it again from its source"
_NO_FITS = "not a FITS file, or one whose header is damaged"

Cards = Mapping[bytes, bytes]


@dataclass
class FitsLayout:
    """What the headers of a file promise.

    n_pixels : of all compressed images together
    n_tiles : likewise; 0 where no image is compressed
    """

    n_hdus: int = 0
    n_blocks: int = 0
    n_pixels: int = 0
    n_tiles: int = 0


def check_cards(stream: IO[bytes] | io.BytesIO) -> FitsLayout:
    """Read the headers of a FITS file and refuse those that no program should follow.

    Data that lie beyond the end of the file are left to the reader of that HDU, so that a cut table does not cost the
    image before it.

    Parameters
    ----------
    stream
        An open FITS file, which is left at its beginning.

    Raises
    ------
    SkyclassError
        Without a place.
    """
    layout = FitsLayout()
    end, place = stream.seek(0, io.SEEK_END), 0
    while place < end:
        stream.seek(place)
        cards = _read_header(stream, layout)
        if cards is None:
            break
        layout.n_hdus += 1
        if layout.n_hdus > MAX_HDUS:
            raise SkyclassError(f"more than {MAX_HDUS:,} HDUs", fix="split the file")
        size = _data_size(cards)
        if size > _FARTHEST:
            raise SkyclassError("the header is damaged (it tells of more data than any file holds)", fix=_FIX)
        if b"TFIELDS" in cards or b"ZIMAGE" in cards:
            _check_table(cards)
        if b"ZIMAGE" in cards and not cards[b"ZIMAGE"].strip().startswith(b"F"):
            _check_compressed(cards, layout)
        place = stream.tell() + -(-size // _BLOCK) * _BLOCK
    stream.seek(0)
    return layout


def _read_header(stream: IO[bytes] | io.BytesIO, layout: FitsLayout) -> Cards | None:
    """The cards of layout of the next header, or None where what follows the last HDU is none."""
    cards: dict[bytes, bytes] = {}
    is_first = True
    while block := stream.read(_BLOCK):
        if is_first and block[:8].strip().upper() not in (b"SIMPLE", b"XTENSION"):
            if layout.n_hdus:
                return None
            raise SkyclassError(_NO_FITS, fix=_FIX)
        is_first = False
        layout.n_blocks += 1
        if layout.n_blocks > MAX_HEADER_BLOCKS:
            raise SkyclassError(f"headers of more than {MAX_HEADER_BLOCKS * 36:,} cards", fix="shorten them")
        for start in range(0, len(block), _CARD):
            key = block[start : start + 8].strip().upper()
            if key == b"END":
                return cards
            if key == b"HIERARCH" or b"=" in key or _LAYOUT.fullmatch(key):
                _note(cards, block[start : start + _CARD])
    if layout.n_hdus:
        return None  # `fits_images` says that the file ends early where that may have cost a band
    what = "the file ends early" if b"BITPIX" in cards else _NO_FITS
    raise SkyclassError(what, fix=_FIX)


def _note(cards: dict[bytes, bytes], card: bytes) -> None:
    """Add one card. Programs do not agree on which of two cards counts, nor on one that is not where it should be."""
    name, sign, value = card.partition(b"=")
    key = name.removeprefix(b"HIERARCH ").strip().upper()
    if not sign or not _LAYOUT.fullmatch(key):
        return
    if len(name) != 8 or cards.get(key, value).partition(b"/")[0].strip() != value.partition(b"/")[0].strip():
        raise _damaged(key, "stands twice, or in the wrong place")
    cards[key] = value


def _damaged(key: bytes, fault: str) -> SkyclassError:
    return SkyclassError(f"the header is damaged (its card {key.decode('ascii')} {fault})", fix=_FIX)


def _whole(cards: Cards, key: bytes, default: int | None = None, least: int = 0, most: int = _FARTHEST) -> int:
    if key not in cards and default is not None:
        return default
    found = _WHOLE.fullmatch(cards.get(key, b""))
    if found is None or not least <= int(found[1]) <= most:
        raise _damaged(key, f"is no whole number of at least {least}" if most == _FARTHEST else "is out of range")
    return int(found[1])


def _text(cards: Cards, key: bytes, default: str = "") -> str:
    found = _TEXT.fullmatch(cards.get(key, b""))
    return found[1].decode("ascii", "replace").strip().upper() if found else default


def _bitpix(cards: Cards, key: bytes) -> int:
    bits = _whole(cards, key, least=-64)
    if bits not in _BITPIX:
        raise _damaged(key, f"is {bits}")
    return bits


def _sides(cards: Cards, word: bytes) -> list[int]:
    """The lengths of the axes that `word` (NAXIS or ZNAXIS) counts."""
    n_axes = _whole(cards, word, most=MAX_AXES)
    return [_whole(cards, b"%s%d" % (word, axis)) for axis in range(1, n_axes + 1)]


def _data_size(cards: Cards) -> int:
    """Bytes of the data of an HDU, without padding (FITS 4.0, equations 1, 2 and 4)."""
    bits, sides = abs(_bitpix(cards, b"BITPIX")), _sides(cards, b"NAXIS")
    if not sides:
        return 0
    if sides[0] == 0 and cards.get(b"GROUPS", b"").strip().startswith(b"T"):
        sides = sides[1:]
    groups, parameters = _whole(cards, b"GCOUNT", 1), _whole(cards, b"PCOUNT", 0)
    return bits // 8 * groups * (parameters + math.prod(sides))


def _check_table(cards: Cards) -> None:
    """Refuse binary tables of more columns or wider rows than they have room for."""
    n_fields = _whole(cards, b"TFIELDS", most=MAX_FIELDS)
    if len(_sides(cards, b"NAXIS")) != 2:
        raise _damaged(b"NAXIS", "is not that of a table")
    if _text(cards, b"XTENSION") != "BINTABLE":
        return
    width = 0
    for column in range(1, n_fields + 1):
        form = _FORM.fullmatch(_text(cards, key := b"TFORM%d" % column))
        if form is None:
            raise _damaged(key, "names no type")
        repeat = int(form[1] or 1)
        width += -(-repeat // 8) if form[2] == "X" else repeat * _BYTES[form[2]]
    if width > _whole(cards, b"NAXIS1"):
        raise _damaged(b"NAXIS1", "is less than its columns take")
    _whole(cards, b"THEAP", 0)


def _check_compressed(cards: Cards, layout: FitsLayout) -> None:
    """Refuse compressed images whose tiles do not make up the image, or that name an unknown compression."""
    _bitpix(cards, b"ZBITPIX")
    if _text(cards, b"ZCMPTYPE") not in _COMPRESSIONS:
        raise _damaged(b"ZCMPTYPE", "names no compression")
    if _text(cards, b"ZQUANTIZ", "NONE") not in _DITHERS:
        raise _damaged(b"ZQUANTIZ", "names no method")
    sides = _sides(cards, b"ZNAXIS")
    tiles = [
        _whole(cards, b"ZTILE%d" % axis, side if axis == 1 else 1, least=1) for axis, side in enumerate(sides, start=1)
    ]
    if not sides or 0 in sides:
        raise _damaged(b"ZNAXIS", "tells of no pixels")
    if math.prod(tiles) > MAX_PIXELS:
        raise SkyclassError(f"tiles of more than {MAX_PIXELS:,} pixels", fix="compress it again in smaller tiles")
    n_tiles = math.prod(-(-side // tile) for side, tile in zip(sides, tiles, strict=True))
    if n_tiles != _whole(cards, b"NAXIS2"):
        raise _damaged(b"NAXIS2", f"is not the number of its tiles, {n_tiles:,}")
    for key in [key for key in cards if key.startswith(b"ZNAME")]:
        value = key.replace(b"ZNAME", b"ZVAL")
        if _text(cards, key) == "BLOCKSIZE":
            _whole(cards, value, 32, least=1, most=2**10)
        elif _text(cards, key) == "BYTEPIX":
            _whole(cards, value, 4, least=1, most=8)
    layout.n_pixels += math.prod(sides)
    layout.n_tiles += n_tiles
