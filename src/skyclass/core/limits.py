"""All limits against damaged or hostile files; docs/threat-model.md gives the reason of each."""

from __future__ import annotations

import shutil
import tempfile

from .errors import SkyclassError

# Images.
MAX_PIXELS = 200_000_000  # height * width * bands; more is a decompression bomb, or a mosaic to be cut first
MAX_BANDS = 16  # an axis of an array is taken for the bands up to this length
MAX_BYTES = 8 * MAX_PIXELS + 2**20  # float64 pixels and a generous header
MAX_PAGES = 10_000  # of a TIFF
MAX_ADDRESS = 4096  # characters of a path or an address: what Linux allows a path

# What is packed.
UNPACKING = 200  # times what is packed; Gzip cannot exceed 1032, noise stays below 2
ALWAYS_UNPACKED = 2**28  # bytes that may come out of next to nothing, such as an empty image
MEMBER_BYTES = 16  # packed bytes that a file in an archive takes at least; an empty one in a tar.gz takes about 4
ALWAYS_MEMBERS = 10_000  # files that may come out of an archive of any size
MAX_TAR_HEADER = 2**20  # bytes of a long name or of PAX records, which tarfile holds in memory

# FITS headers.
MAX_AXES = 32  # NumPy has 64; the standard allows 999
MAX_FIELDS = 999  # columns of a table (FITS 4.0, section 7.3.1)
MAX_HDUS = 2_000
MAX_HEADER_BLOCKS = 5_000  # of 36 cards each, in one file

# HDF5.
MAX_CHUNK = 2**28  # bytes of a chunk, all of which is unpacked for one row of it
MAX_NAMES = 10_000  # data sets and groups in one file
MAX_GROUPS_DEEP = 50  # groups within groups
MAX_TEXT = 2**28  # bytes of all texts of an array

# Tables.
MAX_COLUMN = 2**30  # bytes of one column of an array file
MAX_TABLE = 2**29  # bytes that a packed table may unpack to
MAX_CELL = 2**16  # values in one cell of a VOTable
MAX_ROW = 2**17  # values in one row of a VOTable, of which astropy takes room for 256
MAX_XML_DEPTH = 100  # elements within elements

# YAML.
MAX_YAML = 2**18  # characters; the longest recipe that comes with Skyclass has 3,000
MAX_YAML_DEPTH = 20  # sections within sections; a recipe needs six

# The process in which risky files are decoded (`isolated.process`).
CHILD_SECONDS = 2.0  # of computing, whatever the file
CHILD_SECONDS_A_PIXEL = 1e-6  # and for each pixel or byte, which takes a tenth of that
CHILD_SECONDS_A_TILE = 1e-3  # and for each compressed tile, likewise
CHILD_MEMORY = 2**29  # bytes, whatever the file
CHILD_MEMORY_A_PIXEL = 16  # float64 as decoded, and a copy
START_SECONDS = 120.0  # for Python to start and import astropy on a busy machine
IDLE_SECONDS = 60.0  # without an answer, beside the time for computing: it waits for a disk, or for ever


def check_unpacking(unpacked: int, packed: int) -> None:
    """Refuse decompression bombs: `packed` bytes that claim to become `unpacked` ones."""
    if unpacked > UNPACKING * packed + ALWAYS_UNPACKED:
        raise SkyclassError(
            f"{packed:,} bytes claim to unpack to {unpacked:,}, as damaged files and decompression bombs do",
            fix="copy it again, or save it without compression",
        )


def check_members(members: int, packed: int) -> None:
    """Refuse archives of `packed` bytes that become so many files that they would fill a disk with their names."""
    if members > ALWAYS_MEMBERS + packed // MEMBER_BYTES:
        raise SkyclassError(f"{packed:,} bytes hold more than {members - 1:,} files", fix="unpack it by hand")


def check_disk(n_bytes: int) -> None:
    """Refuse to unpack more than half of what the temporary folder has room for."""
    folder = tempfile.gettempdir()
    if n_bytes > shutil.disk_usage(folder).free // 2:
        raise SkyclassError(
            f"too large to be unpacked in {folder} ({n_bytes:,} bytes)",
            fix="save it without compression, or set TMPDIR to a folder with more room",
        )
