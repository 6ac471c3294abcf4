"""A training in several processes: as good as in one, each image counted once, one run; all of them end together."""

from __future__ import annotations

import json
import os
import pickle
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from helpers.commands import done, refused
from helpers.paths import with_tests
from helpers.same_runs import assert_same_run
from helpers.toys import SHAPES, toy_pack, toy_recipe, write_recipe
from helpers.trainings import last_state
from skyclass.classifier.classifier import Classifier
from skyclass.classifier.run import Run
from skyclass.commands.train import train
from skyclass.core.devices import check_devices
from skyclass.core.errors import SkyclassError
from skyclass.data.packs.pack import Pack, PackChunk, write_pack
from skyclass.models.network import NetworkOutput
from skyclass.training import launch
from skyclass.training.launch import watch
from skyclass.training.loop.losses import loss_terms, total_loss

STILL = {"lora": {"rank": 4, "train_norms": False}, "uncertainty": True}
RECIPES: dict[str, dict[str, Any]] = {
    # Nothing depends on who else is in a share of a batch, so that the shares make up the batch.
    "still": {
        "model": STILL,
        "augment": {"flip_horizontal": 0.5, "rotation": 30.0},
        "training": {
            "epochs": 2,
            "batch_size": 7,
            "optimizer": "sgd",
            "learning_rate": 0.02,
            "class_weights": "balanced",
            "label_smoothing": 0.1,
            "accumulate": 2,
            "clip": 1.0,
        },
    },
    "usual": {
        "model": {"uncertainty": True, "dropout": 0.2},
        "augment": {"flip_horizontal": 0.5},
        "training": {
            "epochs": 4,
            "batch_size": 8,
            "validations_per_epoch": 2,
            "averaging": "ema",
            "ema_decay": 0.5,
            "schedule": "plateau",
            "plateau_monitor": "val_accuracy",
            "plateau_patience": 0,
            "early_stopping": 2,
            "keep_best": 2,
        },
    },
    "short": {"training": {"epochs": 1, "batch_size": 8}},
}
JOBS = (
    {"run": "still/one", "world": 1},
    {"run": "still/two", "world": 2},
    {"run": "usual/two", "world": 2},
    {"run": "usual/killed", "world": 2, "prepare": ("die in mid-segment", 1)},
    {"run": "usual/killed", "world": 2, "prepare": ("die before the last checkpoint", 0)},
    {"run": "usual/killed", "world": 2},
    {"run": "short/four", "world": 4},
    {"run": "short/slurm", "world": 2, "how": "slurm"},
    {"run": "short/nan", "world": 2, "prepare": ("nan", 1)},
    {"run": "short/ensemble", "world": 2, "options": {"ensemble": 2}},
    {"run": "short/rate", "world": 2, "options": {"find_rate": True}},
)


