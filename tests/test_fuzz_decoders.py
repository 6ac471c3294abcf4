"""Damaged files of every kind: an image or one clear sentence; no crash, no hang, no memory eaten.

The reading goes on in a process of its own, which must end well: libraries in C can take Python down with them.
"""

from __future__ import annotations

import io
import os
import resource
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pyarrow as pa
import pytest
import tifffile
from astropy.io import fits
from pyarrow import parquet

from make_data import random_pixels, write_image
from skyclass.errors import SkyclassError
from skyclass.images import read_image
from skyclass.stacks import read_column, stack_arrays

SIZE = (20, 28)
MUTANTS = 2000
SECONDS = 2.0  # that one file may take
MEMORY = 2**30  # bytes that the whole process may ever hold

Address = str  # with {file} where the file's name goes


def write_deep_png(path: Path) -> None:
    path.write_bytes(imagecodecs.png_encode(random_pixels(0, SIZE, 3, "uint16").transpose(1, 2, 0).copy()))


def write_tiles(path: Path) -> None:
    tifffile.imwrite(
        path, random_pixels(0, (48, 64), 3, "uint16"), compression="zlib", tile=(16, 16), photometric="minisblack"
    )


def write_extensions(path: Path) -> None:
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -0.01, "CDELT2": 0.01})
    bands = [fits.ImageHDU(random_pixels(i, SIZE, 1, "int16")[0], header, name=name) for i, name in enumerate("gr")]
    fits.HDUList([fits.PrimaryHDU(), *bands]).writeto(path)


def write_tiled_fits(path: Path) -> None:
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(random_pixels(0, SIZE, 1, "int16")[0])]).writeto(path)


def write_named_bands(path: Path) -> None:
    with path.open("wb") as file:  # np.savez would add a suffix to a name
        np.savez(
            file, images=random_pixels(0, SIZE, 5, "float32"), filters=np.array(list("grizy")), psf=np.zeros((3, 3))
        )


def write_stack(path: Path) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, images=random_pixels(0, SIZE, 4), filters=np.array(["g"]))


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "images", data=random_pixels(0, SIZE, 8), chunks=(2, *SIZE), compression="gzip", shuffle=True
        )
        file.create_dataset("filters", data=["g"], dtype=h5py.string_dtype())
        file["group/ans"] = np.arange(8)


def write_parquet(path: Path) -> None:
    picture = write_image(path.with_suffix(".jpg"), random_pixels(0, SIZE))
    content = {"bytes": picture.read_bytes(), "path": "x.jpg"}
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    parquet.write_table(pa.table({"image": pa.array([content] * 6, kind)}), path, row_group_size=3)


def plain(suffix: str, dtype: str = "uint8") -> Callable[[Path], object]:
    return lambda path: write_image(path.with_suffix(suffix), random_pixels(0, SIZE, 3, dtype)).rename(path)


