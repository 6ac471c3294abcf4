"""Decoders in a process of their own: warm, limited, and a hostile file costs its own row only."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from helpers.hostile import compressed, frame, hcompress_of_other_size
from helpers.paths import with_tests
from skyclass.core.errors import SkyclassError
from skyclass.core.parallel import in_order
from skyclass.images.decode import decode_files
from skyclass.images.formats.isolated import process as process_module
from skyclass.images.formats.isolated.process import DecoderError, decode_apart
from skyclass.images.formats.read import read_image
from skyclass.recipes.data_settings import PixelSettings

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="one process a file there")


@pytest.fixture(autouse=True)
def _fresh_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own tasks are found by the processes that are started from here on."""
    process_module._pool.close()
    monkeypatch.setenv("PYTHONPATH", with_tests()["PYTHONPATH"])
    monkeypatch.setattr(process_module, "CHILD", ["-c", "from helpers import decoder_tasks; decoder_tasks.serve()"])


def test_what_a_task_gives_arrives() -> None:
    array = np.arange(24.0).reshape(2, 3, 4)
    answer = decode_apart("echo", {"shape": [2, 3, 4], "text": "é\n"}, array.tobytes())
    np.testing.assert_array_equal(answer.array, array)
    assert answer.values["text"] == "é\n"
    answer.array[0] = 1  # writable


@pytest.mark.parametrize(
    ("task", "arguments", "error", "words"),
    [
        ("refuse", {}, SkyclassError, "no such thing; leave it"),
        ("raise", {}, DecoderError, "of a library"),
        ("crash", {}, SkyclassError, "its decoder crashed"),
        ("leave", {}, SkyclassError, "its decoder crashed"),
        ("spin", {}, SkyclassError, "stopped after 1 s"),
        ("fill", {}, SkyclassError, "more memory than its size warrants"),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_the_next_file_is_read(
    task: str, arguments: dict[str, int], error: type[Exception], words: str
) -> None:
    first = decode_apart("pid", {}).values["parent"]
    began = time.perf_counter()
    with pytest.raises(error, match=words):
        decode_apart(task, arguments, seconds=1.0 if task == "spin" else 60.0)
    assert time.perf_counter() - began < 120
    after = decode_apart("pid", {}).values
    assert after["parent"] == first  # the warm process has outlived it


def test_each_file_has_a_process_that_no_other_has_touched() -> None:
    pids = {decode_apart("pid", {})[0]["pid"] for _ in range(5)}
    assert len(pids) == 5
    decode_apart("remember", {"value": 7})
    assert decode_apart("recall", {}).values["value"] is None


def test_calls_about_one_file_share_a_process_and_another_file_ends_it() -> None:
    pids = [decode_apart("pid", {}, file="a").values["pid"] for _ in range(3)]
    assert len(set(pids)) == 1
    assert decode_apart("pid", {}, file="b").values["pid"] != pids[0]
    assert decode_apart("pid", {}, file="a").values["pid"] != pids[0]
    with pytest.raises(SkyclassError, match="crashed"):
        decode_apart("crash", {}, file="a")
    assert decode_apart("pid", {}, file="a").values["pid"] not in pids


def test_a_process_that_was_killed_costs_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = decode_apart("pid", {}).values["parent"]
    os.kill(parent, 9)
    for _ in range(100):  # its end reaches the pipe in its own time
        try:
            assert decode_apart("pid", {}).values["parent"] != parent
            return
        except SkyclassError:
            continue
    pytest.fail("no new process")


def test_one_that_sleeps_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    decode_apart("pid", {})
    monkeypatch.setattr(process_module, "IDLE_SECONDS", 1.0)
    with pytest.raises(SkyclassError, match="never came back"):
        decode_apart("sleep", {}, seconds=0.1)


def test_a_fork_of_the_command_starts_its_own() -> None:
    mine = decode_apart("pid", {}).values["parent"]
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        theirs = decode_apart("pid", {}).values["parent"]
        process_module._pool.close()
        os.write(write, str(theirs).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(read, 20)) != mine
    os.close(read)
    os.close(write)
    assert decode_apart("pid", {}).values["parent"] == mine


def test_threads_each_have_one() -> None:
    gate = threading.Barrier(2)

    def ask(number: int) -> float:
        gate.wait(60)
        return float(decode_apart("echo", {"shape": [1]}, np.array([number], "f8").tobytes()).array[0])

    assert list(in_order(ask, range(8), threads=2)) == list(range(8))


def test_a_hostile_image_costs_its_own_row(tmp_path: Path) -> None:
    files = []
    for number in range(6):
        data = hcompress_of_other_size() if number % 2 else compressed("HCOMPRESS_1")
        files.append(frame(tmp_path / f"{number}.fits", data))
    results = list(decode_files(files, [PixelSettings()]))
    assert [result.error is None for result in results] == [True, False] * 3
    assert all("damaged" in str(result.error) or "cannot be decoded" in str(result.error) for result in results[1::2])
    np.testing.assert_array_equal(results[0].pixels, results[4].pixels)


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_1", "HCOMPRESS_1"])
@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
def test_cutouts_of_compressed_frames(tmp_path: Path, kind: str, suffix: str) -> None:
    good = frame(tmp_path / f"good{suffix}", compressed(kind))
    bad = frame(tmp_path / f"bad{suffix}", hcompress_of_other_size())
    whole = read_image(good).pixels
    for x, y in ((9, 9), (20, 14)):
        with pytest.raises(SkyclassError, match="bad"):
            read_image(f"{bad}::pixel(2,2)[4x4]")
        cutout = read_image(f"{good}::pixel({x},{y})[8x6]").pixels
        np.testing.assert_array_equal(cutout, whole[:, y - 4 : y + 4, x - 3 : x + 3])


def test_a_frame_written_again_is_read_again(tmp_path: Path) -> None:
    file = frame(tmp_path / "x.fits", compressed("RICE_1"))
    before = read_image(f"{file}::pixel(20,14)[8x6]").pixels
    frame(file, compressed("RICE_1", "uint8"))
    os.utime(file, ns=(1, 1))
    assert not np.array_equal(read_image(f"{file}::pixel(20,14)[8x6]").pixels, before)
