"""What pydantic and the system say reaches nobody bare."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skyclass.core.errors import SkyclassError
from skyclass.core.files.atomic_files import read_json
from skyclass.recipes.data_settings import PixelSettings
from skyclass.recipes.recipe import load_recipe, parse_pixels, parse_recipe, stored_pixels
from skyclass.recipes.schema import _MEANING

FAULTS = {
    "training.epochs=many": "should be a whole number",
    "training.epochs=1.5": "should be a whole number",
    "training.learning_rate=fast": "should be a number",
    "training.learning_rate=.nan": "should be a finite number",
    "training.learning_rate=0": "should be greater than 0",
    "training.epochs=-1": "should be 0 or more",
    "training.betas=[0.9,1.5]": "should be less than 1",
    "augment.flip_vertical=2": "should be 1.0 or less",
    "training.loss=hinge": "should be 'cross_entropy' or 'focal'",
    "training=3": "should be a section with keys of its own",
    "pixels.size=[1]": "is missing",
    "pixels.size=[1,2,3]": "should have 2 values at most, and has 3",
    "pixels.size=abc": "should be a list",
    "data.exclude=[no]": "should be text",
    "pixels.per_band=perhaps": "should be true or false",
}


@pytest.mark.parametrize("change", FAULTS)
def test_a_wrong_value_is_told_in_our_words(change: str) -> None:
    with pytest.raises(SkyclassError) as refusal:
        load_recipe("lensing-demo", [change])
    told = str(refusal.value)
    assert FAULTS[change] in told
    for theirs in ("Input should", "pydantic", "valid dictionary", "type=", "https://"):
        assert theirs not in told


def test_every_kind_of_fault_is_one_of_pydantic() -> None:
    from typing import get_args

    from pydantic_core.core_schema import ErrorType

    assert set(_MEANING) <= set(get_args(ErrorType))


def test_a_stored_recipe_that_was_edited_is_one_sentence() -> None:
    with pytest.raises(SkyclassError, match=r"stored pixels: dtype: should be .*, got 'int3'"):
        stored_pixels({**PixelSettings().model_dump(mode="json"), "dtype": "int3"})
    with pytest.raises(SkyclassError, match="--pixels size=abc: size: should be a list"):
        parse_pixels(PixelSettings(), ["size=abc"])
    with pytest.raises(SkyclassError, match="should be a section"):
        parse_recipe({"training": 3})


@pytest.mark.skipif(os.name == "nt", reason="Windows opens no folder as a file, and says another word")
def test_a_file_that_cannot_be_opened_is_named_in_our_words(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with pytest.raises(SkyclassError, match="it is a folder where a file is wanted") as refusal:
        read_json(tmp_path / "run.json", "run")
    assert "Errno" not in str(refusal.value)
