"""Names and sentences of the user's in the model card and other Markdown: shown as they are, never run."""

from __future__ import annotations

import html
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from conftest import SmallRun
from skyclass.classifier.run import Run
from skyclass.core.text import code, plain
from skyclass.evaluation.comparison import comparison_markdown
from skyclass.reports.model_card import write_card

HOSTILE = [
    "<script>alert(1)</script>",
    "![x](http://evil/x.png)",
    "[click](javascript:alert(1))",
    "a\n---\nlicense: mit\n---\n# Title",
    "`x` | y **bold** _it_ ~~no~~ $m$",
    "# heading",
    "- item",
    "1. item",
    "> quotation",
    "&lt;b&gt;",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_shown_as_it_is(text: str) -> None:
    shown = MarkdownIt("commonmark", {"html": True}).render(plain(text))
    assert shown.startswith("<p>")
    for tag in ("<script", "<img", "<a ", "<h1", "<hr", "<em", "<strong", "<code", "<li", "<blockquote"):
        assert tag not in shown
    assert html.unescape(shown.removeprefix("<p>").removesuffix("</p>\n")) == " ".join(text.split())


@pytest.mark.parametrize("name", ["lensing-demo", "my_recipe", "Galaxies 2 (r, i)", "Does a blob look like a ring?"])
def test_usual_names_stay_as_they_are(name: str) -> None:
    assert plain(name) == name


def test_a_name_of_a_class_is_code() -> None:
    assert code("a`<b>|c\nd") == "`a'<b>\\|c d`"


@pytest.mark.parametrize("text", HOSTILE)
def test_a_recipe_puts_nothing_into_its_card(text: str, small_run: SmallRun, tmp_path: Path) -> None:
    shutil.copytree(small_run.run, tmp_path / "run")
    run = Run(tmp_path / "run")
    recipe = yaml.safe_load(run.recipe_file.read_text())
    usual = _shape(ModelCard.load(run.classifier / "README.md").text)
    recipe["name"] = text
    recipe["about"]["question"] = text
    recipe["about"]["reported"] = {"source": text, "scores": {text: 0.5}}
    run.recipe_file.write_text(yaml.safe_dump(recipe))
    write_card(run)
    card = ModelCard.load(run.classifier / "README.md")
    assert "license" not in card.data.to_dict()
    assert card.data.model_name == " ".join(text.split())
    assert card.text.lstrip().startswith("# ")
    found = _shape(card.text)
    assert found["li"] - usual["li"] == 1  # the line about the published system
    assert {**found, "li": 0} == {**usual, "li": 0}


def _shape(text: str) -> dict[str, int]:
    """How many there are of each element that a text could bring in."""
    shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    tags = ("<script", "<img", "<a ", "<h1", "<h2", "<hr", "<em", "<strong", "<td", "<blockquote")
    return {tag: shown.count(tag) for tag in tags} | {"li": shown.count("<li")}


def test_a_comparison_shows_names_as_they_are() -> None:
    row = {"method": "<b>a|b</b>", "reported_by": "reported by [x](y)"}
    text = comparison_markdown([row], "test")
    assert "| &lt;b&gt;a\\|b&lt;/b&gt; |" in text
    assert "reported by \\[x\\](y)" in text
