"""Damage of every kind: `mutators.BYTES` knows no format, the others change what a format's own structure says.

Each takes the content of a good file and a generator, and gives a damaged one. Use it as `from mutators import FITS`.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

Mutator = Callable[[bytes, np.random.Generator], bytes]

NUMBERS = (-(2**63), -1, 0, 1, 2, 3, 4, 7, 15, 16, 17, 31, 255, 256, 999, 1000, 65535, 65536, 10**6, 10**9 - 1)
LARGE = (2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30)


def number(rng: np.random.Generator) -> int:
    """A number at which programs break."""
    return (NUMBERS + LARGE)[int(rng.integers(len(NUMBERS) + len(LARGE)))]


def one_of(choices: Any, rng: np.random.Generator) -> Any:
    return choices[int(rng.integers(len(choices)))]


def damaged_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """Up to four of: bits flipped, the end cut off, blocks put in, doubled, moved or zeroed, huge numbers."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        if not data:
            break
        # Half the damage goes to the first kilobyte: that is where the headers are.
        place = int(rng.integers(len(data) if rng.random() < 0.5 else min(len(data), 1024)))
        length = int(rng.integers(1, 64))
        match rng.integers(8):
            case 0:
                data[place] ^= 1 << int(rng.integers(8))
            case 1:
                del data[place:]
            case 2:
                data[place:place] = rng.bytes(length)
            case 3:
                data[place:place] = data[place : place + length] * int(rng.integers(1, 20))
            case 4:
                data[place : place + length] = bytes(length)
            case 5:
                del data[place : place + length]
            case 6:
                data[place] = int(rng.integers(256))
            case 7:  # lengths and sizes: binary ones become huge, and so do digits
                huge = b"9" * 8 if data[place : place + 1].isdigit() else b"\xff\xff\xff\x7f"
                data[place : place + len(huge)] = huge
    return bytes(data)


def sometimes_bytes(mutate: Mutator, share: float = 0.25) -> Mutator:
    """The mutator, and for a share of the files damage of bytes beside it or in its place."""

    def mutated(content: bytes, rng: np.random.Generator) -> bytes:
        chance = rng.random()
        if chance < share / 2:
            return damaged_bytes(content, rng)
        changed = mutate(content, rng)
        return damaged_bytes(changed, rng) if chance < share else changed

    return mutated


# FITS

CARD = 80
VALUES = (
    "T",
    "F",
    "''",
    "'IMAGE   '",
    "'BINTABLE'",
    "'HCOMPRESS_1'",
    "'PLIO_1'",
    "'GZIP_2'",
    "1.5",
    "NaN",
    "1E400",
    "",
)
ALIEN = ("NAXIS", "NAXIS1", "NAXIS9", "BITPIX", "PCOUNT", "GCOUNT", "TFIELDS", "TFORM1", "ZIMAGE", "ZNAXIS", "ZTILE1")
ALIENS = (*ALIEN, "ZBLANK", "BLANK", "BSCALE", "BZERO", "THEAP", "GROUPS", "ZVAL1", "ZQUANTIZ", "LONGSTRN", "EXTEND")


