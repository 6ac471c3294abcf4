"""`report` and `demo`, by the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
import yaml

from helpers.commands import TOY, Result, copy_toy_run, done, refused, skyclass
from helpers.make_data import class_folders
from skyclass.commands import demo as demo_module
from skyclass.data.packs.pack import Pack
from skyclass.reports.run_report import SECTIONS
from skyclass.training import finish

pytestmark = pytest.mark.slow

VOID = {"meta", "img", "br", "hr", "link", "input", "wbr"}


class Page(HTMLParser):
    """Refuses tags that do not balance; keeps tags with their attributes, ids and the text of each section."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.section = ""
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, str] = {"": ""}
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag == "section":
            self.section = attributes["id"]
            self.text[self.section] = ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> at line {self.getpos()[0]}"
        if tag == "section":
            self.section = ""

    def handle_data(self, data: str) -> None:
        self.text[self.section] += data

    def images(self) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag == "img"]


@pytest.fixture(scope="module")
def run(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has been evaluated and explained."""
    folder = copy_toy_run(toy_run, tmp_path_factory.mktemp("report"))
    done("evaluate", folder / "run")
    done("explain", folder / "run", "--per-class", 2)
    return folder / "run"


def test_the_report_needs_no_other_file(run: Path) -> None:
    done("report", run)
    page = Page(run / "report.html")
    assert (run / "report.html").stat().st_size < 10e6
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    for _tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "poster"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))
    assert "url(" not in page.source
    assert "@import" not in page.source
    assert all(len(image["alt"]) > 5 for image in page.images())
    assert all(image["src"].startswith("data:image/") for image in page.images())


def test_the_report_tells_all_about_the_run(run: Path) -> None:
    done("report", run)
    page = Page(run / "report.html")
    assert list(page.text)[1:] == list(SECTIONS)
    anchors = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert anchors == {f"#{name}" for name in SECTIONS}
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert f"{metrics['auroc_macro']:.3f}" in page.text["scores"]
    low, high = metrics["intervals"]["accuracy"]
    assert f"{low:.3f} to {high:.3f}" in page.text["scores"]
    assert f"{metrics['calibration']['before']['ece']['value']:.3f}" in page.text["calibration"]
    assert f"{100 * metrics['prediction_sets']['coverage']['share']:.1f} %" in page.text["sets"]
    assert metrics["uncertainty"]["advice"] in page.text["uncertainty"]
    listed = pd.read_csv(run / "evaluation" / "ambiguous.csv")
    assert all(name in page.text["ambiguous"] for name in listed["image_id"].head(12))
    assert "skyclass evaluate RUN --by" in page.text["columns"]
    assert "skyclass explain RUN --grade" in page.text["explanations"]
    assert "@software{skyclass" in page.text["citation"]
    assert "published system" not in page.text["citation"]
    assert "Does a blob look like a ring?" in page.text[""]
    assert "24 × 32 pixels" in page.text["data"]
    assert "3 epochs" in page.text["training"]
    for name in ("bar", "blob", "ring"):
        assert name in page.text["data"]
        assert name in page.text["scores"]
        assert name in page.text["explanations"]
    assert "backbone: resnet20_cifar" in page.text["recipe"]
    assert "learning_rate: 0.01" in page.text["recipe"]
    for needed in ("torch", "Python", Pack.open(run.parent / "pack").hash, metrics["predictions_sha256"]):
        assert needed in page.text["environment"]
    wrong = pd.read_parquet(run / "predictions.parquet").query("split == 'test' and label != predicted")
    assert wrong.empty or all(name in page.text["mistakes"] for name in wrong["image_id"])


def test_the_report_names_the_layer_and_tells_of_few_cells(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    done("report", copy)
    told = Page(copy / "report.html").text["explanations"]
    assert "Grad-CAM (Selvaraju et al. 2017) marks" in told
    assert "cells" not in told
    listed = copy / "explanations" / "explanations.csv"
    pd.read_csv(listed).assign(layer="layer2", cells="5x3").to_csv(listed, index=False)
    done("report", copy)
    told = Page(copy / "report.html").text["explanations"]
    assert "Grad-CAM (Selvaraju et al. 2017) of layer2 marks" in told
    assert "These maps have only 5 × 3 cells" in told
    pd.read_csv(listed).drop(columns=["layer", "cells"]).to_csv(listed, index=False)  # as an older version left it
    done("report", copy)
    assert Page(copy / "report.html").text["explanations"].count("(Selvaraju et al. 2017) marks") == 1


def test_a_report_elsewhere_and_without_explanations_or_pack(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "explanations")
    (copy / "report.html").unlink(missing_ok=True)
    provenance = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**provenance, "pack": str(tmp_path / "gone")}))
    metrics = json.loads((copy / "evaluation" / "metrics.json").read_text())
    for part in ("calibration", "prediction_sets", "uncertainty", "content_sha256"):  # as an older one
        del metrics[part]
    (copy / "evaluation" / "metrics.json").write_text(json.dumps(metrics))
    recipe = yaml.safe_load((copy / "recipe.yaml").read_text())
    recipe["about"]["reported"] = {"source": "Someone, on their images", "scores": {"accuracy": 0.971}}
    (copy / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    done("report", copy, "--out", tmp_path / "deep" / "page.html")
    page = Page(tmp_path / "deep" / "page.html")
    assert list(page.text)[1:] == list(SECTIONS)
    assert "skyclass explain" in page.text["explanations"]
    assert "no longer at" in page.text["data"]
    for part in ("calibration", "sets", "uncertainty", "ambiguous"):
        assert "skyclass evaluate RUN" in page.text[part]
    assert "Someone, on their images" in page.text["citation"]
    assert "accuracy 0.971" in page.text["citation"]
    assert not (copy / "report.html").exists()


def test_a_report_has_what_a_killed_command_had_still_to_put_in_place(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    (copy / "explanations").rename(copy / "new")
    order = {"key": "explanations.csv", "remove": []}
    (copy / "new" / ".order.json").write_text(json.dumps(order))
    (copy / "explanations").mkdir()
    (copy / "new").rename(copy / "explanations" / ".replacing")
    done("report", copy)
    assert "None were made" not in Page(copy / "report.html").source
    assert (copy / "explanations" / "explanations.csv").is_file()
    assert not (copy / "explanations" / ".replacing").exists()


def test_a_report_of_an_old_evaluation_is_refused(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    frame = pd.read_parquet(copy / "predictions.parquet")
    frame.iloc[:5].to_parquet(copy / "predictions.parquet")
    assert "the evaluation is of other predictions than the run's; run `skyclass evaluate" in refused("report", copy)


def test_names_with_signs_of_html_are_shown_as_they_are(tmp_path: Path) -> None:
    classes = ("<b>bold", 'R&D "x"')
    class_folders(tmp_path / "images", classes, splits={"train": 6, "val": 3, "test": 3})
    done("pack", tmp_path / "images", tmp_path / "pack", "--no-duplicates")
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(TOY.replace("Does a blob look like a ring?", "Is 1 < 2 & 3 > 2?"))
    done("train", recipe, tmp_path / "pack", "--out", tmp_path / "run", "--set", "training.epochs=1")
    done("evaluate", tmp_path / "run")
    done("explain", tmp_path / "run", "--per-class", 1)
    done("report", tmp_path / "run")
    page = Page(tmp_path / "run" / "report.html")
    assert "Is 1 < 2 & 3 > 2?" in page.text[""]
    for name in classes:
        assert name in page.text["data"]
        assert name in page.text["scores"]


# demo

TINY = ("--per-class", 20, "--size", 32, "--set", "training.epochs=1")
TINIER = ("--per-class", 8, "--size", 32, "--set", "training.epochs=1")
STEPS = ["simulate", "train", "evaluate", "explain", "report"]


class Here:
    """Runs the demo's commands in this process, and counts them."""

    def __init__(self) -> None:
        self.verbs: list[str] = []
        self.stop_in = ""

    def run(self, words: list[str], check: bool) -> subprocess.CompletedProcess[bytes]:
        assert words[:3] == [sys.executable, "-m", "skyclass"]
        self.verbs.append(words[3])
        with pytest.MonkeyPatch.context() as patch:
            if words[3] == self.stop_in == "train":
                patch.setattr(finish, "_outputs", _interrupt)
            return subprocess.CompletedProcess(words, skyclass(*words[3:]).code)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    fake = Here()
    monkeypatch.setattr(demo_module, "subprocess", fake)
    return fake


def reused(result: Result) -> int:
    return result.err.count("is there already, reused")


@pytest.fixture(scope="module")
def finished_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo as a person runs it, in processes of its own."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "skyclass", "demo", "d", *map(str, TINY)]
    result = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=250)
    assert result.returncode == 0, result.stderr
    assert [line.split()[2] for line in result.stderr.splitlines() if line.startswith("$ skyclass")] == STEPS
    assert "Macro AUROC" in result.stderr
    return folder / "d"


