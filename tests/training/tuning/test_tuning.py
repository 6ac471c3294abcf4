"""A tuning, with trainings that take no time: what is searched, in which order, what is kept, and what is refused."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import torch
import yaml
from rich.progress import Task, TaskID

from helpers.commands import done, drawn, skyclass, the_error
from helpers.toys import toy_pack, toy_recipe, write_recipe
from helpers.tunings import curve, tuned, without_training
from skyclass.commands.tune import tune
from skyclass.core.console import say
from skyclass.core.errors import SkyclassError
from skyclass.core.progress.bars import RateColumn
from skyclass.data.packs.pack import Pack
from skyclass.recipes.recipe import load_recipe
from skyclass.recipes.training_settings import TuneSettings
from skyclass.training.tuning import study, trial_locks
from skyclass.training.tuning import worker as worker_module
from skyclass.training.tuning.folder import TuningFolder
from skyclass.training.tuning.results import importances
from skyclass.training.tuning.space import grid_values, recipe_with, sampler_for, search_space, suggest_parameters
from skyclass.training.tuning.study import _open_study as opened
from skyclass.training.tuning.study import open_tuning
from skyclass.training.tuning.trial_locks import take_trial

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures

RATE = "training.learning_rate"
GRID = {RATE: ["1e-4", 1e-3, 0.01], "model.freeze": [[], ["layer1"]]}
MANY = [10.0**-k for k in range(1, 13)]
RANGE = {RATE: {"low": 1e-5, "high": 1e-1, "log": True}}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return toy_pack(tmp_path_factory.mktemp("tuning") / "pack", splits={"train": 2, "val": 1, "test": 1})


def search(
    tmp_path: Path, pack: Pack, name: str = "tuning", options: dict[str, Any] | None = None, **tune_: Any
) -> Path:
    """Tune the toy recipe with those `tune` settings into a folder of that name."""
    settings = {"metric": "val_auroc", **tune_}
    recipe = write_recipe(tmp_path / f"{name}-recipe", toy_recipe(training={"epochs": 4}, tune=settings))
    return tune(recipe, pack.path, out=tmp_path / name, **{"device": "cpu", **(options or {})})


def test_a_grid_tries_each_combination_once(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = without_training(monkeypatch)
    folder = search(tmp_path, pack, space=GRID)
    table = tuned(folder)
    assert trained == table["number"].tolist() == list(range(6))
    assert set(zip(table[RATE], table["model.freeze"], strict=True)) == {
        (rate, freeze) for rate in (1e-4, 1e-3, 1e-2) for freeze in ("[]", '["layer1"]')
    }
    assert set(table["state"]) == {"complete"}
    wanted = [curve(toy_recipe(training={"epochs": 4, "learning_rate": rate}))[-1]["val_auroc"] for rate in table[RATE]]
    assert table["val_auroc"].tolist() == wanted
    assert set(table["best_epoch"]) == {4}
    assert (table["seconds"] >= 0).all()
    assert all((folder / run / "run.json").is_file() for run in table["run"])


@pytest.mark.usefixtures("drawn_figures")
def test_what_is_best_is_a_recipe_and_its_run_is_kept(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without_training(monkeypatch, figures=True)
    folder = search(tmp_path, pack, space=GRID)
    table = tuned(folder)
    best = table.loc[table["val_auroc"].idxmax()]  # the first of equals
    recipe = load_recipe(folder / "best.yaml")
    assert recipe.training.learning_rate == 1e-3
    assert recipe.tune == TuneSettings()
    assert recipe == load_recipe(folder / best["run"] / "recipe.yaml")
    kept = [run for run in table["run"] if (folder / run / "checkpoints").exists()]
    assert kept == [best["run"]] == [run for run in table["run"] if (folder / run / "classifier").exists()]
    said = capsys.readouterr().err
    assert f"Best: trial {best['number']}, val_auroc {best['val_auroc']:.4f} at epoch 4" in said
    assert f"skyclass train --resume {folder / best['run']} --set training.epochs=+10" in said
    assert len(re.findall(r"^trial +\d+ +complete", said, re.MULTILINE)) == 6
    assert all(drawn(folder / name) for name in ("history.png", "importance.png", "slices.png"))

    everything = search(tmp_path, pack, "everything", {"keep_all": True}, space=GRID)
    assert len(list(everything.glob("trials/*/checkpoints"))) == 6


def test_the_order_of_a_grid_comes_from_the_seed(pack: Pack) -> None:
    space = search_space(toy_recipe(tune={"space": GRID}))
    orders = [[json.dumps(grid_values(space, seed, number)) for number in range(6)] for seed in range(4)]
    assert all(len(set(order)) == 6 for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    assert orders[0] == [json.dumps(grid_values(space, 0, number)) for number in range(6)]


def test_a_tuning_goes_on_and_repeats_nothing(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = without_training(monkeypatch)
    search(tmp_path, pack, options={"trials": 2}, space=GRID)
    assert len(tuned(tmp_path / "tuning")) == 2
    search(tmp_path, pack, space=GRID)
    assert trained == list(range(6))
    before = tuned(tmp_path / "tuning")
    search(tmp_path, pack, space=GRID)
    assert trained == list(range(6))
    pd.testing.assert_frame_equal(tuned(tmp_path / "tuning"), before)


# Every setting of `tune` changes something.

CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "space": ({"space": GRID}, {"space": {RATE: [1e-4, 1e-3]}}),
    "metric": ({"space": GRID, "metric": "val_loss"}, {"space": GRID, "metric": "val_auroc"}),
    "sampler": ({"space": RANGE, "sampler": "tpe", "trials": 12}, {"space": RANGE, "sampler": "random", "trials": 12}),
    "trials": ({"space": GRID, "trials": 3}, {"space": GRID}),
    "pruner": ({"space": {RATE: MANY}, "pruner": "median"}, {"space": {RATE: MANY}}),
}


def test_every_setting_is_tested() -> None:
    assert set(CHANGES) == set(TuneSettings.model_fields)


@pytest.mark.parametrize("setting", CHANGES)
def test_a_setting_changes_something(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    without_training(monkeypatch)
    one, other = CHANGES[setting]
    tables = [
        tuned(search(tmp_path, pack, name, **settings)).drop(columns="seconds")
        for name, settings in (("one", one), ("other", other))
    ]
    assert not tables[0].equals(tables[1])
    if setting == "metric":
        rates = [load_recipe(tmp_path / name / "best.yaml").training.learning_rate for name in ("one", "other")]
        assert rates == [1e-2, 1e-3]


def test_the_monitor_judges_where_no_metric_is_named(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_training(monkeypatch)
    folder = search(tmp_path, pack, metric=None, space=GRID)
    assert tuned(folder)["val_loss"].notna().all()
    assert load_recipe(folder / "best.yaml").training.learning_rate == 1e-2


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_pruning_ends_bad_trials_early(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch, pruner: str
) -> None:
    without_training(monkeypatch)
    folder = search(tmp_path, pack, space={RATE: MANY}, pruner=pruner)
    table = tuned(folder).set_index("number")
    lengths = {number: len(pd.read_csv(folder / run / "history.csv")) for number, run in table["run"].items()}
    pruned = table["state"] == "pruned"
    assert pruned.any()
    assert all(lengths[number] < 4 for number in table.index[pruned])
    assert all(lengths[number] == 4 for number in table.index[~pruned])
    assert load_recipe(folder / "best.yaml").training.learning_rate == 1e-3
    assert table.loc[pruned, "val_auroc"].max() < table.loc[~pruned, "val_auroc"].max()


def test_tpe_learns_where_a_range_is_good() -> None:
    """Distance of the last draws from the best rate, in decades, as the mean of four seeds."""
    space = search_space(toy_recipe(tune={"space": RANGE}))
    away: dict[str, list[float]] = {"tpe": [], "random": []}
    for method in away:
        for seed in range(4):
            drawn_by = optuna.create_study(direction="maximize")
            for number in range(26):
                drawn_by.sampler = sampler_for(method, space, seed, number)
                trial = drawn_by.ask()
                rate = float(str(suggest_parameters(trial, space)[RATE]))
                assert 1e-5 <= rate <= 1e-1
                distance = abs(math.log10(rate) + 3.0)
                drawn_by.tell(trial, -distance)
                if number >= 16:
                    away[method].append(distance)
    assert sum(away["tpe"]) < 0.7 * sum(away["random"])


def test_a_range_is_searched(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    without_training(monkeypatch)
    folder = search(tmp_path, pack, space=RANGE, trials=5)
    table = tuned(folder)
    assert table[RATE].between(1e-5, 1e-1).all()
    assert table[RATE].nunique() == 5
    tuning = open_tuning(folder, load_recipe(tmp_path / "tuning-recipe" / "recipe.yaml"), pack, None)
    assert importances(tuning) == {RATE: 1.0}


def test_integers_and_draws_that_depend_on_seed_and_number_alone(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_training(monkeypatch)
    space = {"training.batch_size": {"low": 4, "high": 32, "log": True, "integer": True}, **RANGE}
    first, again = (tuned(search(tmp_path, pack, name, space=space, sampler="random", trials=5)) for name in "ab")
    columns = ["training.batch_size", RATE]
    pd.testing.assert_frame_equal(first[columns], again[columns])
    assert first["training.batch_size"].dtype == int
    assert first["training.batch_size"].nunique() > 1


def test_a_draw_that_was_trained_already_is_not_trained_again(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = without_training(monkeypatch)
    table = tuned(search(tmp_path, pack, space={RATE: [1e-3, 1e-2]}, sampler="random", trials=8))
    assert len(trained) == 2
    again = table[table["state"] == "repeated"]
    assert len(again) == 6
    for _, row in again.iterrows():
        first = table[table[RATE] == row[RATE]].iloc[0]
        assert row["val_auroc"] == first["val_auroc"]
        assert row["problem"] == f"the values of trial {first['number']}"


@pytest.mark.usefixtures("drawn_figures")
def test_sections_and_nothing_are_values_too(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    without_training(monkeypatch, figures=True)
    space = {"model.lora": [None, {"rank": 2}], "training.clip": [None, 1.0], "training.rates.early": [1e-4, None]}
    folder = search(tmp_path, pack, space=space)
    table = tuned(folder)
    assert len(table) == 8
    assert set(table["training.clip"].astype(str)) == {"null", "1.0"}
    assert set(table["model.lora"]) == {"null", '{"rank": 2}'}
    for _, row in table.iterrows():
        recipe = load_recipe(folder / row["run"] / "recipe.yaml")
        assert (recipe.model.lora.rank if recipe.model.lora else None) == (2 if "rank" in row["model.lora"] else None)
        assert recipe.training.clip == yaml.safe_load(str(row["training.clip"]))
        assert recipe.training.rates.early == yaml.safe_load(str(row["training.rates.early"]))
    assert drawn(folder / "slices.png")
    assert not (folder / "importance.png").exists()  # all have the same score


def test_a_failed_training_costs_itself_alone(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = without_training(monkeypatch)
    table = tuned(search(tmp_path, pack, space={RATE: [1e-3, 50.0, 1e-2]}))
    failed = table[table["state"] == "failed"]
    sentence = "training: the loss is nan; lower training.learning_rate"
    assert failed["problem"].tolist() == [sentence]
    assert failed[RATE].tolist() == [50.0]
    assert (table["state"] == "complete").sum() == 2
    assert sentence in capsys.readouterr().err
    search(tmp_path, pack, space={RATE: [1e-3, 50.0, 1e-2]})
    assert len(trained) == 3


def test_where_all_fail_the_first_sentence_is_told(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    without_training(monkeypatch)
    recipe = write_recipe(tmp_path, toy_recipe(tune={"space": {RATE: [20.0, 50.0]}}))
    sentence = the_error(skyclass("tune", recipe, pack.path, "--out", tmp_path / "t", "--device", "cpu"))
    assert "none of 2 trainings came to its end; the first one: training: the loss is nan" in sentence
    assert str(tmp_path / "t" / "tuning.csv") in sentence


def test_the_command_line_brings_a_space(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    without_training(monkeypatch)
    recipe = write_recipe(tmp_path, toy_recipe(tune={"space": {RATE: [1e-3]}}))
    result = skyclass(
        *("tune", recipe, pack.path, "--out", tmp_path / "t", "--device", "cpu", "--set", "training.epochs=3"),
        *("--space", f"{RATE}=[1e-2, 1e-1]", "--space", "model.dropout={low: 0, high: 0.5}", "--trials", 3),
    )
    assert result.code == 0, result.err
    table = tuned(tmp_path / "t")
    assert set(table[RATE]) <= {1e-2, 1e-1}
    assert table["model.dropout"].between(0, 0.5).all()
    assert len(table) == 3
    assert set(table["best_epoch"]) == {3}


def test_a_tuning_stopped_by_hand_goes_on(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as at_first:
        at_first.setattr(worker_module, "finish_run", stop)
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path, pack, space={RATE: [1e-3, 1e-2]})
    assert "To go on, repeat the command" in capsys.readouterr().err
    assert not (tmp_path / "tuning" / "tuning.csv").exists()
    trained = without_training(monkeypatch)
    assert tuned(search(tmp_path, pack, space={RATE: [1e-3, 1e-2]}))["state"].tolist() == ["complete"] * 2
    assert trained == [0, 1]


def test_a_database_that_is_away_stops_the_tuning_with_one_sentence(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_arguments: object) -> None:
        raise optuna.exceptions.StorageInternalError("server closed the connection")

    monkeypatch.setattr(worker_module, "finish_run", away)
    with pytest.raises(SkyclassError, match=r"the study cannot be reached .*server closed.*; repeat the command"):
        search(tmp_path, pack, space=GRID)
    tuning = open_tuning(tmp_path / "tuning", load_recipe(tmp_path / "tuning-recipe" / "recipe.yaml"), pack, None)
    assert [trial.state.name for trial in tuning.trials()] == ["RUNNING"]


def test_what_a_training_says_goes_to_its_log(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    without_training(monkeypatch)
    quiet = worker_module.finish_run

    def finish_run(*arguments: Any) -> None:
        say("a word of the training")
        quiet(*arguments)

    monkeypatch.setattr(worker_module, "finish_run", finish_run)
    recipe = write_recipe(tmp_path, toy_recipe(training={"epochs": 1}, tune={"space": {RATE: [1e-3]}}))
    shown = done("tune", recipe, pack.path, "--out", tmp_path / "t", "--device", "cpu")
    assert "a word of the training" not in shown.err
    assert (tmp_path / "t" / "trials" / "0000.log").read_text() == "a word of the training\n"
    assert "Tuning: " in shown.err  # said at the terminal again


def test_a_password_is_written_nowhere(tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    without_training(monkeypatch)
    monkeypatch.setattr(study, "_open_study", lambda storage, *rest: opened(f"sqlite:///{tmp_path}/s.db", *rest))
    recipe = write_recipe(tmp_path, toy_recipe(training={"epochs": 1}, tune={"space": {RATE: [1e-3]}}))
    url = "postgresql+psycopg://me:secret@machine/studies"
    done("tune", recipe, pack.path, "--out", tmp_path / "t", "--storage", url, "--device", "cpu")
    files = [path for path in (tmp_path / "t").rglob("*") if path.is_file()]
    assert not [path for path in files if b"secret" in path.read_bytes()]
    for path in (tmp_path / "t" / "tuning.json", tmp_path / "t" / "trials" / "0000" / "environment.json"):
        assert "postgresql+psycopg://me:***@machine/studies" in path.read_text()


def test_slow_work_has_a_rate_an_hour() -> None:
    def shown(speed: float) -> str:
        task = Task(TaskID(0), "", 9, 0, _get_time=lambda: 0.0, fields={"unit": "trials"}, finished_speed=speed)
        return RateColumn().render(task).plain

    assert [shown(speed) for speed in (12.3, 1.0, 0.01)] == ["12 trials/s", "1 trials/s", "36 trials/h"]


# What is refused, before anything is trained or made


REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, ["there is nothing to tune", "--space"]),
    "unknown": ({"training.rates.erly": [1e-3]}, ["tune.space: training.rates.erly", "did you mean 'early'?"]),
    "unknown section": ({"trainig.epochs": [1]}, ["tune.space: trainig.epochs", "did you mean 'training'?"]),
    "below a value": ({"seed.x": [1]}, ["tune.space: seed.x: 'seed' has no keys below it"]),
    "in a null section": (
        {"model.lora.rnk": [4]},
        ["unknown key 'model.lora.rnk'", "did you mean 'rank'?"],
    ),
    "value": ({"training.loss": ["focal", "hinge"]}, ["tune.space: training.loss", "got 'hinge'"]),
    "end of a range": ({"model.dropout": {"low": 0, "high": 1.5}}, ["tune.space: model.dropout", "got 1.5"]),
    "twice": ({RATE: [1e-3, "1e-3"]}, [f"tune.space: {RATE}: 0.001 stands twice"]),
    "itself": ({"tune.trials": [3]}, ["a tuning does not search its own settings"]),
    "too many": (
        {f"training.{one}": list(range(1, 200)) for one in ("epochs", "batch_size", "accumulate")},
        ["7,880,599"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_space_is_checked_before_anything_is_trained(tmp_path: Path, pack: Pack, case: str) -> None:
    space, fragments = REFUSED[case]
    recipe = write_recipe(tmp_path, toy_recipe(tune={"space": space}))
    sentence = the_error(skyclass("tune", recipe, pack.path, "--out", tmp_path / "t"))
    for fragment in fragments:
        assert fragment in sentence
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        (["--space", RATE], ["--space training.learning_rate: not of the form KEY=VALUES; as in --space"]),
        (["--space", f"{RATE}=3"], ["--space", "tune.space", "got 3"]),
        (["--set", "tune.trials=0"], ["--set tune.trials=0"]),
        (["--storage", "nonsense"], ["--storage nonsense: this is no URL of a database; as in sqlite:///"]),
        (["--storage", "mysql://localhost/x"], ["no driver for this database; pip install its driver"]),
        (["--storage", "sqlite:////nowhere/at/all.db"], ["the study cannot be opened", "unable to open database file"]),
        (["--device", "abacus"], ["'abacus' is no device"]),
    ],
)
def test_options_that_are_refused(tmp_path: Path, pack: Pack, words: list[str], fragments: list[str]) -> None:
    recipe = write_recipe(tmp_path, toy_recipe(tune={"space": {RATE: [1e-3]}}))
    sentence = the_error(skyclass("tune", recipe, pack.path, "--out", tmp_path / "t", *words))
    for fragment in fragments:
        assert fragment in sentence


def test_a_folder_belongs_to_one_recipe_one_pack_and_one_storage(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_training(monkeypatch)
    search(tmp_path, pack, space={RATE: [1e-3]})
    recipe, out = tmp_path / "tuning-recipe" / "recipe.yaml", tmp_path / "tuning"
    other = toy_pack(tmp_path / "other", splits={"train": 3, "val": 1, "test": 1})
    command = ("tune", recipe, pack.path, "--out", out)
    assert "began with another recipe (training.epochs was 4 and is 5)" in the_error(
        skyclass(*command, "--set", "training.epochs=5")
    )
    assert "this tuning began on another pack" in the_error(skyclass("tune", recipe, other.path, "--out", out))
    url = f"sqlite:///{tmp_path}/x.db"
    assert "this tuning began without --storage; repeat it as it began" in the_error(
        skyclass(*command, "--storage", url)
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    strange = the_error(skyclass("tune", recipe, pack.path, "--out", tmp_path / "full"))
    assert "something lies here that is no tuning" in strange
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["notes.txt"]


# Trials that others have left


def test_a_trial_is_trained_by_one_process_at_a_time(tmp_path: Path, pack: Pack) -> None:
    recipe = toy_recipe(tune={"space": GRID})
    one, other = (open_tuning(tmp_path / "t", recipe, pack, None) for _ in range(2))
    first, second = take_trial(one), take_trial(other)
    assert first
    assert second
    assert (first.trial.number, second.trial.number) == (0, 1)
    first.lock.release()  # as when its process dies
    again = take_trial(other)
    assert again
    assert again.trial.number == 0
    assert again.values == first.values


def test_a_trial_of_another_machine_is_taken_up_when_it_is_silent(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = without_training(monkeypatch)
    monkeypatch.setattr(trial_locks, "SETTLING", 0.0)
    recipe, url = toy_recipe(tune={"space": {RATE: [1e-3, 1e-2]}}), f"sqlite:///{tmp_path}/study.db"
    gone, here = (open_tuning(tmp_path / name, recipe, pack, url) for name in ("gone", "here"))
    assert gone.study.study_name == here.study.study_name
    lost = take_trial(gone)
    assert lost
    lost.lock.release()
    worker_module.run_trials(here, pack, "cpu", False, lambda: None)
    assert trained == [1]  # number 0 may still be trained elsewhere
    monkeypatch.setattr(trial_locks, "SILENCE", -1.0)
    worker_module.run_trials(here, pack, "cpu", False, lambda: None)
    assert trained == [1, 0]
    assert [trial.state.name for trial in here.trials()] == ["COMPLETE", "COMPLETE"]
    assert here.trial(0).params == {RATE: lost.values[RATE]}
    value = here.trial(0).value
    # The machine that was away comes back, and what it has found is no longer asked for.
    worker_module._train(gone, lost, pack, "cpu")
    assert here.trial(0).value == value


def test_a_grid_that_others_have_ended_is_not_exceeded(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two machines that see one combination left may both begin a trial; the second of them is none."""
    trained = without_training(monkeypatch)
    recipe, url = toy_recipe(tune={"space": {RATE: [1e-3, 1e-2]}}), f"sqlite:///{tmp_path}/study.db"
    one, other = (open_tuning(tmp_path / name, recipe, pack, url) for name in ("one", "other"))
    begun = [take_trial(one), take_trial(one)]
    assert all(begun)
    assert trial_locks._new_trial(other) is None
    assert len(other.trials()) == 2
    assert not trained


