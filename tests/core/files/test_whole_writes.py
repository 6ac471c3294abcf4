"""Every file that a user may rely on is whole or absent, and what stood there before stays until then."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from torch import nn

from helpers.commands import done, refused, skyclass
from helpers.make_data import class_folders
from helpers.toys import toy_pack
from skyclass.core.errors import MachineError, SkyclassError
from skyclass.core.files import replacing
from skyclass.core.files.atomic_files import write_text, written_whole
from skyclass.core.files.disk_errors import disk_error
from skyclass.core.files.replacing import REPLACING, finish_replacing, new_contents
from skyclass.core.files.temporary_names import is_part, part_of, remove_leftovers
from skyclass.core.plotting import save_figure
from skyclass.data.packs.pack import NOT_PACKED, Pack, new_pack
from skyclass.models.weight_files import save_networks

HOLD = """
import sys, time
from pathlib import Path
from skyclass.core.files.atomic_files import written_whole
with written_whole(Path(sys.argv[1])) as part:
    part.write_text("half of it")
    print("writing", flush=True)
    time.sleep(600)
"""


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# One file


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_weights_can_be_read_by_whom_the_umask_allows(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        save_networks(tmp_path / "model.safetensors", [nn.Linear(2, 1)])
    finally:
        os.umask(before)
    assert (tmp_path / "model.safetensors").stat().st_mode & 0o777 == mode


def test_a_file_is_on_the_disk_before_it_appears_and_its_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real_sync, real_replace = os.fsync, os.replace

    def fsync(descriptor: int) -> None:
        seen.append("folder" if Path(f"/proc/self/fd/{descriptor}").resolve() == tmp_path.resolve() else "file")
        real_sync(descriptor)

    def replace(source: object, target: object, **options: object) -> None:
        seen.append("rename")
        real_replace(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_text(tmp_path / "recipe.yaml", "seed: 1\n")
    assert seen == ["file", "rename", "folder"]


def test_what_a_dead_process_has_left_is_removed_and_what_a_live_one_writes_is_not(tmp_path: Path) -> None:
    target = tmp_path / "predictions.parquet"
    writers = [
        subprocess.Popen([sys.executable, "-c", HOLD, str(target)], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        for writer in writers:
            assert writer.stdout
            assert writer.stdout.readline() == "writing\n"
        assert len(names_in(tmp_path)) == 2
        writers[0].send_signal(signal.SIGKILL)
        writers[0].wait()
        write_text(tmp_path / "other.txt", "the next command in this folder")
        left = [name for name in names_in(tmp_path) if name != "other.txt"]
        assert len(left) == 1
        assert f"-{writers[1].pid}-" in left[0]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
            assert writer.stdout
            writer.stdout.close()
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == ["other.txt"]


def test_leftovers_of_other_machines_wait_for_a_week_and_files_of_others_for_ever(tmp_path: Path) -> None:
    own = part_of(tmp_path / "a.csv").name
    strange = own.replace(own.split(".")[3], "01234567")
    earlier = own.replace(own.split("-")[0].rpartition(".")[2], "89abcdef")  # before this machine was started anew
    users = [".mine.part", "film.part", ".a.1234.part"]
    for name in (own, strange, earlier, *users):
        (tmp_path / name).write_text("x")
    assert is_part(own)
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == sorted([own, strange, *users])
    for name in (strange, *users):
        os.utime(tmp_path / name, (1.0, 1.0))
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == sorted([own, *users])


def test_a_long_name_leaves_room_for_the_temporary_one(tmp_path: Path) -> None:
    write_text(tmp_path / ("n" * 255), "text")
    assert names_in(tmp_path) == ["n" * 255]


def test_a_figure_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_figure(Figure(), tmp_path / "curves.png")
    before = (tmp_path / "curves.png").read_bytes()

    def broken(self: Figure, target: Path, **options: object) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(mpl.figure.Figure, "savefig", broken)
    with pytest.raises(MachineError, match=r"curves\.png: the disk is full; make room there"):
        save_figure(Figure(), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes() == before
    assert names_in(tmp_path) == ["curves.png"]


# What the system refuses


def test_a_full_disk_is_said_with_the_file_and_the_way_out(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        with written_whole(path) as part:
            part.unlink()
            part.symlink_to("/dev/full")
            pd.DataFrame({"a": range(10_000)}).to_csv(part)

    with pytest.raises(MachineError, match=r"table\.csv: the disk is full; make room there, or name a folder"):
        write(tmp_path / "table.csv")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EROFS, "x"), "the disk can only be read; name a folder that you may write to"),
        (PermissionError(errno.EACCES, "x"), "no permission to read or write here"),
        (FileNotFoundError(errno.ENOENT, "x"), "no such file or folder, or it has vanished"),
        (OSError(errno.EIO, "x"), "the disk failed while it was read or written"),
        (OSError(errno.EDQUOT, "x"), "quota"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "the disk is full"),
        (OSError(errno.EXDEV, "Invalid cross-device link"), "Invalid cross-device link"),
    ],
)
def test_errors_of_the_system_in_words(error: Exception, words: str) -> None:
    said = str(disk_error(error, "out/run"))
    assert said.startswith("out/run: ")
    assert words in said
    assert "Errno" not in said
    assert "; " in said


def test_an_error_that_is_none_of_the_system_keeps_its_kind(tmp_path: Path) -> None:
    with pytest.raises(KeyError), written_whole(tmp_path / "a"):
        raise KeyError("a fault of ours")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("below", "words"),
    [
        ("file/run", "is a file and no folder; name another folder"),
        ("n" * 300, "the name is too long for this disk; name a shorter one"),
    ],
)
def test_commands_say_what_is_wrong_with_their_output(tmp_path: Path, below: str, words: str) -> None:
    class_folders(tmp_path / "images", ("a", "b"), splits={"train": 2})
    (tmp_path / "file").write_text("")
    for command in ("pack {}/images {}", "simulate lensing {1} --per-class 1 --size 16", "inspect {}/images --out {}"):
        told = refused(*command.format(tmp_path, tmp_path / below).split())
        assert words in told
        assert str(tmp_path) in told
        assert "Errno" not in told


def test_a_folder_that_vanishes_under_a_command(tmp_path: Path) -> None:
    def write(path: Path) -> None:
        with written_whole(path) as part:
            part.unlink()
            part.parent.rmdir()
            part.write_text("x")

    with pytest.raises(MachineError, match="no such file or folder, or it has vanished"):
        write(tmp_path / "gone" / "a.csv")


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits there")
@pytest.mark.parametrize("kind", ["lensing", "galaxies"])
def test_class_folders_that_the_disk_refuses_are_said_with_the_path(tmp_path: Path, kind: str) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, before[1]))
    try:
        told = refused("simulate", kind, tmp_path / "out", "--per-class", 1, "--size", 32, "--as", "folders")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"Error: {tmp_path / 'out'}/" in told
    assert f"{kind}-0-0000000." in told
    assert "the file is larger than this disk, or a limit of the system (ulimit -f), allows; make room there" in told
    assert not any((tmp_path / "out").iterdir())


# An output in place of an old one


def test_overwrite_keeps_the_old_pack_where_no_new_one_can_be_made(tmp_path: Path) -> None:
    class_folders(tmp_path / "images", ("a", "b"), splits={"train": 3, "val": 1})
    done("pack", tmp_path / "images", tmp_path / "pack")
    before = {name: (tmp_path / "pack" / name).read_bytes() for name in names_in(tmp_path / "pack")}
    for file in (tmp_path / "images").rglob("*.*"):
        file.write_bytes(b"damaged")
    told = refused("pack", tmp_path / "images", tmp_path / "pack", "--overwrite")
    assert str(tmp_path / "pack" / NOT_PACKED) in told
    assert (tmp_path / "pack" / NOT_PACKED).is_file()
    (tmp_path / "pack" / NOT_PACKED).unlink()
    assert {name: (tmp_path / "pack" / name).read_bytes() for name in names_in(tmp_path / "pack")} == before


def test_overwrite_keeps_old_class_folders_and_files_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("simulate", "lensing", tmp_path / "lenses", "--per-class", 2, "--size", 16, "--as", "folders")
    done(*command)
    before = sorted(path for path in (tmp_path / "lenses").rglob("*") if path.is_file())
    (tmp_path / "lenses" / "notes.txt").write_text("mine")
    with monkeypatch.context() as broken:
        broken.setattr(np, "save", lambda *_args, **_options: os.close(10**6))
        assert skyclass(*command, "--overwrite", "--seed", 5).code == 1
    assert (
        sorted(path for path in (tmp_path / "lenses").rglob("*") if path.is_file() and path.name != "notes.txt")
        == before
    )
    done(*command, "--overwrite", "--seed", 5)
    now = sorted(path for path in (tmp_path / "lenses").rglob("*") if path.is_file())
    assert not {path for path in before if path.suffix == ".npy"} & set(now)
    assert len(now) == len(before) + 1
    assert not list((tmp_path / "lenses").glob(".*"))


class Killed(BaseException):
    """In place of SIGKILL."""


def killed_while_replacing(folder: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Replace the pack in `folder`, dying before change number `at` of its files; whether it came to that."""
    count = 0

    def dying(name: str) -> None:
        original = getattr(Path, name)

        def method(self: Path, *arguments: object, **options: object) -> object:
            nonlocal count
            if str(folder) in str(self) and ".part" not in self.name:
                count += 1
                if count == at:
                    raise Killed
            return original(self, *arguments, **options)

        patch.setattr(Path, name, method)

    with monkeypatch.context() as patch:
        try:
            with new_pack(folder, overwrite=True) as new:
                toy_pack(new, splits={"train": 1})
                for name in ("replace", "unlink", "rmdir"):
                    dying(name)
                patch.setattr(
                    replacing, "remove", lambda path: path.unlink(missing_ok=True) if path.is_file() else None
                )
        except Killed:
            return True
    return False


