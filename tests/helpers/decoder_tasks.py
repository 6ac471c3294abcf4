"""Tasks that do what hostile files make decoders do. Use it through `decoder_process.CHILD`."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np

from skyclass.core.errors import SkyclassError
from skyclass.images.formats.isolated import child

NAMES = ("echo", "refuse", "raise", "crash", "leave", "spin", "sleep", "fill", "pid", "remember", "recall")
remembered: list[Any] = []

Given = dict[str, Any]


def do_echo(arguments: Given, content: bytearray) -> tuple[Given, np.ndarray]:
    return arguments, np.frombuffer(content, "f8").reshape(arguments["shape"])


def do_refuse(arguments: Given, content: bytearray) -> Any:
    raise SkyclassError("no such thing", fix="leave it")


def do_raise(arguments: Given, content: bytearray) -> Any:
    raise KeyError("of a library")


def do_crash(arguments: Given, content: bytearray) -> Any:
    os.kill(os.getpid(), signal.SIGSEGV)


def do_leave(arguments: Given, content: bytearray) -> Any:
    os._exit(3)


def do_spin(arguments: Given, content: bytearray) -> Any:
    while True:
        pass


def do_sleep(arguments: Given, content: bytearray) -> Any:
    time.sleep(1000)


def do_fill(arguments: Given, content: bytearray) -> Any:
    held = []
    while True:
        held.append(np.ones(2**24))


def do_pid(arguments: Given, content: bytearray) -> tuple[Given, None]:
    return {"pid": os.getpid(), "parent": os.getppid()}, None


def do_remember(arguments: Given, content: bytearray) -> tuple[Given, None]:
    remembered.append(arguments["value"])
    return {}, None


def do_recall(arguments: Given, content: bytearray) -> tuple[Given, None]:
    return {"value": remembered[-1] if remembered else None}, None


def serve() -> None:
    child.TASKS.update({name: ("helpers.decoder_tasks", f"do_{name}") for name in NAMES})
    child.main()
