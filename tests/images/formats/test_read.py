from __future__ import annotations

import gzip
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import tifffile
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as pillow

from helpers.make_data import bad_files, class_folders, image_table, odd_files, random_pixels, vote_table, write_image
from helpers.paths import PROJECT
from skyclass.core import limits
from skyclass.core.errors import SkyclassError
from skyclass.core.limits import MAX_PIXELS
from skyclass.images.formats.arrays import RGB
from skyclass.images.formats.read import Image, decode_image, is_image_name, read_image

SHARED = PROJECT.parent / "shared"
SIZE = (20, 28)
GREY = ("grey",)


def check(image: Image, expected: np.ndarray, bands: tuple[str, ...], kind: str) -> None:
    np.testing.assert_array_equal(image.pixels, expected)
    assert image.pixels.dtype == expected.dtype.newbyteorder("=")
    assert image.pixels.dtype.isnative
    assert image.pixels.flags.c_contiguous
    assert image.pixels.flags.writeable
    assert (image.bands, image.format) == (bands, kind)


def interleaved(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(pixels, 0, -1))


@pytest.mark.parametrize(("suffix", "bands"), [("png", 1), ("png", 3), ("tif", 1), ("tif", 3)])
def test_lossless_formats_give_back_the_pixels(tmp_path: Path, suffix: str, bands: int) -> None:
    pixels = random_pixels(1, SIZE, bands)
    image = read_image(write_image(tmp_path / f"x.{suffix}", pixels))
    check(image, pixels, RGB if bands == 3 else GREY, "tiff" if suffix == "tif" else suffix)


@pytest.mark.parametrize(("suffix", "kind"), [("jpg", "jpeg"), ("webp", "webp")])
@pytest.mark.parametrize("bands", [1, 3])
def test_lossy_formats_give_back_a_smooth_image(tmp_path: Path, suffix: str, kind: str, bands: int) -> None:
    ramp = np.linspace(20, 230, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint8)
    image = read_image(write_image(tmp_path / f"x.{suffix}", np.stack([ramp] * bands)))
    expected = 3 if (bands == 3 or kind == "webp") else 1  # WebP knows no grey
    assert image.pixels.shape == (expected, *SIZE)
    assert np.abs(image.pixels.astype(int) - ramp).max() <= 6
    assert (image.bands, image.format) == (RGB if expected == 3 else GREY, kind)


def test_cmyk_jpeg_becomes_rgb(tmp_path: Path) -> None:
    pillow.new("CMYK", SIZE[::-1], (0, 255, 255, 0)).save(tmp_path / "x.jpg", quality=95)
    image = read_image(tmp_path / "x.jpg")
    assert image.bands == RGB
    np.testing.assert_allclose(image.pixels[:, 3, 5], (255, 0, 0), atol=3)


def test_exif_orientation_is_ignored(tmp_path: Path) -> None:
    exif = pillow.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    pillow.new("RGB", SIZE[::-1]).save(tmp_path / "x.jpg", exif=exif)
    assert read_image(tmp_path / "x.jpg").pixels.shape == (3, *SIZE)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1"])
def test_png_modes(tmp_path: Path, mode: str) -> None:
    pixels = random_pixels(2, SIZE, 4)
    if mode == "RGBA":
        picture, expected = pillow.fromarray(interleaved(pixels)), pixels[:3]
    elif mode == "LA":
        picture, expected = pillow.fromarray(interleaved(pixels[:2])), pixels[:1]
    elif mode == "P":
        palette = random_pixels(3, (1, 256), 3)
        picture = pillow.fromarray(pixels[0])
        picture.putpalette(interleaved(palette).tobytes())
        expected = palette[:, 0][:, pixels[0]]
    else:
        picture, expected = pillow.fromarray(pixels[0] > 99), np.where(pixels[:1] > 99, 255, 0).astype(np.uint8)
    # A palette with transparency is what Pillow warns about.
    extra = {"transparency": bytes(range(256))} if mode == "P" else {}
    picture.save(tmp_path / "x.png", **extra)
    check(read_image(tmp_path / "x.png"), expected, RGB if len(expected) == 3 else GREY, "png")


