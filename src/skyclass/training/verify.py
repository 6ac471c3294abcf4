"""Verify the files of a run and of its pack against their hashes."""

from __future__ import annotations

from pathlib import Path

from ..classifier.files import META, check_classifier
from ..classifier.run import Run, is_run
from ..core.console import say
from ..core.errors import SkyclassError
from ..data.packs.pack import Pack, is_pack
from .loop.checkpoints import SUFFIX, check_checkpoint


def check_run(run: Run) -> None:
    """Compare every byte of a run's checkpoints and classifier, and of its pack where that is there, with their hashes.

    Errors: SkyclassError for the first file that is not as it was written.
    """
    for path in sorted(run.checkpoints.glob(f"*{SUFFIX}")):
        check_checkpoint(path)
    if (run.classifier / META).is_file():
        check_classifier(run.classifier)
    for path in filter(is_run, run.member_paths):
        check_run(Run(path))
    _check_pack(run)


def _check_pack(run: Run) -> None:
    """Errors: SkyclassError for a pack that is damaged, or another one than the run was trained on."""
    provenance = run.provenance()
    path = Path(provenance["pack"])
    if not is_pack(path):
        say(f"The run's pack is not there, and was not checked: {path}")
        return
    pack = Pack.open(path)
    pack.verify(every_byte=True)
    if pack.hash != provenance["pack_hash"]:
        fix = "restore the old pack, or train a new run on this one"
        raise SkyclassError("the pack has changed since this run began", where=path, fix=fix)
