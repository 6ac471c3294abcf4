"""The Optuna study of a tuning, which several processes share, and its folder."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.study import Study
from optuna.trial import FrozenTrial

from ...core.errors import SkyclassError, one_line
from ...core.files.atomic_files import write_json
from ...core.files.json_documents import Document, read_document
from ...core.passwords import masked, secrets_in
from ...data.packs.pack import Pack
from ...recipes.recipe import Recipe, recipe_hash, stored_recipe, with_defaults_of
from ...recipes.training_settings import RangeSettings
from ...recipes.training_settings import score_mode as mode_of
from .folder import TuningFolder
from .space import SearchSpace, grid_size, method_of, search_space

DEFAULT_TRIALS = 20


class TuningDocument(Document):
    """What readers of tuning.json rely on."""

    folder: str
    recipe: dict[str, Any]
    recipe_hash: str
    pack_hash: str
    storage: str | None


@dataclass(frozen=True)
class Tuning:
    """A tuning as one process sees it.

    own : id of this folder, which marks its trials among those that are trained elsewhere
    limit : trials at most
    """

    folder: TuningFolder
    own: str
    recipe: Recipe
    space: SearchSpace
    method: str
    metric: str
    limit: int
    study: Study

    def trials(self) -> list[FrozenTrial]:
        """All trials but those that a race of processes has started beyond the end of the grid."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if not trial.user_attrs.get("surplus")]

    def trial(self, number: int) -> FrozenTrial:
        """A trial as the study has it now."""
        return next(trial for trial in self.study.get_trials(deepcopy=False) if trial.number == number)


def recipe_for(path: Path, recipe: Recipe) -> Recipe:
    """The recipe, with the defaults of the version that began the tuning in the folder, if there is one."""
    file = TuningFolder(path).provenance_file
    if not file.is_file():
        return recipe
    return with_defaults_of(recipe, stored_recipe(_provenance(file).recipe, str(file)))


def _provenance(file: Path) -> TuningDocument:
    """What tuning.json holds. Errors: SkyclassError where it is damaged."""
    return read_document(file, "tuning", TuningDocument, "copy the tuning's folder again, or name another folder")[1]


def open_tuning(path: Path, recipe: Recipe, pack: Pack, storage: str | None) -> Tuning:
    """A new tuning in the folder `path`, or the one that is there.

    Errors: SkyclassError for a space that the recipe refuses, a folder that holds something else (another recipe,
    another pack, another storage), and a storage that cannot be used.
    """
    space, method, folder = search_space(recipe), method_of(recipe.tune), TuningFolder(path)
    whole = grid_size(space) if method == "grid" else DEFAULT_TRIALS
    limit = min(recipe.tune.trials or whole, whole) if method == "grid" else recipe.tune.trials or whole
    if folder.is_foreign():
        fix = "name a new folder, or one that `skyclass tune` has made"
        raise SkyclassError("something lies here that is no tuning", where=path, fix=fix)
    # More trials may be requested later; any other change makes another study.
    searched = recipe.model_copy(update={"tune": recipe.tune.model_copy(update={"trials": None})})
    made_from: dict[str, Any] = {
        "recipe_hash": recipe_hash(searched),
        "pack_hash": pack.hash,
        "storage": storage and shown(storage),
    }
    with folder.exclusive():
        own = _own_folder(folder, searched, made_from)
        name = f"{recipe.name}-{made_from['recipe_hash'][:8]}-{pack.hash[:8]}"
        study = _open_study(storage or f"sqlite:///{folder.study_file.absolute()}", name, recipe, made_from)
    metric = recipe.tune.metric or recipe.training.monitor
    return Tuning(folder, own, recipe, space, method, metric, limit, study)


