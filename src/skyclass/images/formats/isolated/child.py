"""The child process of `isolated.process`: `python -m skyclass.images.formats.isolated.child` serves requests.

It does so until its input ends.

Each request is answered by a fork with limits of time and memory, which ends with its file. Where there are no forks
(Windows), the process itself answers one request and ends.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np

from ....core.errors import SkyclassError, one_line
from .process import FRAME

# Name -> module and function, which takes the arguments and the bytes, and gives JSON and an array or None.
TASKS = {
    "fits_image": ("skyclass.images.formats.fits.images", "decode_whole"),
    "fits_section": ("skyclass.images.formats.fits.cutouts", "decode_section"),
    "hdf5_texts": ("skyclass.images.formats.array_files", "decode_texts"),
}

Task = Callable[[dict[str, Any], bytearray], tuple[Any, np.ndarray | None]]
Request = tuple[dict[str, Any], bytearray]


def main() -> None:
    """Serve until the input ends."""
    answers = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # what a library prints is no answer
    while (request := _receive()) is not None:
        if request[0]["task"] is None:  # a fork that would have had to end has ended before
            _answer(answers, {"values": None}, b"")
            continue
        _task_of(request)  # imported here, once for all forks
        if not hasattr(os, "fork"):
            _serve(answers, request)
        gc.freeze()
        child = os.fork()
        if child == 0:
            _serve(answers, request)
        del request  # its bytes are the fork's
        _, status = os.waitpid(child, 0)
        if status:
            by_clock = os.WIFSIGNALED(status) and os.WTERMSIG(status) == getattr(signal, "SIGPROF", None)
            _answer(answers, {"fault": "time" if by_clock else "crash"}, b"")


def _task_of(request: Request) -> Task:
    module, function = TASKS[request[0]["task"]]
    task: Task = getattr(importlib.import_module(module), function)
    return task


def _serve(answers: int, request: Request | None) -> NoReturn:
    """Answer a request, and those after it about the same file, then end without a word."""
    while request is not None and request[0]["task"] is not None:
        _limit_memory(request[0]["memory"])
        _limit_time(request[0]["seconds"])
        reply, content = _carried_out(_task_of(request), request)
        text = json.dumps(reply)
        _limit_time(0)
        _send(answers, text.encode(), content)
        if request[0]["file"] is None or "values" not in reply:
            os._exit(0)
        request = _receive()
    if request is not None:
        _answer(answers, {"values": None}, b"")
    os._exit(0)


def _carried_out(task: Task, request: Request) -> tuple[dict[str, Any], memoryview | bytes]:
    try:
        values, array = task(request[0]["arguments"], request[1])
        if array is None:
            return {"values": values}, b""
        array = np.ascontiguousarray(array)
        return {"values": values | {"shape": array.shape, "dtype": array.dtype.str}}, array.reshape(-1).view("u1").data
    except SkyclassError as refusal:
        return {"fault": "refused", "text": refusal.what, "fix": refusal.fix}, b""
    except MemoryError:
        return {"fault": "memory"}, b""
    except EOFError as error:
        return {"fault": "end", "text": one_line(error)}, b""
    except Exception as error:  # damaged files make a library raise anything
        return {"fault": "raised", "text": one_line(error)[:1000]}, b""


def _limit_memory(n_bytes: int) -> None:
    """Let this process take `n_bytes` more than it has, and leave no core file; not on systems that cannot."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
            held = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (held + n_bytes, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _limit_time(seconds: float) -> None:
    """End this process after so many seconds of computing, its time in the system included; 0 lifts the limit."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _receive() -> Request | None:
    head = _read(FRAME.size)
    if head is None:
        return None
    n_text, n_content = FRAME.unpack(head)
    text, content = _read(n_text), _read(n_content)
    return None if text is None or content is None else (json.loads(text), content)


def _read(n_bytes: int) -> bytearray | None:
    """Exactly so many bytes of the input, none of which may be left in a buffer of this process; None at its end."""
    content, place = bytearray(n_bytes), 0
    while place < n_bytes:
        read = os.readv(0, [memoryview(content)[place:]]) if hasattr(os, "readv") else _read_into(content, place)
        if not read:
            return None
        place += read
    return content


def _read_into(content: bytearray, place: int) -> int:
    piece = os.read(0, min(len(content) - place, 2**20))
    content[place : place + len(piece)] = piece
    return len(piece)


def _answer(answers: int, reply: dict[str, Any], content: bytes) -> None:
    _send(answers, json.dumps(reply).encode(), content)


def _send(answers: int, text: bytes, content: memoryview | bytes) -> None:
    for part in (FRAME.pack(len(text), len(content)) + text, content):
        view, place = memoryview(part), 0
        while place < len(view):
            place += os.write(answers, view[place:])


if __name__ == "__main__":
    main()
