"""Where a classifier comes from: recipe, versions, hashes, and how to cite it."""

from __future__ import annotations

import re
from typing import Any

from ..core.files.atomic_files import read_text
from .report_data import ReportData


def provenance_section(report: ReportData) -> dict[str, Any]:
    """Recipe, environment, hashes and citation."""
    text = read_text(report.run.recipe_file, "recipe").strip()
    environment = report.run.environment()
    made_from = report.classifier["made_from"]
    hashes = {
        "pack": report.run.provenance()["pack_hash"],
        "recipe": made_from["recipe"],
        "weights": report.classifier["weights_sha256"],
        "predictions": report.metrics["predictions_sha256"],
    }
    return {
        # A part begins where a line is not indented; the short ones that come first are one part.
        "recipe": re.split(r"\n(?=[a-z_]+:\n)", text),
        "environment": environment,
        "hashes": hashes,
        "reported": report.recipe.about.reported,
        "bibtex": bibtex(environment["skyclass"], report.recipe.name, made_from["recipe"]),
    }


def bibtex(version: str, recipe: str, recipe_hash: str) -> str:
    """Entries for Skyclass in the version that trained, and for its recipe."""
    name = re.sub(r"([&%$#_{}])", r"\\\1", recipe)
    return "\n".join(
        [
            "@software{skyclass,",
            "  title   = {Skyclass: astronomical images into trained, calibrated, explained classifiers},",
            "  author  = {{The Skyclass developers}},",
            f"  version = {{{version}}},",
            f"  note    = {{recipe {name}, SHA-256 {recipe_hash[:16]}}},",
            "}",
        ]
    )
