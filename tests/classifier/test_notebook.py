"""How classifiers, runs and explanations show themselves, and the tables and figures of a run."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from helpers import tiny_backbone
from helpers.make_data import toy_image
from helpers.paths import WRITTEN
from skyclass import Classifier, Run, SkyclassError
from skyclass.classifier.run_results import HISTORY
from skyclass.evaluation.figures.predictions import FIGURES

ENDED, INTERRUPTED = WRITTEN / "runs/ended", WRITTEN / "runs/interrupted"

pytestmark = [
    pytest.mark.skipif(not WRITTEN.is_dir(), reason="a source archive does not carry the artefacts"),
    pytest.mark.usefixtures("blank_figures"),
]


class Cells(HTMLParser):
    """The texts of a piece of HTML, and how many pictures it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


def has_no_colour(html: str) -> bool:
    """Whether the colours of the page around it are kept, light or dark."""
    return not re.search(r"color|background|#[0-9a-fA-F]{3}\b", re.sub(r'src="[^"]*"', "", html))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run.open(Path(shutil.copytree(ENDED, tmp_path_factory.mktemp("runs") / "my <run>")))


@pytest.fixture(scope="module")
def classifier(run: Run) -> Classifier:
    return Classifier.load(run.path, "cpu")


def test_a_classifier_says_what_it_is(classifier: Classifier) -> None:
    text, html = repr(classifier), classifier._repr_html_()
    assert text.startswith(f"Classifier(backbone='{tiny_backbone.NAME}', classes=['bar', 'blob', 'ring'], bands=")
    assert "size=(12, 16)" in text
    assert f"calibration='{classifier.calibration}'" in text
    words = Cells(html).words
    for expected in ("bar, blob, ring", "12 x 16 pixels (height x width)", "cpu"):
        assert expected in words
    assert any(classifier.made_from["pack"][:12] in word for word in words)
    assert has_no_colour(html)


def test_a_run_says_its_state_and_its_scores(run: Run) -> None:
    assert repr(run) == f"Run({str(run.path)!r}, ended)"
    assert repr(Run(INTERRUPTED)) == f"Run({str(INTERRUPTED)!r}, resumable)"
    html = run._repr_html_()
    words = Cells(html).words
    assert "Run my <run>" in words
    assert "<run>" not in html
    accuracy = run.metrics().set_index(["name", "class"]).loc[("accuracy", ""), "value"]
    assert any(word.startswith(f"{accuracy:.3f} (") for word in words)
    assert has_no_colour(html)
    assert "accuracy" not in Cells(Run(INTERRUPTED)._repr_html_()).words


def test_a_damaged_run_still_shows_itself(tmp_path: Path) -> None:
    path = Path(shutil.copytree(INTERRUPTED, tmp_path / "run"))
    (path / "run.json").write_text("{", encoding="utf-8")
    assert "damaged run" in Run(path)._repr_html_()
    assert repr(Run(tmp_path / "nothing")).endswith(", damaged)")


def test_the_tables_of_a_run(run: Run) -> None:
    predictions, metrics, history = run.predictions(), run.metrics(), run.history("val_loss")
    assert set(predictions["split"]) == {"val", "test"}
    assert list(metrics.columns) == ["name", "class", "value", "low", "high"]
    stored = json.loads((run.evaluation / "metrics.json").read_text(encoding="utf-8"))
    assert metrics.loc[metrics["name"] == "accuracy", "value"].item() == stored["accuracy"]
    pd.testing.assert_frame_equal(metrics, pd.read_csv(run.evaluation / "metrics.csv").fillna({"class": ""}))
    assert history["epoch"].tolist() == sorted(history["epoch"])
    assert history["val_loss"].notna().any()


def test_what_a_run_does_not_have_is_said_with_the_way_to_it() -> None:
    with pytest.raises(SkyclassError, match=r"has not been evaluated.*skyclass evaluate"):
        Run(INTERRUPTED).metrics()
    with pytest.raises(SkyclassError, match=r"has not ended.*--resume"):
        Run(INTERRUPTED).predictions()
    with pytest.raises(SkyclassError, match=r"has not ended.*--resume"):
        Run(INTERRUPTED).figure("roc")


def test_an_evaluation_of_other_predictions_is_refused(run: Run, tmp_path: Path) -> None:
    other = Run(Path(shutil.copytree(run.path, tmp_path / "run")))
    frame = pd.read_parquet(other.predictions_file)
    frame.iloc[:-1].to_parquet(other.predictions_file)
    with pytest.raises(SkyclassError, match="of other predictions"):
        other.metrics()


@pytest.mark.parametrize("name", [HISTORY, *FIGURES])
def test_every_figure_is_drawn(run: Run, name: str) -> None:
    figure = run.figure(name)
    assert isinstance(figure, Figure)
    assert figure.axes


def test_figures_are_of_the_split_that_was_named(run: Run) -> None:
    counts = {}
    for split in ("val", "test", "all"):
        (axes, _) = run.figure("confusion", split).axes
        counts[split] = sum(int(text.get_text().split()[0]) for text in axes.texts)
    frame = run.predictions()
    assert counts == {
        "val": (frame["split"] == "val").sum(),
        "test": (frame["split"] == "test").sum(),
        "all": len(frame),
    }


def test_the_best_epoch_is_marked(run: Run, classifier: Classifier) -> None:
    texts = [text.get_text() for axes in run.figure(HISTORY).axes for text in axes.get_legend().get_texts()]
    assert f"best epoch: {classifier.made_from['best_epoch']:g}" in texts


def test_an_unknown_figure_is_refused_with_the_names(run: Run) -> None:
    with pytest.raises(SkyclassError, match=r"no figure is called 'confuson'.*confusion"):
        run.figure("confuson")


@pytest.mark.parametrize("n", [2, 7])
def test_an_explanation_shows_its_first_images(classifier: Classifier, n: int) -> None:
    images = np.stack([toy_image("ring", seed, (24, 32), 1) for seed in range(n)])
    explanation = classifier.explain(np.rint(255 * images).astype(np.uint8), classes="ring")
    html = explanation._repr_html_()
    found = Cells(html)
    assert found.tags.count("img") == min(n, 6)
    assert ("and 1 more" in found.words) == (n == 7)
    assert any(word.startswith("0: evidence for ring; predicted ") for word in found.words)
    assert repr(explanation) == f"Explanation({n} images, 12 x 16 pixels, of ring)"
    assert has_no_colour(html)
    assert len(html) < 200_000
