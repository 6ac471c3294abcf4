"""The model card of a classifier: `README.md` in its folder, as the Hugging Face Hub reads it."""

from __future__ import annotations

from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..classifier.run import Run
from ..core.files.atomic_files import write_text
from ..core.text import code, plain
from ..evaluation.caveats import evaluation_notes
from ..evaluation.weighted_metrics import in_report
from ..recipes.data_settings import PixelSettings
from ..recipes.recipe import stored_pixels
from .pages import page
from .report_data import ReportData
from .scores import class_rows, score_rows
from .training_data import class_counts_of_pack


def write_card(run: Run, metrics: dict[str, Any] | None = None) -> None:
    """Write the card of a run's classifier, with the scores of its evaluation, if there is one already.

    No licence is named: that is for its maker to choose.
    """
    report = ReportData(run, metrics or {})
    data = card_data(report)
    # The Markdown of the template follows the metadata, which the Hub's own class writes.
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n{page('model_card.md.j2', _content(report))}")
    write_text(run.classifier / "README.md", str(card))


def card_data(report: ReportData) -> ModelCardData:
    """The metadata of the card; one result a score, of the split that was evaluated."""
    name, metrics = report.recipe.name, report.metrics
    provenance = report.run.provenance()
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type="skyclass-pack",
            dataset_name=f"pack {provenance['pack_hash'][:16]}",
            dataset_split=metrics["split"],
            dataset_revision=provenance["pack_hash"],
            metric_type=metric.hub[0],
            metric_name=score.replace("_", " "),
            metric_value=metrics[score],
            metric_args=metric.hub[1],
        )
        for score, metric in in_report().items()
        if metric.hub and metrics.get(score) is not None
    ]
    backbone = report.recipe.model.backbone
    return ModelCardData(
        model_name=" ".join(name.split()),  # on one line, so that no part of it ends the metadata
        library_name="skyclass",
        pipeline_tag="image-classification",
        tags=["astronomy", "image-classification", "skyclass", backbone.rsplit(":")[-1].rsplit("/")[-1]],
        eval_results=results or None,
    )


def _content(report: ReportData) -> dict[str, Any]:
    """What the template shows."""
    metrics, classifier = report.metrics, report.classifier
    pack = report.pack
    evaluated = metrics if metrics else None
    return {
        "name": report.recipe.name,
        "about": report.recipe.about,
        "classes": [code(name) for name in classifier["classes"]],
        "bands": [code(name) for name in classifier["bands"]],
        "pixels": pixel_steps(classifier),
        "backbone": code(classifier["architecture"]),
        "members": classifier["members"],
        "counts": class_counts_of_pack(pack, report.recipe.data) if pack else None,
        "code": code,
        "plain": plain,
        "metrics": evaluated,
        "rows": score_rows(metrics) if evaluated else [],
        "notes": [plain(note) for note in evaluation_notes(metrics)] if evaluated else [],
        "of_classes": class_rows(metrics) if evaluated else [],
        "calibration": classifier.get("calibration") or {"method": "none"},
        "sets": classifier.get("prediction_sets"),
        "novelty": classifier.get("novelty"),
        "hashes": {
            "pack": report.run.provenance()["pack_hash"],
            "recipe": classifier["made_from"]["recipe"],
            "weights": classifier["weights_sha256"],
        },
        "environment": report.run.environment(),
        "skyclass": classifier["skyclass"],
    }


def pixel_steps(classifier: dict[str, Any]) -> list[str]:
    """The way of a file's pixels to the network, one step a sentence, from what classifier.json holds."""
    steps = []
    for recipe in map(stored_pixels, classifier["pixels"]):
        steps += _steps(recipe)
    scaled = zip(classifier["bands"], classifier["mean"], classifier["std"], strict=True)
    values = ", ".join(f"{code(band)} ({mean:.4g}, {std:.4g})" for band, mean, std in scaled)
    steps = list(dict.fromkeys(steps))  # of the pack's recipe and the training's, those that do the same are one
    return [
        *steps,
        f"The mean is subtracted and divided by the deviation, on the scale of [0, 1] for integers: {values}.",
    ]


def _steps(settings: PixelSettings) -> list[str]:
    """The steps of one recipe, in their order; those that change nothing are left out."""
    softening = f" with softening {settings.softening:g}" if settings.softening else ""
    filled = {"zero": "zero", "min": "the least value of the band", "median": "the median of the band"}
    interval = settings.interval + (f" ({settings.percentile:g} %)" if settings.interval == "percentile" else "")
    fitted = {"distort": "distorted", "crop": "cropped at the centre", "pad": "padded with zeros"}[settings.fit]
    averaged = {"area": "areas", "bilinear": "bilinear interpolation"}[settings.interpolation]
    apart = ", each band by itself" * settings.per_band
    sentences = {
        "bands": f"The bands {', '.join(map(code, settings.bands or ()))} are taken, in this order.",
        "fill": f"NaN and infinite pixels become {filled[settings.fill_nan]}.",
        "interval": f"Values are mapped to [0, 1] by the interval {interval}{apart}.",
        "stretch": f"The stretch is {settings.stretch}{softening}.",
        "crop": f"The central {_size(settings.crop)} are kept.",
        "size": f"Images are resized to {_size(settings.size)} by {averaged}; other aspect ratios are {fitted}.",
        "dtype": f"Pixels are stored as {settings.dtype}.",
    }
    changes = {
        "bands": settings.bands,
        "fill": True,
        "interval": settings.interval != "none",
        "stretch": settings.stretch != "linear",
        "crop": settings.crop,
        "size": settings.size,
        "dtype": settings.dtype,
    }
    return [sentence for step, sentence in sentences.items() if changes[step]]


def _size(size: tuple[int, int] | None) -> str:
    return f"{size[0]} × {size[1]} pixels (height × width)" if size else ""
