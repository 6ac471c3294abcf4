"""Train a recipe on a pack: a run with its classifier and predictions."""

from __future__ import annotations

import importlib.metadata
import logging
import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..classifier.classifier import Classifier
from ..classifier.run import Run
from ..classifier.training_data import data_of
from ..core.devices import device_name, own_device, pick_device, pick_precision
from ..core.distributed import broadcast_from_first, rank, rank_zero_first, world_size
from ..core.passwords import masked, secrets_in
from ..core.plotting import save_figure
from ..core.text import quantity
from ..core.version import __version__
from ..data.audit.checks import chiral_classes
from ..data.packs.augment import mirror_pairs
from ..data.packs.loader import Batch, Loader, augmenting
from ..data.packs.pack import Pack
from ..data.packs.resize import resize_for_training
from ..data.packs.training_rows import TrainingRows, log_classes, training_rows
from ..data.packs.write import warn_of_distortion, warn_of_enlarging, warn_of_padding
from ..evaluation.figures.training import training_curves_figure
from ..images.preprocess import Statistics, channel_statistics, network_input, resolve_normalisation, stored_bands
from ..models.batchnorm import unfold_batchnorm
from ..models.fine_tuning import adapt, describe_trained, merge_lora
from ..models.gradient_checkpointing import checkpoint_blocks
from ..models.network import Network, build_network
from ..models.pretrained import load_weights
from ..recipes.data_settings import AugmentSettings, PixelSettings
from ..recipes.recipe import Recipe, recipe_hash
from .finish import save_results
from .learning_rate_finder import find_learning_rate
from .loop.fit import Fitted, fit
from .loop.inputs import Inputs, OnValidation
from .loop.losses import class_weights

logger = logging.getLogger(__name__)

PACKAGES = ("numpy", "pandas", "torch", "torchvision", "timm", "lightning", "astropy", "pillow", "scikit-learn")


def begin_run(
    recipe: Recipe, pack: Pack, out: Path, device: str = "auto", *, members: int = 1, find_rate: bool = False
) -> tuple[Run, TrainingRows]:
    """A new run in the empty folder `out`, and the rows it will train on.

    members : of an ensemble, where more than one
    find_rate : the training shall begin with a learning-rate range test, and take the rate that it suggests

    Faults of the data, and a recipe for other classes, are raised before the folder is made.
    Errors: SkyclassError for these, and where something is in the folder already.
    """
    rows = training_rows(pack, recipe.data)
    mirror_pairs(recipe.augment, rows.classes)
    _warn_of_mirrors(recipe, rows.classes)
    provenance = {
        "pack": str(pack.path.absolute()),
        "pack_hash": pack.hash,
        "classes": rows.classes,
        "members": members,
        "find_rate": find_rate,
    }
    return Run.create(out, recipe, provenance, _environment(pick_device(device))), rows


def finish_run(
    run: Run, rows: TrainingRows | None = None, device: str = "auto", on_validation: OnValidation | None = None
) -> None:
    """Train to the end, from the last checkpoint if there is one; save the classifier and its predictions.

    rows : those of a new run; a resumed one computes them again
    on_validation : called after each validation with the epochs done and the scores
    Errors: SkyclassError for a pack that has changed, and the errors of a training.
    """
    data, rows = data_of(run, rows)
    place = own_device(device)
    # A training seeds the random numbers of torch; those of the caller go on as if there had been none.
    with torch.random.fork_rng([place] if place.type == "cuda" else []):
        classifier, images = _fit(run, run.recipe(), data, rows, place, on_validation)
        save_results(run, classifier, rows, images)


def _warn_of_mirrors(recipe: Recipe, classes: Sequence[str]) -> None:
    """Warn where flips would train a class under the label of its mirror image."""
    swapped = {frozenset(pair) for pair in recipe.augment.mirror_swaps}
    for one, other in chiral_classes(classes):
        if max(recipe.augment.flip_horizontal, recipe.augment.flip_vertical) and frozenset((one, other)) not in swapped:
            logger.warning(
                f"Warning: flips turn {one!r} into {other!r} and keep its label; "
                f"set augment.mirror_swaps: [[{one}, {other}]], or no flips"
            )