@pytest.mark.parametrize(("samples", "kept"), [(1, 1), (2, 1), (3, 3), (4, 3)])
def test_png_of_16_bits_keeps_its_depth(samples: int, kept: int) -> None:
    pixels = random_pixels(4, SIZE, samples, "uint16")
    data = imagecodecs.png_encode(interleaved(pixels) if samples > 1 else pixels[0])
    check(decode_image(data, "x"), pixels[:kept], RGB if kept == 3 else GREY, "png")


def test_png_of_16_bits_is_decoded_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    pixels = random_pixels(4, SIZE, 3, "uint16")
    data = imagecodecs.png_encode(interleaved(pixels))
    profile = b"iCCPx\0\0not a profile"
    chunk = (len(profile) - 4).to_bytes(4, "big") + profile + zlib.crc32(profile).to_bytes(4, "big")
    check(decode_image(data[:33] + chunk + data[33:], "x"), pixels, RGB, "png")  # the header is 33 bytes long
    with pytest.raises(SkyclassError, match="checksum"):
        decode_image(data[:2000] + b"?" + data[2001:], "x")
    assert capfd.readouterr() == ("", "")


def test_first_frame_of_a_gif_which_is_always_colour(tmp_path: Path) -> None:
    frames = [pillow.fromarray(random_pixels(i, SIZE, 1)[0]) for i in range(3)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    check(read_image(tmp_path / "x.gif"), np.repeat(random_pixels(0, SIZE, 1), 3, axis=0), RGB, "gif")


def test_colour_gif(tmp_path: Path) -> None:
    pillow.new("RGB", SIZE[::-1], (200, 30, 60)).save(tmp_path / "x.gif")
    image = read_image(tmp_path / "x.gif")
    assert image.bands == RGB
    np.testing.assert_allclose(image.pixels[:, 3, 5], (200, 30, 60), atol=8)


BAND_5 = tuple(f"band_{i}" for i in range(1, 6))


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_tiff_types_and_compressions(tmp_path: Path, dtype: str, compression: str | None) -> None:
    pixels = random_pixels(5, SIZE, 1, dtype)
    tifffile.imwrite(tmp_path / "x.tif", pixels[0], compression=compression, photometric="minisblack")
    check(read_image(tmp_path / "x.tif"), pixels, GREY, "tiff")


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_layouts(tmp_path: Path, byteorder: str) -> None:
    pixels = random_pixels(6, SIZE, 5, "uint16")
    file = tmp_path / "x.tif"

    def written(array: np.ndarray, **options: object) -> Image:
        tifffile.imwrite(file, array, byteorder=byteorder, **options)
        return read_image(file)

    check(written(pixels, photometric="minisblack"), pixels, BAND_5, "tiff")
    check(written(pixels, photometric="minisblack", planarconfig="separate"), pixels, BAND_5, "tiff")
    check(written(interleaved(pixels), photometric="minisblack", planarconfig="contig"), pixels, BAND_5, "tiff")
    check(written(pixels[:3], photometric="rgb", planarconfig="separate"), pixels[:3], RGB, "tiff")
    check(written(interleaved(pixels[:3]), photometric="rgb"), pixels[:3], RGB, "tiff")
    rgba = written(interleaved(pixels[:4]), photometric="rgb", extrasamples=["unassalpha"])
    check(rgba, pixels[:3], RGB, "tiff")
    infrared = written(interleaved(pixels[:4]), photometric="rgb", extrasamples=["unspecified"])
    check(infrared, pixels[:4], (*RGB, "band_4"), "tiff")
    check(written(pixels, imagej=True, metadata={"axes": "CYX"}), pixels, BAND_5, "tiff") if byteorder == ">" else None


def test_only_the_first_page_of_a_tiff_of_several(tmp_path: Path) -> None:
    pixels = random_pixels(7, SIZE, 3)
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        for page in pixels:
            file.write(page, photometric="minisblack", metadata=None)
    check(read_image(tmp_path / "x.tif"), pixels[:1], GREY, "tiff")


LAYOUTS: list[dict[str, Any]] = [
    {"photometric": "minisblack"},
    {"photometric": "minisblack", "compression": "zlib"},
    {"photometric": "minisblack", "planarconfig": "separate"},
    {"photometric": "minisblack", "tile": (16, 16)},
    {"photometric": "minisblack", "bigtiff": True, "compression": "zlib"},
    {"imagej": True, "metadata": {"axes": "CYX"}},
]


@pytest.mark.parametrize("options", LAYOUTS)
def test_a_cut_tiff_of_several_bands_does_not_become_one_of_fewer(tmp_path: Path, options: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "x.tif", random_pixels(7, (48, 64), 5, "uint16"), **options)
    data = (tmp_path / "x.tif").read_bytes()
    assert len(decode_image(data, "x").pixels) == 5
    for share in (0.9, 0.5, 0.25):
        with pytest.raises(SkyclassError, match="ends early"):
            decode_image(data[: int(share * len(data))], "x")


@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_tiff_whose_pages_lead_back_to_each_other_is_refused(tmp_path: Path, bigtiff: bool) -> None:
    with tifffile.TiffWriter(tmp_path / "x.tif", bigtiff=bigtiff) as writer:
        for page in random_pixels(7, SIZE, 3):
            writer.write(page, photometric="minisblack", metadata=None)
    data = bytearray((tmp_path / "x.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        size, first, last = file.tiff.offsetsize, file.pages[0].offset, file.pages[2]
        end = last.offset + file.tiff.tagnosize + len(last.tags) * file.tiff.tagsize
    assert not any(data[end : end + size])
    data[end : end + size] = first.to_bytes(size, "little")
    with pytest.raises(SkyclassError, match="pages lead back"):
        decode_image(bytes(data), "x")


def test_a_tiff_with_fewer_tiles_than_its_header_needs_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", random_pixels(7, (48, 64), 1)[0], tile=(16, 16), compression="zlib")
    data = bytearray((tmp_path / "x.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        place = file.pages.first.tags["ImageLength"].valueoffset
    data[place : place + 4] = (48_000).to_bytes(4, "little")
    with pytest.raises(SkyclassError, match="fewer pixels"):
        decode_image(bytes(data), "x")


def test_tiff_palette_and_inverted_grey(tmp_path: Path) -> None:
    pixels, palette = random_pixels(8, SIZE, 1), random_pixels(9, (1, 256), 3, "uint16")[:, 0]
    tifffile.imwrite(tmp_path / "p.tif", pixels[0], photometric="palette", colormap=palette)
    check(read_image(tmp_path / "p.tif"), palette[:, pixels[0]], RGB, "tiff")
    tifffile.imwrite(tmp_path / "i.tif", pixels[0], photometric="miniswhite")
    check(read_image(tmp_path / "i.tif"), 255 - pixels, GREY, "tiff")


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", ">f4", ">u2", "float64", "float16", "int16", "int64"])
def test_array_types(tmp_path: Path, suffix: str, dtype: str) -> None:
    array = random_pixels(10, SIZE, 2, "uint8").astype(dtype)
    kept = array.astype("uint8" if dtype == "uint8" else "uint16" if dtype.endswith(("uint16", "u2")) else "float32")
    check(read_image(write_image(tmp_path / f"x.{suffix}", array)), kept, ("band_1", "band_2"), suffix)


def test_array_layouts(tmp_path: Path) -> None:
    pixels = random_pixels(11, SIZE, 5, "float32")

    def saved(array: np.ndarray) -> Image:
        np.save(tmp_path / "x.npy", array)
        return read_image(tmp_path / "x.npy")

    check(saved(pixels), pixels, BAND_5, "npy")
    check(saved(interleaved(pixels)), pixels, BAND_5, "npy")
    check(saved(np.asfortranarray(pixels)), pixels, BAND_5, "npy")
    check(saved(pixels[0]), pixels[:1], GREY, "npy")
    check(saved(pixels[None, None, :1]), pixels[:1], GREY, "npy")
    check(saved(pixels[0] > 0), np.where(pixels[:1] > 0, 255, 0).astype(np.uint8), GREY, "npy")
    check(saved(pixels[:, :5, :5]), pixels[:, :5, :5], BAND_5, "npy")  # equal axes: bands first
    three = pixels[:3].astype(np.uint8)
    numbered = ("band_1", "band_2", "band_3")
    check(saved(interleaved(three)), three, RGB, "npy")  # as pictures are kept
    check(saved(interleaved(three)[None]), three, RGB, "npy")
    check(saved(three), three, numbered, "npy")
    check(saved(three[:, :3, :3]), three[:, :3, :3], numbered, "npy")
    check(saved(interleaved(three).astype("f4")), three.astype("f4"), numbered, "npy")
    check(saved(interleaved(three).astype("u2")), three.astype("u2"), numbered, "npy")


def test_what_float32_cannot_hold_becomes_infinite(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full(SIZE, 1e300))
    assert np.isinf(read_image(tmp_path / "x.npy").pixels).all()


def test_npz_of_several_arrays_needs_one_called_image(tmp_path: Path) -> None:
    pixels = random_pixels(12, SIZE, 3)
    np.savez(tmp_path / "x.npz", image=pixels, psf=np.zeros((3, 3)))
    check(read_image(tmp_path / "x.npz"), pixels, ("band_1", "band_2", "band_3"), "npz")


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64"])
def test_fits_types(tmp_path: Path, dtype: str) -> None:
    pixels = random_pixels(13, SIZE, 5, dtype)
    kept = pixels if dtype in ("uint8", "uint16") else pixels.astype(np.float32)
    check(read_image(write_image(tmp_path / "x.fits", pixels)), kept, BAND_5, "fits")


def test_fits_layouts(tmp_path: Path) -> None:
    pixels = random_pixels(14, SIZE, 20, "float32")
    file = tmp_path / "x.fits"

    def written(*hdus: object) -> Image:
        fits.HDUList(list(hdus)).writeto(file, overwrite=True)
        return read_image(file)

    empty, table = fits.PrimaryHDU(), fits.BinTableHDU(np.zeros(3, [("ra", "f8")]))
    check(written(empty, table, fits.ImageHDU(pixels[0]), fits.ImageHDU(pixels[1])), pixels[:1], GREY, "fits")
    assert written(fits.PrimaryHDU(pixels)).pixels.shape == (20, *SIZE)  # more bands than an NPY file may have
    check(written(fits.PrimaryHDU(pixels[None, :1])), pixels[:1], GREY, "fits")  # radio: (Stokes, frequency, H, W)
    whole = random_pixels(15, SIZE, 1, "int16")
    check(
        written(empty, fits.CompImageHDU(whole[0], compression_type="RICE_1")),
        whole.astype(np.float32),
        GREY,
        "fits",
    )
    check(decode_image(gzip.compress(file.read_bytes()), "x.fits.gz"), whole.astype(np.float32), GREY, "fits")


def test_fits_scaling_is_applied(tmp_path: Path) -> None:
    values = np.linspace(-3, 5, SIZE[0] * SIZE[1]).reshape(SIZE)
    hdu = fits.PrimaryHDU(values.copy())
    hdu.scale("int16", bscale=0.001, bzero=2.0)
    hdu.writeto(tmp_path / "x.fits")
    np.testing.assert_allclose(read_image(tmp_path / "x.fits").pixels[0], values, atol=0.001)


def test_refusals_name_the_file_the_fault_and_the_way_out(tmp_path: Path) -> None:
    expected = bad_files(tmp_path)
    assert len(expected) > 25
    for name, word in expected.items():
        with pytest.raises(SkyclassError) as caught:
            read_image(tmp_path / name)
        message = str(caught.value)
        assert word in message, f"{name}: {message}"
        assert message.startswith(str(tmp_path / name))
        assert caught.value.fix
        assert "\n" not in message
        assert " at 0x" not in message


def test_refusals_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(SkyclassError, match="a folder"):
        read_image(tmp_path)
    with pytest.raises(SkyclassError, match="no such file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(SkyclassError, match=r"^upload: .*text"):
        decode_image(b"hello", "upload")


def test_a_huge_tiff_or_fits_is_refused_by_its_header(tmp_path: Path) -> None:
    side = 20_000
    assert side * side > MAX_PIXELS
    header = fits.PrimaryHDU(np.zeros((2, 2), np.uint8)).header
    header["NAXIS1"] = header["NAXIS2"] = side
    with pytest.raises(SkyclassError, match="more than"):
        decode_image(header.tostring().encode() + bytes(2880), "x")
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((4, 6), np.uint8))
    data = bytearray((tmp_path / "x.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        tags = file.pages.first.tags
        for name in ("ImageWidth", "ImageLength"):
            data[tags[name].valueoffset : tags[name].valueoffset + 2] = side.to_bytes(2, "little")
    with pytest.raises(SkyclassError, match="more than"):
        decode_image(bytes(data), "x")


def test_odd_files_are_read_as_they_are(tmp_path: Path) -> None:
    zero, constant, some_nan, all_nan = (read_image(file).pixels for file in odd_files(tmp_path))
    assert not zero.any()
    assert (constant == 7).all()
    assert np.isnan(some_nan).sum() == 15
    assert np.isnan(all_nan).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "tif", "fits", "npy", "npz"])
@given(data=st.data())
@settings(deadline=None)
def test_damage_is_refused_or_read_and_never_crashes(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    file = tmp_path_factory.getbasetemp() / f"whole.{suffix}"
    if not file.exists():
        write_image(file, random_pixels(16, SIZE))
    content = bytearray(file.read_bytes())
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=5)
    ):
        content[place] = value
    content = content[: data.draw(st.integers(0, len(content)))]
    try:
        image = decode_image(bytes(content), "x")
    except SkyclassError:
        return
    assert image.pixels.ndim == 3
    assert len(image.bands) == len(image.pixels)


def test_warnings_are_as_before_after_threads_have_decoded() -> None:
    before = list(warnings.filters)
    header = b"SIMPLE  =                    T" + b" " * 50  # a header without an end: astropy warns and raises

    def decode() -> None:
        for _ in range(20):
            with pytest.raises(SkyclassError):
                decode_image(header, "x")

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


def test_names_of_images() -> None:
    for name in ("a.jpg", "a.JPEG", "b.fits.gz", "c.fits.fz", "d.NPY", "a.b/c.webp"):
        assert is_image_name(name)
    for name in ("a.txt", "jpg", "labels.csv", "._a.jpg", "a.gz"):
        assert not is_image_name(Path(name))


def test_made_data_can_be_read(tmp_path: Path) -> None:
    rows = class_folders(tmp_path / "a", splits={"train": 3, "test": 1}, formats=("png", "npy", "fits"))
    assert rows.groupby(["split", "label"]).size().tolist() == [1, 1, 1, 3, 3, 3]
    table = pd.read_csv(image_table(tmp_path / "b", formats=("jpg", "tif")))
    votes = pd.read_csv(vote_table(tmp_path / "c", {"Class1": ["Class1.1", "Class1.2"], "Class6": ["Class6.1"]}))
    np.testing.assert_allclose(votes[["Class1.1", "Class1.2"]].sum(axis=1), 1)
    files = [tmp_path / "a" / name for name in rows["file"]]
    files += [tmp_path / "b" / name for name in table["file"]]
    files += [tmp_path / f"c/images/{name}.jpg" for name in votes["GalaxyID"]]
    assert len(files) == len(set(files)) == 12 + 12 + 12
    for file in files:
        assert is_image_name(file)
        assert read_image(file).pixels.shape == (3, 24, 32)


def shared(folder: str, pattern: str) -> list[Path]:
    files = sorted((SHARED / "data" / folder).glob(pattern))
    if not files:
        pytest.skip(f"the real images of {folder} are not here")
    return files


@pytest.mark.parametrize(
    ("folder", "pattern", "shape"),
    [
        ("radio/png", "*.png", (1, 150, 150)),
        ("radio/fits", "*.fits", (1, 300, 300)),
        ("multiband", "Cut_HSC*.fits", (5, 50, 50)),
        ("multiband", "Cut_HST*.fits", (1, 250, 250)),
        ("galaxies/images", "58772*.jpeg", (3, 423, 423)),
    ],
)
def test_real_images(folder: str, pattern: str, shape: tuple[int, int, int]) -> None:
    for file in shared(folder, pattern)[:100]:
        assert read_image(file).pixels.shape == shape


def test_real_archives_of_several_arrays_are_one_image_with_named_bands() -> None:
    for file in shared("multiband", "*.npz"):
        with np.load(file) as arrays:
            check(read_image(file), arrays["images"], ("g", "r", "i", "z", "y"), "npz")


def test_a_gzipped_bomb_is_refused_while_it_unpacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ALWAYS_UNPACKED", 2**16)
    with pytest.raises(SkyclassError, match="claim to unpack"):
        decode_image(gzip.compress(bytes(2**22)), "x.fits.gz")
