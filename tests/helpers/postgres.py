"""A PostgreSQL server of one's own: `with postgres_server() as url`."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

INITDB, POSTGRES = shutil.which("initdb"), shutil.which("postgres")


def unprivileged() -> str | None:
    """The user to run the server as: PostgreSQL refuses to be run by root. None is who we are."""
    if os.getuid():
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and this machine has no user `postgres`")


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of a new database, on a socket in a temporary folder; where there is no server the test is skipped."""
    if not INITDB or not POSTGRES:
        pytest.skip("PostgreSQL (initdb, postgres) is not installed here")
    psycopg = pytest.importorskip("psycopg", reason="the driver of PostgreSQL (psycopg) is not installed here")
    user = unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: the path of a socket has 107 letters at most
    try:
        if user:
            shutil.chown(folder, user)
        data = folder / "data"
        make = [INITDB, "-D", str(data), "-U", "postgres", "-A", "trust", "--locale=C", "-E", "UTF8", "--no-sync"]
        subprocess.run(make, check=True, capture_output=True, cwd=folder, user=user, timeout=120)
        serve = [POSTGRES, "-D", str(data), "-k", str(folder), "-c", "listen_addresses=", "-F"]
        with (folder.parent / f"{folder.name}.log").open("wb") as log:
            server = subprocess.Popen(serve, stdout=log, stderr=log, cwd=folder, user=user)
        try:
            for _ in range(600):
                try:
                    psycopg.connect(f"host={folder} user=postgres dbname=postgres").close()
                    break
                except psycopg.OperationalError:
                    assert server.poll() is None, Path(log.name).read_text()
                    time.sleep(0.1)
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGINT)  # a fast shutdown, whoever is connected
            server.wait(timeout=60)
            Path(log.name).unlink()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
