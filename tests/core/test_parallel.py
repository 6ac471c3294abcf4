from __future__ import annotations

import threading

import pytest

from skyclass.core import parallel
from skyclass.core.parallel import in_order


def test_results_come_in_order_from_several_threads_that_never_run_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "available_cores", lambda: 2)
    together = threading.Barrier(2, timeout=30)  # one thread alone would wait here in vain
    started = []

    def work(n: int) -> int:
        started.append(n)
        if n < 2:
            together.wait()
        return -n

    for done, result in enumerate(in_order(work, iter(range(100)), ahead=3), start=1):
        assert result == 1 - done
        assert len(started) <= done + 2 * 3
    assert sorted(started) == list(range(100))


def test_one_thread_works_alone_and_nothing_gives_nothing() -> None:
    names = set(in_order(lambda _: threading.current_thread().name, range(20), threads=1))
    assert len(names) == 1
    assert names != {threading.current_thread().name}
    assert list(in_order(str, [])) == []


def test_an_exception_is_raised_when_its_turn_comes() -> None:
    results = in_order(lambda n: 1 // (n - 2), range(5))
    assert [next(results), next(results)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)