class Place(NamedTuple):
    """The runs of the jobs by name, and the exit statuses of their processes."""

    root: Path
    statuses: list[list[int]]

    def run(self, name: str) -> Run:
        return Run(self.root / name)

    def log(self, name: str, rank: int) -> str:
        return (self.root / f"{name}.log.{rank}").read_text()

    def validated(self, name: str) -> pd.DataFrame:
        path = self.root / f"{name}.log.validated"
        return pd.read_csv(path, sep=" ", names=["segment", "row", "rank"])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """All jobs, one after the other, in forks of one process, which imports torch once."""
    root = tmp_path_factory.mktemp("devices")
    # 22 training images in unequal classes, and 3 for validation: fewer than four processes.
    pack = toy_pack(root / "pack", splits={"train": 8, "val": 1, "test": 2})
    catalog = pack.catalog.copy()
    catalog.loc[catalog["image_id"].isin(["train-ring-6", "train-ring-7"]), "split"] = None
    write_pack(
        [PackChunk(np.array(pack.images), catalog)], pack.path, pack.pixels, classes=None, source={"kind": "toys"}
    )
    for name, sections in RECIPES.items():
        write_recipe(root / name, toy_recipe(**sections))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    jobs = [
        {
            **job,
            "run": str(root / job["run"]),
            "log": str(root / f"{job['run']}.log"),
            "recipe": str(root / job["run"].split("/")[0] / "recipe.yaml"),
            "pack": str(root / "pack"),
            "port": port,
        }
        for job in JOBS
    ]
    (root / "jobs.json").write_text(json.dumps(jobs))
    command = [sys.executable, "-m", "helpers.joining", str(root / "jobs.json")]
    environment = {**with_tests(), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280, env=environment)
    assert result.returncode == 0, result.stderr[-3000:]
    return Place(root, json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.kill
@pytest.mark.slow
def test_the_processes_end_as_they_should(place: Place) -> None:
    logs = "\n".join(f"{path.name}\n{path.read_text()}" for path in place.root.glob("*/*.log.?"))
    killed, nan = [-9, -9], [3, 3]
    expected = [[0], [0, 0], [0, 0], killed, killed, [0, 0], [0, 0, 0, 0], [0, 0], nan, [0, 0], [0, 0]]
    assert place.statuses == expected, logs


@pytest.mark.slow
def test_two_processes_train_as_one_does(place: Place) -> None:
    """Unequal shares, class weights, accumulated and clipped gradients: the weights are those of one process."""
    one, two = place.run("still/one"), place.run("still/two")
    expected, found = last_state(one.path), last_state(two.path)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-5, atol=1e-5, msg=lambda text, name=name: f"{name} {text}"
        )
    histories = [pd.read_csv(run.history_file) for run in (one, two)]
    pd.testing.assert_frame_equal(*histories, check_exact=False, rtol=1e-4)
    frames = [pd.read_parquet(run.predictions_file) for run in (one, two)]
    pd.testing.assert_frame_equal(*frames, check_exact=False, rtol=1e-3, atol=1e-5)
    fresh = torch.load(one.last_checkpoint, weights_only=True)["optimizer_states"][0]["state"]
    assert max(float(state["momentum_buffer"].abs().max()) for state in fresh.values()) > 1e-3  # something was learnt


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ranks"), [("usual/two", {0, 1}), ("short/four", {0, 1, 2}), ("still/two", {0, 1})])
def test_each_image_is_validated_once(place: Place, name: str, ranks: set[int]) -> None:
    """By one process of those that have a share: of four, one has none of three images."""
    validated = place.validated(name)
    rows = set(np.flatnonzero(Pack.open(place.root / "pack").catalog["split"] == "val"))
    assert len(rows) == 3
    for _, group in validated.groupby("segment"):
        assert sorted(group["row"]) == sorted(rows)
    assert set(validated["rank"]) == ranks
    assert validated["segment"].nunique() == len(pd.read_csv(place.run(name).history_file))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["usual/two", "short/four", "short/slurm"])
def test_each_image_is_predicted_once_and_the_scores_are_those_of_one_process(place: Place, name: str) -> None:
    run = place.run(name)
    frame, catalog = pd.read_parquet(run.predictions_file), Pack.open(place.root / "pack").catalog
    chosen = pd.concat([catalog[catalog["split"] == split] for split in ("val", "test")])
    assert frame["image_id"].tolist() == chosen["image_id"].tolist()
    images = Pack.open(place.root / "pack").images[chosen.index]
    p = Classifier.load(run.path, device="cpu").predict_proba(np.asarray(images))
    np.testing.assert_allclose(frame[[f"p_{name}" for name in sorted(SHAPES)]], p, rtol=1e-4, atol=1e-6)
    history = pd.read_csv(run.history_file)
    best = history.loc[history["val_loss"].idxmin()]
    truth = chosen["label"].iloc[:3]
    assert best["val_log_loss"] == pytest.approx(
        log_loss(truth, p[:3].astype(np.float64), labels=sorted(SHAPES)), rel=1e-4
    )
    assert best["val_accuracy"] == pytest.approx(accuracy_score(truth, frame["predicted"].iloc[:3]))


@pytest.mark.slow
def test_a_training_in_two_processes_learns(place: Place) -> None:
    history = pd.read_csv(place.run("usual/two").history_file)
    assert history["train_loss"].iloc[-1] < 0.7 * history["train_loss"].iloc[0]
    assert history["train_accuracy"].iloc[-1] > 0.6


@pytest.mark.kill
@pytest.mark.slow
def test_two_processes_that_were_killed_go_on_as_if_nothing_had_been(place: Place) -> None:
    """One was killed in mid-segment, later the other before a checkpoint: equal to the last bit."""
    assert_same_run(place.run("usual/killed"), place.run("usual/two"))


