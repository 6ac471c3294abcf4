"""What the tests of the training loop share: one pack, which they read only."""

from __future__ import annotations

import pytest

from helpers.toys import toy_pack
from skyclass.data.packs.pack import Pack


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """27 training, 12 validation and 9 test images of 12x16 pixels."""
    return toy_pack(tmp_path_factory.mktemp("packs") / "pack")