# kind -> how a whole file is written, and how it is read
KINDS: dict[str, tuple[Callable[[Path], object], Address]] = {
    "jpeg": (plain(".jpg"), "{file}"),
    "png": (plain(".png"), "{file}"),
    "png_16": (write_deep_png, "{file}"),
    "webp": (plain(".webp"), "{file}"),
    "gif": (plain(".gif"), "{file}"),
    "tiff": (plain(".tif"), "{file}"),
    "tiff_tiles": (write_tiles, "{file}"),
    "npy": (plain(".npy", "float32"), "{file}"),
    "npy_rows": (plain(".npy"), "{file}::[1]"),
    "npz": (plain(".npz"), "{file}"),
    "npz_bands": (write_named_bands, "{file}"),
    "npz_rows": (write_stack, "{file}::images[3]"),
    "fits": (plain(".fits", "float32"), "{file}"),
    "fits_extensions": (write_extensions, "{file}"),
    "fits_tiles": (write_tiled_fits, "{file}"),
    "fits_pixel": (write_tiled_fits, "{file}::pixel(3,9)[9x13]"),
    "fits_sky": (write_extensions, "{file}::sky(359.9,0.1)[9x13]"),
    "hdf5": (write_hdf5, "{file}::images[5]"),
    "parquet": (write_parquet, "{file}::image[4]"),
}


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The content with up to four of: bits flipped, the end cut off, blocks put in, doubled or zeroed, huge numbers."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        if not data:
            break
        # Half the damage goes to the first kilobyte: that is where the headers are.
        place = int(rng.integers(len(data) if rng.random() < 0.5 else min(len(data), 1024)))
        length = int(rng.integers(1, 64))
        kind = rng.integers(6)
        if kind == 0:
            data[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del data[place:]
        elif kind == 2:
            data[place:place] = rng.bytes(length)
        elif kind == 3:
            data[place:place] = data[place : place + length]
        elif kind == 4:
            data[place : place + length] = bytes(length)
        else:  # lengths and sizes: binary ones become huge, and so do digits
            number = b"9" * 8 if data[place : place + 1].isdigit() else b"\xff\xff\xff\x7f"
            data[place : place + len(number)] = number
    return bytes(data)


def png_with_true_checksums(data: bytes) -> bytes:
    """Damage that checksums do not betray."""
    whole, place = bytearray(data), 8
    while place + 12 <= len(whole):
        end = place + 8 + int.from_bytes(whole[place : place + 4], "big")
        whole[end : end + 4] = zlib.crc32(whole[place + 4 : end]).to_bytes(4, "big") if end + 4 <= len(whole) else b""
        place = end + 4
    return bytes(whole)


def peak_memory() -> int:
    """The most bytes this process has held. Linux counts in `getrusage` what its parent held when it was started."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts in bytes


def fault_of(address: Address, file: Path) -> str | None:
    """ "" where the address is read, None where it is refused in one clear sentence, else what is wrong with that."""
    try:
        image = read_image(address.format(file=file))
        if image.pixels.ndim != 3 or len(image.bands) != len(image.pixels) or not image.pixels.size:
            return f"bands {image.bands} of {image.pixels.shape}"
        if "::images" in address:
            for name, (shape, _) in stack_arrays(file).items():
                if len(shape) == 1 and len(read_column(file, name)) != shape[0]:
                    return f"the column {name!r} is not of {shape}"
    except SkyclassError as refusal:
        text = str(refusal)
        is_clear = text.startswith(str(file)) and text.isprintable() and len(text) < 600
        return None if is_clear else f"refused as {text!r}"
    except Exception as error:
        return f"raised {error!r}"
    return ""


def read_mutants(folder: Path, kind: str, seed: int, count: int) -> None:
    """Read `count` damaged files of a kind; prints a line for each that is not dealt with as it should be."""
    write, address = KINDS[kind]
    write(folder / "whole")
    content = (folder / "whole").read_bytes()
    assert fault_of(address, folder / "whole") == ""
    rng = np.random.default_rng(seed)
    read = 0
    for number in range(count):
        file = folder / f"{kind}-{number}"
        damaged = mutated(content, rng)
        file.write_bytes(png_with_true_checksums(damaged) if kind.startswith("png") and number % 2 else damaged)
        start = time.process_time()
        fault = fault_of(address, file)
        seconds = time.process_time() - start
        if seconds > SECONDS:
            fault = f"took {seconds:.1f} s"
        if fault:
            print(f"{file.name}: {fault}")
        else:
            file.unlink()
        read += fault == ""
    peak = peak_memory()
    if peak > MEMORY:
        print(f"{kind}: {peak:,} bytes of memory")
    print(f"done {kind} {read} of {count} read", flush=True)


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits there")
def test_damaged_files_of_all_kinds(tmp_path: Path) -> None:
    share = -(-MUTANTS // len(KINDS))
    script = "import sys, test_fuzz_decoders as t; t.main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))"
    tests = str(Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([tests, *filter(None, [os.environ.get("PYTHONPATH")])])}
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), "0", str(share)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert ended.stderr == ""
    done = [line.split() for line in ended.stdout.splitlines() if line.startswith("done ")]
    assert [line for line in ended.stdout.splitlines() if not line.startswith("done ")] == []
    assert [words[1] for words in done] == list(KINDS)
    read = {words[1]: int(words[2]) for words in done}
    assert all(number < share for number in read.values()), read  # the damage is not harmless
    assert sum(number > 0 for number in read.values()) > len(KINDS) / 2, read  # nor is it total


def main(folder: str, seed: int, count: int) -> None:
    """What runs in the process of its own."""
    for kind in KINDS:
        (Path(folder) / kind).mkdir()
        read_mutants(Path(folder) / kind, kind, seed, count)


def test_bombs_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (3, 10**6, 10**6)})
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive:
            archive.writestr("image.npy", stream.getvalue())
        for address in ("x.npz", "x.npz::image[0]"):
            with pytest.raises(SkyclassError, match=r"more than|does not agree"):
                read_image(tmp_path / address)
