"""Tunings that train for real: killed at any moment, shared by processes and by machines, and gone on with."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pandas as pd
import pytest
import torch

from helpers.commands import done, drawn
from helpers.killing import in_a_process
from helpers.postgres import postgres_server
from helpers.toys import toy_pack, toy_recipe, write_recipe
from helpers.trainings import last_state
from helpers.tunings import tuned
from skyclass.classifier.run import Run
from skyclass.commands.steps import tune as steps
from skyclass.commands.train import train
from skyclass.commands.tune import tune
from skyclass.core.errors import SkyclassError
from skyclass.recipes.recipe import Recipe
from skyclass.training.loop.checkpoints import read_checkpoint
from skyclass.training.tuning import study
from skyclass.training.tuning.folder import TuningFolder

# Processes that import torch take minutes on a machine that is busy with other things.
pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]

GRID = {"training.learning_rate": [1e-3, 1e-2], "training.label_smoothing": [0.0, 0.1]}


def small(**tune_: Any) -> Recipe:
    """One epoch of two steps, with a checkpoint after each."""
    return toy_recipe(
        training={"epochs": 1, "checkpoint_steps": 1}, tune={"space": GRID, "metric": "val_auroc", **tune_}
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tunings")
    toy_pack(root / "pack", splits={"train": 4, "val": 2, "test": 1})
    write_recipe(root, small())
    return root


def job_of(root: Path, name: str, how: str = "once", storage: str | None = None) -> dict[str, Any]:
    return {
        "tune": True,
        "run": str(root / name),
        "recipe": str(root / "recipe.yaml"),
        "pack": str(root / "pack"),
        "log": str(root / f"{name}-{how}.log"),
        "how": how,
        "storage": storage,
    }


def results(folder: Path) -> pd.DataFrame:
    return tuned(folder).drop(columns="seconds")


def trainings(folder: Path) -> dict[str, int]:
    """How often the training of each trial came to its end."""
    return {log.stem: log.read_text(encoding="utf-8").count("Test: ") for log in sorted(folder.glob("trials/*.log"))}


def processes(*folders: Path) -> set[str]:
    """The processes that have trained, by the names of their TensorBoard files."""
    return {file.name.split(".")[-2] for folder in folders for file in folder.glob("trials/*/log/events*")}


@pytest.fixture(scope="module")
def kills(root: Path) -> dict[str, list[str]]:
    """A tuning that nothing interrupted, one killed at moments of all kinds, one killed at random, and one of two."""
    shared = {"how": "together", "jobs": [job_of(root, "shared", "one"), job_of(root, "shared", "other")]}
    return in_a_process(
        root, [job_of(root, "whole"), job_of(root, "moments", "tunings"), job_of(root, "killed1", "random"), shared]
    )


@pytest.mark.kill
@pytest.mark.parametrize("name", ["moments", "killed1"])
def test_a_killed_tuning_ends_as_if_nothing_had_been(root: Path, kills: dict[str, list[str]], name: str) -> None:
    assert len(kills[name]) == 9 if name == "moments" else kills[name], kills
    pd.testing.assert_frame_equal(results(root / name), results(root / "whole"))
    assert trainings(root / name) == {f"{number:04d}": 1 for number in range(4)}
    for number in range(4):
        runs = [TuningFolder(root / one).run(number) for one in (name, "whole")]
        assert Run(runs[0]).history_file.read_text() == Run(runs[1]).history_file.read_text()
    best = tuned(root / "whole").set_index("run")["val_auroc"].idxmax()
    kept, wanted = (last_state(root / one / str(best)) for one in (name, "whole"))
    assert all(torch.equal(kept[key], wanted[key]) for key in wanted)
    assert (root / name / "best.yaml").read_text() == (root / "whole" / "best.yaml").read_text()


@pytest.mark.kill
def test_two_processes_share_a_study(root: Path, kills: dict[str, list[str]]) -> None:
    assert kills
    pd.testing.assert_frame_equal(results(root / "shared"), results(root / "whole"))
    assert trainings(root / "shared") == {f"{number:04d}": 1 for number in range(4)}
    assert len(processes(root / "shared")) == 2


def test_two_machines_share_a_study_in_postgresql(root: Path) -> None:
    """Each with a folder of its own, which the other does not see."""
    expected = tuned_once(root)
    folders = [root / "machine1", root / "machine2"]
    with postgres_server() as url:
        jobs = [job_of(root, folder.name, "once", url) for folder in folders]
        in_a_process(root, [{"how": "together", "jobs": jobs}])
        tune(root / "recipe.yaml", root / "pack", out=folders[0], storage=url, device="cpu")
        tune(root / "recipe.yaml", root / "pack", out=folders[1], storage=url, device="cpu")
    tables = [results(folder) for folder in folders]
    columns = [name for name in tables[0] if name != "run"]
    for table in tables:
        pd.testing.assert_frame_equal(table[columns], expected[columns])
    assert sorted([*trainings(folders[0]), *trainings(folders[1])]) == [f"{number:04d}" for number in range(4)]
    assert len(processes(*folders)) == 2
    assert [table["run"].notna().sum() for table in tables] == [len(trainings(folder)) for folder in folders]


@pytest.mark.kill
def test_jobs_are_processes_that_end_with_their_command(root: Path) -> None:
    folder = TuningFolder(root / "jobs")
    words = ["tune", str(root / "recipe.yaml"), str(root / "pack"), "--out", str(folder.path), "--device", "cpu"]
    words += ["--jobs", "2"]
    command = subprocess.Popen([sys.executable, "-m", "skyclass", *words], stderr=subprocess.DEVNULL)
    try:
        until(lambda: any(folder.trials.glob("*.log")))
    finally:
        command.send_signal(signal.SIGKILL)
        command.wait()

    def all_are_gone() -> bool:
        locks = [folder.lock_trial(number) for number in range(2)]
        for lock in locks:
            if lock:
                lock.release()
        return all(locks)

    until(all_are_gone)
    shown = done(*words)
    assert shown.err.count("complete") >= 2
    assert "Tuning: " in shown.err
    pd.testing.assert_frame_equal(results(folder.path), tuned_once(root))
    assert trainings(folder.path) == {f"{number:04d}": 1 for number in range(4)}


def tuned_once(root: Path) -> pd.DataFrame:
    if not (root / "whole" / "best.yaml").is_file():
        tune(root / "recipe.yaml", root / "pack", out=root / "whole", device="cpu")
    return results(root / "whole")


def until(condition: Any, seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_process_that_stops_says_why(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Process:
        """Does at once, and here, what a process would do."""

        def __init__(self, target: Callable[..., None], args: tuple[object, ...]) -> None:
            self.target, self.args, self.exitcode = target, args, 0

        def start(self) -> None:
            try:
                self.target(*self.args)
            except SystemExit as end:
                self.exitcode = int(str(end.code))

        def is_alive(self) -> bool:
            return False

        def terminate(self) -> None:
            pass

        def join(self) -> None:
            pass

    monkeypatch.setattr(steps.multiprocessing, "get_context", lambda _method: SimpleNamespace(Process=Process))
    recipe = write_recipe(tmp_path, small())
    monkeypatch.setattr(steps, "run_trials", lambda *_arguments: 1 / 0)
    with pytest.raises(SkyclassError, match=r"process 0 stopped \(ZeroDivisionError: division by zero\)") as failed:
        tune(recipe, root / "pack", out=tmp_path / "t", jobs=2, device="cpu")
    assert failed.value.where == str(tmp_path / "t" / "process-0.log")
    assert "Traceback" in (tmp_path / "t" / "process-1.log").read_text()
    monkeypatch.setattr(steps, "run_trials", lambda *_arguments: the_disk_is_full())
    with pytest.raises(SkyclassError, match=r"process 0 stopped \(t: the disk is full; make room\)"):
        tune(recipe, root / "pack", out=tmp_path / "t", jobs=2, device="cpu")


def the_disk_is_full() -> None:
    raise SkyclassError("the disk is full", where="t", fix="make room")


def test_the_best_model_is_trained_for_longer(root: Path, tmp_path: Path) -> None:
    before, folder = tuned_once(root), tmp_path / "tuning"
    shutil.copytree(root / "whole", folder)
    best = folder / str(before.set_index("run")["val_auroc"].idxmax())
    train(resume=best, overrides=["training.epochs=+2"], device="cpu")
    history = pd.read_csv(Run(best).history_file)
    assert history["epoch"].tolist() == [1, 2, 3]
    assert read_checkpoint(Run(best).last_checkpoint)["global_step"] == 3 * 2
    # The tuning knows its trial as it was judged.
    tune(root / "recipe.yaml", root / "pack", out=folder, device="cpu")
    pd.testing.assert_frame_equal(results(folder), before)

    done("train", folder / "best.yaml", root / "pack", "--out", tmp_path / "again", "--device", "cpu")
    again = pd.read_csv(tmp_path / "again" / "history.csv")
    assert again["val_auroc"].iloc[0] == history["val_auroc"].iloc[0]


def test_pruning_ends_a_training(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by the recipe, but for the five trials that go before the median of Optuna is asked."""
    monkeypatch.setattr(study, "_pruner", lambda recipe: optuna.pruners.MedianPruner(n_startup_trials=1))
    space = {"training.learning_rate": [1e-9, 1e-2], "training.schedule": ["none"]}
    recipe = toy_recipe(training={"epochs": 3}, tune={"space": space, "metric": "val_loss", "pruner": "median"})
    folder = tune(write_recipe(tmp_path, recipe), root / "pack", out=tmp_path / "t", device="cpu")
    table = tuned(folder).set_index("training.learning_rate")
    assert table["number"].tolist() == [0, 1]
    lengths = [len(pd.read_csv(folder / run / "history.csv")) for run in table["run"]]
    assert table["state"].tolist() == ["complete", "pruned"]
    assert lengths[0] == 3 > lengths[1]
    assert drawn(folder / "history.png")


def test_a_loss_that_is_not_finite_fails_its_trial_alone(root: Path, tmp_path: Path) -> None:
    recipe = toy_recipe(training={"epochs": 1}, tune={"space": {"training.learning_rate": [1e-3, 1e30]}})
    folder = tune(write_recipe(tmp_path, recipe), root / "pack", out=tmp_path / "t", device="cpu")
    table = tuned(folder).set_index("training.learning_rate")
    assert table.loc[1e-3, "state"] == "complete"
    assert table.loc[1e30, "state"] == "failed"
    assert "the loss is nan" in str(table.loc[1e30, "problem"])
