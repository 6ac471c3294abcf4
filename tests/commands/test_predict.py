"""What `skyclass predict` says of images that could not be predicted, and what is checked before it begins."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path

import pandas as pd
import pytest

from conftest import SmallRun
from helpers.commands import done, refused, skyclass, the_error
from skyclass.commands.predict import predict
from skyclass.core.errors import SkyclassError
from skyclass.models.network import BATCH

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures


@pytest.fixture
def images(small_run: SmallRun, tmp_path: Path) -> Path:
    """Three images that can be read."""
    folder = tmp_path / "images"
    folder.mkdir()
    for file in sorted(small_run.files.rglob("*.png"))[:3]:
        shutil.copy(file, folder / file.name)
    return folder


def spoil(folder: Path, n: int) -> None:
    """Make the first n images unreadable."""
    for file in sorted(folder.iterdir())[:n]:
        file.write_bytes(b"\x89PNG\r\n\x1a\n and no more")


def test_none_predicted_is_an_error_and_the_table_is_whole(small_run: SmallRun, images: Path, tmp_path: Path) -> None:
    spoil(images, 3)
    out = tmp_path / "p.parquet"
    result = skyclass("predict", small_run.run, images, "--out", out, "--device", "cpu")
    told = the_error(result)
    assert "none of 3 images could be predicted, the first because: " in told
    assert str(out) in told
    assert f"{tmp_path / 'p.problems.csv'} has the reason of each" in told
    assert "0 of 3 images predicted, 3 could not be read" in result.err
    assert "━" not in result.err  # a bar is for terminals
    frame = pd.read_parquet(out)
    assert frame["error"].notna().tolist() == [True] * 3
    assert frame["predicted"].isna().all()
    assert len(pd.read_csv(tmp_path / "p.problems.csv")) == 3


def test_some_unpredicted_are_an_error_when_strict(small_run: SmallRun, images: Path, tmp_path: Path) -> None:
    spoil(images, 1)
    words = ("predict", small_run.run, images, "--out", tmp_path / "p.parquet", "--device", "cpu")
    assert "2 of 3 images predicted, 1 could not be read" in done(*words).err
    told = refused(*words, "--strict")
    assert "1 of 3 images could not be predicted, the first because: " in told
    assert pd.read_parquet(tmp_path / "p.parquet")["predicted"].notna().sum() == 2
    with pytest.raises(SkyclassError, match=r"p\.parquet: 1 of 3 images could not be predicted"):
        predict(small_run.run, images, out=tmp_path / "p.parquet", device="cpu", strict=True)


def test_strict_is_content_where_all_are_predicted(small_run: SmallRun, images: Path, tmp_path: Path) -> None:
    spoiled = sorted(images.iterdir())[1:]
    for file in spoiled:
        file.unlink()
    told = done("predict", small_run.run, images, "--out", tmp_path / "p.parquet", "--device", "cpu", "--strict").err
    assert "1 of 1 image predicted, 0 could not be read" in told


REFUSED = {
    "predict RUN SOURCE --device abacus": "--device: 'abacus' is no device",
    "predict RUN SOURCE --batch-size 0": "--batch-size: 0 images at a time",
    "predict RUN SOURCE --out FILE/p.parquet": "is a file and no folder",
    "explain RUN SOURCE --device abacus": "--device: 'abacus' is no device",
    "explain RUN SOURCE --layer nonsense": "--layer: the backbone has no module 'nonsense'",
    "explain RUN SOURCE --method magic": "no method of explanation is called 'magic'",
    "explain RUN SOURCE --target nothing": "--target: no class is called 'nothing'",
    "explain RUN SOURCE --out FILE/e": "is a file and no folder",
    "inspect SOURCE --out FILE/i": "is a file and no folder",
    "pack SOURCE FILE/p": "is a file and no folder",
    "pack SOURCE OUT --pixels size=0": "--pixels size=0: ",
    "evaluate RUN --out FILE/e": "is a file and no folder",
    "tune lensing-demo PACK --out FILE/t": "is a file and no folder",
    "tune lensing-demo PACK --out OUT --device abacus": "--device: 'abacus' is no device",
}


@pytest.mark.parametrize(("words", "told"), REFUSED.items(), ids=list(REFUSED))
def test_arguments_are_checked_before_an_image_is_read(
    words: str, told: str, small_run: SmallRun, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    places = {"RUN": small_run.run, "PACK": small_run.pack, "SOURCE": images, "FILE": tmp_path / "file"}
    places["OUT"] = tmp_path / "out"
    for name, place in places.items():
        words = words.replace(name, str(place))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("an image is read")

    for module in ("images.decode", "data.packs.write", "commands.inspect"):
        monkeypatch.setattr(f"skyclass.{module}.read_image", never, raising=False)
    monkeypatch.setattr("skyclass.core.console.ShownProgress", never)
    assert told in refused(*words.split())


def test_a_bug_of_ours_is_an_error_with_its_traceback_and_no_row(
    small_run: SmallRun, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> None:
        raise TypeError("a bug of ours")

    monkeypatch.setattr("skyclass.images.preprocess.stretch", bug)
    words = ("predict", small_run.run, images, "--out", tmp_path / "p.parquet", "--device", "cpu")
    assert refused(*words) == "Error: TypeError: a bug of ours (add --debug to see where)"
    assert not (tmp_path / "p.parquet").exists()
    with pytest.raises(TypeError, match="a bug of ours") as caught:
        skyclass(*words, "--debug")
    assert caught.value.__notes__[0].startswith(f"while decoding {images}")


def test_images_computed_at_a_time_are_as_many_as_everywhere() -> None:
    """The command line does not import the module with the number, which imports torch."""
    assert inspect.signature(predict).parameters["batch_size"].default == BATCH