def test_a_kill_in_the_middle_leaves_the_old_pack_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for at in range(1, 60):
        folder = tmp_path / str(at)
        n_old = len(toy_pack(folder).images)
        (folder / "notes.txt").write_text("mine")
        (folder / "duplicates.csv").write_text("of the old one")
        was_killed = killed_while_replacing(folder, at, monkeypatch)
        n = len(Pack.open(folder).images)
        assert n in (n_old, 3)
        assert (folder / "notes.txt").is_file()
        assert (folder / "duplicates.csv").exists() == (n == n_old)
        assert not (folder / REPLACING).exists()
        seen.append(n)
        if not was_killed:
            break
    assert 3 in seen[:-1]
    assert len(seen) > 4


def test_another_output_is_built_aside_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    write_text(tmp_path / "out" / "key.json", "old")
    write_text(tmp_path / "out" / "gone.png", "old")
    with new_contents(tmp_path / "out", "key.json", lambda: ["key.json", "gone.png"]) as stage:
        (stage / "deep").mkdir()
        write_text(stage / "deep" / "a.txt", "new")
        write_text(stage / "key.json", "new")
        assert (tmp_path / "out" / "key.json").read_text() == "old"
    assert names_in(tmp_path / "disk") == ["deep", "key.json"]
    assert (tmp_path / "out" / "key.json").read_text() == "new"
    finish_replacing(tmp_path / "out")
    assert (tmp_path / "out").is_symlink()