def _environment(device: torch.device) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "skyclass": __version__,
        "python": platform.python_version(),
        "machine": platform.platform(),
        "device": device_name(device),
        "command": _command(),
        "packages": versions,
    }


def _command() -> str:
    """The command that runs, without the passwords in it; the command line of a notebook or a script is none."""
    program = Path(sys.argv[0])
    if program.stem != "skyclass" and program.parts[-2:] != ("skyclass", "__main__.py"):
        return "called from Python"
    return shlex.join(["skyclass", *(masked(word, secrets_in(word)) for word in sys.argv[1:])])


def _fit(
    run: Run,
    recipe: Recipe,
    data: Pack,
    rows: TrainingRows,
    device: torch.device,
    on_validation: OnValidation | None,
) -> tuple[Classifier, np.ndarray]:
    """Train; returns the classifier and the images of the pack as validation and test take them."""
    torch.manual_seed(recipe.seed)
    warn_of_padding(recipe.pixels.crop, data.images.shape[2:])
    warn_of_distortion(recipe.pixels, data.images.shape[2:])
    warn_of_enlarging(recipe.pixels.size, recipe.pixels.crop or data.images.shape[2:])
    images = rank_zero_first(lambda: resize_for_training(data, recipe.pixels))
    normalisation = _normalisation(recipe, images, rows)
    resumed = run.last_checkpoint.is_file()
    some = images[_sample_rows(rows.train)]
    network = _network(recipe, some, len(rows.classes), normalisation, with_weights=not resumed)
    train_loader, val_loader = _loaders(recipe, data, rows, images, device)
    precision = "bfloat16" if pick_precision(recipe.training.precision, device) == torch.bfloat16 else "float32"
    height, width = images.shape[2:]
    logger.info(
        f"{len(rows.train):,} training and {quantity(len(rows.val), 'validation image')} of {height}x{width} pixels, "
        f"{len(rows.classes)} classes, on {device_name(device)} in {precision}"
    )
    log_classes(rows)
    inputs = _inputs(recipe, rows, images, train_loader, val_loader, normalisation)
    if broadcast_from_first(run.needs_learning_rate):
        whole = train_loader.unshared()
        initial_recipe = recipe
        recipe = broadcast_from_first(lambda: find_learning_rate(run, initial_recipe, network, whole, inputs, device))
    fitted = fit(network, recipe, run, inputs, device=device, on_validation=on_validation)
    merge_lora(network)
    if rank() == 0:
        _log_training(run, recipe, fitted)
    made_from = {"pack": data.hash, "recipe": recipe_hash(recipe), "best_epoch": fitted.best_epoch}
    classifier = _classifier(network, recipe, data, rows.classes, normalisation, precision, made_from)
    return classifier.to(str(device)), images


def _classifier(
    network: Network,
    recipe: Recipe,
    data: Pack,
    classes: list[str],
    normalisation: Statistics,
    precision: str,
    made_from: dict[str, Any],
) -> Classifier:
    """The trained network with its pixel path: the pack's recipe, then the training's."""
    mean, std = normalisation
    return Classifier(
        networks=[network],
        model=recipe.model,
        classes=classes,
        bands=stored_bands(data.bands, recipe.pixels),
        pixels=[data.pixels, PixelSettings.model_validate(recipe.pixels.model_dump(exclude={"normalise"}))],
        mean=mean,
        std=std,
        precision=precision,
        made_from=made_from,
        mirror_swaps=recipe.augment.mirror_swaps,
    )


def _log_training(run: Run, recipe: Recipe, fitted: Fitted) -> None:
    """Log the result of the training, and draw its curves."""
    if not fitted.epochs:
        logger.warning("No epoch was asked for: the classifier is the network as it begins")
        return
    best, epochs = (f"{value:.2f}".removesuffix(".00") for value in (fitted.best_epoch, fitted.epochs))
    logger.info(f"Best epoch: {best} of {epochs}, {recipe.training.monitor} {fitted.best_score:.4f}")
    if cost := run.cost():
        logger.info(f"Training took {cost}")
    save_figure(training_curves_figure(run.history(), fitted.best_epoch), run.curves_file)


