"""Verify the files of a run and of its pack against their hashes."""

from __future__ import annotations

import logging
from pathlib import Path

from ..classifier.files import META, check_classifier
from ..classifier.run import Run, is_run
from ..classifier.training_data import open_pack_of
from ..core.files.replacing import finish_replacing
from ..data.packs.pack import is_pack
from .loop.checkpoint_hash import SUFFIX, check_checkpoint

logger = logging.getLogger(__name__)


def check_run(run: Run) -> None:
    """Compare every byte of a run's checkpoints and classifier, and of its pack where that is there, with their hashes.

    Errors: SkyclassError for the first file that is not as it was written.
    """
    for path in sorted(run.checkpoints.glob(f"*{SUFFIX}")):
        check_checkpoint(path)
    finish_replacing(run.classifier)
    if (run.classifier / META).is_file():
        check_classifier(run.classifier)
    for path in filter(is_run, run.member_paths):
        check_run(Run(path))
    _check_pack(run)


def _check_pack(run: Run) -> None:
    """Errors: SkyclassError for a pack that is damaged, or another one than the run was trained on."""
    path = Path(run.provenance()["pack"])
    if not is_pack(path):
        logger.warning(f"The run's pack is not there, and was not checked: {path}")
        return
    open_pack_of(run).verify(every_byte=True)
