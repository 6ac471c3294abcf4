"""Devices: which one is used, its memory, and whether it computes in bfloat16."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from .distributed import launcher, local_rank, world_size
from .errors import SkyclassError


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name (`cpu`, `cuda`, `cuda:1`, `mps`); `auto` takes a GPU where there is one.

    Errors: SkyclassError for another name, and for a device that this machine lacks.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise SkyclassError(f"{name!r} is no device", fix="use auto, cpu, cuda or cuda:N")
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[device.type]
    if (device.index or 0) >= there:
        which = f" number {device.index}" if there else ""
        what = f"this machine has no {device.type.upper()} device{which}"
        raise SkyclassError(what, where=f"device {name}", fix="use --device cpu" if not there else "use --device auto")
    return device


def own_device(name: str = "auto") -> torch.device:
    """As `pick_device`; of several processes on a machine, each takes the GPU of its own number."""
    device = pick_device(name)
    return torch.device("cuda", local_rank()) if device.type == "cuda" and launcher() else device


def check_devices(name: str, devices: int, num_nodes: int) -> None:
    """Errors: SkyclassError where a training cannot run on so many devices, or was not started on so many."""
    if min(devices, num_nodes) < 1:
        raise SkyclassError("a training needs one device on one node at least", where="--devices, --num-nodes")
    environment = launcher()
    if environment is None and num_nodes > 1:
        fix = "start the command with torchrun, or with srun in a SLURM job"
        raise SkyclassError("a training on several nodes is started on each of them", where="--num-nodes", fix=fix)
    if environment is not None and environment.world_size() != devices * num_nodes:
        what = f"{environment.world_size()} processes were started for {num_nodes} x {devices} devices"
        fix = "give --devices (on a node) and --num-nodes as the processes were started"
        raise SkyclassError(what, where="--devices", fix=fix)
    device = pick_device(name)
    if devices == 1:
        return
    if device.index is not None or device.type == "mps":
        what, fix = f"{devices} devices, and --device {name} is one", "use --device auto, cpu or cuda"
        raise SkyclassError(what, where="--devices", fix=fix)
    if device.type == "cuda" and devices > torch.cuda.device_count():
        count = torch.cuda.device_count()
        what = f"this machine has {count} CUDA device{'s' if count > 1 else ''}, not {devices}"
        fix = f"use --devices {count}, or --device cpu"
        raise SkyclassError(what, where="--devices", fix=fix)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether `device` has bfloat16 arithmetic of its own (emulation is slower than float32)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu":
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return any(flag in flags for flag in ("avx512_bf16", "amx_bf16", " bf16"))


def pick_precision(precision: str, device: torch.device) -> torch.dtype:
    """torch.bfloat16 or torch.float32 for `auto`, `bfloat16` or `float32`."""
    wanted = precision == "bfloat16" or (precision == "auto" and computes_bfloat16(device))
    return torch.bfloat16 if wanted else torch.float32


def free_memory(device: torch.device) -> int:
    """Free bytes on a GPU, otherwise those that the machine can give without swapping."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)


def reset_peak_memory(device: torch.device) -> None:
    """Let `peak_memory` begin anew; where the system does not allow it, the peak stays that of the whole process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # see proc(5); Linux alone has it


def peak_memory(device: torch.device) -> int:
    """The most bytes in use at once: what torch allocated on a GPU, else resident memory of this process.

    0 where they are unknown.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # psutil knows the peak on Windows alone; `getrusage` has one that a process takes over from who started it.
    return _most_resident_on_linux() or _most_resident()


def _most_resident_on_linux() -> int:
    """The peak since `reset_peak_memory`, in bytes; 0 on other systems."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return 1024 * int(found[1]) if found else 0


def _most_resident() -> int:
    """The peak by the standard library, in kilobytes but on macOS."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def device_name(device: torch.device) -> str:
    """The device in words, with the number of them where several processes are joined."""
    count = f"{world_size()} x " if world_size() > 1 else ""
    if device.type == "cuda":
        return f"{count}{torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads()
    return f"{count}{device.type}, {threads} {'thread' if threads == 1 else 'threads'}"
