"""Maps as FITS files over the sky: the WCS of the image that they explain, and the file itself."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from ....core.errors import SkyclassError, one_line
from ....core.files.atomic_files import written_whole
from ..arrays import QUIET, naming
from ..locations import Address, BandFiles, ContainerRow, Cutout
from ..open_files import plain_fits
from .cards import check_cards
from .cutouts import mosaic_header
from .images import image_hdus

logger = logging.getLogger(__name__)

# FITS WCS papers I to IV, SIP and TPV: cards of the first two axes, of the main or an alternative description (A to Z).
_CARDS = re.compile(
    r"WCSAXES[A-Z]?|(CTYPE|CUNIT|CRVAL|CRPIX|CDELT|CROTA|CRDER|CSYER|CNAME)[12][A-Z]?|(CD|PC)[12]_[12][A-Z]?"
    r"|(PV|PS)[12]_[0-9]{1,2}[A-Z]?|(LONPOLE|LATPOLE|RADESYS|EQUINOX|WCSNAME)[A-Z]?|RADECSYS|EPOCH"
    r"|(A|B|AP|BP)_(ORDER|DMAX|[0-9]_[0-9])|DATE-OBS|MJD-OBS"
)


def sky_header(address: Address) -> fits.Header:
    """The WCS cards of a FITS image, of the mosaic that it is cut from (moved to the cutout), or of its first band.

    Empty where there is none: in files of other formats, where the sky is not on the image's own two axes, and, with a
    warning, where the WCS is damaged. Cards that cannot be printed or parsed are left out.
    """
    if isinstance(address, BandFiles):
        return sky_header(next(iter(address.files.values())))
    if isinstance(address, ContainerRow) or not (isinstance(address, Cutout) or _may_be_fits(address)):
        return fits.Header()
    try:
        with naming(str(address), _damage):
            header, (x, y) = mosaic_header(address) if isinstance(address, Cutout) else (_header_of(address), (0, 0))
        with QUIET:  # astropy warns of cards that it mends or gives up
            cards = wcs_cards(header)
        for key in [key for key in cards if key.startswith("CRPIX") and isinstance(cards[key], int | float)]:
            cards[key] -= x if key[5] == "1" else y
        with naming(str(address), _damage):
            has_sky = WCS(cards, naxis=2).has_celestial
    except SkyclassError as refusal:
        logger.warning(f"The map has no coordinates: {refusal}")
        return fits.Header()
    return cards if has_sky else fits.Header()


def write_map(path: Path, heatmap: np.ndarray, sky: fits.Header | None, cards: Mapping[str, tuple[str, str]]) -> None:
    """Write a map (H, W) as FITS, float32, its rows in the order of the image's.

    cards : name -> text and comment, after the coordinates; what a FITS text cannot hold becomes a question mark
    """
    header = sky.copy() if sky else fits.Header()
    for name, (text, comment) in cards.items():
        header[name] = (re.sub(r"[^ -~]", "?", text), comment)
    with written_whole(path) as part:
        fits.PrimaryHDU(heatmap.astype(np.float32), header).writeto(part, output_verify="silentfix", overwrite=True)


def wcs_cards(header: fits.Header) -> fits.Header:
    """The cards of a header that define the celestial coordinates of its first two axes."""
    kept = fits.Header()
    for card in header.cards:
        try:
            if _CARDS.fullmatch(card.keyword):
                kept[card.keyword] = (card.value, card.comment)
        except (fits.VerifyError, ValueError):  # raised when a damaged card is read
            continue
    for key in [key for key in kept if key.startswith("WCSAXES")]:
        kept[key] = 2
    return kept


def _damage(error: Exception) -> tuple[str, str]:
    return f"the WCS is broken ({one_line(error)[:200]})", "solve the astrometry of the image again"


def _header_of(path: Path) -> fits.Header:
    with plain_fits(path) as file:
        check_cards(file)
        with fits.open(file) as hdus:
            return image_hdus(hdus)[0].header.copy()


def _may_be_fits(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(10).startswith((b"SIMPLE  =", b"\x1f\x8b"))