def test_the_demo_goes_from_nothing_to_a_report(finished_demo: Path) -> None:
    metrics = json.loads((finished_demo / "run" / "evaluation" / "metrics.json").read_text())
    pack = Pack.open(finished_demo / "pack")
    assert pack.images.shape == (60, 1, 32, 32)
    assert metrics["n"] == (pack.catalog["split"] == "test").sum()
    assert metrics["classes"] == ["no", "sphere", "vort"]
    assert len(pd.read_csv(finished_demo / "run" / "history.csv")) == 1
    page = Page(finished_demo / "report.html")
    assert "lensing-demo" in page.text[""]
    assert "vort" in page.text["explanations"]


def test_a_second_demo_reuses_every_step_and_says_so(finished_demo: Path, here: Here) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished_demo.rglob("*")}
    result = done("demo", finished_demo, *TINY)
    assert (here.verbs, reused(result)) == ([], 5)
    assert "Macro AUROC" in result.err
    assert {path: path.stat().st_mtime_ns for path in finished_demo.rglob("*")} == before


def test_a_clean_demo_starts_anew_and_spares_what_is_not_its_own(
    finished_demo: Path, here: Here, tmp_path: Path
) -> None:
    shutil.copytree(finished_demo, tmp_path / "d")
    (tmp_path / "d" / "thesis.tex").write_text("mine")
    result = done("demo", tmp_path / "d", "--clean", *TINIER)
    assert (here.verbs, reused(result)) == (STEPS, 0)
    assert "Starting clean" in result.err
    assert len(Pack.open(tmp_path / "d" / "pack").images) == 24
    assert (tmp_path / "d" / "thesis.tex").read_text() == "mine"


def test_an_interrupted_demo_goes_on(here: Here, tmp_path: Path) -> None:
    here.stop_in = "train"
    sentence = refused("demo", tmp_path / "d", *TINIER)
    assert "`skyclass train` ended with exit status 130; " in sentence
    assert here.verbs == STEPS[:2]
    here.stop_in, here.verbs = "", []
    result = done("demo", tmp_path / "d", *TINIER)
    assert (here.verbs, reused(result)) == (STEPS[1:], 1)
    assert (tmp_path / "d" / "report.html").is_file()


def test_a_new_run_gets_a_new_report(finished_demo: Path, here: Here, tmp_path: Path) -> None:
    shutil.copytree(finished_demo, tmp_path / "d")
    shutil.rmtree(tmp_path / "d" / "run")
    result = done("demo", tmp_path / "d", *TINY, "--set", "seed=5")
    assert (here.verbs, reused(result)) == (STEPS[1:], 1)
    assert "seed: 5" in Page(tmp_path / "d" / "report.html").text["recipe"]
