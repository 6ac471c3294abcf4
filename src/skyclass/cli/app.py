"""The command line `skyclass`: one function a command, no logic. Heavy imports happen inside the functions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..data.source_options import SourceOptions
from .errors import say_error, show_traceback
from .options import (
    USUAL_SIZES,
    Check,
    Device,
    Form,
    Overwrite,
    PackForm,
    Set,
    SimulatorName,
    SourceArgument,
    Splits,
    reads_a_source,
    shares_of,
)
from .recipes import recipes_app
from .training import compare, evaluate, train, tune

app = typer.Typer(
    help="Astronomical images into trained, calibrated, explained classifiers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
STOPPED = 130  # the exit status that Typer gives to Ctrl-C
app.add_typer(recipes_app, name="recipes")


def _version(wanted: bool) -> None:
    if wanted:
        from ..core.version import __version__

        typer.echo(f"skyclass {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Astronomical images into trained, calibrated, explained classifiers."""


@app.command()
def simulate(
    kind: Annotated[SimulatorName, typer.Argument(help="what to simulate")],
    out: Annotated[Path, typer.Argument(help="the new folder")],
    per_class: Annotated[int, typer.Option(help="images of each class")] = 1000,
    size: Annotated[int | None, typer.Option(help=f"pixels a side ({USUAL_SIZES})")] = None,
    difficulty: Annotated[
        float | None, typer.Option(help="lensing: factor on the substructure masses (2), smaller is harder")
    ] = None,
    seed: Annotated[int, typer.Option(help="another seed, other images")] = 0,
    form: Annotated[Form, typer.Option("--as", help="a pack, or class folders")] = Form.pack,
    splits: Splits = "0.7,0.1,0.2",
    workers: Annotated[int | None, typer.Option(min=1, help="processes (default: one a core)")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    overwrite: Overwrite = False,
) -> None:
    """Simulate gravitational lenses or galaxies, with the truth in the catalog."""
    from ..commands.simulate import simulate as verb

    verb(
        kind.value,
        out,
        per_class=per_class,
        size=size,
        difficulty=difficulty,
        seed=seed,
        form=form.value,
        splits=shares_of(splits),
        workers=workers,
        device=device,
        overwrite=overwrite,
    )


@app.command()
def fetch(
    name: Annotated[str | None, typer.Argument(help="a public data set; without one, they are listed")] = None,
    out: Annotated[Path | None, typer.Option(help="the folder (default: one with the name of the data set)")] = None,
) -> None:
    """Download a public data set, with its licence and citation; without a name, list them."""
    from ..commands.fetch import fetch as verb

    verb(name, out=out)


@app.command()
@reads_a_source
def inspect(
    source: SourceArgument,
    options: SourceOptions,
    out: Annotated[Path | None, typer.Option(help="folder for the page, the figures and the tables")] = None,
    duplicates: Annotated[
        bool, typer.Option("--duplicates/--no-duplicates", help="find images that show the same")
    ] = True,
    run: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN", help="a run, or predictions file, whose held-out predictions doubt labels; repeat"),
    ] = None,
    check: Check = False,
) -> None:
    """Audit a source: classes, sizes, bad images, duplicates and leaks; with --run, likely label errors."""
    from ..commands.inspect import inspect as verb

    verb(source, out=out, duplicates=duplicates, run=run or (), check=check, options=options)


@app.command()
@reads_a_source
def pack(
    source: SourceArgument,
    out: Annotated[Path, typer.Argument(help="the new pack")],
    options: SourceOptions,
    splits: Splits = "0.7,0.1,0.2",
    seed: Annotated[int, typer.Option(help="another seed, other splits")] = 0,
    pixels: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="a pixel setting, such as size=256 or interval=zscale")
    ] = None,
    like: Annotated[Path | None, typer.Option(help="take the pixel settings of this classifier or run")] = None,
    duplicates: Annotated[
        bool, typer.Option("--duplicates/--no-duplicates", help="keep images that show the same in one split")
    ] = True,
    form: Annotated[PackForm, typer.Option("--as", help="a pack, or one .npz a split")] = PackForm.pack,
    overwrite: Overwrite = False,
) -> None:
    """Decode a source once, into a folder of plain NumPy and Parquet."""
    from ..commands.pack import pack as verb

    verb(
        source,
        out,
        splits=shares_of(splits),
        seed=seed,
        pixels=pixels or (),
        like=like,
        duplicates=duplicates,
        form=form.value,
        overwrite=overwrite,
        options=options,
    )