def test_a_sign_of_life_is_given_while_a_trial_is_trained(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_locks, "HEARTBEAT", 0.01)
    tuning = open_tuning(tmp_path / "t", toy_recipe(tune={"space": GRID}), pack, None)
    lease = take_trial(tuning)
    assert lease
    before = tuning.trial(0).user_attrs["heard"]
    with trial_locks.heartbeat(lease.trial):
        while tuning.trial(0).user_attrs["heard"] == before:
            pass
    lease.lock.release()


def test_out_of_memory_is_a_failure_of_the_trial_alone(
    tmp_path: Path, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finish_run(*_arguments: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(worker_module, "finish_run", finish_run)
    tuning = open_tuning(tmp_path / "t", toy_recipe(tune={"space": GRID}), pack, None)
    worker_module.run_trials(tuning, pack, "cpu", False, lambda: None)
    assert {trial.user_attrs["problem"] for trial in tuning.trials()} == {"not enough memory on the device"}
    assert {trial.state.name for trial in tuning.trials()} == {"FAIL"}


def test_values_go_into_the_recipe_and_nothing_else_changes() -> None:
    recipe = toy_recipe(tune={"space": GRID})
    changed = recipe_with(recipe, {"training.rates.early": 1e-5, "model.freeze": ["layer1"]})
    assert changed.training.rates.early == 1e-5
    assert changed.model.freeze == ("layer1",)
    assert recipe_with(recipe, {}) == recipe.model_copy(update={"tune": TuneSettings()})


def test_optuna_is_quiet(tmp_path: Path, pack: Pack) -> None:
    open_tuning(tmp_path / "t", toy_recipe(tune={"space": GRID}), pack, None)
    assert optuna.logging.get_verbosity() == optuna.logging.ERROR
    assert TuningFolder(tmp_path / "t").study_file.is_file()
