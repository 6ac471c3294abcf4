"""The table of file formats: what begins as one begins as no other, and every decoder is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.make_data import random_pixels, write_image
from skyclass.images.formats.read import is_image_name, read_image
from skyclass.images.formats.registry import FORMATS, HEAD, IMAGE_SUFFIXES, STACK_SUFFIXES, format_of


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_has_words_and_functions_that_are_there(name: str) -> None:
    row = FORMATS[name]
    assert row.words
    assert row.decoder or row.opener
    assert not row.decoder or callable(row.decode)
    assert not row.opener or callable(row.open)
    assert bool(row.decoder) == bool(row.suffixes)


def test_no_suffix_is_that_of_two_formats() -> None:
    assert len(set(IMAGE_SUFFIXES)) == len(IMAGE_SUFFIXES)
    assert len(set(STACK_SUFFIXES)) == len(STACK_SUFFIXES)
    assert IMAGE_SUFFIXES[:7] == (".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff")


@pytest.mark.parametrize("suffix", [suffix for suffix in IMAGE_SUFFIXES if not suffix.endswith((".gz", ".fz"))])
def test_a_file_is_known_by_its_first_bytes(suffix: str, tmp_path: Path) -> None:
    file = write_image(tmp_path / f"x{suffix}", random_pixels(0, (7, 9)))
    head = file.read_bytes()[:HEAD]
    (name,) = [name for name, row in FORMATS.items() if row.begins.match(head)]
    assert format_of(head) == name == read_image(file).format
    assert suffix in FORMATS[name].suffixes
    assert is_image_name(file)


def test_what_begins_otherwise_is_no_format() -> None:
    for head in (b"", b"GIF", b"RIFF\0\0\0\0WAVEfmt ", b"SIMPLE"):
        assert format_of(head) is None
