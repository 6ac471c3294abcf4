"""Distributed training, one process a device: rank and world size, and collective operations.

torchrun, SLURM's `srun` or `training.launch` starts them; `process_group` brings them together. A single
process can call everything here as well. It does not import torch, which takes seconds, where nothing has imported it:
`skyclass report` and `skyclass evaluate` need none.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from .console import console
from .errors import SkyclassError, one_line

if TYPE_CHECKING:
    import torch
    from lightning.fabric.plugins.environments import ClusterEnvironment
    from torch import Tensor

# How long one waits for another, which may be preparing a large pack: a dead one is noticed by who started it.
PATIENCE = timedelta(hours=2)

T = TypeVar("T")


def launcher() -> ClusterEnvironment | None:
    """The environment of torchrun or `srun`, if this process is one of several that were started together.

    Errors: SkyclassError for a SLURM job that asks for its tasks in another way than Lightning can read.
    """
    from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

    if TorchElasticEnvironment.detect():
        environment: ClusterEnvironment = TorchElasticEnvironment()
    elif "SLURM_STEP_ID" in os.environ and SLURMEnvironment.detect():  # a batch script is no step of srun's
        try:
            environment = SLURMEnvironment(auto_requeue=False)
        except RuntimeError as error:  # tasks that were not requested by node
            raise SkyclassError(one_line(error).rstrip("."), where="SLURM") from None
    else:
        return None
    return environment if environment.world_size() > 1 else None


@contextmanager
def _with_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """While the block runs, these variables of the environment are set."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Bring the processes that were started together into one group, on `device` each; only the first one prints.

    Does nothing where this process was started alone.
    """
    environment = launcher()
    if environment is None:
        yield
        return
    from torch import distributed

    with _with_environment({"MASTER_ADDR": environment.main_address, "MASTER_PORT": str(environment.main_port)}):
        _join(environment, device)
        was_quiet = console.quiet
        with warnings.catch_warnings():
            if rank():
                console.quiet = True
                warnings.simplefilter("ignore")
            try:
                yield
            finally:
                console.quiet = was_quiet
        distributed.destroy_process_group()  # not after an error: the others may not come to it


def _join(environment: ClusterEnvironment, device: torch.device) -> None:
    """Meet the other processes at the address in the environment."""
    import torch
    from torch import distributed

    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        rank=environment.global_rank(),
        world_size=environment.world_size(),
        timeout=PATIENCE,
        device_id=device if on_gpu else None,
    )


def is_single_process() -> bool:
    """Whether no other process shares this training."""
    distributed = sys.modules.get("torch.distributed")  # who has not imported it is in no group
    return distributed is None or not (distributed.is_available() and distributed.is_initialized())


def rank() -> int:
    """The number of this process, from 0."""
    if is_single_process():
        return 0
    from torch import distributed

    return distributed.get_rank()


def world_size() -> int:
    """The number of processes."""
    if is_single_process():
        return 1
    from torch import distributed

    return distributed.get_world_size()


def local_rank() -> int:
    """The number of this process on its machine: that of its GPU."""
    environment = launcher()
    return environment.local_rank() if environment else 0


def nodes() -> int:
    """The number of machines."""
    environment = launcher()
    return len(set(all_gather(environment.node_rank() if environment else 0)))


def all_reduce_sum(values: Tensor) -> Tensor:
    """The sum over the processes of tensors of one shape on their devices; without a gradient."""
    total = values.detach().clone()
    if not is_single_process():
        from torch import distributed

        distributed.all_reduce(total)
    return total


def all_gather(value: T) -> list[T]:
    """The values of all processes, in their order; tensors in it should lie on the CPU."""
    if is_single_process():
        return [value]
    from torch import distributed

    values: list[T | None] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]  # all are filled


def broadcast_from_first(work: Callable[[], T]) -> T:
    """The first process does the work and broadcasts its result. Errors: its SkyclassError, in all of them."""
    if is_single_process():
        return work()
    from torch import distributed

    outcome: list[T | SkyclassError | None] = [None]
    if rank() == 0:
        try:
            outcome = [work()]
        except SkyclassError as error:
            outcome = [error]
    distributed.broadcast_object_list(outcome)
    result = outcome[0]
    if isinstance(result, SkyclassError):
        raise result
    return result  # type: ignore[return-value]  # filled by the first


def rank_zero_first(work: Callable[[], T]) -> T:
    """Every process does the work, the first one before the others, which find its files on the disk."""
    if is_single_process():
        return work()
    from torch import distributed

    if rank() == 0:
        result = work()
        distributed.barrier()
        return result
    distributed.barrier()
    return work()
