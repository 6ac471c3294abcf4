"""Training speed of the first published system: a plain torchvision pipeline against Skyclass, in one run.

Both train the same ResNet18 (conv1 to layer2 frozen) at 224 pixels on the same JPEGs, in turns, on this machine. The
plain pipeline decodes, resizes to 256, crops, flips, rotates and jitters each image in worker processes, and computes
in float32; Skyclass trains from a pack by the recipe `objects-resnet18`.

    python benchmarks/training.py TABLE --image-root IMAGES --weights FILE
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import models, transforms

from skyclass.commands.pack import pack
from skyclass.core.devices import pick_device, pick_precision
from skyclass.data.packs.loader import Loader, augmenting
from skyclass.data.packs.pack import Pack
from skyclass.data.packs.resize import resize_for_training
from skyclass.data.packs.training_rows import training_rows
from skyclass.data.sources.read import read_source
from skyclass.images.preprocess import network_input, resolve_normalisation
from skyclass.models.fine_tuning import freeze
from skyclass.models.network import build_network
from skyclass.models.pretrained import load_weights, read_state
from skyclass.recipes.recipe import load_recipe

BATCH = 32


class Files(Dataset):
    """Image files and class indices, decoded anew each time."""

    def __init__(self, files: list[str], labels: np.ndarray) -> None:
        self.files, self.labels = files, labels
        self.transform = transforms.Compose(
            [
                transforms.Resize((256, 256)),
                transforms.RandomCrop(224),
                transforms.RandomHorizontalFlip(),
                transforms.RandomRotation(15),
                transforms.ColorJitter(0.2, 0.2, 0.2),
                transforms.ToTensor(),
                transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        with Image.open(self.files[row]) as image:
            return self.transform(image.convert("RGB")), int(self.labels[row])


def plain_steps(files: list[str], labels: np.ndarray, n_classes: int, weights: Path) -> Iterator[Callable[[], int]]:
    """Steps of the plain pipeline; each returns its number of images."""
    network = models.resnet18(weights=None)
    network.load_state_dict(read_state(weights), strict=False)
    network.fc = nn.Linear(512, n_classes)
    for name in ("conv1", "bn1", "layer1", "layer2"):
        getattr(network, name).requires_grad_(False)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 1e-4)
    loader = DataLoader(Files(files, labels), BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    while True:
        batches = iter(loader)
        for _ in range(len(loader)):

            def step() -> int:
                images, targets = next(batches)  # noqa: B023 (the step is used before the next is made)
                loss = nn.functional.cross_entropy(network(images), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                return len(images)

            yield step


def skyclass_steps(data: Pack, weights: Path, precision: str) -> Iterator[Callable[[], int]]:
    """Steps of Skyclass's own loader, augmentation and network."""
    recipe = load_recipe("objects-resnet18", [f"model.weights={weights}", f"training.precision={precision}"])
    device = pick_device()
    rows = training_rows(data, recipe.data)
    source = resize_for_training(data, recipe.pixels.model_copy(update={"size": recipe.augment.crop}))
    network = build_network(recipe.model, 3, len(rows.classes))
    load_weights(network, recipe.model, 3)
    freeze(network, recipe.model.freeze)
    network.train().to(memory_format=torch.channels_last)
    mean, std = (torch.tensor(v) for v in resolve_normalisation("imagenet", 3, None))
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 1e-4)
    transform = augmenting(recipe.augment, rows.classes, (224, 224), 0)
    loader = Loader(
        source,
        rows.train,
        rows.labels[rows.train],
        batch_size=BATCH,
        device=device,
        shuffle_seed=0,
        transform=transform,
    )
    half = pick_precision(precision, device) == torch.bfloat16
    while True:
        batches = iter(loader)
        for _ in range(len(loader)):

            def step() -> int:
                batch = next(batches)  # noqa: B023 (the step is used before the next is made)
                x = network_input(batch.images, mean, std, torch.float32).contiguous(memory_format=torch.channels_last)
                with torch.autocast(device.type, torch.bfloat16, enabled=half):
                    logits = network(x)
                loss = nn.functional.cross_entropy(logits, batch.labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                return len(x)

            yield step


def measure(pipelines: dict[str, Iterator[Callable[[], int]]], rounds: int, steps: int) -> dict[str, list[float]]:
    """Images a second of each pipeline in each round; the pipelines take turns, after one round that warms up."""
    rates: dict[str, list[float]] = {name: [] for name in pipelines}
    for turn in range(rounds + 1):
        for name, pipeline in pipelines.items():
            start, done = time.perf_counter(), 0
            for _ in range(steps):
                done += next(pipeline)()
            if turn:
                rates[name].append(done / (time.perf_counter() - start))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table")
    parser.add_argument("--image-root")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    catalog = read_source(arguments.table, image_root=arguments.image_root).catalog
    classes = sorted(catalog["label"].unique())
    labels = np.array([classes.index(label) for label in catalog["label"]])
    with tempfile.TemporaryDirectory() as folder:
        pack(arguments.table, Path(folder) / "pack", image_root=arguments.image_root, pixels=["size=256"])
        data = Pack.open(Path(folder) / "pack")
        pipelines = {
            "plain torchvision, float32": plain_steps(
                catalog["file"].tolist(), labels, len(classes), arguments.weights
            ),
            "Skyclass, float32": skyclass_steps(data, arguments.weights, "float32"),
            "Skyclass, auto": skyclass_steps(data, arguments.weights, "auto"),
        }
        rates = measure(pipelines, arguments.rounds, arguments.steps)
    base = statistics.median(rates["plain torchvision, float32"])
    print(f"| training, ResNet18 frozen to layer2 at 224, {torch.get_num_threads()} threads | images/s | ratio |")
    print("|---|---:|---:|")
    for name, values in rates.items():
        print(f"| {name} | {statistics.median(values):.1f} | {statistics.median(values) / base:.2f} |")


if __name__ == "__main__":
    main()
