from __future__ import annotations

import contextlib
import gzip
import io
import re
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.archives import tarred, zipped
from skyclass.core import limits
from skyclass.core.errors import SkyclassError
from skyclass.data.public import unpack
from skyclass.data.public.unpack import extract

BODY = np.random.default_rng(3).bytes(100_000)
TREE = {"set/train/no/a.npy": b"1", "set/train/vort/b.npy": b"22", "__MACOSX/set/._a": b"x", "set/.DS_Store": b"x"}


def refused(folder: Path, name: str, body: bytes) -> str:
    """The one sentence about an archive that cannot be unpacked."""
    (folder / name).write_bytes(body)
    with pytest.raises(SkyclassError) as error:
        extract(folder / name, folder / "out")
    assert "\n" not in str(error.value)
    return str(error.value)


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("a.zip", zipped(TREE)),
        ("A.ZIP", zipped(TREE)),
        ("a.tgz", tarred(TREE)),
        ("a.tar", gzip.decompress(tarred(TREE))),
    ],
)
def test_the_members_arrive_without_what_macos_adds(tmp_path: Path, name: str, body: bytes) -> None:
    (tmp_path / name).write_bytes(body)
    extract(tmp_path / name, tmp_path / "out")
    files = {path.relative_to(tmp_path / "out").as_posix(): path for path in tmp_path.rglob("*.npy")}
    assert {name: path.read_bytes() for name, path in files.items()} == {
        "set/train/no/a.npy": b"1",
        "set/train/vort/b.npy": b"22",
    }
    assert not list((tmp_path / "out").rglob("*_*"))


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("a.zip", zipped({"ok.txt": b"1", "../evil.txt": b"2"}), "outside the folder"),
        ("a.zip", zipped({"/evil.txt": b"2"}), "outside the folder"),
        ("a.zip", zipped({"deep/../../evil.txt": b"2"}), "outside the folder"),
        ("a.zip", zipped({"..\\evil.txt": b"2"}), "outside the folder"),
        ("a.zip", zipped({"C:evil.txt": b"2"}), "outside the folder"),
        ("a.zip", zipped({"link": b"/etc/passwd"}, stat.S_IFLNK | 0o777), "a link or a device"),
        ("a.tar.gz", tarred({"ok.txt": b"1", "../evil.txt": b"2"}), "outside the folder"),
        ("a.tar.gz", tarred({"/evil.txt": b"2"}), "outside the folder"),
        ("a.tgz", tarred({"link": b""}, tarfile.SYMTYPE, "/etc"), "a link or a device"),
        ("a.tar.gz", tarred({"link": b""}, tarfile.LNKTYPE, "../evil.txt"), "a link or a device"),
        ("a.tar.gz", tarred({"pipe": b""}, tarfile.FIFOTYPE), "a link or a device"),
        ("a.zip", zipped({"a": b"1", "a/b": b"2"}), "damaged archive"),
        ("a.zip", zipped({"a": BODY})[:-3000], "damaged archive"),
        ("a.tar.gz", tarred({"a": BODY})[:-3000], "damaged archive"),
        ("a.gz", gzip.compress(BODY)[:-3000], "damaged archive"),
        ("a.gz", b"no gzip at all", "damaged archive"),
    ],
)
def test_a_bad_archive_is_refused_and_nothing_lands_elsewhere(
    tmp_path: Path, name: str, body: bytes, said: str
) -> None:
    assert said in refused(tmp_path, name, body)
    assert left_in(tmp_path) <= {name, "out"}
    assert not Path("/evil.txt").exists()


def test_a_zip_that_is_locked_or_larger_than_the_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = bytearray(zipped({"a.txt": b"1"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(signature) + offset] |= 1
    assert "locked with a password" in refused(tmp_path, "a.zip", bytes(locked))
    room = type("Room", (), {"free": 10})
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda _: room)
    assert "the disk has 0.0 GB left" in refused(tmp_path, "b.zip", zipped({"a.txt": b"1" * 11}))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_mutated_archives_are_unpacked_or_refused_and_never_leave_the_folder(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    name, body = data.draw(st.sampled_from([("a.zip", zipped(TREE)), ("a.tar", gzip.decompress(tarred(TREE)))]))
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    root = tmp_path_factory.mktemp("mutated")
    (root / name).write_bytes(bytes(changed))
    with contextlib.suppress(SkyclassError):
        extract(root / name, root / "out")
    assert left_in(root) <= {name, "out"}


def tar_header(name: str, kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def squeezed(name: str, body: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, body)
    return packed.getvalue()


ZEROS = bytes(2**22)


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("a.gz", gzip.compress(ZEROS), "claim to unpack"),
        ("a.tar.gz", tarred({"a": ZEROS}), "claim to unpack"),
        ("a.zip", squeezed("a", ZEROS), "claim to unpack"),
        ("a.tar.gz", tarred({f"{i}": b"" for i in range(2000)}), "more than .* files"),
        ("a.tar.gz", gzip.compress(tar_header("x", tarfile.GNUTYPE_LONGNAME, 2**22) + ZEROS), "a header of"),
        ("a.tar.gz", gzip.compress(tar_header("x", tarfile.XHDTYPE, 2**22) + ZEROS), "a header of"),
    ],
)
def test_a_bomb_is_refused_before_it_fills_the_disk_or_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, body: bytes, said: str
) -> None:
    monkeypatch.setattr(limits, "ALWAYS_UNPACKED", 2**16)
    monkeypatch.setattr(limits, "ALWAYS_MEMBERS", 100)
    sentence = refused(tmp_path, name, body)
    assert re.search(said, sentence)
    assert sentence.startswith(str(tmp_path / name))
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file()) < 2**21


def test_an_archive_of_many_small_files_is_unpacked(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    (tmp_path / "a.tar.gz").write_bytes(tarred({f"{i}": noise.bytes(30) for i in range(300)}))
    extract(tmp_path / "a.tar.gz", tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 300
