from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skyclass.core.errors import SkyclassError
from skyclass.data.public.mirabest import pickled_batches, read_pickled


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(st.sampled_from(["u1", "<i2", ">f4", "<U7", "S3", "?"]), hnp.array_shapes(max_dims=3, max_side=5)),
    st.integers(0, 5),
    st.booleans(),
)
def test_pickled_arrays_are_read_as_pickle_reads_them(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, protocol: int, fortran: bool
) -> None:
    array = np.asfortranarray(array) if fortran else array
    path = tmp_path_factory.mktemp("pickled") / "a"
    content = {"data": array, "rows": [array, array], "labels": [1, np.int64(2)], "name": "β Ursae", "of": b"\xff"}
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    try:
        read = read_pickled(path, [*content, "missing"])
    except SkyclassError:
        assert protocol == 5
        assert not array.flags.forc  # pickle itself makes such arrays with other means
        return
    oracle = pickle.loads(path.read_bytes(), encoding="latin1")
    for found, expected in ((read["data"], oracle["data"]), *zip(read["rows"], oracle["rows"], strict=True)):
        np.testing.assert_array_equal(found, expected)
        assert found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")  # NumPy swaps some by itself
    assert read["labels"] == oracle["labels"]
    assert (read["name"], read["of"], read["missing"]) == (oracle["name"], oracle["of"], None)


class Runs:
    """Unpickles by running a program."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.does = (function, arguments)

    def __reduce__(self) -> Any:
        return self.does


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "ran"
    path = tmp_path / "data_batch_1"
    for evil in (
        Runs(os.mkdir, str(trace)),
        Runs(eval, f"__import__('os').mkdir({str(trace)!r})"),
        Runs(np.load, str(trace)),
        Runs(getattr, np.ndarray, "tofile"),
        Runs(np.empty, (10, 10)),
        np.array([{}], dtype=object),
        np.zeros(2, dtype=[("a", "u1")]),
    ):
        path.write_bytes(pickle.dumps({"data": evil, "labels": [0]}, protocol=protocol))
        with pytest.raises(SkyclassError, match="not a pickle of plain arrays") as error:
            read_pickled(path, ["data"])
        assert "\n" not in str(error.value)
        assert not trace.exists()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_pickles_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    content = {"data": np.arange(12, dtype=np.uint8).reshape(3, 4), "labels": [0, 1, 1]}
    changed = bytearray(pickle.dumps(content, protocol=data.draw(st.sampled_from([2, 3, 5]))))
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("mutated") / "a"
    path.write_bytes(bytes(changed))
    with contextlib.suppress(SkyclassError):
        read_pickled(path, ["data", "labels"])


def batches(data: list[np.ndarray], labels: list[list[int]], **more: Any) -> dict[str, bytes]:
    """Members of an archive of CIFAR's kind; the last of `data` is the test batch."""
    names = [*(f"data_batch_{n + 1}" for n in range(len(data) - 1)), "test_batch"]
    members = {"F_batches/batches.meta": pickle.dumps({"label_names": ["100", "200"]}, protocol=3)}
    for number, (name, pixels) in enumerate(zip(names, data, strict=True)):
        entry: dict[str, Any] = {"data": pixels, "labels": labels[number]}
        entry |= more or {"filenames": [f"x/{number}_{row}.png" for row in range(len(pixels))]}
        members[f"F_batches/{name}"] = pickle.dumps(entry, protocol=3)
    return members


def write(folder: Path, members: dict[str, bytes]) -> None:
    for name, body in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)


@pytest.mark.parametrize("deep", ["F_batches/", ""])
def test_batches_become_arrays_with_the_published_split(tmp_path: Path, deep: str) -> None:
    random = np.random.default_rng(0)
    pixels: list[Any] = [random.integers(0, 256, (count, 36), dtype=np.uint8) for count in (3, 2, 4)]
    pixels[1] = list(pixels[1].reshape(-1, 6, 6))  # as the first release of MiraBest has them
    members = batches(pixels, [[0, 1, 0], [1, 1], [0, 0, 1, 1]])
    write(tmp_path, {name.replace("F_batches/", deep): body for name, body in members.items()})
    pickled_batches(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"train.npz", "test.npz"}
    with np.load(tmp_path / "train.npz", allow_pickle=False) as train:
        assert train["images"].shape == (5, 6, 6)
        np.testing.assert_array_equal(train["images"][:3].reshape(3, 36), pixels[0])
        np.testing.assert_array_equal(train["images"][3:], pixels[1])
        assert train["labels"].tolist() == ["100", "200", "100", "200", "200"]
        assert train["image_id"].tolist() == ["0_0", "0_1", "0_2", "1_0", "1_1"]
    with np.load(tmp_path / "test.npz", allow_pickle=False) as test:
        assert test["labels"].tolist() == ["100", "100", "200", "200"]
        np.testing.assert_array_equal(test["images"].reshape(4, 36), pixels[2])


def test_file_names_that_repeat_are_no_ids(tmp_path: Path) -> None:
    pixels = [np.zeros((2, 4), np.uint8)] * 2
    write(tmp_path, batches(pixels, [[0, 1]] * 2, filenames=["x.png", "y.png"]))
    pickled_batches(tmp_path)
    with np.load(tmp_path / "train.npz") as train:
        assert train["image_id"].tolist() == ["train-00000", "train-00001"]


GOOD = np.zeros((2, 4), np.uint8)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"a.txt": b"1"}, "no file batches.meta"),
        ({"b/batches.meta": pickle.dumps({"label_names": ["a"]})}, "missing or unlike each other"),
        (batches([GOOD, np.zeros((2, 9), np.uint8)], [[0, 1]] * 2), "missing or unlike each other"),
        (batches([GOOD, np.zeros((2, 5), np.uint8)], [[0, 1]] * 2), "not square images with labels"),
        (batches([GOOD, GOOD], [[0, 1], [0]]), "not square images with labels"),
        (batches([GOOD, GOOD], [[0, 1], [0, 2]]), "not square images with labels"),
        (batches([GOOD, GOOD], [[0, 1], [0, -1]]), "not square images with labels"),
        (batches([GOOD, GOOD], [[0, 1], ["0", "1"]]), "not square images with labels"),  # type: ignore[list-item]
        ({**batches([GOOD, GOOD], [[0, 1]] * 2), "F_batches/data_batch_1": b"cos\nsystem\n"}, "asks for os.system"),
    ],
)
def test_batches_that_are_no_batches_are_refused(tmp_path: Path, members: dict[str, bytes], said: str) -> None:
    write(tmp_path, members)
    with pytest.raises(SkyclassError, match=said):
        pickled_batches(tmp_path)
    assert not list(tmp_path.glob("*.npz"))
