"""`skyclass inspect`: what it counts, finds and shows, in threads as one after the other, and its page and terminal."""

import json
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image as pillow
from rich.console import Console

from helpers.make_data import bad_files, class_folders, image_table, odd_files, random_pixels, write_image
from helpers.paths import PROJECT
from skyclass.commands import inspect as verb
from skyclass.commands.inspect import inspect
from skyclass.commands.pack import pack
from skyclass.core import console, parallel
from skyclass.core.progress import bars
from skyclass.data.audit import image_statistics
from skyclass.data.audit.image_statistics import SAMPLES, measure_images
from skyclass.data.sources.read import read_source
from skyclass.images.formats import raster
from skyclass.images.formats.read import read_image
from skyclass.reports import audit_page

SHARED = PROJECT.parent / "shared"


class Page(HTMLParser):
    """Collects the text, the images and what a page would fetch; refuses tags that do not match."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.fetched: list[str] = []
        self.text = ""
        self.feed(file.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if tag == "img":
            self.images.append(known)
        self.fetched += [known[name] or "" for name in ("src", "href") if name in known]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def mixed_source(root: Path) -> Path:
    """Class folders of three formats, 24x32, with unreadable, blank and half-blank files in a class of their own."""
    class_folders(root, ("ring", "blob"), per_class=5, formats=("png", "fits", "npy"))
    bad_files(root / "odd")
    odd_files(root / "odd")
    return root


def test_what_is_counted(tmp_path: Path) -> None:
    summary = inspect(mixed_source(tmp_path / "source"), out=tmp_path / "out", duplicates=False)
    n_bad = len(bad_files(tmp_path / "again"))
    assert summary["images"] == 10 + n_bad + 4
    assert summary["readable"] == 14
    assert summary["classes"] == {"blob": 5, "odd": n_bad + 4, "ring": 5}
    assert summary["sizes"] == {"24x32": 14}
    assert summary["formats"] == {"fits": 6, "png": 5, "npy": 3}
    assert summary["bands"]["grey"] == 4
    assert summary["errors"] == n_bad + 3  # the all-zero, the constant and the all-NaN image are of no use
    assert summary["warnings"] == 1 + 1 + 2  # an image with NaN; classes of five images; grey in colour, types mixed
    assert json.loads((tmp_path / "out/summary.json").read_text()) == summary


def test_the_range_of_values_leaves_out_what_is_not_finite(tmp_path: Path) -> None:
    pixels = np.linspace(-3, 5, 24 * 32, dtype=np.float32).reshape(1, 24, 32)
    pixels[0, 3, :2] = np.nan, np.inf
    write_image(tmp_path / "a/one.fits", pixels)
    write_image(tmp_path / "a/two.npy", random_pixels(0, (24, 32)))
    assert inspect(tmp_path, duplicates=False)["values"]["grey"] == [-3.0, 5.0]


def test_problems_stand_in_the_order_of_the_files_with_their_reasons(tmp_path: Path) -> None:
    source = mixed_source(tmp_path / "source")
    inspect(source, out=tmp_path / "out", duplicates=False)
    problems = pd.read_csv(tmp_path / "out/problems.csv")
    of_classes = ["fewer than 10 images of blob (5), ring (5)"]
    assert problems["problem"].tolist()[:1] == of_classes  # what concerns them all comes first
    assert problems["kind"].tolist()[:4] == ["class", "depth", "colour", "blank"]
    problems = problems.iloc[3:]
    assert problems["file"].tolist() == sorted(problems["file"])
    reasons = {Path(row.file).name: row.problem for row in problems.itertuples()}
    bad = bad_files(tmp_path / "again")
    for name, word in bad.items():
        assert word in reasons[name]
    assert reasons["zero.png"] == "blank: every pixel is 0"
    assert reasons["constant.npy"] == "blank: every pixel is 7"
    assert "NaN" in reasons["nan.fits"]
    assert problems.set_index("file")["severity"].value_counts().to_dict() == {
        "error": len(bad) + 3,
        "warning": 1,
    }


@pytest.mark.slow
def test_threads_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = mixed_source(tmp_path / "source")
    for name, cores in (("one", 1), ("eight", 8)):
        monkeypatch.setattr(parallel, "available_cores", lambda cores=cores: cores)
        inspect(source, out=tmp_path / name)
    for file in ("summary.json", "problems.csv", "classes.csv", "duplicates.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "eight" / file).read_bytes()
    one, eight = (Page(tmp_path / name / "inspect.html") for name in ("one", "eight"))
    assert one.images == eight.images


def test_the_first_usable_images_of_a_class_are_its_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(SAMPLES + 6):
        pixels = np.zeros((1, 24, 32), np.uint8) if n in (0, 3) else random_pixels(n, (24, 32), bands=1)
        write_image(tmp_path / f"a/{n:02d}.png", pixels)
    (tmp_path / "a/01.png").write_bytes(b"<html>")
    catalog = read_source(tmp_path).catalog
    statistics = measure_images(catalog, lambda row: read_image(row["file"]), fingerprints=False)
    assert [name for name, _ in statistics.samples["a"]] == [f"a/{n:02d}" for n in (2, *range(4, SAMPLES + 3))]
    for name, pixels in statistics.samples["a"]:
        np.testing.assert_array_equal(pixels, read_image(tmp_path / f"{name}.png").pixels[0])


def test_a_decoder_that_breaks_costs_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(tmp_path, ("ring",), per_class=3)

    second, made = np.asarray(pillow.open(tmp_path / "ring" / "ring_001.png")), raster._from_interleaved

    def breaks_once(pixels: np.ndarray) -> Any:
        if np.array_equal(pixels, second):
            raise RuntimeError("a bug\nof the decoder")
        return made(pixels)

    monkeypatch.setattr(raster, "_from_interleaved", breaks_once)
    summary = inspect(tmp_path, out=tmp_path / "out", duplicates=False)
    assert (summary["readable"], summary["errors"]) == (2, 1)
    problems = pd.read_csv(tmp_path / "out/problems.csv")
    assert problems["problem"][problems["severity"] == "error"].tolist() == [
        "cannot be decoded (a bug of the decoder); copy it again from its source"
    ]


def test_a_bug_behind_the_readers_is_an_error_that_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class_folders(tmp_path, ("ring",), per_class=1)

    def breaks(*_: object) -> None:
        raise TypeError("a bug of ours")

    monkeypatch.setattr(image_statistics, "check_pixels", breaks)
    with pytest.raises(TypeError, match="a bug of ours") as caught:
        inspect(tmp_path, duplicates=False)
    assert caught.value.__notes__ == [f"while inspecting {tmp_path / 'ring' / 'ring_000.png'}"]


@pytest.mark.slow
def test_a_pack_is_inspected_like_its_source(tmp_path: Path) -> None:
    table = image_table(tmp_path / "source", per_class=6)
    pack(table, tmp_path / "pack", splits=(1, 0, 0), duplicates=False)
    source, packed = inspect(table, out=tmp_path / "of_source"), inspect(tmp_path / "pack", out=tmp_path / "out")
    for name in ("images", "readable", "classes", "sizes", "bands", "types", "values", "errors", "duplicates"):
        assert packed[name] == source[name]
    of_source, of_pack = (pd.read_csv(tmp_path / name / "problems.csv")["problem"] for name in ("of_source", "out"))
    of_splits = [f"no labelled image is in the split {name!r}" for name in ("val", "test")]
    assert sorted(of_pack) == sorted([*of_source, *of_splits])
    assert packed["formats"] == {"pack": 18}
    assert sum(packed["splits"].values()) == source["splits"]["all"] == 18
    assert [image["alt"] for image in Page(tmp_path / "out/inspect.html").images[1:19]] == [
        f"{name}: object-{n:04d}" for k, name in ((0, "blob"), (2, "gradient"), (1, "ring")) for n in range(k, 18, 3)
    ]


def test_the_page_needs_no_other_file_and_says_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = mixed_source(tmp_path / "source")
    monkeypatch.setattr(audit_page, "LISTED", 4)
    inspect(source, out=tmp_path / "out", duplicates=False)
    problems = pd.read_csv(tmp_path / "out/problems.csv")
    unreadable = problems.loc[problems["kind"] == "unreadable", "problem"].drop_duplicates().tolist()
    page = Page(tmp_path / "out/inspect.html")
    assert page.fetched
    assert all(link.startswith(("data:image/", "#")) for link in page.fetched)
    assert all(image["alt"] for image in page.images)
    assert len(page.images) == 1 + 5 + 5 + 1  # the bars; two full classes; the one odd image of use
    for text in ("ring", "24x32", "float32", "all_nan.fits", "DS9", f"{len(unreadable) - 4} more are in"):
        assert text in page.text
    assert [problem in page.text for problem in unreadable] == [True] * 4 + [False] * (len(unreadable) - 4)
    assert page.text.index("Problems") < page.text.index("Samples")  # what matters is not buried at the end
    assert page.text.index("Files that cannot be read: ") < page.text.index("Classes and splits: 1 warning")
    assert (tmp_path / "out/inspect.html").stat().st_size < 1_000_000
    for name in ("classes.png", "samples.png"):
        with pillow.open(tmp_path / "out" / name) as picture:
            assert min(picture.size) > 100


def test_names_are_text_on_the_page(tmp_path: Path) -> None:
    class_folders(tmp_path / "source", ("<b>spiral & disc", "spiral_anticlockwise"), per_class=2)
    inspect(tmp_path / "source", out=tmp_path / "out", duplicates=False)
    page = Page(tmp_path / "out/inspect.html")
    assert "<b>spiral & disc" in page.text
    assert page.images[1]["alt"].startswith("<b>spiral & disc: ")


def test_a_source_without_a_readable_image_has_a_page_too(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/text.png").write_bytes(b"<html>")
    summary = inspect(tmp_path, out=tmp_path / "out")
    assert (summary["readable"], summary["values"]) == (0, {})
    assert "No image could be read" in Page(tmp_path / "out/inspect.html").text
    assert not (tmp_path / "out/samples.png").exists()


def at_80_columns(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """Replace the console by one of 80 columns; returns what it writes."""
    stream = StringIO()
    narrow = Console(file=stream, width=80, highlight=False, force_terminal=True, color_system=None)
    monkeypatch.setattr(console, "console", narrow)
    monkeypatch.setattr(verb, "console", narrow)
    return stream


def test_the_terminal_at_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = at_80_columns(monkeypatch)
    class_folders(tmp_path, ("spiral_anticlockwise", "ring"), splits={"train": 3, "val": 1, "test": 1})
    for n in range(25):
        (tmp_path / f"train/ring/bad_{n:02d}.png").write_bytes(b"")
    inspect(tmp_path, duplicates=False)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert [line.split() for line in lines if line.startswith(("class", "spiral"))] == [
        ["class", "train", "val", "test"],
        ["spiral_anticlockwise", "3", "1", "1"],
    ]
    name = tmp_path.name
    assert lines[-4:] == [
        f"25 left out, 1 warning, of {tmp_path.parent}:",
        f"  files that cannot be read: 25, the first {name}/train/ring/bad_00.png: the file is empty; copy it again "
        "from its source",
        f"  classes and splits: {name}: fewer than 10 images of spiral_anticlockwise (5)",
        "  `skyclass inspect SOURCE --out DIR` lists all of them",
    ]
    monkeypatch.setattr(verb, "SHOWN", 1)
    inspect(tmp_path, duplicates=False)
    assert stream.getvalue().splitlines()[-2].rstrip() == "  and 1 more of 1 kind"


@pytest.mark.parametrize(
    ("description", "total", "rate"),
    [("Inspecting", 300_000, "12,345 images/s"), ("Predicting validation and test", 9000, "1,234 images/s")],
)
def test_a_bar_is_whole_at_80_columns(description: str, total: int, rate: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = at_80_columns(monkeypatch)
    monkeypatch.setattr(bars.RateColumn, "render", lambda self, task: bars.Text(rate, no_wrap=True))
    with console.progress(description, total) as advance:
        advance(total)
    assert "…" not in stream.getvalue()
    assert f"{total}/{total} {rate} in 0:00:00" in stream.getvalue()


def test_the_time_of_a_bar() -> None:
    def shown(finished: bool, remaining: float | None = None, taken: float | None = None) -> str:
        task = SimpleNamespace(finished=finished, time_remaining=remaining, finished_time=taken)
        return bars.TimeColumn().render(task).plain

    assert shown(False) == ""
    assert shown(False, remaining=3725.4) == "1:02:05 left"
    assert shown(True, remaining=0.0, taken=65.9) == "in 0:01:05"


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared images are not here")
def test_real_radio_images() -> None:
    summary = inspect(SHARED / "data/radio/labels.csv", duplicates=False)
    assert (summary["images"], summary["readable"], summary["errors"]) == (635, 635, 5)  # five are all zero
    fits = inspect(SHARED / "data/radio/fits")
    assert (fits["images"], fits["errors"], fits["warnings"]) == (37, 0, 5)  # five hold NaN
