"""`skyclass pack`: decode a source once, into a folder of plain NumPy and Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..core.arguments import check_out
from ..core.console import shown_messages
from ..core.errors import SkyclassError
from ..data.source_options import SourceOptions
from .options.shared import Overwrite, Splits
from .options.source import HowRead, SourceArgument


@shown_messages()
def pack(
    source: SourceArgument,
    out: Annotated[Path | str, typer.Argument(help="the new pack")],
    *,
    splits: Splits = (0.7, 0.1, 0.2),
    seed: Annotated[int, typer.Option(help="another seed, other splits")] = 0,
    pixels: Annotated[
        Sequence[str], typer.Option(metavar="KEY=VALUE", help="a pixel setting, such as size=256 or interval=zscale")
    ] = (),
    like: Annotated[Path | str | None, typer.Option(help="take the pixel settings of this classifier or run")] = None,
    duplicates: Annotated[
        bool, typer.Option("--duplicates/--no-duplicates", help="keep images that show the same in one split")
    ] = True,
    form: Annotated[Literal["pack", "npz"], typer.Option("--as", help="a pack, or one .npz a split")] = "pack",
    overwrite: Overwrite = False,
    options: HowRead = SourceOptions(),
) -> Path:
    """Decode a source once, into a folder of plain NumPy and Parquet.

    Parameters
    ----------
    source : str or Path
        Class folders, a table, arrays, Parquet of images, a pack or one image.
    out : str or Path
        The new folder.
    splits : sequence of float
        Shares of train, val and test for images without a split, drawn by image id (and group).
    seed : int
        Of the splits.
    pixels : sequence of str
        Pixel settings KEY=VALUE, such as size=256, crop=[300,300] or interval=zscale. What is not set follows the
        commonest image.
    like : str or Path, optional
        A classifier or run whose pixel settings are taken instead.
    duplicates : bool
        Whether to find copies of one picture, keep them in one split, and list them in `duplicates.csv`, with the pairs
        that may be copies, which move nothing.
    form : str
        `pack`, or `npz` for one file a split with the arrays images (n, C, H, W), labels, image_id and bands.
    overwrite : bool
        Whether to replace a pack that is there.
    options : SourceOptions
        How the source is read.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    SkyclassError
        For a source without an image that can be read, settings that do not fit, and a folder that holds something.
    """
    from ..core.console import say, say_where
    from ..data.catalog import say_problems
    from ..data.packs.export import unpack_splits
    from ..data.packs.pack import is_pack, new_pack
    from ..data.packs.split import check_splits
    from ..data.packs.write import pack_catalog
    from ..data.sources.read import read_source
    from ..recipes.data_settings import PixelSettings
    from ..recipes.recipe import parse_pixels
    from .steps.pack import pixels_of, say_packed

    out = check_out(Path(out))
    if is_pack(Path(source)):
        raise SkyclassError("it is a pack already", where=source, fix="train on it, or pack the files it was made from")
    recipe = parse_pixels(pixels_of(like) if like else PixelSettings(), pixels)
    found = read_source(source, options)
    train, val, test = splits
    provenance: dict[str, Any] = {"source": str(source), "kind": found.kind, "splits": list(splits), "seed": seed}
    try:
        check_splits(found.catalog, (train, val, test))  # before an old pack is given up, and images are decoded
        with new_pack(out, overwrite=overwrite) as folder:
            made = pack_catalog(
                found.catalog,
                found.problems,
                folder,
                recipe,
                provenance,
                splits=(train, val, test),
                seed=seed,
                duplicates=duplicates,
            )
            say_packed(made, found.catalog)
            files = unpack_splits(made.pack) if form == "npz" else []
    except SkyclassError as refusal:  # what is wrong with the splits is wrong with the source
        raise type(refusal)(refusal.what, where=refusal.where or source, fix=refusal.fix) from None
    if files:
        say(f"One file a split: {', '.join(file.name for file in files)}")
    say_problems(made.problems, out / "problems.csv")
    say_where("Pack" if form == "pack" else "Arrays", out)
    return out