def test_a_stage_is_not_named_to_the_user(tmp_path: Path) -> None:
    with (
        pytest.raises(SkyclassError) as refusal,
        new_contents(tmp_path / "out", "key.json") as stage,
    ):
        raise SkyclassError("no image", where=stage / "images.npy")
    assert refusal.value.where == str(tmp_path / "out" / "images.npy")
    assert not (tmp_path / "out").exists()  # nothing came of it


def test_pixels_that_are_mapped_have_their_room_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from skyclass.data.packs.resize import resize_for_training
    from skyclass.recipes.data_settings import PixelSettings

    pack = toy_pack(tmp_path)

    def full(*_arguments: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(MachineError, match="the disk is full"):
        resize_for_training(pack, PixelSettings(size=(6, 8)))
    assert not any((tmp_path / "prepared").iterdir())
    monkeypatch.undo()
    assert resize_for_training(pack, PixelSettings(size=(6, 8))).shape == (48, 1, 6, 8)


def test_a_trial_that_the_machine_ended_has_not_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers.toys import toy_recipe, write_recipe
    from skyclass.commands.tune import tune
    from skyclass.training.tuning import worker as work

    pack = toy_pack(tmp_path / "pack")
    recipe = write_recipe(tmp_path, toy_recipe(training={"epochs": 1}))
    options = {"out": tmp_path / "tuning", "space": ["training.learning_rate=[0.001]"], "device": "cpu"}

    def full(*_arguments: object) -> None:
        raise MachineError("the disk is full", where=tmp_path, fix="make room there")

    with monkeypatch.context() as patch:
        patch.setattr(work, "finish_run", full)
        with pytest.raises(MachineError):
            tune(recipe, pack.path, **options)
    tune(recipe, pack.path, **options)
    assert pd.read_csv(tmp_path / "tuning" / "tuning.csv")["state"].tolist() == ["complete"]
