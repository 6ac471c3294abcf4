"""What the machine can do: the device, and whether it computes in bfloat16."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from ..errors import SkyclassError


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name (`cpu`, `cuda`, `cuda:1`, `mps`); `auto` takes a GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise SkyclassError(f"{name!r} is no device", fix="use auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SkyclassError("this machine has no CUDA device", where=f"device {name}", fix="use --device cpu")
    return device


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
    """Free bytes on a GPU, available bytes of the machine otherwise."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if "SC_AVPHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2  # macOS does not tell what is free


def describe(device: torch.device) -> str:
    """The device in words, for the environment file of a run."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} {'thread' if threads == 1 else 'threads'}"
