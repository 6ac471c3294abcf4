"""A classifier, the run that it comes from, and what both read and write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .classifier import Classifier

__all__ = ["Classifier"]


def __getattr__(name: str) -> Any:
    if name != "Classifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .classifier import Classifier  # torch is slow to import, and other modules of this package need none

    return Classifier
