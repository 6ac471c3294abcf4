"""Trainings with and without the command: `from helpers.trainings import run_of, fit_toy, plain_loop`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from helpers.toys import write_recipe
from skyclass.classifier.run import Run
from skyclass.commands.train import train
from skyclass.data.packs.loader import Loader, augmenting
from skyclass.data.packs.pack import Pack, PackChunk, write_pack
from skyclass.data.packs.training_rows import training_rows
from skyclass.images.preprocess import channel_statistics, network_input
from skyclass.models.fine_tuning import adapt
from skyclass.models.network import Network, build_network
from skyclass.recipes.recipe import Recipe
from skyclass.training.loop.fit import fit
from skyclass.training.loop.inputs import Inputs, OnValidation
from skyclass.training.loop.losses import class_weights

CPU = torch.device("cpu")
State = dict[str, Tensor]
AUGMENT = {
    "flip_horizontal": 0.5,
    "rotation": 30.0,
    "scale": [0.9, 1.1],
    "shift": 0.1,
    "brightness": 0.2,
    "noise": 0.02,
    "mirror_swaps": [["blob", "bar"]],
}


def run_of(folder: Path, pack: Pack, recipe: Recipe) -> Run:
    """A whole training through the command."""
    return Run(train(write_recipe(folder, recipe), pack.path, out=folder / "run", device="cpu"))


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def cut(pack: Pack, folder: Path, keep: np.ndarray) -> Pack:
    """A pack of some rows of another."""
    chunk = PackChunk(np.array(pack.images)[keep], pack.catalog[keep])
    return write_pack([chunk], folder, pack.pixels, classes=None, source={})


def copied(network: Network) -> State:
    """The network's tensors as they are now."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether two states are equal to the last bit."""
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def last_state(run: Path) -> State:
    """The network's tensors after the last epoch of a run."""
    checkpoint = torch.load(Run(run).last_checkpoint, map_location="cpu", weights_only=True)
    return {name.removeprefix("network."): value for name, value in checkpoint["state_dict"].items()}


def new_network(recipe: Recipe, n_bands: int, n_classes: int) -> Network:
    """A network with the weights that the recipe's seed gives."""
    torch.manual_seed(recipe.seed)
    network = build_network(recipe.model, n_bands, n_classes)
    adapt(network, recipe.model)
    return network


def fit_toy(recipe: Recipe, pack: Pack, folder: Path, on_validation: OnValidation | None = None) -> tuple[State, State]:
    """Train by `fit` alone; the network's tensors before and after the last epoch."""
    rows = training_rows(pack, recipe.data)
    network = new_network(recipe, len(pack.bands), len(rows.classes))
    before = copied(network)
    run = Run.create(folder, recipe, {"pack": str(pack.path), "pack_hash": pack.hash, "classes": pack.classes}, {})
    size = (pack.images.shape[2], pack.images.shape[3])
    train = Loader(
        pack.images,
        rows.train,
        rows.labels[rows.train],
        batch_size=recipe.training.batch_size,
        device=CPU,
        shuffle_seed=recipe.seed,
        transform=augmenting(recipe.augment, rows.classes, size, recipe.seed),
    )
    val = Loader(pack.images, rows.val, rows.labels[rows.val], batch_size=8, device=CPU)
    inputs = Inputs(
        train=train,
        val=val,
        n_images=len(rows.train),
        classes=rows.classes,
        normalisation=channel_statistics(pack.images, rows.train),
        class_weights=class_weights(rows.labels[rows.train], rows.classes, recipe.training.class_weights),
        names=rows.catalog["image_id"].tolist(),
    )
    fit(network, recipe, run, inputs, device=CPU, on_validation=on_validation)
    return before, last_state(folder)


def plain_loop(recipe: Recipe, pack: Pack) -> State:
    """The same training in plain torch, written down independently of `training` and of the loaders.

    AdamW and OneCycle in float32, shuffled and augmented; the network's tensors after the last epoch.
    """
    from skyclass.data.packs.augment import augment, draw

    settings = recipe.training
    classes = sorted(set(pack.catalog["label"]))
    chosen = np.flatnonzero(pack.catalog["split"] == "train")
    labels = np.array([classes.index(label) for label in pack.catalog["label"]])
    images = torch.from_numpy(np.array(pack.images))
    # Adam makes large differences of small ones, so the input must be rounded in the same way.
    mean, std = (torch.tensor(values) for values in channel_statistics(pack.images, chosen))
    swaps = {name: other for pair in recipe.augment.mirror_swaps for name, other in (pair, pair[::-1])}

    network = new_network(recipe, len(pack.bands), len(classes))
    network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
    )
    n_batches = -(-len(chosen) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=n_batches * settings.epochs
    )
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    for epoch in range(settings.epochs):
        torch.manual_seed(int(np.random.SeedSequence([recipe.seed, epoch]).generate_state(1)[0]))
        order = np.random.default_rng([recipe.seed, epoch]).permutation(len(chosen))
        for positions in np.array_split(order, n_batches):
            rows = chosen[positions]
            size = (images.shape[2], images.shape[3])
            x = augment(images[torch.from_numpy(rows)], recipe.augment, size, recipe.seed, epoch, rows)
            mirrored = draw(recipe.augment, recipe.seed, epoch, rows).mirrored
            names = [classes[label] for label in labels[rows]]
            seen = [swaps.get(name, name) if flip else name for name, flip in zip(names, mirrored, strict=True)]
            y = torch.tensor([classes.index(name) for name in seen])
            x = network_input(x, mean, std, torch.float32).contiguous(memory_format=torch.channels_last)
            loss = criterion(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return copied(network)
