"""What the tests of the classifier share: that of the small run, and the files that it was tested on."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import SmallRun
from skyclass.classifier.classifier import Classifier


@pytest.fixture(scope="module")
def classifier(small_run: SmallRun) -> Classifier:
    return Classifier.load(small_run.run, "cpu")


@pytest.fixture(scope="module")
def files(small_run: SmallRun) -> list[Path]:
    return sorted((small_run.files / "test").rglob("*.png"))