def damaged_cards(content: bytes, rng: np.random.Generator) -> bytes:
    """Cards of a FITS file replaced, doubled, dropped, moved, renamed; or damage in its data alone."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        cards = _cards(data)
        if not cards:
            break
        place = one_of(cards, rng)
        key = bytes(data[place : place + 8]).decode("latin-1")
        match rng.integers(9):
            case 0 | 1 | 2:
                data[place : place + CARD] = _card(key, number(rng))
            case 3:
                data[place : place + CARD] = _card(key, one_of(VALUES, rng))
            case 4:
                data[place : place + CARD] = _card(one_of(ALIENS, rng), number(rng))
            case 5:
                data[place : place + CARD] = data[(other := one_of(cards, rng)) : other + CARD]
            case 6:
                data[place : place + CARD] = b"COMMENT".ljust(CARD)
            case 7:
                text = one_of(
                    (f"HIERARCH {key}= {number(rng)}", f"{key.lower()}= {number(rng)}", "END", "CONTINUE"), rng
                )
                data[place : place + CARD] = text.ljust(CARD).encode("latin-1")[:CARD]
            case 8:  # the data, where compressed tiles are
                start = int(rng.integers(len(data)))
                data[start : start + 8] = rng.bytes(8)
    return bytes(data)


def _cards(data: bytearray) -> list[int]:
    return [place for place in range(0, len(data) - CARD, CARD) if data[place + 8 : place + 10] == b"= "]


def _card(key: str, value: object) -> bytes:
    return f"{key[:8]:8}= {value!s:>20}".ljust(CARD).encode("latin-1")[:CARD]


# Binary formats with pointers and lengths: HDF5, Parquet

SIGNATURES = re.compile(rb"TREE|SNOD|HEAP|GCOL|OHDR|OCHK|FRHP|FHDB|BTHD|BTLF|FADB|\x89HDF|THRIFT")


def damaged_words(content: bytes, rng: np.random.Generator) -> bytes:
    """Numbers of an HDF5 file changed near its signatures, and addresses that lead to other places of it."""
    data = bytearray(content)
    places = [match.start() for match in SIGNATURES.finditer(content)] or [0]
    for _ in range(rng.integers(1, 5)):
        place = min(one_of(places, rng) + int(rng.integers(96)), len(data) - 8)
        size = one_of((1, 2, 4, 8), rng)
        match rng.integers(4):
            case 0 | 1:
                data[place : place + size] = (number(rng) % 2 ** (8 * size)).to_bytes(size, "little")
            case 2:
                data[place : place + 8] = one_of(places, rng).to_bytes(8, "little")
            case 3:
                other = min(one_of(places, rng) + int(rng.integers(96)), len(data) - 8)
                data[place : place + 8] = data[other : other + 8]
    return bytes(data)


def damaged_footer(content: bytes, rng: np.random.Generator) -> bytes:
    """The footer of a Parquet file, which says where everything lies and of what type; its length stays true."""
    length = int.from_bytes(content[-8:-4], "little")
    body, footer = content[: -8 - length], bytearray(content[-8 - length : -8])
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(len(footer)))
        match rng.integers(4):
            case 0:
                footer[place] = int(rng.integers(256))
            case 1:
                footer[place] ^= 1 << int(rng.integers(8))
            case 2:
                footer[place:place] = rng.bytes(int(rng.integers(1, 9)))
            case 3:
                del footer[place : place + int(rng.integers(1, 9))]
    return body + bytes(footer) + len(footer).to_bytes(4, "little") + content[-4:]


# VOTable

TAG = re.compile(r"<[^<>]+>")
ELEMENTS = (
    "STREAM",
    "FITS",
    "PARQUET",
    "GROUP",
    "RESOURCE",
    "TABLE",
    "FIELD",
    "PARAM",
    "BINARY",
    "BINARY2",
    "TD",
    "VALUES",
)
ATTRIBUTES = (
    *('href="file:///etc/hostname"', 'nrows="1000000000"', 'arraysize="99999x99999"', 'arraysize="*"', 'ref="x"'),
    *('datatype="unicodeChar"', 'datatype="bit"', 'encoding="gzip"', 'encoding="base64"', 'ID="x"', 'width="-1"'),
    *('extnum="999999999"', 'type="locator"', 'precision="F99999"', 'unit="(((((((m"', 'xtype="timestamp"'),
)
DOCTYPE = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;"><!ATTLIST STREAM href CDATA "x">]>'


def damaged_xml(content: bytes, rng: np.random.Generator) -> bytes:
    """Tags of a VOTable renamed, doubled, nested or dropped, attributes added, another encoding."""
    text = content.decode("utf-8")
    for _ in range(rng.integers(1, 4)):
        tags = list(TAG.finditer(text))
        tag = one_of(tags, rng)
        before, inside, after = text[: tag.start()], tag[0], text[tag.end() :]
        match rng.integers(8):
            case 0:
                inside = re.sub(r"[A-Za-z]+", one_of(ELEMENTS, rng), inside, count=1)
            case 1 | 2:
                inside = re.sub(r"(/?>)$", rf" {one_of(ATTRIBUTES, rng)}\1", inside)
            case 3:
                inside = inside * int(rng.integers(2, 300))
            case 4:
                inside = ""
            case 5:
                inside = re.sub(r"[0-9]+", str(number(rng)), inside)
            case 6:
                inside += one_of(("&b;", "&#0;", "]]>", "<![CDATA[", "\ufffe", "AAAA" * 50), rng)
            case 7:
                before = before.replace("?>", f"?>{DOCTYPE}", 1)
        text = before + inside + after
    encoding = one_of(("utf-8",) * 6 + ("utf-16", "utf-8-sig", "cp037", "utf-7"), rng)
    return re.sub('encoding="[^"]*"', f'encoding="{encoding}"', text, count=1).encode(encoding, "replace")


def damaged_chunks(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage of a PNG that its checksums do not betray."""
    whole, place = bytearray(damaged_bytes(content, rng)), 8
    while place + 12 <= len(whole):
        end = place + 8 + int.from_bytes(whole[place : place + 4], "big")
        whole[end : end + 4] = zlib.crc32(whole[place + 4 : end]).to_bytes(4, "big") if end + 4 <= len(whole) else b""
        place = end + 4
    return bytes(whole)


BYTES: Mutator = damaged_bytes
PNG = sometimes_bytes(damaged_chunks, 0.5)
FITS = sometimes_bytes(damaged_cards)
HDF5 = sometimes_bytes(damaged_words)
PARQUET = sometimes_bytes(damaged_footer)
VOTABLE = sometimes_bytes(damaged_xml)