def _inputs(
    recipe: Recipe, rows: TrainingRows, images: np.ndarray, train: Loader, val: Loader, normalisation: Statistics
) -> Inputs:
    """The data of the training; `images` as validation and test take them."""
    return Inputs(
        train=train,
        val=val,
        n_images=len(rows.train),
        classes=rows.classes,
        normalisation=normalisation,
        class_weights=class_weights(rows.labels[rows.train], rows.classes, recipe.training.class_weights),
        names=rows.catalog["image_id"].tolist(),
        shown=_shown(images, rows, recipe.training.watch_images),
    )


def _loaders(
    recipe: Recipe, data: Pack, rows: TrainingRows, images: np.ndarray, device: torch.device
) -> tuple[Loader, Loader]:
    """Batches of the training images, shuffled and augmented, and of the validation images, as they are."""
    batch, larger = recipe.training.batch_size, recipe.augment.crop
    pixels = recipe.pixels.model_copy(update={"size": larger})
    source = images if larger is None else rank_zero_first(lambda: resize_for_training(data, pixels))
    size = (int(images.shape[2]), int(images.shape[3]))
    augment = _augmentation(recipe.augment, images.shape[1])
    train_loader = Loader(
        source,
        rows.train,
        rows.labels[rows.train],
        batch_size=batch,
        device=device,
        shuffle_seed=recipe.seed,
        transform=augmenting(augment, rows.classes, size, recipe.seed),
        rank=rank(),
        world=world_size(),
    )
    val_loader = Loader(
        images, rows.val, rows.labels[rows.val], batch_size=2 * batch, device=device, rank=rank(), world=world_size()
    )
    return train_loader, val_loader


def _augmentation(settings: AugmentSettings, n_bands: int) -> AugmentSettings:
    """The recipe's, without what images of so many bands do not have: a colour jitter changes what a grey image has."""
    if settings.saturation and n_bands != 3:
        logger.warning(f"No change of saturation, which three bands have: these images have {n_bands}")
        return settings.model_copy(update={"saturation": 0.0})
    return settings


def _network(
    recipe: Recipe, some: np.ndarray, n_classes: int, normalisation: Statistics, *, with_weights: bool
) -> Network:
    """The network at the start of the training; `some` (n, C, h, w) are training images.

    A resumed run takes its weights from its checkpoint: the file that they came from may be gone.
    """
    n_bands = some.shape[1]
    network = build_network(recipe.model, n_bands, n_classes)
    loaded = load_weights(network, recipe.model, n_bands) if with_weights else None
    if loaded:
        logger.info(str(loaded))
        mean, std = (torch.tensor(values) for values in normalisation)
        inputs = network_input(torch.from_numpy(some), mean, std, torch.float32)
        folded = unfold_batchnorm(network.backbone, loaded.loaded, inputs)
        if folded:
            logger.info(
                f"  {folded} batch normalisations were folded into convolutions: set apart again, same function"
            )
    adapt(network, recipe.model)
    if recipe.training.gradient_checkpointing:
        checkpoint_blocks(network)
    logger.info(describe_trained(network))
    return network


def _shown(images: np.ndarray, rows: TrainingRows, n: int) -> Batch | None:
    """Up to n validation images, spread evenly over the classes."""
    by_class = rows.val[np.argsort(rows.labels[rows.val], kind="stable")]
    chosen = by_class[np.linspace(0, len(by_class) - 1, min(n, len(by_class))).round().astype(int)]
    if not len(chosen):
        return None
    return Batch(*(torch.from_numpy(np.asarray(values)) for values in (images[chosen], rows.labels[chosen], chosen)))


def _sample_rows(rows: np.ndarray) -> np.ndarray:
    """Up to 128 of the rows, evenly spaced, in order."""
    return np.sort(rows)[:: max(1, len(rows) // 128)][:128]


def _normalisation(recipe: Recipe, images: np.ndarray, rows: TrainingRows) -> Statistics:
    """The recipe's normalisation; ImageNet's is for three bands or one, others take that of the training split."""
    how, n_bands = recipe.pixels.normalise, images.shape[1]
    if how == "imagenet" and n_bands not in (1, 3):
        logger.warning(
            f"Normalised by the training images: ImageNet's mean is known for three bands or one, not for {n_bands}"
        )
        how = "dataset"
    return resolve_normalisation(how, n_bands, channel_statistics(images, rows.train) if how == "dataset" else None)
