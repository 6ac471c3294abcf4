"""Progress where the output is no terminal: few plain lines that tell count, rate and time left."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from skyclass.core import console
from skyclass.core.console import ShownProgress
from skyclass.core.progress import lines
from skyclass.core.progress.lines import ProgressLines
from skyclass.training.loop.callbacks import SHOWN, shown_scores


def lines_of(total: int | None, seconds_each: float, n: int, done: int = 0) -> list[str]:
    """What is said of `n` items that take so long each."""
    stream, now = io.StringIO(), [0.0]
    lines = ProgressLines("Predicting", total, "images", done, Console(file=stream, width=300), lambda: now[0])
    for k in range(1, n + 1):
        now[0] = k * seconds_each
        lines.update(done + k)
    lines.finish()
    return stream.getvalue().splitlines()


def test_short_work_says_nothing() -> None:
    assert lines_of(1000, 0.02, 1000) == []


def test_long_work_says_each_tenth() -> None:
    said = lines_of(1000, 1.0, 1000)
    assert said[0] == "Predicting: 100 of 1,000 images (10%), 1 images/s, 0:15:00 left"
    assert said[-1] == "Predicting: 1,000 of 1,000 images (100%), 1 images/s, in 0:16:40"
    assert len(said) == 10  # nine tenths, and the end


def test_quick_tenths_wait_for_half_a_minute() -> None:
    said = lines_of(1000, 0.1, 1000)  # 100 s in all: a tenth takes 10 s
    assert [line.split(",")[0] for line in said[:-1]] == [
        "Predicting: 300 of 1",
        "Predicting: 600 of 1",
        "Predicting: 900 of 1",
    ]


def test_work_of_unknown_length_speaks_every_half_minute() -> None:
    assert lines_of(None, 10.0, 9) == [
        "Predicting: 3 images, 360 images/h",
        "Predicting: 6 images, 360 images/h",
        "Predicting: 9 images, 360 images/h",
        "Predicting: 9 images, 360 images/h, in 0:01:30",
    ]


def test_what_was_done_before_does_not_count_for_the_rate() -> None:
    said = lines_of(200, 4.0, 100, done=100)
    assert said[0] == "Predicting: 120 of 200 images (60%), 900 images/h, 0:05:20 left"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_at_a_terminal_alone(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=stream, force_terminal=terminal, width=80))
    monkeypatch.setattr(lines, "LINE_AFTER", 0.0)
    with console.progress("Predicting", 20) as advance:
        for _ in range(20):
            advance(1)
    said = stream.getvalue()
    assert ("━" in said) == terminal
    assert ("Predicting: 10 of 20 images (50%)" in said) != terminal
    assert "20/20" in said if terminal else said.splitlines()[-1].startswith("Predicting: 20 of 20 images (100%), ")


def test_an_epoch_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(lines, "LINE_AFTER", 0.0)
    shown = ShownProgress("Training", 100, done=50, shown_on=Console(file=stream, width=300))
    shown.advance(10, "Epoch 4")
    shown.stop()
    assert stream.getvalue().splitlines()[0].startswith("Epoch 4: 60 of 100 images (60%), ")


@pytest.mark.parametrize("monitor", [name for name in SHOWN if name.startswith("val_")])
def test_the_monitored_score_stands_in_the_line_of_an_epoch(monitor: str) -> None:
    names = shown_scores(monitor)
    assert monitor in names
    line = f"epoch {100:>3}/100  " + "  ".join(f"{SHOWN[name]} {12.3456:.4f}" for name in names)
    assert len(line) < 80