def _own_folder(folder: TuningFolder, searched: Recipe, made_from: dict[str, Any]) -> str:
    """The id of the folder, which is new or belongs to the same tuning."""
    if not folder.provenance_file.is_file():
        provenance = {"folder": uuid.uuid4().hex, **made_from, "recipe": searched.model_dump(mode="json")}
        write_json(folder.provenance_file, provenance)
        return str(provenance["folder"])
    provenance = _provenance(folder.provenance_file).model_dump()
    if provenance["recipe_hash"] != made_from["recipe_hash"]:
        before = stored_recipe(provenance["recipe"], str(folder.provenance_file)).model_dump(mode="json")
        what = f"this tuning began with another recipe ({_difference(before, searched.model_dump(mode='json'))})"
    elif provenance["pack_hash"] != made_from["pack_hash"]:
        what = "this tuning began on another pack"
    elif (provenance["storage"] and masked(provenance["storage"])) != made_from[
        "storage"
    ]:  # older ones kept ?password=
        there = f"with --storage {provenance['storage']}" if provenance["storage"] else "without --storage"
        raise SkyclassError(f"this tuning began {there}", where=folder.path, fix="repeat it as it began")
    else:
        return str(provenance["folder"])
    raise SkyclassError(what, where=folder.path, fix="repeat it as it began, or name another folder")


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The first key in which two recipes differ, with both values."""
    one, other = _flat(before), _flat(now)
    key = next((key for key in {**one, **other} if one.get(key) != other.get(key)), None)
    if key is None:
        return "its hash is another"
    return f"{key} was {one.get(key)} and is {other.get(key)}"


def _flat(document: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in document.items():
        flat |= _flat(value, f"{above}{key}.") if isinstance(value, dict) and value else {f"{above}{key}": value}
    return flat


def shown(storage: str) -> str:
    """A storage without its passwords. Errors: SkyclassError where it is no URL."""
    try:
        return masked(sqlalchemy.make_url(storage).render_as_string(hide_password=True))
    except sqlalchemy.exc.ArgumentError:
        fix = "as in sqlite:////home/me/studies.db or postgresql+psycopg://me@machine/studies"
        raise SkyclassError("this is no URL of a database", where=f"--storage {storage}", fix=fix) from None


def _open_study(storage: str, name: str, recipe: Recipe, made_from: dict[str, Any]) -> Study:
    """The study of that name, which the first process makes; its attributes hold what it is made from."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Connections are opened when they are needed: none is kept, or lost, over a training of hours.
    options: dict[str, Any] = {"poolclass": sqlalchemy.NullPool}
    if storage.startswith("sqlite"):
        options["connect_args"] = {"timeout": 60.0}  # seconds to wait for another process's write
    better = mode_of(recipe.tune.metric or recipe.training.monitor)
    for attempt in range(3):
        try:
            study = optuna.create_study(
                storage=optuna.storages.RDBStorage(storage, engine_kwargs=options),
                study_name=name,
                direction="minimize" if better == "min" else "maximize",
                pruner=_pruner(recipe),
                load_if_exists=True,
            )
            for key in ("recipe_hash", "pack_hash"):
                if key not in study.user_attrs:
                    study.set_user_attr(key, made_from[key])
            return study
        except ImportError:
            fix = 'pip install its driver; for postgresql+psycopg:// that is "skyclass[postgres]"'
            raise SkyclassError("no driver for this database", where=f"--storage {shown(storage)}", fix=fix) from None
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            # Two machines that fill a new database at the same moment trip over each other once.
            if attempt == 2:
                what = f"the study cannot be opened ({masked(one_line(error), secrets_in(storage))[:200]})"
                fix = "check that the database runs and that its URL is right"
                raise SkyclassError(what, where=shown(storage), fix=fix) from None
            time.sleep(0.5)
    raise AssertionError("not reached")


def _pruner(recipe: Recipe) -> optuna.pruners.BasePruner:
    if recipe.tune.pruner == "median":
        return optuna.pruners.MedianPruner()
    if recipe.tune.pruner == "hyperband":
        allowed = recipe.tune.space.get("training.epochs", [recipe.training.epochs])
        longest = allowed.high if isinstance(allowed, RangeSettings) else max(int(str(value)) for value in allowed)
        return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=max(1, int(longest)))
    return optuna.pruners.NopPruner()
