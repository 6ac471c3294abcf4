"""Risky decoders run in a process of their own, so that a hostile file costs its own row and never the others.

Decoders written in C for trusted files can write past their buffers, never come back, or take all memory. One warm
process a thread imports what they need and forks for each file (`decoder_child`), so that a file costs milliseconds, a
crash nobody else, and what a broken decoder leaves in its memory goes with it. Nothing that comes back is unpickled:
answers are JSON and plain bytes.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ....core.errors import SkyclassError
from ....core.limits import CHILD_MEMORY, CHILD_SECONDS, IDLE_SECONDS, MAX_BYTES, START_SECONDS
from ....core.parallel import available_cores

CHILD = ["-m", "skyclass.images.formats.isolated.child"]
FRAME = struct.Struct("<QQ")  # bytes of the JSON and of the plain bytes that follow it
_LONGEST_ANSWER = 2**28  # bytes of JSON
_FIX = "copy it again from its source"


class Answer(NamedTuple):
    """What a task gave: JSON, and plain bytes such as those of an array."""

    values: Any
    content: bytearray

    @property
    def array(self) -> np.ndarray:
        """The array that a task gave, writable."""
        dtype = np.dtype(str(self.values["dtype"]))
        if dtype.kind not in "biuf":
            raise DecoderError("an array of no numbers")
        return np.frombuffer(self.content, dtype).reshape(self.values["shape"])


class DecoderError(Exception):
    """What a library raised in the other process, in its words."""


class _Gone(Exception):
    """The process has ended, or was ended."""


class _Worker:
    """A process that has been started, and the file that its fork has open, if any."""

    def __init__(self) -> None:
        self.is_new = True
        self.file: str | None = None
        package = str(Path(__file__).parents[1])
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", *CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | threads | {"PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for the command, and its forks are ended with it
        )

    def ask(self, request: Mapping[str, Any], content: Any, patience: float) -> tuple[dict[str, Any], bytearray]:
        """Send one request and wait for its answer. Errors: _Gone."""
        timer = threading.Timer(patience, self.end)
        timer.start()
        try:
            self._send(request, content)
            return self._receive()
        except (OSError, ValueError) as error:  # a broken pipe, or JSON that is none
            raise _Gone from error
        finally:
            timer.cancel()
            self.is_new = False

    def _send(self, request: Mapping[str, Any], content: Any) -> None:
        assert self.process.stdin is not None
        text = json.dumps(request).encode()
        self.process.stdin.write(FRAME.pack(len(text), len(content)) + text)
        self.process.stdin.write(content)
        self.process.stdin.flush()

    def _receive(self) -> tuple[dict[str, Any], bytearray]:
        n_text, n_content = FRAME.unpack(self._read(FRAME.size))
        if n_text > _LONGEST_ANSWER or n_content > MAX_BYTES:
            raise _Gone
        values = json.loads(self._read(n_text))
        if not isinstance(values, dict):
            raise _Gone
        return values, self._read(n_content)

    def _read(self, n_bytes: int) -> bytearray:
        assert self.process.stdout is not None
        content, place = bytearray(n_bytes), 0
        while place < n_bytes:
            read = self.process.stdout.readinto(memoryview(content)[place:])  # type: ignore[attr-defined]
            if not read:
                raise _Gone
            place += read
        return content

    def end(self) -> None:
        """End the process and its fork. May be called by any thread, more than once."""
        if hasattr(os, "killpg"):
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):  # it has ended already
                self.process.kill()
        else:
            self.process.kill()

    def close(self) -> None:
        """End it and give back what it held."""
        self.end()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # what could not be sent any more
                continue


class _Pool:
    """Warm processes, at most one a core, that threads take and give back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._inherited: list[_Worker] = []

    def take(self, file: str | None) -> _Worker:
        """An idle process, the one that has `file` open where there is one, or a new one."""
        with self._lock:
            chosen = next((worker for worker in self._idle if file is not None and worker.file == file), None)
            chosen = chosen or next((worker for worker in self._idle if worker.file is None), None)
            chosen = chosen or next(iter(self._idle), None)
            if chosen is not None:
                self._idle.remove(chosen)
                return chosen
        return _Worker()

    def give(self, worker: _Worker) -> None:
        """Take a process back."""
        with self._lock:
            if hasattr(os, "fork") and len(self._idle) < available_cores():  # without forks it answers once
                self._idle.append(worker)
                return
        worker.close()

    def close(self) -> None:
        """End all that are idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.close()

    def forget(self) -> None:
        """In a fork of this process: its parent's are not its own, and are kept from being collected."""
        self._lock = threading.Lock()
        self._inherited += self._idle
        self._idle = []


_pool = _Pool()
atexit.register(_pool.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.forget)


def decode_apart(
    task: str,
    arguments: Mapping[str, Any],
    content: bytes | memoryview = b"",
    *,
    file: str | None = None,
    seconds: float = CHILD_SECONDS,
    memory: int = CHILD_MEMORY,
) -> Answer:
    """What a task of `child.TASKS` makes of arguments and bytes, in a process of its own.

    Parameters
    ----------
    task
        Its name.
    arguments
        What JSON can hold.
    content
        Bytes that go with them.
    file
        Names the file (and its version) that the task keeps open for the next call about the same; None for none.
    seconds
        Time for computing, after which the process is ended.
    memory
        Bytes that it may take, beyond those of Python and its libraries.

    Raises
    ------
    SkyclassError
        What the task refuses, without a place; also where it crashes, takes too long or too much memory.
    DecoderError, EOFError
        What a library raised.
    """
    request = {"task": task, "arguments": dict(arguments), "file": file, "seconds": seconds, "memory": memory}
    worker = _pool.take(file)
    try:
        if worker.file is not None and worker.file != file:
            worker.ask({"task": None}, b"", IDLE_SECONDS)  # its fork closes the file and ends
            worker.file = None
        patience = IDLE_SECONDS + 20 * seconds + (START_SECONDS if worker.is_new else 0)
        values, answer = worker.ask(request, content, patience)
    except _Gone:
        worker.close()
        raise SkyclassError("damaged: its decoder crashed or never came back", fix=_FIX) from None
    except BaseException:  # an interrupt: the request is only half written
        worker.close()
        raise
    worker.file = file if "values" in values else None
    _pool.give(worker)
    return Answer(_checked(values, seconds), answer)


def _checked(reply: dict[str, Any], seconds: float) -> Any:
    """The values of a reply, or the exception that it reports."""
    if "values" in reply:
        return reply["values"]
    text = str(reply.get("text", ""))
    match reply.get("fault"):
        case "refused":
            fix = reply.get("fix")
            raise SkyclassError(text, fix=None if fix is None else str(fix))
        case "time":
            raise SkyclassError(f"damaged: its decoder was stopped after {seconds:.0f} s", fix=_FIX)
        case "memory":
            raise SkyclassError("damaged, or it needs more memory than its size warrants", fix=_FIX)
        case "end":
            raise EOFError(text)
        case "raised":
            raise DecoderError(text)
    raise SkyclassError("damaged: its decoder crashed", fix=_FIX)
