"""Passwords are masked wherever they are printed or written."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest

from helpers.commands import refused, skyclass
from skyclass.core import console
from skyclass.core.errors import SkyclassError, one_line
from skyclass.core.passwords import host_of, masked, secrets_in
from skyclass.training.tuning import study

SECRET = "hunter2!x"
QUOTED = urllib.parse.quote(SECRET + "@/")
WITH_SECRETS = {
    "in the user's place": f"postgresql+psycopg://me:{SECRET}@machine/studies",
    "percent-encoded": f"postgresql://me:{QUOTED}@machine/studies",
    "with a slash": f"postgresql://me:{SECRET}/more@machine/studies",
    "with an at": f"postgresql://me:{SECRET}@{SECRET}@machine/studies",
    "without a user": f"redis://:{SECRET}@machine/0",
    "query": f"postgresql://machine/studies?user=me&password={SECRET}&sslmode=require",
    "query, encoded key": f"postgresql://machine/studies?%70assword={SECRET}",
    "query, letter case": f"mysql://machine/studies?PassWord={SECRET}",
    "key of the client": f"postgresql://machine/studies?sslpassword={SECRET}",
    "token": f"https://machine/file?token={SECRET}&x=1",
    "signature": f"https://bucket/file?X-Amz-Signature={SECRET}",
    "token for a user": f"https://{SECRET}@machine/file",
    "libpq": f"host=machine password={SECRET} dbname=studies",
    "libpq, quoted": f"host=machine password = '{SECRET} and more' dbname=studies",
    "JSON": f'{{"password": "{SECRET}", "x": 1}}',
    "Python": f"{{'api_key': '{SECRET}', 'x': 1}}",
    "command": f"skyclass tune r p --out t --storage 'postgresql://me:{SECRET}@machine/db' --jobs 2",
}


@pytest.mark.parametrize("text", WITH_SECRETS.values(), ids=list(WITH_SECRETS))
def test_a_password_is_masked(text: str) -> None:
    shown = masked(text)
    assert "***" in shown
    assert SECRET not in shown
    assert QUOTED not in shown
    assert masked(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////home/me/studies.db",
        "postgresql+psycopg://me@machine/studies",
        "training.epochs=3 bandpass=r flux_sig=3 num_tokens=4 author=me",
        "https://example.org/a?page=2&size=3",
        "run/a.fits: the header ends early at 12:30:05",
    ],
)
def test_what_is_no_password_stays(text: str) -> None:
    assert masked(text) == text


def test_a_known_secret_is_masked_also_where_a_driver_decodes_it() -> None:
    secrets = secrets_in("postgresql://me:s%20ecret%40@machine/db?sslpassword=other%2Bone")
    told = masked('missing "=" after "s ecret@" and other+one in connection info', secrets)
    assert told == 'missing "=" after "***" and *** in connection info'
    assert secrets_in("postgresql://me@machine/db?sslmode=require") == []


def test_errors_messages_and_hosts_are_without_passwords(capsys: pytest.CaptureFixture[str]) -> None:
    url = WITH_SECRETS["query"]
    assert SECRET not in str(SkyclassError(f"no {url}", where=url, fix=f"see {url}"))
    assert SECRET not in one_line(ValueError(url))
    console.say(url)
    assert SECRET not in capsys.readouterr().err
    assert host_of(f"https://me:{SECRET}@machine:80/file") == "machine:80"


def test_a_traceback_has_no_password(tmp_path: Path) -> None:
    code = (
        "import functools, sys, skyclass.commands.fetch as module\n"
        "@functools.wraps(module.fetch)\n"
        "def fails(*a, **k): raise ValueError('postgresql://me:' + 'hun' + 'ter2!x@machine/db')\n"
        "module.fetch = fails\n"
        "from skyclass.cli.app import main\nsys.argv = ['skyclass', 'fetch', 'lenses', '--debug']\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "postgresql://me:***@machine/db" in done.stderr
    assert SECRET not in done.stderr


def test_a_storage_that_cannot_be_reached_is_named_without_its_passwords(
    small_run: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study.time, "sleep", lambda seconds: None)
    logging.getLogger("optuna").setLevel(logging.ERROR)
    pack = small_run.pack  # type: ignore[attr-defined]
    words = ["tune", "lensing-demo", pack, "--out", tmp_path / "t", "--space", "training.learning_rate=[0.001]"]
    url = f"postgresql+psycopg://me:{SECRET}@127.0.0.1:9/db?sslpassword={SECRET}&connect_timeout=2"
    result = skyclass(*words, "--storage", url)
    assert result.code == 1
    assert SECRET not in result.err + result.out
    assert "postgresql+psycopg://me:***@127.0.0.1:9/db" in result.err
    assert "SKYCLASS_STORAGE" in result.err  # other users can read the list of processes
    for file in filter(Path.is_file, tmp_path.rglob("*")):
        assert SECRET.encode() not in file.read_bytes()
    monkeypatch.setenv("SKYCLASS_STORAGE", url)
    told = refused(*words)  # the variable stands for the option
    assert "127.0.0.1:9/db" in told
    assert SECRET not in told


def test_an_older_tuning_that_kept_the_password_goes_on() -> None:
    old = {"storage": f"postgresql://machine/db?password={SECRET}"}
    assert masked(old["storage"]) == study.shown(old["storage"])


def test_the_command_that_is_kept_has_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    from skyclass.training.run import _command

    for url in WITH_SECRETS.values():
        monkeypatch.setattr(sys, "argv", ["skyclass", "tune", "r", "p", "--storage", url])
        assert SECRET not in _command()
    monkeypatch.setattr(sys, "argv", ["skyclass", "tune", "--storage", "postgresql://machine/db?password=a bc def"])
    assert "bc def" not in _command()
    assert os.environ.get("SKYCLASS_STORAGE") is None


@pytest.mark.timeout(120)  # seconds, where it was hours
@pytest.mark.parametrize("begin", ["", "a: ", "x=", "://", "://a:", "k='", 'a="', "https://"])
def test_a_text_of_any_length_is_masked_at_once(begin: str) -> None:
    """Whatever stands in a cell of a table may stand in a message."""
    text = f"a=b: {begin}{'x' * 200_000} password={SECRET}"
    assert SECRET not in masked(text)
    masked(begin * 20_000)


def test_an_address_that_was_taken_for_a_path() -> None:
    assert (
        masked(f"{Path(f'https://me:{SECRET}@host/x.csv')}: no such file") == "https:/me:***@host/x.csv: no such file"
    )
    assert masked(str(Path(f"https://{SECRET}@host/x"))) == "https:/***@host/x"
