"""Memory of a training step and time of an inference at 1280x1280: the published attention system, on this machine.

ResNet18 with the refined head, its gate and the uncertainty head, eight classes, AdamW, gradients clipped, in one
process a row. Memory is what the process needs beyond Python and its libraries (network, optimiser, images and all
that is computed): resident memory on a CPU, what torch allocated on a GPU.

    python benchmarks/memory.py [--device cuda] [--size 1280]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import torch

from skyclass.core.devices import device_name, peak_memory, pick_device, reset_peak_memory
from skyclass.models.gradient_checkpointing import checkpoint_blocks
from skyclass.models.network import Network, build_network
from skyclass.recipes.model_settings import ModelSettings
from skyclass.recipes.training_settings import TrainingSettings
from skyclass.training.loop.losses import total_loss
from skyclass.training.loop.optimizers import build_optimizer

MODEL = ModelSettings(backbone="resnet18", head="refined", dropout=0.3, uncertainty=True)
TRAINING = TrainingSettings(loss="focal", optimizer="adamw", learning_rate=3e-4)
N_CLASSES = 8
TRAINED = [(batch, dtype, kept) for batch in (3, 6) for dtype in ("float32", "bfloat16") for kept in (False, True)]
INFERRED = [(batch, dtype) for batch in (1, 8) for dtype in ("float32", "bfloat16")]
ROUNDS = {"train": 1, "infer": 3}  # after one that warms up
LONGEST = 3600  # seconds of a row


def training_step(network: Network, images: torch.Tensor, dtype: str) -> Callable[[], object]:
    """A step of the optimiser on a batch."""
    labels = torch.arange(len(images), device=images.device) % N_CLASSES
    optimizer = build_optimizer(network.train(), TRAINING)

    def step() -> None:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            output = network.head_output(network.features(images))
        optimizer.zero_grad()
        total_loss(output, labels, None, TRAINING).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimizer.step()

    return step


def inference(network: Network, images: torch.Tensor, dtype: str) -> Callable[[], object]:
    """What the network says of a batch."""
    network.eval()

    @torch.inference_mode()
    def infer() -> torch.Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            return network.head_output(network.features(images)).logits

    return infer


def measure(what: str, batch: int, dtype: str, checkpointing: bool, size: int, device: torch.device) -> None:
    """In this process: print the bytes of memory and the seconds of the fastest round."""
    torch.manual_seed(0)
    torch.ones(1, device=device).sum().item()  # the device's own libraries
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss
    reset_peak_memory(device)
    network = build_network(MODEL, 3, N_CLASSES).to(device, memory_format=torch.channels_last)
    if checkpointing:
        checkpoint_blocks(network)
    images = torch.rand(batch, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    work = (training_step if what == "train" else inference)(network, images, dtype)
    fastest = float("inf")
    for _ in range(1 + ROUNDS[what]):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        fastest = min(fastest, time.perf_counter() - start)
    print(peak_memory(device) - before, fastest)


def in_a_child(arguments: argparse.Namespace, *row: object) -> tuple[str, str]:
    """Memory in GB and milliseconds an image of a row, or why they are not there."""
    command = [sys.executable, __file__, "--size", str(arguments.size), "--device", arguments.device]
    try:
        child = subprocess.run(
            [*command, "--row", *map(str, row)], check=True, capture_output=True, text=True, timeout=LONGEST
        )
    except subprocess.CalledProcessError as error:
        out_of_memory = error.returncode < 0 or "OutOfMemory" in error.stderr
        print(error.stderr[-2000:], file=sys.stderr)
        return "out of memory" if out_of_memory else "failed", ""
    except subprocess.TimeoutExpired:
        return "", f"more than {LONGEST} s"
    n_bytes, seconds = child.stdout.split()
    return f"{int(n_bytes) / 1e9:.2f}", f"{1000 * float(seconds) / int(str(row[1])):,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1280, help="pixels of a side (default 1280)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--row", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    if arguments.row:
        what, batch, dtype, checkpointing = arguments.row
        measure(what, int(batch), dtype, checkpointing == "True", arguments.size, device)
        return
    print(
        f"| {arguments.size}x{arguments.size}, {device_name(device)} | batch | precision | memory, GB | ms an image |"
    )
    print("|---|---:|---|---:|---:|")
    for batch, dtype, checkpointing in TRAINED:
        name = "training step, blocks checkpointed" if checkpointing else "training step"
        memory, spent = in_a_child(arguments, "train", batch, dtype, checkpointing)
        print(f"| {name} | {batch} | {dtype} | {memory} | {spent} |", flush=True)
    for batch, dtype in INFERRED:
        memory, spent = in_a_child(arguments, "infer", batch, dtype, False)
        print(f"| inference | {batch} | {dtype} | {memory} | {spent} |", flush=True)


if __name__ == "__main__":
    main()
