"""One score has one name, in all that a person reads."""

from __future__ import annotations

import re
from pathlib import Path

import skyclass

ROOT = Path(skyclass.__file__).parent
PROJECT = ROOT.parent.parent
OTHER = re.compile(r"\b(ROC[- ]AUC|AUC|AUC-ROC|AuROC|Auroc)\b")


def test_the_area_under_the_roc_curve_is_called_auroc() -> None:
    files = [path for kind in ("*.py", "*.yaml", "*.j2") for path in ROOT.rglob(kind)]
    files += [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")), PROJECT / "benchmarks" / "RESULTS.md"]
    found = [f"{path.name}: {m[0]}" for path in files for m in OTHER.finditer(path.read_text(encoding="utf-8"))]
    assert len(files) > 100
    assert not found
