"""The end of a run: the classifier is calibrated on the validation images and saved, with its predictions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..classifier.classifier import Classifier
from ..classifier.novelty import MOST_IMAGES, Novelty, fit_novelty
from ..classifier.run import Run
from ..classifier.sampling import ClassifierOutput
from ..core.console import progress
from ..core.distributed import all_gather, broadcast_from_first, rank, world_size
from ..core.errors import SkyclassError
from ..core.text import quantity
from ..data.catalog import COORDINATES
from ..data.packs.loader import Loader
from ..data.packs.training_rows import TrainingRows
from ..evaluation.calibration.conformal import fit_prediction_sets
from ..evaluation.calibration.scaling import fit_calibration, out_of_fold
from ..evaluation.metrics import accuracy, auroc_macro, balanced_accuracy
from ..evaluation.predictions import UNCALIBRATED, carried_schema, predictions_writer
from ..recipes.recipe import Recipe
from ..reports.model_card import write_card

logger = logging.getLogger(__name__)

T = TypeVar("T")


def save_results(run: Run, classifier: Classifier, rows: TrainingRows, images: np.ndarray) -> None:
    """Save a trained classifier, calibrated, its card, and its predictions of the validation and test images.

    images : (N, C, h, w), those of the pack as validation and test take them
    """
    recipe, chosen = run.recipe(), np.concatenate([rows.val, rows.test])
    classifier.novelty = _novelty(classifier, recipe, rows, images)
    output = _outputs(classifier, images, chosen)
    assert output.novelty is not None
    answered = np.flatnonzero(~np.isnan(output.log_p[: len(rows.val)]).any(axis=1))
    if len(rows.val) and not len(answered):
        what, fix = "the network answers no validation image with a number (all are NaN)", "train with a smaller rate"
        raise SkyclassError(what, where=run.path, fix=fix)
    classifier.novelty = classifier.novelty.limited(output.novelty[answered])
    if rank():
        return
    _calibrate(classifier, recipe, rows, output.log_p, answered)
    classifier.save(run.classifier)
    write_card(run)
    # Last, because a run with predictions has ended.
    _write_predictions(run, classifier, rows, output._replace(novelty=output.novelty / classifier.novelty.limit))


def _novelty(classifier: Classifier, recipe: Recipe, rows: TrainingRows, images: np.ndarray) -> Novelty:
    """The Gaussians of the features of the training images, as they are, or of `MOST_IMAGES` drawn from them."""
    some = rows.train
    if len(some) > MOST_IMAGES:
        some = np.sort(np.random.default_rng(recipe.seed).choice(some, MOST_IMAGES, replace=False))
    what = "Measuring the training images"
    pooled = _in_batches(lambda batch: classifier.samples(batch).pooled, images, some, classifier.device, what)
    features = np.concatenate([one for one in pooled if one is not None], axis=1)  # (M, n, F)
    return broadcast_from_first(lambda: fit_novelty(features, rows.labels[some]))


def _outputs(classifier: Classifier, images: np.ndarray, chosen: np.ndarray) -> ClassifierOutput:
    """The outputs of the networks for the chosen rows."""
    parts = _in_batches(classifier.outputs, images, chosen, classifier.device, "Predicting validation and test")
    errors = [one.error_probability for one in parts if one.error_probability is not None]
    return ClassifierOutput(
        np.concatenate([one.log_p for one in parts]),
        np.concatenate(errors) if errors else None,
        np.concatenate([one.novelty for one in parts if one.novelty is not None]),
    )


def _in_batches(
    compute: Callable[[Tensor], T], images: np.ndarray, chosen: np.ndarray, device: torch.device, what: str
) -> list[T]:
    """`compute` of the chosen rows of the images, batch by batch in order; each process computes a share."""
    n, labels = world_size(), np.full(len(chosen), -1)
    loader = Loader(images, chosen, labels, batch_size=64 * n, device=device, rank=rank(), world=n)
    own = []
    with progress(what, len(np.array_split(chosen, n)[rank()])) as advance:
        for batch in loader:
            own.append(compute(batch.images))
            advance(len(batch.rows))
    return [one for share in all_gather(own) for one in share]


def _calibrate(
    classifier: Classifier, recipe: Recipe, rows: TrainingRows, log_p: np.ndarray, answered: np.ndarray
) -> None:
    """Give the classifier its calibration and prediction sets, from ln p (n, K) of validation (and test) images.

    answered : the rows of the validation images whose predictions are numbers; the others are not used
    The same images serve both: the thresholds of the sets are sought on probabilities that a map fitted on other
    images has calibrated. The training chose its best epoch by these images too, which flatters them a little.
    """
    wanted, used, log_p = recipe.calibration, rows.val[answered], log_p[answered]
    labels = rows.labels[used]
    classifier.calibration, reason = fit_calibration(log_p, labels, wanted.method)
    logger.info(f"Calibration on {quantity(len(labels), 'validation image')}: {classifier.calibration} ({reason})")
    classifier.prediction_sets = fit_prediction_sets(
        out_of_fold(log_p, labels, classifier.calibration.method),
        labels,
        rows.catalog["image_id"].iloc[used].tolist(),
        coverage=wanted.coverage,
        score=wanted.sets,
        class_conditional=wanted.class_conditional,
        seed=recipe.seed,
    )
    for sentence in classifier.prediction_sets.warnings(rows.classes):
        logger.warning(sentence)


def _write_predictions(run: Run, classifier: Classifier, rows: TrainingRows, output: ClassifierOutput) -> None:
    """Write the predictions of the validation and test images, and log the scores of the test."""
    p = classifier.calibration.apply(output.log_p)
    catalog = rows.catalog.iloc[np.concatenate([rows.val, rows.test])].reset_index(drop=True)
    frame = classifier.table(catalog["image_id"], p, output.error_probability, output.novelty)
    places = [name for name in COORDINATES if name in catalog]
    for name in ("label", "split", "group", "file", *places):
        if name in catalog:
            frame[name] = catalog[name]
    for index, name in enumerate(rows.classes):
        frame[f"{UNCALIBRATED}{name}"] = np.exp(output.log_p[:, index])
    with predictions_writer(
        run.predictions_file,
        rows.classes,
        classifier.provenance,
        uncalibrated=True,
        carried=carried_schema(catalog, places),
    ) as append:
        append(frame)
    # As they are stored, in float32: `skyclass evaluate` gives the same scores.
    labels, tested = rows.labels[rows.test], p[len(rows.val) :].astype(np.float32).astype(np.float64)
    known = ~np.isnan(tested).any(axis=1)
    labels, tested = labels[known], tested[known]
    if len(labels):
        area = auroc_macro(labels, tested)
        shown = "undefined, for there is one class" if np.isnan(area) else f"{area:.4f}"
        logger.info(
            f"Test: {quantity(len(labels), 'image')}, accuracy {accuracy(labels, tested):.4f}, "
            f"balanced accuracy {balanced_accuracy(labels, tested):.4f}, AUROC {shown}"
        )
