"""Skyclass: astronomical images into trained, calibrated, explained classifiers.

The commands are functions with the arguments that they have at the command line:

>>> import skyclass
>>> skyclass.simulate("lensing", "pack", per_class=40, size=32)  # doctest: +SKIP
>>> skyclass.train("lensing-demo", "pack", out="run")  # doctest: +SKIP
>>> skyclass.Classifier.load("run").predict(["image.fits"])  # doctest: +SKIP

Each name is imported when it is first used (PEP 562), so that `skyclass --help` need not wait for torch.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .core.errors import SkyclassError
from .core.version import __version__

if TYPE_CHECKING:
    from .classifier.classifier import Classifier
    from .classifier.run import Run
    from .commands.compare import compare
    from .commands.demo import demo
    from .commands.evaluate import evaluate
    from .commands.explain import explain
    from .commands.fetch import fetch
    from .commands.inspect import inspect
    from .commands.pack import pack
    from .commands.predict import predict
    from .commands.report import report
    from .commands.simulate import simulate
    from .commands.train import train
    from .commands.tune import tune
    from .data.packs.pack import Pack

__all__ = [
    "Classifier",
    "Pack",
    "Run",
    "SkyclassError",
    "__version__",
    "compare",
    "demo",
    "evaluate",
    "explain",
    "fetch",
    "inspect",
    "pack",
    "predict",
    "report",
    "simulate",
    "train",
    "tune",
]

_CLASSES = {"Classifier": "classifier.classifier", "Run": "classifier.run", "Pack": "data.packs.pack"}


logging.getLogger(__name__).addHandler(logging.NullHandler())  # outside a command nothing is printed


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f".{_CLASSES.get(name, f'commands.{name}')}", __name__)
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