@pytest.mark.slow
def test_the_first_process_alone_writes_and_speaks(place: Place) -> None:
    names = {path.name for path in place.run("still/one").path.iterdir()}
    assert {path.name for path in place.run("still/two").path.iterdir()} == names
    assert len(list((place.run("still/two").path / "log").glob("events*"))) == 1
    assert place.log("still/two", 1) == ""
    log = place.log("still/two", 0)
    assert "on 2 x cpu, 1 thread in float32" in log
    assert len(re.findall(r"^epoch +[12]/2 ", log, re.MULTILINE)) == 2
    assert re.search(r"^Epoch 2: 44 of 44 images \(100%\)", log, re.MULTILINE), log  # images of all processes
    assert pd.read_json(place.run("still/two").training_file, typ="series")["device"] == "2 x cpu, 1 thread"


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_all_with_the_images_of_the_process_that_had_it(place: Place) -> None:
    first, second = (place.log("short/nan", rank).splitlines()[-1] for rank in (0, 1))
    assert first == second
    found = re.fullmatch(r"Error: training: the loss is nan at epoch 1, step 3; .* this step: (.*), \.\.\.", first)
    assert found
    assert 0 < len(found[1].split(", ")) < 7  # of the seven in the batch
    assert not place.run("short/nan").path.exists()


@pytest.mark.slow
def test_an_ensemble_is_shared_as_well(place: Place) -> None:
    run = place.run("short/ensemble")
    assert [Run(path).finished for path in run.member_paths] == [True, True]
    assert Classifier.load(run.path, "cpu").made_from["best_epoch"] == 1.0
    assert len(pd.read_parquet(run.predictions_file)) == 9
    first = Run(run.member_paths[0])  # what the recipe's own seed gives
    assert first.history_file.read_text() == place.run("short/slurm").history_file.read_text()


@pytest.mark.slow
def test_one_process_finds_the_rate_for_all(place: Place) -> None:
    """On whole batches: as it would alone."""
    run = place.run("short/rate")
    assert run.recipe().training.learning_rate != 3e-3
    assert len(pd.read_csv(run.rates_file)) > 10
    assert place.log("short/rate", 0).count("Learning rate: ") == 1
    assert place.log("short/rate", 1) == ""


@pytest.mark.parametrize("loss", ["cross_entropy", "focal"])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 3.0])])
@pytest.mark.parametrize("uncertain", [False, True])
def test_terms_of_parts_of_a_batch_make_up_its_loss(loss: str, weights: torch.Tensor | None, uncertain: bool) -> None:
    generator = torch.Generator().manual_seed(5)
    logits, labels = torch.randn(9, 3, generator=generator), torch.randint(3, (9,), generator=generator)
    error_logits = torch.randn(9, generator=generator) if uncertain else None
    recipe = toy_recipe(training={"loss": loss, "label_smoothing": 0.1, "uncertainty_weight": 0.3}).training
    whole = total_loss(NetworkOutput(logits, error_logits), labels, weights, recipe)
    parts = [
        loss_terms(
            NetworkOutput(logits[part], None if error_logits is None else error_logits[part]),
            labels[part],
            weights,
            recipe,
        )
        for part in (slice(0, 2), slice(2, 9))
    ]
    divisors = sum(divisor for _, divisor in parts)
    joined = sum(terms * divisor for terms, divisor in parts) / divisors
    torch.testing.assert_close(joined.sum(), whole)


# Starting them, and their common end


