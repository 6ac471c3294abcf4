"""How well images of something else altogether are told from galaxies, by several scores and by what `predict` marks.

A classifier of simulated galaxies meets simulated lenses (as three equal bands), its own test galaxies with their
pixels shuffled, and, where the folder of real images is at hand, radio sources and galaxies of the Sloan survey. Prints
one table: the AUROC of each score, something else against the test galaxies, and the share of images beyond the limit
that 1 % of the validation galaxies exceed. With --real the classifier is of the Sloan galaxies instead.

    python benchmarks/novelty.py
    python benchmarks/novelty.py --real
    python benchmarks/novelty.py --run RUN          a run of the same kind that was trained already
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from skyclass.classifier.classifier import Classifier
from skyclass.classifier.novelty import QUANTILE, fit_gaussians
from skyclass.classifier.run import Run
from skyclass.commands.pack import pack
from skyclass.commands.simulate import simulate
from skyclass.commands.train import train
from skyclass.data.packs.pack import Pack
from skyclass.data.packs.resize import resize_for_training
from skyclass.data.packs.training_rows import training_rows
from skyclass.evaluation.metrics import accuracy

REAL = Path(__file__).parents[2] / "shared" / "data"
RECIPE = """\
pixels: {size: SIZE}
augment: {flip_horizontal: 0.5, flip_vertical: 0.5, rotation: 180, fill: reflection}
model: {backbone: BACKBONE}
training: {epochs: EPOCHS, batch_size: 64, learning_rate: 3.0e-3, weight_decay: 1.0e-2}
"""
Answers = tuple[np.ndarray, np.ndarray]  # pooled features (N, F), logits (N, K)


def answers(model: Classifier, images: np.ndarray) -> Answers:
    """What the network makes of images (N, C, h, w) as they are stored."""
    network, found = model.networks[0], []
    with torch.inference_mode():
        for start in range(0, len(images), 128):
            features = network.features(model._input(images[start : start + 128]))
            found.append((network.pooled(features).float().numpy(), network.classify(features).numpy()))
    pooled, logits = zip(*found, strict=True)
    return np.concatenate(pooled), np.concatenate(logits)


def like(pixels: np.ndarray, example: np.ndarray) -> np.ndarray:
    """Grey or colour pictures (N, C, H, W) in [0, 1] as images of the bands, size and type of `example` (C, h, w)."""
    tensor = torch.from_numpy(np.ascontiguousarray(pixels, np.float32))
    resized = torch.nn.functional.interpolate(tensor, example.shape[1:], mode="area").numpy()
    bands = np.broadcast_to(resized, (len(resized), *example.shape)) if resized.shape[1] == 1 else resized
    top = np.iinfo(example.dtype).max if example.dtype.kind == "u" else 1.0
    return np.clip(bands * top, 0, top).astype(example.dtype)


def pictures(files: list[Path], mode: str, crop: int) -> np.ndarray:
    """The middles of image files, (N, C, crop, crop) in [0, 1]."""
    made = []
    for file in files:
        with Image.open(file) as image:
            left, top = (image.width - crop) // 2, (image.height - crop) // 2
            pixels = np.asarray(image.convert(mode).crop((left, top, left + crop, top + crop)), np.float32) / 255.0
        made.append(pixels[None] if mode == "L" else np.moveaxis(pixels, -1, 0))
    return np.stack(made)


def strangers(example: np.ndarray, test: np.ndarray, real: bool, folder: Path) -> dict[str, np.ndarray]:
    """Sets of images that are no galaxies of the training's kind, as they would be stored."""
    simulate("lensing", folder / "lenses", per_class=150, size=64, seed=11)
    lenses = np.asarray(Pack.open(folder / "lenses").images, np.float32)
    lowest, highest = (edge(lenses, axis=(1, 2, 3), keepdims=True) for edge in (np.min, np.max))
    sets = {"simulated lenses": like((lenses - lowest) / (highest - lowest), example)}
    flat = test.reshape(*test.shape[:2], -1)
    order = np.random.default_rng(0).permutation(flat.shape[2])
    sets["test galaxies, pixels shuffled"] = np.ascontiguousarray(flat[..., order].reshape(test.shape))
    if real:
        simulate("galaxies", folder / "others", per_class=100, size=64, seed=12)
        others = np.asarray(Pack.open(folder / "others").images)
        top = np.iinfo(others.dtype).max if others.dtype.kind == "u" else 1.0
        sets["simulated galaxies"] = like(others / top, example)
    if (REAL / "radio").is_dir():
        files = sorted((REAL / "radio").rglob("*.png"))
        sets["radio sources (FIRST)"] = like(pictures(files, "L", 150), example)
    if not real and (REAL / "galaxies").is_dir():
        files = sorted((REAL / "galaxies" / "images").iterdir())[:600]
        sets["galaxies of the Sloan survey"] = like(pictures(files, "RGB", 256), example)
    return sets


