"""`skyclass explain`: maps of the evidence for a class, image by image, and grades of how reliable they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..core.arguments import check_at_least_one, check_out
from ..core.console import shown_messages
from ..core.errors import SkyclassError
from ..data.source_options import SourceOptions
from .options.shared import Check, ClassifierArgument, Device
from .options.source import HowRead


@shown_messages()
def explain(
    classifier: ClassifierArgument,
    source: Annotated[
        str | Path | None, typer.Argument(help="images to explain (default: the run's test images)")
    ] = None,
    *,
    out: Annotated[Path | str | None, typer.Option(help="folder for the pictures")] = None,
    image: Annotated[Sequence[str], typer.Option(help="id of an image to explain; repeat for more")] = (),
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
    options: HowRead = SourceOptions(),
) -> Path:
    """Draw maps of the evidence for a class, and grade how reliable they are.

    Writes a picture an image (original, overlay, heatmap), a sheet a class, `mistakes.png` of the surest mistakes where
    there are any, and `explanations.csv` that lists them.

    Parameters
    ----------
    classifier : str or Path
        The folder of a classifier or of a run.
    source : str or Path, optional
        As `pack` takes it. By default the test images of the run's pack.
    out : str or Path, optional
        The folder. By default `explanations`, in the run if it is one.
    image : sequence of str
        Ids of the images to explain. By default the first `per_class` of every class.
    per_class : int
        Images of each class, without `image`.
    target : str
        The class explained: predicted, true, or the name of one.
    method : str
        gradcam, gradcam++, layercam or integrated-gradients.
    layer : str, optional
        The backbone's module whose output is mapped, such as layer3. By default its last feature map.
    fits : bool
        Whether to write each map as a FITS file too, of the original image's size and with its WCS.
    grade : bool
        Whether to grade all methods, those that map a layer at this one, on the images named or the first
        `grade_per_class` of every class, into `grades.csv`, `grades.json` and figures.
    grade_per_class : int
        Images of each class that are graded, without `image`.
    device : str
        auto, cpu, cuda or cuda:N.
    check : bool
        Whether to compare every byte of the pack with its hashes first.
    options : SourceOptions
        How the source is read.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    SkyclassError
        For an unknown class, method, layer or image, a pack that has changed, and where no image can be read.
    """
    from ..classifier.chosen_images import choose, images_of
    from ..classifier.classifier import Classifier
    from ..classifier.run import Run, is_run
    from ..core.console import say_where
    from ..core.devices import pick_device
    from ..core.files.replacing import new_contents
    from ..explanation.grading import MapSettings
    from ..explanation.methods import check_method
    from ..explanation.output import LIST, ExplanationFolder, Sheet, listed_files
    from ..models.network import check_names
    from .steps.explain import draw, grade_methods, mistakes_of

    check_method(method, layer)
    check_at_least_one(per_class, "--per-class", "images of a class")
    check_at_least_one(grade_per_class, "--grade-per-class", "images of a class")
    pick_device(device)
    path = Path(classifier)
    if out:
        check_out(Path(out))
    model = Classifier.load(path, device)
    if target not in ("predicted", "true", *model.classes):
        fix = f"use predicted, true, or one of {', '.join(model.classes)}"
        raise SkyclassError(f"no class is called {target!r}", where="--target", fix=fix)
    if layer is not None:
        check_names(model.networks[0], [layer], "--layer")
    folder = Path(out) if out else (Run.open(path).explanations if is_run(path) else Path("explanations"))
    images = images_of(path, source, options, check=check)
    chosen = choose(images, image, per_class, model.classes, only_test=source is None)
    key = "label" if chosen["label"].notna().all() else "predicted"
    how, mistakes = MapSettings(method, layer), Sheet()
    with new_contents(folder, LIST, lambda: listed_files(folder)) as new:
        pictures = ExplanationFolder(new, key)
        draw(model, images, chosen, target, how, pictures, fits)
        if not pictures.rows:
            fix = "choose others with --image"
            raise SkyclassError("none of the chosen images can be read", where=images.place, fix=fix)
        if not image:
            mistakes = mistakes_of(model, images, path, source, pictures, how)
        pictures.finish(mistakes)
    if grade:
        graded = chosen if image else choose(images, (), grade_per_class, model.classes, only_test=source is None)
        grade_methods(model, images, graded, target, layer, folder)
    say_where("Explanations", folder)
    return folder
