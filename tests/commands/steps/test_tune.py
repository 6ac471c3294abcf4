"""The processes of a tuning."""

from __future__ import annotations

from skyclass.commands.steps.tune import device_of


def test_processes_take_the_gpus_in_turn() -> None:
    assert [device_of(worker, "auto", 2) for worker in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert device_of(1, "cuda", 2) == "cuda:1"
    assert device_of(1, "auto", 0) == "auto"
    assert device_of(1, "cpu", 2) == "cpu"
    assert device_of(1, "cuda:0", 2) == "cuda:0"
