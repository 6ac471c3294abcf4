"""The results of a run as tables and figures, for notebooks.

What scores and draws is imported where it is used: most commands open runs, and few draw.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ..core.errors import SkyclassError, did_you_mean
from ..core.files.artefact_tables import read_own_csv
from ..core.files.atomic_files import read_json, sha256_of
from ..core.files.json_documents import read_document
from ..core.text import quantity
from .run_documents import MetricsDocument
from .run_paths import AGAIN, RunPaths, resume_hint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HISTORY = "history"


class RunResults(RunPaths):
    """The tables and figures of a run."""

    def history(self, *scores: str) -> pd.DataFrame:
        """The course of the training.

        Parameters
        ----------
        *scores : str
            Names of columns that must be there and hold numbers, such as `val_auroc`.

        Returns
        -------
        DataFrame
            One row a validation: `epoch`, `step`, losses, scores in [0, 1], and learning rates.

        Raises
        ------
        SkyclassError
            For a file that is missing or damaged, or lacks a column.
        """
        numbers = ("epoch", "step", *scores)
        return read_own_csv(self.history_file, "history of a training", AGAIN, numbers=numbers)

    def metrics(self) -> pd.DataFrame:
        """The scores that `skyclass evaluate` wrote into the run.

        Returns
        -------
        DataFrame
            One row a score: `name`, `class` (empty for scores of all classes), `value`, and `low` and `high`, the ends
            of the 95 % interval. Undefined ones are empty.

        Raises
        ------
        SkyclassError
            Where the run has not been evaluated, or its evaluation is damaged or of other predictions.
        """
        from ..evaluation.bootstrap import score_table

        again = f"run `skyclass evaluate {self.path}`"
        path = self.evaluation / "metrics.json"
        if not path.is_file():
            raise SkyclassError("the run has not been evaluated", where=self.path, fix=again)
        content, document = read_document(path, "evaluation", MetricsDocument, again)
        if document.predictions_sha256 != sha256_of(self._ended_predictions()):
            raise SkyclassError("the evaluation is of other predictions than the run's", where=self.path, fix=again)
        return score_table(content)

    def predictions(self) -> pd.DataFrame:
        """The predictions of the validation and test images.

        Returns
        -------
        DataFrame
            One row an image: `image_id`, `p_<class>` in [0, 1], `predicted`, `confidence`, `label`, `split` and others.

        Raises
        ------
        SkyclassError
            Where the run has not ended, or the file is damaged.
        """
        from .prediction_formats import read_predictions

        return read_predictions(self._ended_predictions())[0]

    def figure(self, name: str, split: str | None = None) -> Figure:
        """Draw a figure of the run.

        Parameters
        ----------
        name : str
            `history` (losses, scores and learning rates by epoch), `confusion`, `roc`, `precision_recall`,
            `reliability` or `prediction_sets`.
        split : str, optional
            The split whose images are drawn: train, val, test or all. By default test if there is one, else all. Of no
            use for `history`.

        Returns
        -------
        matplotlib.figure.Figure
            Which the caller shows or saves.

        Raises
        ------
        SkyclassError
            For another name, a split without predictions, a run without what is drawn, and damaged files.
        """
        from ..evaluation.figures.predictions import FIGURES, predictions_figure
        from ..evaluation.figures.training import training_curves_figure
        from .prediction_formats import read_predictions

        if name == HISTORY:
            return training_curves_figure(self.history(), self._best_epoch())
        if name not in FIGURES:
            fix = did_you_mean(name, [HISTORY, *FIGURES]) or f"the figures are {', '.join([HISTORY, *FIGURES])}"
            raise SkyclassError(f"no figure is called {name!r}", where="figure", fix=fix)
        file = self._ended_predictions()
        return predictions_figure(name, *read_predictions(file), split, file)

    def _ended_predictions(self) -> Path:
        if not self.finished:
            what = "the run has not ended: it has no predictions"
            raise SkyclassError(what, where=self.path, fix=resume_hint(self.path))
        return self.predictions_file

    def _main_scores(self) -> dict[str, str]:
        """Name -> value and interval of those of MAIN that the evaluation has; none without an evaluation."""
        from ..evaluation.bootstrap import MAIN, with_interval

        if not (self.evaluation / "metrics.json").is_file():
            return {}
        table = self.metrics()
        rows = table[table["name"].isin(MAIN) & (table["class"] == "")].astype(object)
        rows = rows.where(rows.notna(), None)
        n = table.loc[(table["name"] == "images") & (table["class"] == ""), "value"].iloc[0]
        shown = {"scores": f"of {quantity(int(n), 'image')}, with 95 % intervals"}
        for name, value, low, high in rows[["name", "value", "low", "high"]].itertuples(index=False):
            shown[name.replace("_", " ")] = with_interval(value, None if low is None else [low, high])
        return shown

    def _best_epoch(self) -> float | None:
        """The epoch whose weights the classifier has; None while there is none."""
        path = self.classifier / "classifier.json"
        made_from = read_json(path, "classifier").get("made_from") if path.is_file() else None
        return made_from.get("best_epoch") if isinstance(made_from, dict) else None
