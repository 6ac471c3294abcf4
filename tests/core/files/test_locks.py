"""A run is trained by one command at a time: a second one says who holds it, and a dead one holds nothing."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from conftest import SmallRun
from helpers.commands import done, refused
from helpers.logged import Logged
from helpers.toys import toy_pack, toy_recipe, write_recipe
from skyclass.classifier.run import Run
from skyclass.core.errors import MachineError
from skyclass.core.files.locks import HOLDER, LOCK, held, holder_of, remove_dead_holder
from skyclass.training.run import begin_run

HOLD = """
import sys, time
from pathlib import Path
from skyclass.core.files.locks import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def another(run: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that trains the run, as far as others can tell."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack, a recipe of one epoch, and a run that has begun and not ended."""
    root = tmp_path_factory.mktemp("locks")
    pack = toy_pack(root / "pack", splits={"train": 3, "val": 2, "test": 1})
    recipe = toy_recipe(training={"epochs": 1})
    write_recipe(root, recipe)
    begin_run(recipe, pack, root / "run", "cpu")
    return root


def test_a_second_command_says_who_holds_the_run_and_a_dead_one_holds_nothing(place: Path) -> None:
    with another(place / "run") as process:
        for told in (
            refused("train", "--resume", place / "run"),
            refused("train", place / "recipe.yaml", place / "pack", "--out", place / "run"),
            refused("evaluate", place / "run"),
            refused("report", place / "run"),
        ):
            assert f"process {process.pid} on {platform.node()}, since 20" in told
            assert "wait for " in told
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (place / "run" / HOLDER).is_file()  # which the dead could not take away
        assert holder_of(place / "run") is None
        assert "continue it with `skyclass train --resume" in refused("evaluate", place / "run")
        done("train", "--resume", place / "run", "--device", "cpu")
    assert Run(place / "run").finished
    assert not (place / "run" / HOLDER).exists()


ENVIRONMENT = dict.fromkeys(("skyclass", "python", "machine", "device", "command"), "any") | {"packages": {}}


def test_a_member_is_held_with_its_ensemble(place: Path) -> None:
    ensemble = Run(place / "ensemble")
    provenance = {"pack": "p", "pack_hash": "h", "classes": ["a", "b"], "members": 2}
    ensemble = Run.create(ensemble.path, toy_recipe(), provenance, ENVIRONMENT)
    member = ensemble.create_member(ensemble.member_paths[0], toy_recipe())
    assert member.ensemble_path == ensemble.path
    assert ensemble.ensemble_path is None
    with another(ensemble.path):
        assert f"{ensemble.path}: this run is being trained by process" in refused("train", "--resume", member.path)


def test_a_run_that_has_ended_needs_no_lock(small_run_copy: Path) -> None:
    (small_run_copy / LOCK).unlink(missing_ok=True)
    assert "nothing to resume" in done("train", "--resume", small_run_copy).err
    assert not (small_run_copy / LOCK).exists()


@pytest.fixture
def small_run_copy(small_run: SmallRun, tmp_path: Path) -> Path:
    shutil.copytree(small_run.run, tmp_path / "run")
    return tmp_path / "run"


def test_a_disk_without_locks_goes_by_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    def none(self: FileLock, *_arguments: object, **_options: object) -> None:
        raise NotImplementedError("flock")

    with another(tmp_path) as process:
        monkeypatch.setattr(FileLock, "acquire", none)
        with pytest.raises(MachineError, match=f"process {process.pid} on "), held(tmp_path):
            pass
    with held(tmp_path):
        assert "keeps no locks" in logged()
        assert f'"pid": {os.getpid()}' in (tmp_path / HOLDER).read_text()


def test_a_trial_is_held_while_it_is_tuned(place: Path) -> None:
    command = ("tune", place / "recipe.yaml", place / "pack", "--out", place / "tuning")
    options = ("--space", "training.learning_rate=[0.001]", "--device", "cpu")
    done(*command, *options)
    assert (place / "tuning" / "trials" / "0000" / LOCK).is_file()
    assert not (place / "tuning" / "trials" / "0000" / HOLDER).exists()


def test_what_a_process_left_that_died_as_it_ended_is_removed(tmp_path: Path) -> None:
    with held(tmp_path):
        written = (tmp_path / HOLDER).read_text()
    (tmp_path / HOLDER).write_text(written)
    remove_dead_holder(tmp_path)
    assert not (tmp_path / HOLDER).exists()


def test_of_a_process_that_trains_nothing_is_removed(tmp_path: Path) -> None:
    with another(tmp_path):
        remove_dead_holder(tmp_path)
        assert (tmp_path / HOLDER).is_file()
