"""Runs that must be the same to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file

from skyclass.classifier.run import Run


def assert_same_run(run: Run, expected: Run) -> None:
    """Everything that a run leaves but times: history, checkpoints with all their state, weights, predictions."""
    assert run.history_file.read_text() == expected.history_file.read_text()
    assert names_in(run.checkpoints) == names_in(expected.checkpoints)
    for name in names_in(run.checkpoints):
        found, wanted = (torch.load(one.checkpoints / name, weights_only=True) for one in (run, expected))
        assert_same(found, wanted, name)
    weights, others = (load_file(one.classifier / "model.safetensors") for one in (run, expected))
    assert_same(weights, others, "classifier")
    frames = [pd.read_parquet(one.predictions_file) for one in (run, expected)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    assert run.stages() == expected.stages()
    assert run.recipe() == expected.recipe()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_same(found: Any, wanted: Any, where: str) -> None:
    """Equal to the last bit, but for paths, which hold the names of the runs."""
    assert type(found) is type(wanted), where
    if isinstance(found, dict):
        assert [Path(str(key)).name for key in found] == [Path(str(key)).name for key in wanted], where
        for key, one, other in zip(found, found.values(), wanted.values(), strict=True):
            assert_same(one, other, f"{where}/{key}")
    elif isinstance(found, list | tuple):
        assert len(found) == len(wanted), where
        for index, (one, other) in enumerate(zip(found, wanted, strict=True)):
            assert_same(one, other, f"{where}/{index}")
    elif isinstance(found, torch.Tensor):
        assert torch.equal(found.nan_to_num(7.0), wanted.nan_to_num(7.0)), where
    elif isinstance(found, str):
        assert Path(found).name == Path(wanted).name or {Path(found).name, Path(wanted).name} == {"checkpoints"}, where
    else:
        assert found == wanted or found != found, where