@pytest.mark.slow
def test_the_command_trains_in_two_processes(place: Place, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = (place.root / "short" / "recipe.yaml", place.root / "pack", "--out", tmp_path / "run", "--device", "cpu")
    result = done("train", *words, "--devices", 2)
    assert f"Run: {tmp_path / 'run'}" in result.err
    said = capfd.readouterr().err  # by the processes, which have the terminal
    assert said.count("training and 3 validation images") == 1
    assert "on 2 x cpu, 1 thread in float32" in said
    assert len(re.findall(r"^epoch +1/1 ", said, re.MULTILINE)) == 1
    assert not re.search(r"\.py:\d+: ", said)  # no warning of a library
    run = Run(tmp_path / "run")
    assert run.finished
    pd.testing.assert_frame_equal(  # to the last bit what torchrun's processes would do
        pd.read_csv(run.history_file), pd.read_csv(place.run("short/slurm").history_file), check_exact=True
    )
    assert "nothing to resume" in done("train", "--resume", tmp_path / "run", "--devices", 2).err


def python(*lines: str) -> list[str]:
    return [sys.executable, "-S", "-c", "\n".join(("import os, pickle, signal, sys, time", *lines))]


WAITS = python("os.read(0, 1)")


def watched(folder: Path, *commands: list[str]) -> None:
    """Watch the commands; each finds the file of its report in REPORT."""
    reports = [folder / str(i) for i in range(len(commands))]
    watch(commands, [{**os.environ, "REPORT": str(report)} for report in reports], reports)


def test_all_have_to_end_well(tmp_path: Path) -> None:
    watched(tmp_path, python(f"open({str(tmp_path / 'a')!r}, 'w')"), python("time.sleep(0.2)"))
    assert (tmp_path / "a").is_file()


def test_the_clear_error_of_one_ends_the_others(tmp_path: Path) -> None:
    """Though another one failed before, of what the first was about to do."""
    clear, other = SkyclassError("too dark", where="m31.fits", fix="wait"), RuntimeError("connection closed")
    later = ("time.sleep(0.1)", f"open(os.environ['REPORT'], 'wb').write({pickle.dumps(clear)!r})", "sys.exit(1)")
    sooner = (f"open(os.environ['REPORT'], 'wb').write({pickle.dumps(other)!r})", "sys.exit(1)")
    with pytest.raises(SkyclassError, match=re.escape("m31.fits: too dark; wait")) as caught:
        watched(tmp_path, WAITS, python(*later), python(*sooner))
    assert (caught.value.what, caught.value.where, caught.value.fix) == ("too dark", "m31.fits", "wait")
    with pytest.raises(RuntimeError, match="connection closed"):
        watched(tmp_path / "more", WAITS, python("os.makedirs(os.path.dirname(os.environ['REPORT']))", *sooner))


def test_a_process_that_was_killed_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(SkyclassError, match="process 1 of 2 was killed by SIGKILL; the machine may be short of memory"):
        watched(tmp_path, WAITS, python("os.kill(os.getpid(), signal.SIGKILL)"))
    with pytest.raises(SkyclassError, match="process 0 of 2 ended with status 7"):
        watched(tmp_path, python("sys.exit(7)"), WAITS)


def test_ctrl_c_ends_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launch.time, "sleep", stop)
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *words, **more: started.append(popen(*words, **more)) or started[-1]
    )
    with pytest.raises(KeyboardInterrupt):
        watched(tmp_path, WAITS, WAITS)
    assert [worker.returncode for worker in started] == [-9, -9]


def test_an_error_keeps_where_it_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    for error in (ValueError("a", 2), OddError(open)):  # the second has no pickle
        try:
            raise error
        except Exception as caught:
            launch._write_error(caught, tmp_path / "report")
        found = pickle.loads((tmp_path / "report").read_bytes())
        assert (type(found), found.args) == (ValueError, ("a", 2)) or str(found).startswith("OddError: ")
        assert "In process 1:" in found.__notes__[0]
        assert "test_devices.py" in found.__notes__[0]


class OddError(Exception):
    """One that cannot be pickled."""

    def __reduce__(self) -> str:
        raise TypeError


# What is refused


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "--num-nodes 2",
            "--num-nodes: a training on several nodes is started on each of them; .* torchrun, or .* srun",
        ),
        (
            "--devices 2 --device cuda:1",
            "--devices: 2 devices, and --device cuda:1 is one; use --device auto, cpu or cuda",
        ),
        (
            "--devices 3 --device cuda",
            "--devices: this machine has 2 CUDA devices, not 3; use --devices 2, or --device cpu",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    words: str, expected: str, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    recipe = place.root / "short" / "recipe.yaml"
    message = refused("train", recipe, place.root / "pack", "--out", tmp_path / "run", *words.split())
    assert re.search(expected, message), message
    assert not (tmp_path / "run").exists()


def test_devices_must_be_as_many_as_were_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    check_devices("cpu", 4, 1)
    check_devices("cpu", 2, 2)
    with pytest.raises(SkyclassError, match="--devices: 4 processes were started for 1 x 2 devices"):
        check_devices("cpu", 2, 1)
    with pytest.raises(SkyclassError, match="one device on one node at least"):
        check_devices("cpu", 0, 1)


def test_tasks_of_a_slurm_job_are_asked_for_by_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_NTASKS": "2", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "galaxies"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SkyclassError, match=r"SLURM: You set `--ntasks=2` .* Use `--ntasks-per-node=2` instead$"):
        check_devices("cpu", 2, 1)


def test_one_process_of_a_slurm_job_trains_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch script has a place for two, and does not start them."""
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_JOB_NAME", "galaxies")
    pack = toy_pack(tmp_path / "pack", splits={"train": 2, "val": 1, "test": 1})
    recipe = write_recipe(tmp_path, toy_recipe(training={"epochs": 1}))
    assert Run(train(recipe, pack.path, out=tmp_path / "run", device="cpu")).finished
