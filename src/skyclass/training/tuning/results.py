"""Results of a tuning: a table of trials, the best recipe, and the importance of the settings."""

from __future__ import annotations

import math

import optuna
import pandas as pd
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState
from pydantic import JsonValue

from ...core.files.atomic_files import write_text
from ...core.files.csv_files import write_csv
from ...core.plotting import save_figure
from ...core.sample_sizes import LEAST_TRIALS
from ...core.text import listed, quantity
from ...recipes.recipe import dump_recipe
from ...recipes.training_settings import RangeSettings
from .figures import Dimension, history_figure, importance_figure, slices_figure
from .space import Values, as_choice, recipe_with
from .study import Tuning

SAME = "same_as"  # attribute of a trial that is not trained: the number of the one with its values


def best_of(study: Study, trials: list[FrozenTrial]) -> FrozenTrial | None:
    """The best trial that came to its end; of equals the first."""
    ended = [trial for trial in trials if trial.state == TrialState.COMPLETE and SAME not in trial.user_attrs]
    sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
    return min(ended, key=lambda trial: (sign * _value(trial), trial.number), default=None)


def trial_notes(trials: list[FrozenTrial], best: FrozenTrial) -> list[str]:
    """Notes on what the trials do not show: which of equally good ones is best, and from few, which settings matter."""
    ended = [trial for trial in trials if trial.state == TrialState.COMPLETE and SAME not in trial.user_attrs]
    equals = [trial for trial in ended if trial.value == best.value and trial.number != best.number]
    notes = []
    if equals:
        named = listed([f"{trial.number}" for trial in equals])
        notes.append(f"As good to the last digit: trial {named}; the first was taken")
    if len(ended) < LEAST_TRIALS:
        few = f"{quantity(len(ended), 'complete trial')}, and it takes {LEAST_TRIALS}"
        notes.append(f"Too few to tell which setting mattered: {few}")
    return notes


def values_of(tuning: Tuning, trial: FrozenTrial) -> Values:
    """The values of a trial; one that was killed while they were chosen lacks some."""
    values: Values = {}
    for key, allowed in tuning.space.items():
        if key in trial.params:
            value = trial.params[key]
            known = () if isinstance(allowed, RangeSettings) else allowed
            values[key] = next((one for one in known if as_choice(one) == value), value)
    return values


def state_of(trial: FrozenTrial) -> str:
    """What became of a trial, in one word."""
    if SAME in trial.user_attrs:
        return "repeated"
    return {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}.get(trial.state.name, "running")


def table_of(tuning: Tuning) -> pd.DataFrame:
    """One row a trial: number, state, the value of each key, the metric at its best validation, its epoch, seconds.

    Of a pruned trial the metric is the best one of a whole epoch. `run` is relative to the tuning's folder where the
    run is there, else empty; `problem` is why a trial failed.
    """
    best = min if tuning.study.direction == StudyDirection.MINIMIZE else max
    rows = []
    for trial in tuning.trials():
        values, reported = values_of(tuning, trial), trial.intermediate_values
        value = _value(trial) if trial.state == TrialState.COMPLETE else best(reported.values(), default=math.nan)
        epoch = trial.user_attrs.get("best_epoch", next((k for k, one in reported.items() if one == value), math.nan))
        run = tuning.folder.run(trial.number)
        problem = trial.user_attrs.get("problem", "")
        if SAME in trial.user_attrs:
            problem = f"the values of trial {trial.user_attrs[SAME]}"
        rows.append(
            {
                "number": trial.number,
                "state": state_of(trial),
                **{key: in_table(values[key]) if key in values else None for key in tuning.space},
                tuning.metric: value,
                "best_epoch": epoch,
                "seconds": trial.user_attrs.get("seconds", math.nan),
                "run": str(run.relative_to(tuning.folder.path)) if run.is_dir() else "",
                "problem": problem,
            }
        )
    return pd.DataFrame(rows, columns=_columns(tuning)).astype(dict.fromkeys(tuning.space, object))


def _columns(tuning: Tuning) -> list[str]:
    return ["number", "state", *tuning.space, tuning.metric, "best_epoch", "seconds", "run", "problem"]


def in_table(value: JsonValue) -> str | int | float | bool:
    """A value as a cell of the table."""
    choice = as_choice(value)
    return "null" if choice is None else choice


def _value(trial: FrozenTrial) -> float:
    return math.nan if trial.value is None else float(trial.value)


def write_table(tuning: Tuning) -> None:
    """Write the table and the best recipe as they are now."""
    trials = tuning.trials()
    write_csv(table_of(tuning), tuning.folder.table_file)
    best = best_of(tuning.study, trials)
    if best:
        recipe = recipe_with(tuning.recipe, values_of(tuning, best))
        ended = sum(trial.state.is_finished() for trial in trials)
        head = f"# {tuning.metric} {best.value:.4f}: the best of {ended} trials (trial {best.number}).\n"
        write_text(tuning.folder.best_file, head + dump_recipe(recipe))


def write_figures(tuning: Tuning) -> list[str]:
    """Draw what can be drawn; the names of the files. Without a trial that came to its end there is nothing to draw."""
    table = table_of(tuning)
    table = table[table["state"].isin(["complete", "pruned"])]
    if not (table["state"] == "complete").any():
        return []
    less = tuning.study.direction == StudyDirection.MINIMIZE
    dimensions = [_dimension(key, tuning) for key in tuning.space]
    figures = {
        "history.png": history_figure(table, tuning.metric, less_is_better=less),
        "slices.png": slices_figure(table, dimensions, tuning.metric, less_is_better=less),
    }
    shares = importances(tuning)
    if shares:
        figures["importance.png"] = importance_figure(shares, tuning.metric)
    for name, figure in figures.items():
        save_figure(figure, tuning.folder.path / name)
    return list(figures)


def _dimension(key: str, tuning: Tuning) -> Dimension:
    allowed = tuning.space[key]
    if isinstance(allowed, RangeSettings):
        return Dimension(key, None, allowed.log)
    return Dimension(key, [in_table(value) for value in allowed])


def importances(tuning: Tuning) -> dict[str, float]:
    """Each key's share of the variance of the metric that the keys explain, the largest first.

    Functional ANOVA of a random forest (Hutter, Hoos & Leyton-Brown 2014, ICML 32), scaled to a sum of 1; empty where
    the finished trials do not show it.
    """
    ended = [trial for trial in tuning.trials() if trial.state == TrialState.COMPLETE]
    varied = [key for key in tuning.space if len({trial.params.get(key) for trial in ended}) > 1]
    if len({trial.value for trial in ended}) < 2 or not varied:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=tuning.recipe.seed)
    return dict(optuna.importance.get_param_importances(tuning.study, evaluator=evaluator, params=varied))
