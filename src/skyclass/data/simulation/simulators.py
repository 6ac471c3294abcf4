"""The simulators by name. A new one is a module with CLASSES and `simulate`, and an entry in SIMULATORS.

The modules are imported when something is simulated, so that the command line can list them without waiting for torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .batches import SimulatedBatch


@dataclass(frozen=True)
class Simulator:
    """A kind of simulated images.

    Parameters
    ----------
    module : of this package, with `CLASSES` and `simulate(labels, size, *, seed, workers, ...)`
    size : height and width in pixels, unless others are asked for
    bands, dtype : of the images
    suffix : of a file an image
    difficulty : the usual factor on how hard the classes are to tell apart; None where there is no such setting
    on_device : whether `simulate` computes on a torch device
    """

    module: str
    size: int
    bands: tuple[str, ...]
    dtype: Literal["uint8", "float32"]
    suffix: Literal[".npy", ".png"]
    difficulty: float | None = None
    on_device: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in order."""
        classes: tuple[str, ...] = self._module.CLASSES
        return classes

    def simulate(
        self,
        labels: Sequence[str],
        size: int,
        *,
        seed: int,
        workers: int | None,
        difficulty: float | None,
        device: str,
    ) -> Iterator[SimulatedBatch]:
        """Images with these labels and the truth about each, batch by batch in order.

        A simulator without a difficulty, or without a device, leaves that argument out.
        """
        options: dict[str, object] = {}
        if self.difficulty is not None:
            options["difficulty"] = difficulty
        if self.on_device:
            options["device"] = device
        batches: Iterator[SimulatedBatch] = self._module.simulate(labels, size, seed=seed, workers=workers, **options)
        return batches

    @property
    def _module(self) -> ModuleType:
        return import_module(f".{self.module}", __package__)


SIMULATORS = {
    "lensing": Simulator("lensing", 150, ("grey",), "float32", ".npy", difficulty=2.0, on_device=True),
    "galaxies": Simulator("galaxies", 64, ("red", "green", "blue"), "uint8", ".png"),
}
