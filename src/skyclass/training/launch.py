"""Launch a training in several processes of this machine, as torchrun does, and end them together.

python -m skyclass.training.launch RUN DEVICE REPORT -> one of them; an error is written to the file REPORT
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from torch.distributed import TCPStore

from ..classifier.run import Run
from ..core.console import console, shown_messages
from ..core.devices import own_device
from ..core.distributed import is_single_process, process_group
from ..core.errors import SkyclassError, one_line
from ..core.files.atomic_files import written_whole
from ..core.parallel import available_cores
from ..core.passwords import masked
from ..data.packs.training_rows import TrainingRows
from .ensemble import finish_ensemble
from .run import finish_run

POLL = 0.05  # seconds between two checks of the processes
AFTERMATH = 0.3  # seconds in which the consequences of the first failure appear


def finish_on_devices(run: Run, rows: TrainingRows | None, device: str, devices: int) -> None:
    """`finish_run`, or `finish_ensemble`, on so many devices: in this process if it is the only one or has joined
    the others already, else in new ones.

    Errors: those of these, in whichever process they come up; all end then.
    """
    if devices == 1 or not is_single_process():
        _finish(run, rows, device)
    else:
        _finish_in_processes(run, device, devices)


def _finish(run: Run, rows: TrainingRows | None, device: str) -> None:
    (finish_ensemble if run.n_members > 1 else finish_run)(run, rows, device)


def _finish_in_processes(run: Run, device: str, devices: int) -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # on a port that is free
    with TemporaryDirectory(prefix="skyclass-") as folder:
        reports = [Path(folder) / str(rank) for rank in range(devices)]
        commands = [[sys.executable, "-m", __name__, str(run.path), device, str(report)] for report in reports]
        watch(commands, [environment_of(rank, devices, store.port) for rank in range(devices)], reports)


def watch(commands: Sequence[Sequence[str]], environments: Sequence[Mapping[str, str]], reports: list[Path]) -> None:
    """Run the commands side by side; when one fails, or this process is stopped, all end.

    reports : where each writes the error, pickled, that it ends with
    Errors: the one that the others come from; SkyclassError for a process that was killed.
    """
    with ExitStack() as ending:
        ending.callback(console.show_cursor)  # which the bar of a killed process has hidden
        workers = []
        for command, environment in zip(commands, environments, strict=True):
            # Each waits at its standard input for the end of this process, and then ends as well, however that came.
            worker = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE)
            ending.callback(_end, worker)
            workers.append(worker)
        while None in (codes := [worker.poll() for worker in workers]) or any(codes):
            if any(codes):
                time.sleep(AFTERMATH)
                raise _failure([worker.poll() for worker in workers], reports)
            time.sleep(POLL)


def environment_of(rank: int, world: int, port: int) -> dict[str, str]:
    """The environment that torchrun gives a process whose agent keeps the store; the cores are divided among them."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0}
    variables = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "skyclass",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    threads = {"OMP_NUM_THREADS": str(max(1, available_cores() // world))}
    return {**threads, **os.environ, **variables, **{name: str(number) for name, number in numbers.items()}}


def _end(worker: subprocess.Popen[bytes]) -> None:
    """Kill it if it has not ended; its files are whole in any case."""
    worker.kill()
    worker.wait()
    if worker.stdin:
        worker.stdin.close()


def _failure(codes: list[int | None], reports: list[Path]) -> Exception:
    """The error that the others come from: a clear one, a process that was killed, or the first of the others."""
    there = sorted((report for report in reports if report.is_file()), key=lambda report: report.stat().st_mtime_ns)
    errors: list[Exception] = [pickle.loads(report.read_bytes()) for report in there]
    for error in errors:
        if isinstance(error, SkyclassError):
            return error
    for rank, code in enumerate(codes):
        if code and (code < 0 or not errors):
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
            fix = "the machine may be short of memory: go on with --resume RUN, on fewer devices"
            return SkyclassError(f"process {rank} of {len(codes)} {how}", where="training", fix=fix)
    return errors[0]


def main(path: str, device: str, report: str) -> None:
    """The entry point of one of the processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the process that started this one ends it
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        with shown_messages(), process_group(own_device(device)):
            _finish(Run(Path(path)), None, device)
    except Exception as error:
        _write_error(error, Path(report))
        os._exit(1)  # at once, without waiting for the other processes


def _write_error(error: Exception, report: Path) -> None:
    """Write the error with its traceback, for --debug."""
    place = masked(f"In process {os.environ['RANK']}:\n{traceback.format_exc()}")
    error.add_note(place)
    try:
        content = pickle.dumps(error)
        pickle.loads(content)
    except Exception:  # not every exception can be pickled
        plain = RuntimeError(f"{type(error).__name__}: {one_line(error)}")
        plain.add_note(place)
        content = pickle.dumps(plain)
    with written_whole(report) as part:
        part.write_bytes(content)


def _exit_with_parent() -> NoReturn:
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
