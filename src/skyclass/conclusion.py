"""The end of a run: a trained classifier learns from the validation images what its answers are worth, and predicts."""

from __future__ import annotations

import numpy as np

from .classifier import Classifier
from .console import progress, say
from .data.loaders import Loader
from .data.training_rows import TrainingRows
from .evaluation.calibration import fit_calibration, out_of_fold
from .evaluation.metrics import accuracy, auroc_macro, balanced_accuracy
from .evaluation.prediction_sets import fit_prediction_sets
from .predictions import UNCALIBRATED, predictions_writer
from .recipe import Recipe
from .run import Run


def conclude_run(run: Run, classifier: Classifier, rows: TrainingRows, images: np.ndarray) -> None:
    """Save a trained classifier, calibrated, and its predictions of the validation and test images.

    images : (N, C, h, w), those of the pack as validation and test see them
    """
    chosen = np.concatenate([rows.val, rows.test])
    log_p, doubt = _judge(classifier, images, chosen, rows.labels[chosen])
    _calibrate(classifier, run.recipe(), rows, log_p[: len(rows.val)])
    classifier.save(run.classifier)
    _write_predictions(run, classifier, rows, log_p, doubt)


def _judge(
    classifier: Classifier, images: np.ndarray, chosen: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """ln p (n, K) of the chosen rows as the network itself gives it, and the chance (n,) of being wrong or None."""
    loader = Loader(images, chosen, labels, batch_size=64, device=classifier.device)
    judged = []
    with progress("Predicting validation and test", len(chosen)) as advance:
        for batch in loader:
            judged.append(classifier.log_probabilities(batch.images))
            advance(len(batch.rows))
    doubts = [other for _, other in judged if other is not None]
    return np.concatenate([one for one, _ in judged]), np.concatenate(doubts) if doubts else None


def _calibrate(classifier: Classifier, recipe: Recipe, rows: TrainingRows, log_p: np.ndarray) -> None:
    """Give the classifier its calibration and prediction sets, from ln p (n_val, K) of the validation images.

    The same images serve both: the thresholds of the sets are sought on probabilities that a map fitted on other
    images has calibrated. The training chose its best epoch by these images too, which flatters them a little.
    """
    wanted, labels = recipe.calibration, rows.labels[rows.val]
    classifier.calibration, reason = fit_calibration(log_p, labels, wanted.method)
    say(f"Calibration on {len(labels):,} validation images: {classifier.calibration} ({reason})")
    classifier.prediction_sets = fit_prediction_sets(
        out_of_fold(log_p, labels, classifier.calibration.method),
        labels,
        rows.catalog["image_id"].iloc[rows.val].tolist(),
        coverage=wanted.coverage,
        score=wanted.sets,
        class_conditional=wanted.class_conditional,
        seed=recipe.seed,
    )
    for sentence in classifier.prediction_sets.warnings(rows.classes):
        say(sentence)


def _write_predictions(
    run: Run, classifier: Classifier, rows: TrainingRows, log_p: np.ndarray, doubt: np.ndarray | None
) -> None:
    """Write the predictions of the validation and test images, and say how the test went."""
    p = classifier.calibration.apply(log_p)
    catalog = rows.catalog.iloc[np.concatenate([rows.val, rows.test])].reset_index(drop=True)
    frame = classifier.table(catalog["image_id"], p, doubt)
    for name in ("label", "split", "group", "file"):
        if name in catalog:
            frame[name] = catalog[name]
    for index, name in enumerate(rows.classes):
        frame[f"{UNCALIBRATED}{name}"] = np.exp(log_p[:, index])
    with predictions_writer(run.predictions_file, rows.classes, classifier.origin, uncalibrated=True) as append:
        append(frame)
    labels, tested = rows.labels[rows.test], p[len(rows.val) :]
    if len(labels):
        say(
            f"Test: {len(labels):,} images, accuracy {accuracy(labels, tested):.4f}, "
            f"balanced accuracy {balanced_accuracy(labels, tested):.4f}, AUROC {auroc_macro(labels, tested):.4f}"
        )
