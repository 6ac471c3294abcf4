"""How many wrong labels the ranking finds: galaxies are simulated, 5 % of the labels flipped, and K folds trained.

Galaxies rather than lenses: at this size their four classes are told apart almost without error, as a clean set is
said to be, so that what is found are the flips; and with more than two classes the ways to rank differ. Every galaxy is
predicted by the networks that were not trained on it. Prints one table. The second command makes it hard, by a network
trained too little on images too small, and the third by rare classes as well (1,200, 480, 192 and 77 images).

    python benchmarks/label_errors.py
    python benchmarks/label_errors.py --size 12 --epochs 6
    python benchmarks/label_errors.py --size 16 --epochs 8 --per-class 1200 --rarity 0.4
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from skyclass.data.pack import Chunk, Pack, write_pack
from skyclass.evaluation.label_errors import HeldOut, held_out, rank_label_errors
from skyclass.evaluation.metrics import accuracy
from skyclass.prediction_formats import read_predictions
from skyclass.predictions import probabilities
from skyclass.run import predictions_of
from skyclass.verbs.simulate import simulate
from skyclass.verbs.train import train

RECIPE = """\
augment: {flip_horizontal: 0.5, flip_vertical: 0.5, rotation: 180, fill: reflection}
model: {backbone: resnet20_cifar}
training: {epochs: EPOCHS, batch_size: 64, learning_rate: 3.0e-3, weight_decay: 1.0e-2}
"""


def flipped(clean: Pack, share: float, rarity: float, seed: int, folder: Path) -> Pack:
    """The pack with a share of its labels changed to another class; the column `truth` keeps the right one.

    Each class keeps `rarity` times as many images as the one before it.
    """
    random = np.random.default_rng(seed)
    index = clean.catalog["label"].map(clean.classes.index).to_numpy()
    place = clean.catalog.groupby("label").cumcount().to_numpy()  # the number of the image in its class
    kept = np.flatnonzero(place < np.bincount(index).max() * rarity**index)
    index, catalog = index[kept], clean.catalog.iloc[kept].reset_index(drop=True)
    catalog["truth"] = catalog["label"]
    wrong = random.permutation(len(kept))[: round(share * len(kept))]
    step = random.integers(1, len(clean.classes), len(wrong))
    catalog.loc[wrong, "label"] = np.array(clean.classes)[(index[wrong] + step) % len(clean.classes)]
    chunks = [Chunk(np.asarray(clean.images[kept]), catalog)]
    return write_pack(chunks, folder, clean.pixels, classes=clean.classes, source={"flipped": share, "seed": seed})


def out_of_fold(pack: Pack, folds: int, epochs: int, folder: Path) -> HeldOut:
    """Train every fold by the shipped path; the predictions of the images that each was not trained on."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("EPOCHS", str(epochs)), encoding="utf-8")
    runs = [folder / f"fold-{fold}" for fold in range(folds)]
    for fold, run in enumerate(runs):
        overrides = [f"data.folds={folds}", f"data.fold={fold}"]
        train(recipe, pack.path, out=run, overrides=overrides)
    return held_out({str(run): read_predictions(predictions_of(run)) for run in runs})


def tell(held_out: HeldOut, catalog: pd.DataFrame, share: float) -> None:
    """Print how many of the flipped labels the list finds, in three orders."""
    frame, classes = held_out.frame, held_out.classes
    catalog = catalog.set_index("image_id").loc[frame["image_id"]]
    wrong = (catalog["label"] != catalog["truth"]).to_numpy()
    p, truth = probabilities(frame, classes), catalog["truth"].map(classes.index).to_numpy()
    ranked = rank_label_errors(frame["label"], p, classes)
    likely = wrong[ranked.loc[ranked["likely"], "row"]]
    print(
        f"{len(frame):,} galaxies, {wrong.sum()} labels flipped. Out of fold, {accuracy(truth, p):.2%} are given their "
        f"true class. {len(likely)} labels are `likely` wrong: {likely.mean():.1%} of them are, and they are "
        f"{likely.sum() / wrong.sum():.1%} of the flips.\n"
    )
    labels = frame["label"].map(classes.index).to_numpy()
    own = p[np.arange(len(p)), labels]
    largest_other = np.where(labels[:, None] == np.arange(len(classes)), 0.0, p).max(axis=1)
    threshold = np.array([own[labels == k].mean() for k in range(len(classes))])[labels]
    orders = {
        "self-confidence (Skyclass)": ranked["row"].to_numpy(),
        "normalised margin": np.argsort(own - largest_other, kind="stable"),
        "self-confidence less its class's threshold": np.argsort(own - threshold, kind="stable"),
    }
    top = round(1.2 * share * len(frame))
    print(f"| ranked by | flips in the top {1.2 * share:.0%} ({top}) | share of flips among the first {wrong.sum()} |")
    print("|---|---:|---:|")
    for name, rows in orders.items():
        found = wrong[rows]
        print(f"| {name} | {found[:top].sum() / wrong.sum():.1%} | {found[: wrong.sum()].mean():.1%} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-class", type=int, default=600)
    parser.add_argument("--size", type=int, default=32, help="height and width, pixels")
    parser.add_argument("--flips", type=float, default=0.05, help="share of the labels changed")
    parser.add_argument("--rarity", type=float, default=1.0, help="images of a class over those of the one before it")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate("galaxies", folder / "clean", per_class=arguments.per_class, size=arguments.size, seed=arguments.seed)
        clean = Pack.open(folder / "clean")
        pack = flipped(clean, arguments.flips, arguments.rarity, arguments.seed, folder / "pack")
        tell(out_of_fold(pack, arguments.folds, arguments.epochs, folder), pack.catalog, arguments.flips)


if __name__ == "__main__":
    main()
