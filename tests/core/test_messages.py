"""What the library logs is printed while a command runs, and by nobody else; progress at a terminal, in a notebook."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from rich.console import Console

from skyclass.core import console
from skyclass.core.console import console_to_file, has_bars, progress, shown_messages
from skyclass.core.progress import lines

LOGGER = logging.getLogger("skyclass.some.module")
LIBRARY = logging.getLogger("skyclass")


class Kept(logging.Handler):
    """Somebody's own handler, which keeps the messages."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def own() -> Iterator[Kept]:
    handler = Kept()
    LIBRARY.addHandler(handler)
    yield handler
    LIBRARY.removeHandler(handler)


def test_messages_are_printed_while_a_command_runs(capsys: pytest.CaptureFixture[str]) -> None:
    before = LIBRARY.level, LIBRARY.propagate, list(LIBRARY.handlers)

    @shown_messages()
    def command(name: str) -> str:
        """What it does."""
        LOGGER.info(f"{name}: 3 % are [bold]bright[/bold]")
        LOGGER.warning("a warning looks the same")
        return name

    assert (command.__name__, command.__doc__) == ("command", "What it does.")
    assert command("stars") == "stars"
    expected = ("", "stars: 3 % are [bold]bright[/bold]\na warning looks the same\n")
    assert capsys.readouterr() == expected
    LOGGER.warning("nothing is said of this")
    assert capsys.readouterr() == ("", "")
    assert (LIBRARY.level, LIBRARY.propagate, list(LIBRARY.handlers)) == before


def test_commands_in_commands_and_threads_print_once(capsys: pytest.CaptureFixture[str]) -> None:
    before, inside, outside = list(LIBRARY.handlers), threading.Event(), threading.Event()

    def other() -> None:
        with shown_messages():
            inside.set()
            outside.wait(30)
            LOGGER.info("thread")

    with shown_messages():
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(30)
        with shown_messages():
            LOGGER.info("inner")
        LOGGER.info("outer")
    outside.set()
    thread.join()
    assert capsys.readouterr().err == "inner\nouter\nthread\n"
    assert LIBRARY.handlers == before


def test_an_error_of_a_command_leaves_nothing_attached() -> None:
    before = LIBRARY.level, list(LIBRARY.handlers)
    with pytest.raises(ZeroDivisionError), shown_messages():
        raise ZeroDivisionError
    assert (LIBRARY.level, list(LIBRARY.handlers)) == before


def test_handlers_of_the_user_alone_get_the_records(own: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    with shown_messages():
        LOGGER.warning("for the user's log")
    assert own.messages == ["for the user's log"]
    assert capsys.readouterr() == ("", "")
    with shown_messages(always=True):  # the log of a trial is complete all the same
        LOGGER.info("for both")
    assert own.messages[1:] == ["for both"]
    assert capsys.readouterr().err == "for both\n"


def test_a_root_handler_on_the_terminal_shows_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    root, terminal, file = logging.getLogger(), logging.StreamHandler(sys.stderr), Kept()
    root.addHandler(file)
    with shown_messages():
        LOGGER.info("once, and in the file")
    root.addHandler(terminal)
    try:
        with shown_messages():
            LOGGER.info("once")
    finally:
        root.removeHandler(terminal)
        root.removeHandler(file)
    assert capsys.readouterr().err == "once, and in the file\nonce\n"
    assert file.messages == ["once, and in the file"]


def test_passwords_are_masked_and_results_are_bold(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(console, "console", Console(file=stream, force_terminal=True, highlight=False))
    with shown_messages():
        LOGGER.info("at postgresql://me:hunter2@machine/db")
        LOGGER.info("Problems: problems.csv", extra={"bold": True})
    plain, bold = stream.getvalue().splitlines()
    assert plain == "at postgresql://me:***@machine/db"
    assert bold.startswith("\x1b[1m")
    assert "Problems: problems.csv" in bold


def test_a_level_silences_messages_and_progress(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LINE_AFTER", 0.0)

    def work() -> str:
        with shown_messages(), progress("Predicting", 20) as advance:
            LOGGER.info("informs")
            LOGGER.warning("warns")
            for _ in range(20):
                advance(1)
        return capsys.readouterr().err

    said = work()
    assert "informs" in said
    assert "Predicting: 10 of 20 images" in said
    LIBRARY.setLevel(logging.WARNING)
    try:
        assert work() == "warns\n"
    finally:
        LIBRARY.setLevel(logging.NOTSET)


def test_files_of_the_console_follow_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outer, inner = io.StringIO(), io.StringIO()
    with console_to_file(outer):
        with console_to_file(inner):
            console.say("inner")
        console.say("outer")
    console.say("terminal")
    assert (inner.getvalue(), outer.getvalue()) == ("inner\n", "outer\n")
    assert capsys.readouterr().err == "terminal\n"


# Notebooks


class Output:
    """As `ipywidgets.Output`: a part of the cell, whose content can be replaced."""

    shown: ClassVar[list[Output]] = []

    def __init__(self) -> None:
        self.content: list[str] = []
        Output.shown.append(self)

    def clear_output(self, wait: bool) -> None:
        self.content.clear()

    def __enter__(self) -> Output:
        return self

    def __exit__(self, *_error: object) -> None:
        pass


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A console in a notebook with ipywidgets; the texts that are displayed."""
    displayed: list[str] = []

    def display(one: Any) -> None:
        if not isinstance(one, Output):
            text = one._repr_mimebundle_((), ())["text/plain"]
            displayed.append(text)
            for output in Output.shown:
                output.content.append(text)

    ipython, of_display, widgets = ModuleType("IPython"), ModuleType("IPython.display"), ModuleType("ipywidgets")
    of_display.display = display  # type: ignore[attr-defined]
    widgets.Output = Output  # type: ignore[attr-defined]
    widgets.__spec__ = object()  # type: ignore[assignment] # found by `find_spec`
    for module in (ipython, of_display, widgets):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(console, "console", Console(stderr=True, force_jupyter=True, highlight=False))
    Output.shown.clear()
    return displayed


def test_a_notebook_shows_messages_and_a_bar_at_its_last_state(
    notebook: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with shown_messages():
        LOGGER.info("a message in the cell")
    with progress("Predicting", 20) as advance:
        for _ in range(20):
            advance(1)
    assert "a message in the cell" in notebook[0]
    (bar,) = Output.shown
    assert "━" in bar.content[0]
    assert "20/20" in bar.content[0]
    assert capsys.readouterr() == ("", "")


def test_a_notebook_without_ipywidgets_shows_lines(notebook: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "find_spec", lambda name: None)
    monkeypatch.setattr(lines, "LINE_AFTER", 0.0)
    assert not has_bars(console.console)
    with progress("Predicting", 20) as advance:
        for _ in range(20):
            advance(1)
    assert any("Predicting: 10 of 20 images (50%)" in text for text in notebook)


def test_in_a_notebook_too_a_log_is_a_file(notebook: list[str]) -> None:
    stream = io.StringIO()
    with console_to_file(stream):
        console.say("to the log of a trial")
    assert (stream.getvalue(), notebook) == ("to the log of a trial\n", [])