app.command()(train)
app.command()(tune)


@app.command()
@reads_a_source
def predict(
    classifier: Annotated[Path, typer.Argument(help="a run or a classifier's folder")],
    source: SourceArgument,
    options: SourceOptions,
    out: Annotated[
        Path, typer.Option(help="the new file, in the format of its suffix: .parquet, .csv, .fits, .vot or .ecsv")
    ] = Path("predictions.parquet"),
    columns: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,...", help="more columns of the source to carry along; repeat for more"),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="images computed at a time")] = 64,
    orientations: Annotated[
        bool, typer.Option("--orientations", help="the mean over the 8 orientations of each image, at 8 times the cost")
    ] = False,
    device: Device = "auto",
    strict: Annotated[
        bool, typer.Option("--strict", help="end with an error where any image could not be predicted")
    ] = False,
    check: Check = False,
) -> None:
    """Predict the class of every image of a source."""
    from ..commands.predict import predict as verb

    verb(
        classifier,
        source,
        out=out,
        batch_size=batch_size,
        orientations=orientations,
        device=device,
        strict=strict,
        check=check,
        columns=[name.strip() for text in columns or () for name in text.split(",") if name.strip()],
        options=options,
    )


app.command()(evaluate)


@app.command()
@reads_a_source
def explain(
    classifier: Annotated[Path, typer.Argument(help="a run or a classifier's folder")],
    options: SourceOptions,
    source: Annotated[str | None, typer.Argument(help="images to explain (default: the run's test images)")] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the pictures")] = None,
    image: Annotated[list[str] | None, typer.Option(help="id of an image to explain; repeat for more")] = None,
    per_class: Annotated[int, typer.Option(help="images of each class, without --image")] = 6,
    target: Annotated[str, typer.Option(help="class explained: predicted, true, or a name")] = "predicted",
    method: Annotated[
        str, typer.Option(help="gradcam, gradcam++, layercam or integrated-gradients (slower, and sharper)")
    ] = "gradcam",
    layer: Annotated[
        str | None, typer.Option(help="the backbone's layer that is mapped, as layer3 (default: its last feature map)")
    ] = None,
    fits: Annotated[bool, typer.Option("--fits", help="write each map as FITS too, over the image's sky")] = False,
    grade: Annotated[bool, typer.Option("--grade", help="grade how reliable every method is")] = False,
    grade_per_class: Annotated[int, typer.Option(help="images of each class that are graded, without --image")] = 24,
    device: Device = "auto",
    check: Check = False,
) -> None:
    """Draw maps of the evidence for a class, and grade how reliable they are."""
    from ..commands.explain import explain as verb

    verb(
        classifier,
        source,
        out=out,
        image=image or (),
        per_class=per_class,
        target=target,
        method=method,
        layer=layer,
        fits=fits,
        grade=grade,
        grade_per_class=grade_per_class,
        device=device,
        check=check,
        options=options,
    )


app.command()(compare)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="the run to report on")],
    out: Annotated[Path | None, typer.Option(help="the HTML file (default: report.html in the run)")] = None,
    check: Check = False,
) -> None:
    """Write the report of a run as one HTML page."""
    from ..commands.report import report as verb

    verb(run, out=out, check=check)


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="folder of the demo")] = Path("demo"),
    per_class: Annotated[int, typer.Option(help="simulated images of each class")] = 1500,
    size: Annotated[int, typer.Option(help="pixels a side")] = 75,
    clean: Annotated[bool, typer.Option("--clean", help="remove what an earlier demo left, and start anew")] = False,
    set_: Set = None,
) -> None:
    """Simulate lenses, train, evaluate, explain and report, in one go."""
    from ..commands.demo import demo as verb

    verb(out, per_class=per_class, size=size, clean=clean, overrides=tuple(set_ or ()))


def main() -> None:
    """Run the command; an error is one sentence and exit status 1, unless --debug is given anywhere."""
    debug = "--debug" in sys.argv
    try:
        # The option is accepted after the command too, where it is added after an error.
        app([word for word in sys.argv[1:] if word != "--debug"], prog_name="skyclass")
    except SystemExit as end:
        if end.code == STOPPED:
            typer.echo("Stopped.", err=True)
        raise
    except Exception as error:
        if debug:
            sys.excepthook = show_traceback
            raise
        say_error(error)
        sys.exit(1)
