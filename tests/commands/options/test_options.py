"""How the command line writes what is no word or number."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from skyclass.commands.options.shared import shares_of
from skyclass.commands.options.source import size_of, splits_of
from skyclass.commands.options.written import names_in, one_of
from skyclass.core.errors import SkyclassError


def test_texts_are_read() -> None:
    assert shares_of("0.7, 0.1,0.2") == [0.7, 0.1, 0.2]
    assert (size_of("64"), size_of("48x64"), size_of("")) == ((64, 64), (48, 64), None)
    assert splits_of("night1=train, night 2=Validation") == {"night1": "train", "night 2": "val"}
    assert splits_of("") == {}
    assert names_in("spiral,, round bar ,") == ("spiral", "round bar")


@pytest.mark.parametrize(
    ("read", "text", "where"),
    [
        (shares_of, "0.5,0.5", "--splits"),
        (shares_of, "most", "--splits"),
        (size_of, "big", "--cutout"),
        (size_of, "-1x4", "--cutout"),
        (splits_of, "night1", "--split-names"),
        (splits_of, "night1=later", "--split-names"),
    ],
)
def test_a_text_that_says_nothing_is_refused_by_the_name_of_its_option(
    read: Callable[[str], object], text: str, where: str
) -> None:
    with pytest.raises(SkyclassError, match=f"{where}: '{text}'") as refused:
        read(text)
    assert where in str(refused.value.fix)


def test_a_choice_is_read_as_its_word() -> None:
    choice = one_of(["pack", "npz"])
    assert [choice.read(one) for one in choice.kind] == ["pack", "npz"]
    assert all(type(choice.read(one)) is str for one in choice.kind)
