"""Properties of image files beside their pixels: a wrong suffix, palettes, CMYK colours, transparency."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image as pillow

from ...core.text import quantity
from ...images.formats.arrays import Image
from ...images.formats.registry import FORMATS
from ...recipes.data_settings import PixelSettings
from ..catalog import Problem

USUAL = 0.8  # share of the images that must agree before another size, number of bands or type is odd

# A file's suffix, without that of its packing -> its format.
_NAMED = {suffix: name for name, format_ in FORMATS.items() for suffix in (*format_.suffixes, *format_.other_suffixes)}
_PICTURES = tuple(name for name, format_ in FORMATS.items() if format_.is_picture)
_GREY, _COLOUR = "grey", "red green blue"


def file_problems(image_id: str, file: str, image: Image) -> list[Problem]:
    """Warnings about a file with a wrong suffix, a palette, CMYK colours or transparency.

    Parameters
    ----------
    image_id, file : of the catalog; an address of more than one image has no such problems
    image : what was read from it
    """
    path = Path(file)
    suffix = path.with_suffix("").suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()
    found = []
    if suffix in _NAMED and "::" not in file and _NAMED[suffix] != image.format:
        found.append(("extension", f"named {suffix}, but it is {image.format.upper()}: read as what it is"))
    if image.format in _PICTURES and path.is_file():
        found += _colour_problems(path)
    return [Problem(image_id=image_id, file=file, problem=text, severity="warning", kind=kind) for kind, text in found]


def _colour_problems(path: Path) -> list[tuple[str, str]]:
    """By the header alone; the pixels have been read already, so that it is sound."""
    try:
        with pillow.open(path, formats=[name.upper() for name in _PICTURES]) as picture:
            mode, is_transparent = picture.mode, "transparency" in picture.info
            is_gif = picture.format == "GIF"
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError):  # Pillow reads fewer TIFFs than we do
        return []
    found = []
    if mode in ("P", "PA") and not is_gif:  # every GIF has one
        found.append(("palette", "colours of a palette: its values are read as red, green and blue"))
    if mode in ("CMYK", "YCCK"):
        found.append(("colour", "CMYK colours of print: converted to red, green and blue without their profile"))
    if mode in ("RGBA", "LA", "PA") or is_transparent:
        found.append(("colour", "transparency: it is dropped, and the colours beneath it are kept"))
    return found


class PixelFormat(NamedTuple):
    """Size (height x width), names of the bands and type of the pixels of an image, in words; None: not readable."""

    size: str | None
    bands: str | None
    type: str | None


NOTHING = PixelFormat(None, None, None)


def pixel_format(image: Image) -> PixelFormat:
    """What an image pixel_formats like."""
    _, height, width = image.pixels.shape
    return PixelFormat(f"{height}x{width}", " ".join(image.bands), str(image.pixels.dtype))


def mixture_problems(
    pixel_formats: Sequence[PixelFormat], place: str, packed: PixelSettings | None = None
) -> list[Problem]:
    """A warning each where no size, no type, or neither grey nor colour is that of nearly all images.

    Parameters
    ----------
    pixel_formats : of all images
    place : what names the source
    packed : the pixels of the pack that was just made of the images, every setting filled in; None where there is none
    """
    found = []
    sizes, bands, types = zip(*pixel_formats, strict=True) if pixel_formats else ((), (), ())
    of_sizes, of_types = _ways_out(packed)
    for kind, what, values, then in (
        ("size", "sizes (height x width)", sizes, of_sizes),
        ("depth", "types of pixels", types, of_types),
    ):
        counts = Counter(value for value in values if value is not None)
        if len(counts) > 1 and counts.most_common(1)[0][1] < USUAL * counts.total():
            shares = ", ".join(f"{value} ({n:,})" for value, n in counts.most_common(3))
            more = f" and {len(counts) - 3:,} more" if len(counts) > 3 else ""
            found.append((kind, f"{len(counts):,} {what}: {shares}{more}; {then}"))
    grey, colour = (sum(names == kind for names in bands) for kind in (_GREY, _COLOUR))
    if grey and colour and max(grey, colour) < USUAL * sum(names is not None for names in bands):
        fewer, others = (("grey", grey), ("colour", colour))[:: 1 if grey <= colour else -1]
        text = (
            f"{quantity(fewer[1], f'{fewer[0]} image')} among {others[1]:,} in {others[0]}: a pack has one set of bands"
        )
        found.append(("colour", text))
    return [Problem(image_id="", file=place, problem=text, severity="warning", kind=kind) for kind, text in found]


def _ways_out(packed: PixelSettings | None) -> tuple[str, str]:
    """What becomes, or has become, of mixed sizes and of mixed types in a pack."""
    if packed is None or packed.size is None:
        size = "`skyclass pack SOURCE PACK --pixels size=...` brings them to one"
        return size, "scales may differ: `skyclass pack SOURCE PACK --pixels interval=...`"
    height, width = packed.size
    size = f"all are {height}x{width} in the pack (pixels.size chooses another size)"
    if packed.interval != "none":
        return size, f"each was scaled by interval={packed.interval} in the pack"
    return size, f"all are {packed.dtype} in the pack, where scales may differ: pixels.interval brings them to one"