def scores(train_set: Answers, labels: np.ndarray) -> dict[str, Callable[[Answers], np.ndarray]]:
    """Name -> a function of answers; larger for what is less like the training images."""
    features = train_set[0]
    classes = fit_gaussians(features, labels)
    whole = fit_gaussians(features, np.zeros_like(labels))
    unit = NearestNeighbors(n_neighbors=10).fit(_unit(features))
    return {
        "Mahalanobis": lambda one: classes.distances(one[0]),
        "Mahalanobis, relative": lambda one: classes.distances(one[0]) ** 2 - whole.distances(one[0]) ** 2,
        "10th neighbour": lambda one: unit.kneighbors(_unit(one[0]))[0][:, -1],
        "energy": lambda one: -logsumexp(one[1], axis=1),
        "1 - largest probability": lambda one: -np.exp(one[1].max(axis=1) - logsumexp(one[1], axis=1)),
    }


def _unit(features: np.ndarray) -> np.ndarray:
    """Features of length one."""
    return np.asarray(features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12))


def tell(run: Run, real: bool, folder: Path) -> None:
    """Print the table."""
    model, data = Classifier.load(run.path, "cpu"), Pack.open(Path(run.provenance()["pack"]))
    rows = training_rows(data, run.recipe().data)
    images = resize_for_training(data, run.recipe().pixels)
    known = {name: answers(model, np.asarray(images[chosen])) for name, chosen in vars(rows).items() if name in SPLITS}
    sets = strangers(np.asarray(images[0]), np.asarray(images[rows.test]), real, folder)
    print(
        f"{len(rows.train):,} training, {len(rows.val)} validation and {len(rows.test)} test galaxies; test accuracy "
        f"{accuracy(rows.labels[rows.test], known['test'][1]):.3f}\n"
    )
    print("| score |", " | ".join(f"{name} ({len(one)})" for name, one in sets.items()), "| test galaxies |")
    print("|---|", "---:|" * (len(sets) + 1))
    others = {name: answers(model, one) for name, one in sets.items()}
    for name, score in scores(known["train"], rows.labels[rows.train]).items():
        limit, inside = np.quantile(score(known["val"]), QUANTILE), score(known["test"])
        cells = []
        for one in others.values():
            values = score(one)
            truth = np.repeat([0, 1], [len(inside), len(values)])
            area = roc_auc_score(truth, np.concatenate([inside, values]))
            cells.append(f"{area:.3f}, {np.mean(values > limit):.1%} marked")
        print(f"| {name} |", " | ".join(cells), f"| {np.mean(inside > limit):.1%} marked |")


SPLITS = ("train", "val", "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run that was trained already")
    parser.add_argument("--real", action="store_true", help="train on galaxies of the Sloan survey")
    parser.add_argument("--per-class", type=int, default=700)
    parser.add_argument("--size", type=int, default=64, help="height and width, pixels")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--backbone", default="resnet20_cifar")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = arguments.run
        if run is None:
            if arguments.real:
                pack(REAL / "galaxies" / "labels.csv", folder / "pack", pixels=["crop=256", f"size={arguments.size}"])
            else:
                count, size, seed = arguments.per_class, arguments.size, arguments.seed
                simulate("galaxies", folder / "pack", per_class=count, size=size, seed=seed)
            text = RECIPE.replace("SIZE", str(arguments.size)).replace("BACKBONE", arguments.backbone)
            (folder / "recipe.yaml").write_text(text.replace("EPOCHS", str(arguments.epochs)), encoding="utf-8")
            run = train(folder / "recipe.yaml", folder / "pack", out=folder / "run")
        tell(Run.open(run), arguments.real, folder)


if __name__ == "__main__":
    main()
