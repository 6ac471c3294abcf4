"""`skyclass predict`: a classifier over any source; results reach the disk as they are made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..core.arguments import check_at_least_one, check_out
from ..core.console import shown_messages
from ..data.source_options import SourceOptions
from .options.shared import Check, ClassifierArgument, Device
from .options.source import HowRead, SourceArgument
from .options.written import Written, names_in


@shown_messages()
def predict(
    classifier: ClassifierArgument,
    source: SourceArgument,
    *,
    out: Annotated[
        Path | str, typer.Option(help="the new file, in the format of its suffix: .parquet, .csv, .fits, .vot or .ecsv")
    ] = "predictions.parquet",
    columns: Annotated[
        Sequence[str],
        typer.Option(metavar="NAME,...", help="more columns of the source to carry along; repeat for more"),
        Written(list[str], lambda texts: [name for text in texts for name in names_in(text)]),
    ] = (),
    batch_size: Annotated[int, typer.Option(help="images computed at a time")] = 64,
    orientations: Annotated[
        bool, typer.Option("--orientations", help="the mean over the 8 orientations of each image, at 8 times the cost")
    ] = False,
    device: Device = "auto",
    strict: Annotated[
        bool, typer.Option("--strict", help="end with an error where any image could not be predicted")
    ] = False,
    check: Check = False,
    options: HowRead = SourceOptions(),
) -> Path:
    """Predict the class of every image of a source.

    Labels, splits, groups, `ra` and `dec` of the source are carried along. Images that cannot be read, or of which the
    source names a file that is not there, have a row too, with the reason in `error` and all that the source says of
    them; they and odd ones are listed in `<out>.problems.csv`.

    Parameters
    ----------
    classifier : str or Path
        The folder of a classifier or of a run.
    source : str or Path
        As `pack` takes it.
    out : str or Path
        The table, in the format of its suffix: .parquet, .csv, .fits, .vot or .ecsv.
    columns : sequence of str
        More columns of the source's catalog to carry along.
    batch_size : int
        Images computed at a time.
    orientations : bool
        Whether to predict each image in its 8 orientations (4 if it is not square) and to take the mean.
    device : str
        auto, cpu, cuda or cuda:N.
    strict : bool
        Whether to refuse where any image could not be predicted, not only where none could.
    check : bool
        Whether to compare every byte of a pack with its hashes first; those of the classifier are compared in any case.
    options : SourceOptions
        How the source is read.

    Returns
    -------
    Path
        The table.

    Raises
    ------
    SkyclassError
        Where no image could be predicted, once the table and the list of problems are written; for a classifier or a
        source that cannot be read.
    """
    import pandas as pd

    from ..classifier.classifier import Classifier
    from ..classifier.prediction_formats import check_suffix
    from ..core.console import say_where
    from ..core.devices import pick_device
    from ..data.catalog import problems_frame, say_problems, write_problems
    from ..data.open import open_source
    from .steps.predict import carried_columns, predicted, say_predicted, unpredicted, write

    out = check_out(Path(out))
    check_suffix(out)
    check_at_least_one(batch_size, "--batch-size", "images at a time")
    pick_device(device)
    model = Classifier.load(classifier, device)
    opened = open_source(source, options, check=check)
    carried = carried_columns(opened.catalog, columns)
    catalog, frames, told = predicted(model, opened, batch_size, orientations)
    made_from = {"source": str(source), "source_hash": opened.pack.hash if opened.pack else None}
    provenance = {**made_from, "orientations": orientations, **model.provenance}
    wrong, unlike = write(out, model, frames, catalog, carried, provenance)
    problems = pd.concat([told, problems_frame(wrong)], ignore_index=True)
    listed = out.with_name(f"{out.stem}.problems.csv")
    write_problems(problems, listed)
    failed = sum(row["severity"] == "error" for row in wrong)
    say_predicted(len(catalog), failed, unlike, less_sure=orientations and model.calibration.method != "none")
    say_problems(problems, listed)
    say_where("Predictions", out)
    if failed and (strict or failed == len(catalog)):
        raise unpredicted(failed, len(catalog), wrong, out, listed)
    return out
