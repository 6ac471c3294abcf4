"""Public data sets, fetched from a server in this process. No test leaves the machine."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import requests

from helpers.archives import tarred, zipped
from helpers.web_site import Page, Site, serve
from skyclass.commands.fetch import fetch, list_datasets, next_command
from skyclass.core.errors import SkyclassError
from skyclass.data.public import download, unpack
from skyclass.data.public.registry import PublicDataset, RemoteFile, read_datasets
from skyclass.data.source_options import SourceOptions
from skyclass.data.sources.read import read_source

BODY = np.random.default_rng(3).integers(0, 256, 3_000_000, dtype=np.uint8).tobytes()  # three chunks


@pytest.fixture
def site() -> Iterator[Site]:
    running = serve()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, no token and no home of whoever runs the tests, and no waiting."""
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(download, "PAUSE", 0.0)


def dataset(*files: RemoteFile, **more: Any) -> PublicDataset:
    facts = {"title": "Some stars", "size": "3 MB", "licence": "CC0", "citation": "Nobody 2020", "verified": False}
    facts["note"] = "bright"
    places = {"page": "https://stars.example/about", "found_in": ("a book",), "then": "skyclass pack {out} stars-pack"}
    return PublicDataset.model_validate({**facts, **places, "files": files, **more})


def md5(body: bytes) -> str:
    return f"md5:{hashlib.md5(body).hexdigest()}"


@dataclass
class Fetching:
    """Fetches a data set of one file that the site has at /NAME."""

    site: Site
    folder: Path
    monkeypatch: pytest.MonkeyPatch

    def __call__(self, name: str, body: bytes, checksum: str | None = None, **more: Any) -> Path:
        via = more.pop("via", "http")
        url = more.pop("url", f"{self.site.address}/{name}")
        self.site.pages.setdefault(f"/{name}", Page(body))
        stars = dataset(RemoteFile(name=name, url=url, via=via, checksum=checksum), **more)
        return self.of(stars)

    def of(self, stars: PublicDataset) -> Path:
        self.monkeypatch.setattr("skyclass.data.public.registry.find_dataset", lambda name: stars)
        fetched = fetch("stars", out=self.folder)
        assert fetched == self.folder
        return self.folder

    def refused(self, name: str, body: bytes, checksum: str | None = None, **more: Any) -> str:
        with pytest.raises(SkyclassError) as error:
            self(name, body, checksum, **more)
        sentence = str(error.value)
        assert "\n" not in sentence
        assert not (self.folder / "source.json").exists()
        return sentence


@pytest.fixture
def fetching(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetching:
    return Fetching(site, tmp_path / "stars", monkeypatch)


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# The list


def test_the_list_has_the_data_sets_of_the_published_systems_with_licence_and_citation() -> None:
    known = read_datasets()
    assert {"lenses", "galaxy10-decals", "galaxymnist", "mirabest", "galaxyzoo-challenge"} <= set(known)
    assert "1ZEyNMEO43u3qhJAwJeBZxFBEYc_pVYZQ" in known["lenses"].files[0].url
    for name, entry in known.items():
        assert next_command(entry, Path("a b")).startswith("skyclass pack 'a b"), name
        assert "{" not in next_command(entry, Path("a")), name
        assert len({file.name for file in entry.files}) == len(entry.files), name
        for file in entry.files:
            assert file.via != "hub" or download._HUB.fullmatch(file.url), name
    assert len(known["galaxy10-decals"].classes) == len(known["galaxy10-sdss"].classes) == 10


def test_without_a_name_the_list_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch() is None
    out = capsys.readouterr().out
    for name, entry in read_datasets().items():
        line = next(line for line in out.splitlines() if f" {name} " in line)
        assert entry.size.split()[0] in line
    assert "not yet" in out
    assert "CC BY 4.0" in out
    list_datasets()
    assert capsys.readouterr().out == out


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(SkyclassError, match="did you mean 'mirabest'"):
        fetch("mirabset")
    with pytest.raises(SkyclassError, match="the names are lenses, galaxy10-decals"):
        fetch("qqqqqqqq")


# HTTP


def test_a_file_arrives_with_citation_and_record_and_a_second_call_asks_for_nothing(
    fetching: Fetching, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skyclass.core.progress.lines.LINE_AFTER", 0.0)
    folder = fetching("stars.bin", BODY, md5(BODY))
    assert (folder / "stars.bin").read_bytes() == BODY
    assert left_in(folder) == {"stars.bin", "source.json", "CITATION.txt"}
    assert "Nobody 2020" in (folder / "CITATION.txt").read_text()
    record = json.loads((folder / "source.json").read_text())
    assert record["files"][0]["checksum"] == md5(BODY)
    assert record["content"] == {"stars.bin": {"files": 1, "bytes": len(BODY)}}
    err = capsys.readouterr().err
    assert re.search(r"stars\.bin: 3 of 3 MB \(100%\), .*MB/(s|h), in 0:00:", err)
    for told in (
        "Note: bright",
        "Licence: CC0",
        "Please cite: Nobody 2020",
        "Nobody has checked",
        f"Next: skyclass pack {folder}",
    ):
        assert told in err
    asked = len(fetching.site.asked)
    fetching("stars.bin", BODY, md5(BODY))
    assert len(fetching.site.asked) == asked
    assert "is there already" in capsys.readouterr().err


def test_a_connection_that_breaks_goes_on_where_it_broke(fetching: Fetching) -> None:
    fetching.site.pages["/stars.bin"] = Page(BODY, cut_at=1_500_000)
    folder = fetching("stars.bin", BODY)  # no checksum: the bytes have to be right all the same
    assert (folder / "stars.bin").read_bytes() == BODY
    ranges = [headers.get("range") for _, _, headers in fetching.site.asked]
    assert ranges[0] is None
    assert re.fullmatch(r"bytes=\d+-", str(ranges[1]))
    assert len(ranges) == 2
    assert left_in(folder) == {"stars.bin", "source.json", "CITATION.txt"}


def test_the_next_call_goes_on_where_the_last_one_gave_up(fetching: Fetching) -> None:
    name = "stars.bin"
    fetching.site.pages[f"/{name}"] = Page(BODY, cut_at=2_000_000)
    original = download._receive
    calls = []

    def dies_after_one(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise requests.ConnectionError("the cable is out")
        original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(download, "_receive", dies_after_one)
        sentence = fetching.refused(name, BODY)
    assert len(calls) == download.ATTEMPTS
    assert "what has arrived is kept" in sentence
    part = (fetching.folder / f"{name}.part").stat().st_size
    assert 0 < part <= 2_000_000
    folder = fetching(name, BODY)
    assert fetching.site.asked[-1][2]["range"] == f"bytes={part}-"
    assert (folder / name).read_bytes() == BODY


@pytest.mark.parametrize("how", ["no ranges", "changed meanwhile"])
def test_a_server_that_cannot_go_on_starts_anew(fetching: Fetching, how: str) -> None:
    fetching.folder.mkdir()
    (fetching.folder / "stars.bin.part").write_bytes(b"x" * 1000)
    (fetching.folder / "stars.bin.part.tag").write_text('"first"')
    fetching.site.pages["/stars.bin"] = Page(BODY, ranges=False) if how == "no ranges" else Page(BODY, etag='"second"')
    assert (fetching("stars.bin", BODY) / "stars.bin").read_bytes() == BODY
    assert fetching.site.asked[0][2]["range"] == "bytes=1000-"
    assert len(fetching.site.asked) == 1


@pytest.mark.parametrize("extra", [b"", b"and more"])
def test_a_part_as_long_as_the_file_or_longer(fetching: Fetching, extra: bytes) -> None:
    fetching.folder.mkdir()
    (fetching.folder / "stars.bin.part").write_bytes(BODY + extra)
    assert (fetching("stars.bin", BODY, md5(BODY)) / "stars.bin").read_bytes() == BODY
    assert len(fetching.site.asked) == (2 if extra else 1)


def test_a_file_that_the_server_calls_an_encoding_stays_as_it_is(fetching: Fetching) -> None:
    packed = gzip.compress(b"stars")
    fetching.site.pages["/stars.gzip"] = Page(packed, headers={"Content-Encoding": "gzip"})
    assert (fetching("stars.gzip", packed, md5(packed)) / "stars.gzip").read_bytes() == packed


def test_a_wrong_checksum_is_refused_and_the_file_does_not_stay(fetching: Fetching) -> None:
    sentence = fetching.refused("stars.bin", BODY, md5(b"other stars"))
    assert f"has not {md5(b'other stars')}" in sentence
    assert "the publisher has changed the file" in sentence
    assert left_in(fetching.folder) == set()


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (Page(b"", 404), "has no such file (404)"),
        (Page(b"", 410), "has no such file (410)"),
        (Page(b"", 403), "refuses the file (403)"),
        (Page(b"", 503), "it answers 503"),
        (Page(b"stars", headers={"Content-Type": "text/html; charset=utf-8"}), "web page"),
        (Page(b"\n<!DOCTYPE html><html>log in"), "web page"),
        (Page(b"<html><body>log in"), "web page"),
    ],
)
def test_what_is_not_the_file_is_refused(fetching: Fetching, page: Page, said: str) -> None:
    fetching.site.pages["/stars.bin"] = page
    sentence = fetching.refused("stars.bin", b"")
    assert said in sentence
    assert (
        f"download it from {fetching.site.address}/stars.bin on another machine" in sentence or "its page" in sentence
    )
    assert left_in(fetching.folder) == set()
    assert len(fetching.site.asked) == (download.ATTEMPTS if page.status == 503 else 1)


def test_offline_names_the_way_by_hand_and_that_way_works(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = serve()
    gone.close()
    url = f"{gone.address}/stars.bin"
    sentence = fetching.refused("stars.bin", BODY, md5(BODY), url=url)
    place = fetching.folder / "stars.bin"
    assert f"download it from {url} on another machine, put it at {place} and run the command again" in sentence
    assert "could not be reached (no connection)" in sentence
    place.write_bytes(BODY)
    fetching("stars.bin", BODY, md5(BODY), url=url)
    assert "Next: " in capsys.readouterr().err


@pytest.mark.parametrize(("there", "checksum"), [(b"half", md5(BODY)), (b"<html>", None)])
def test_a_file_put_there_by_hand_that_is_not_the_file_is_refused_and_stays(
    fetching: Fetching, there: bytes, checksum: str | None
) -> None:
    fetching.folder.mkdir()
    (fetching.folder / "stars.bin").write_bytes(there)
    assert "delete it and run the command again" in fetching.refused("stars.bin", BODY, checksum)
    assert (fetching.folder / "stars.bin").read_bytes() == there


def test_a_folder_that_was_changed_or_holds_another_set_is_refused(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fetching("stars.bin", BODY)
    with pytest.raises(SkyclassError, match="holds the data set stars"):
        fetch("planets", out=folder)
    (folder / "notes.txt").write_text("mine")
    fetch("stars", out=folder)
    with pytest.raises(SkyclassError, match="it is a file, not a folder"):
        fetch("stars", out=folder / "notes.txt")
    (folder / "stars.bin").write_bytes(b"edited")
    with pytest.raises(SkyclassError, match=r"stars\.bin is not as it was fetched"):
        fetch("stars", out=folder)


# Archives


TREE = {"set/train/no/a.npy": b"1", "set/train/vort/b.npy": b"22", "__MACOSX/set/._a": b"x", "set/.DS_Store": b"x"}


@pytest.mark.parametrize(("name", "body"), [("stars.zip", zipped(TREE)), ("stars.tar.gz", tarred(TREE))])
def test_an_archive_is_unpacked_and_removed(fetching: Fetching, name: str, body: bytes) -> None:
    folder = fetching(name, body)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"set/train/no/a.npy", "set/train/vort/b.npy", "source.json", "CITATION.txt"}
    assert (folder / "set/train/vort/b.npy").read_bytes() == b"22"
    assert json.loads((folder / "source.json").read_text())["content"] == {"set": {"files": 2, "bytes": 3}}
    asked = len(fetching.site.asked)
    fetching(name, body)
    assert len(fetching.site.asked) == asked
    (folder / "set/train/no/a.npy").unlink()
    with pytest.raises(SkyclassError, match="set is not as it was fetched"):
        fetching(name, body)


def test_a_full_disk_is_told(fetching: Fetching, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(unpack._Output, "write", full)
    assert "the disk is full; make room" in fetching.refused("a.zip", zipped({"a.txt": b"1"}))
    assert left_in(fetching.folder) == {"a.zip"}


def test_what_lies_in_the_way_is_not_overwritten(fetching: Fetching) -> None:
    fetching.folder.mkdir()
    (fetching.folder / "a.txt").write_text("mine")
    assert "is there already; delete it" in fetching.refused("a.zip", zipped({"a.txt": b"theirs", "b.txt": b"2"}))
    assert left_in(fetching.folder) == {"a.txt", "a.zip"}
    assert (fetching.folder / "a.txt").read_text() == "mine"


def test_two_gzipped_hdf5_files_become_a_source_with_two_splits(fetching: Fetching) -> None:
    files = []
    for split, count in (("train", 5), ("test", 3)):
        stream = io.BytesIO()
        with h5py.File(stream, "w") as file:
            file["images"] = np.zeros((count, 4, 6, 3), np.uint8)
            file["labels"] = np.arange(count) % 2
        name = f"{split}_dataset.hdf5.gz"
        fetching.site.pages[f"/{name}"] = Page(gzip.compress(stream.getvalue()))
        files.append(RemoteFile(name=name, url=f"{fetching.site.address}/{name}"))
    folder = fetching.of(dataset(*files))
    assert left_in(folder) == {"train_dataset.hdf5", "test_dataset.hdf5", "source.json", "CITATION.txt"}
    catalog = read_source(folder, SourceOptions(class_names=("round", "cigar"))).catalog
    assert catalog["split"].value_counts().to_dict() == {"train": 5, "test": 3}
    assert catalog.loc[catalog["split"] == "train", "label"].tolist() == ["round", "cigar", "round", "cigar", "round"]


# Google Drive: gdown as it is; only the connection leads to the local server instead of Google.

DRIVE = "https://drive.google.com/uc?id=1ZEyNMEO43u3qhJAwJeBZxFBEYc_pVYZQ"
FORM = (
    '<html><form id="download-form" action="https://drive.usercontent.google.com/download" method="get">'
    '<input type="hidden" name="id" value="1"><input type="hidden" name="confirm" value="t"></form></html>'
)
QUOTA = '<html><p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently.</p></html>'


@pytest.fixture
def _google_is_here(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    send = requests.adapters.HTTPAdapter.send

    def send_here(adapter: Any, request: requests.PreparedRequest, *rest: Any, **more: Any) -> requests.Response:
        request.url = re.sub(r"https://drive(\.usercontent)?\.google\.com", site.address, str(request.url))
        return send(adapter, request, *rest, **more)

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send_here)


@pytest.mark.usefixtures("_google_is_here")
def test_google_drive_is_asked_again_after_its_confirmation_and_the_archive_unpacked(fetching: Fetching) -> None:
    body = zipped({"dataset/train/no/1.npy": BODY})
    fetching.site.pages["/uc"] = Page(FORM.encode(), headers={"Content-Type": "text/html; charset=utf-8"})
    named = {"Content-Type": "application/zip", "Content-Disposition": 'attachment; filename="x.zip"'}
    fetching.site.pages["/download"] = Page(body, headers=named)
    folder = fetching("dataset.zip", b"", via="drive", url=DRIVE)
    assert (folder / "dataset/train/no/1.npy").read_bytes() == BODY
    assert left_in(folder) == {"dataset", "source.json", "CITATION.txt"}
    assert any("confirm=t" in path for _, path, _ in fetching.site.asked)


@pytest.mark.usefixtures("_google_is_here")
def test_google_drive_goes_on_where_it_broke(fetching: Fetching) -> None:
    body = zipped({"dataset/train/no/1.npy": BODY})
    named = {"Content-Type": "application/zip", "Content-Disposition": 'attachment; filename="x.zip"'}
    fetching.folder.mkdir()
    (fetching.folder / "dataset.zip.partabcdefgh.part").write_bytes(body[:1000])  # as gdown leaves it
    fetching.site.pages["/uc"] = Page(body, headers=named)
    folder = fetching("dataset.zip", b"", via="drive", url=DRIVE)
    assert (folder / "dataset/train/no/1.npy").read_bytes() == BODY
    assert fetching.site.asked[-1][2]["range"] == "bytes=1000-"


@pytest.mark.usefixtures("_google_is_here")
@pytest.mark.parametrize(
    ("page", "said"),
    [
        (QUOTA, r"gives the file to nobody at the moment \(Too many users"),
        ("<html>Sign in</html>", r"gives the file to nobody at the moment \(Cannot retrieve the public link"),
    ],
)
def test_a_page_of_google_in_place_of_the_file_is_recognised(fetching: Fetching, page: str, said: str) -> None:
    fetching.site.pages["/uc"] = Page(page.encode(), headers={"Content-Type": "text/html; charset=utf-8"})
    sentence = fetching.refused("dataset.zip", b"", via="drive", url=DRIVE)
    assert re.search(said, sentence)
    assert f"download it from {DRIVE} on another machine" in sentence
    assert left_in(fetching.folder) == set()


def test_google_drive_out_of_reach_is_one_sentence(fetching: Fetching) -> None:
    gone = serve()
    gone.close()
    sentence = fetching.refused("dataset.zip", b"", via="drive", url=f"{gone.address}/uc")
    assert "could not be reached (no connection)" in sentence
    assert "on another machine" in sentence


# Kaggle


def test_kaggle_without_a_token_says_where_to_get_one(fetching: Fetching, tmp_path: Path) -> None:
    sentence = fetching.refused("stars.bin", BODY, via="kaggle")
    assert "https://www.kaggle.com/settings" in sentence
    assert str(tmp_path / "home" / ".kaggle" / "kaggle.json") in sentence
    assert not fetching.site.asked


def _token_file(folder: Path, text: str) -> None:
    folder.mkdir(parents=True)
    (folder / "kaggle.json").write_text(text)


@pytest.mark.parametrize("where", ["home", "folder", "variables", "bearer", "access_token"])
def test_the_token_goes_to_kaggle_and_to_nobody_else(
    fetching: Fetching, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    home = tmp_path / "home" / ".kaggle"
    if where == "home":
        _token_file(home, '{"username": "galileo", "key": "s3cret"}')
    elif where == "folder":
        _token_file(tmp_path / "keys", '{"username": "galileo", "key": "s3cret"}')
        monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "keys"))
    elif where == "variables":
        monkeypatch.setenv("KAGGLE_USERNAME", "galileo")
        monkeypatch.setenv("KAGGLE_KEY", "s3cret")
    elif where == "bearer":
        monkeypatch.setenv("KAGGLE_API_TOKEN", "s3cret")
    else:
        home.mkdir(parents=True)
        (home / "access_token").write_text("s3cret\n")
    storage = serve()  # Kaggle sends on to another host
    try:
        storage.pages["/there"] = Page(zipped({"images_training_rev1/1.jpg": b"1"}))
        fetching.site.pages["/images.zip"] = Page(b"", 302, {"Location": f"{storage.address}/there"})
        folder = fetching("images.zip", b"", via="kaggle")
    finally:
        storage.close()
    assert (folder / "images_training_rev1" / "1.jpg").read_bytes() == b"1"
    sent = fetching.site.asked[0][2]["authorization"]
    assert sent == ("Bearer s3cret" if where in ("bearer", "access_token") else "Basic Z2FsaWxlbzpzM2NyZXQ=")
    assert "authorization" not in storage.asked[0][2]
    assert "s3cret" not in (folder / "source.json").read_text()


def test_kaggle_that_refuses_names_the_rules_and_a_damaged_token_is_told(fetching: Fetching, tmp_path: Path) -> None:
    _token_file(tmp_path / "home" / ".kaggle", "{")
    assert "damaged Kaggle token" in fetching.refused("stars.bin", BODY, via="kaggle")
    (tmp_path / "home" / ".kaggle" / "kaggle.json").write_text('{"username": "a", "key": "b"}')
    fetching.site.pages["/stars.bin"] = Page(b"", 403)
    sentence = fetching.refused("stars.bin", BODY, via="kaggle")
    assert "refuses the file (403); accept the rules of the competition" in sentence
    assert "download it from https://stars.example/about on another machine" in sentence


# The Hub: its client as it is, at another endpoint.


def hub_page(body: bytes, revision: str) -> Page:
    named = hashlib.sha256(body).hexdigest()
    return Page(body, headers={"X-Repo-Commit": revision}, etag=f'"{named}"')


def test_the_hub_serves_a_file_at_a_revision(fetching: Fetching) -> None:
    revision = "d1cfafdcce69ca7cd25aecce1a0b578cf07e6a30"
    path = f"/datasets/someone/stars/resolve/{revision}/data/train-0.parquet"
    fetching.site.pages[path] = hub_page(BODY, revision)
    fetching.site.pages[path].cut_at = 1_500_000
    folder = fetching("train.parquet", b"", via="hub", url=f"{fetching.site.address}{path}")
    assert (folder / "train.parquet").read_bytes() == BODY
    assert left_in(folder) == {"train.parquet", "source.json", "CITATION.txt"}


def test_the_hub_without_the_file_or_out_of_reach_is_one_sentence(fetching: Fetching) -> None:
    path = "/datasets/someone/stars/resolve/d1cfafdcce69ca7cd25aecce1a0b578cf07e6a30/train.parquet"
    url = f"{fetching.site.address}{path}"
    sentence = fetching.refused("train.parquet", b"", via="hub", url=url)
    assert "the Hub's client could not get the file" in sentence
    assert f"download it from {url} on another machine" in sentence
    assert "not the address of a file" in fetching.refused("a.parquet", b"", via="hub", url="https://hub.example/a")


# Conversions


def test_pickled_batches_leave_arrays_with_the_published_split(fetching: Fetching) -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(6, 4)
    members = {"b/batches.meta": pickle.dumps({"label_names": ["100", "200"]})}
    for name, rows in (("data_batch_1", [0, 1]), ("data_batch_2", [2, 3]), ("test_batch", [4, 5])):
        members[f"b/{name}"] = pickle.dumps({"data": pixels[rows], "labels": [0, 1]}, protocol=3)
    body = tarred(members)
    folder = fetching("b.tar.gz", body, md5(body), convert="pickled_batches")
    assert left_in(folder) == {"train.npz", "test.npz", "source.json", "CITATION.txt"}
    with np.load(folder / "train.npz", allow_pickle=False) as train:
        np.testing.assert_array_equal(train["images"], pixels[:4].reshape(4, 2, 2))
    catalog = read_source(folder).catalog
    assert catalog["split"].value_counts().to_dict() == {"train": 4, "test": 2}
    assert set(catalog["label"]) == {"100", "200"}


def test_the_archives_of_the_galaxy_zoo_challenge_become_a_table_beside_its_images(
    fetching: Fetching, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_USERNAME", "galileo")
    monkeypatch.setenv("KAGGLE_KEY", "s3cret")
    table = "GalaxyID,Class1.1,Class1.2,Class6.2\n1,0.1,0.8,0.3\n2,0.2,0.1,0.9\n3,0.1,0.2,0.9\n"
    bodies = {
        "images_training_rev1.zip": zipped({f"images_training_rev1/{n}.jpg": b"?" for n in (1, 2, 3)}),
        "training_solutions_rev1.zip": zipped({"training_solutions_rev1.csv": table.encode()}),
    }
    fetching.site.pages.update({f"/{name}": Page(body) for name, body in bodies.items()})
    files = [RemoteFile(name=name, url=f"{fetching.site.address}/{name}", via="kaggle") for name in bodies]
    folder = fetching.of(dataset(*files))
    votes = SourceOptions(votes=("question=all", "keep=2"))  # as the list of public data sets tells to pack it
    catalog = read_source(folder / "training_solutions_rev1.csv", votes).catalog
    assert catalog["label"].tolist() == ["Class1.2", "Class6.2", "Class6.2"]


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("a.zip", zipped({"ok.txt": b"1", "../evil.txt": b"2"}), "outside the folder"),
        ("a.tar.gz", tarred({"ok.txt": b"1", "../evil.txt": b"2"}), "outside the folder"),
        ("a.tar.gz", tarred({"b/batches.meta": b"cos\nsystem\n(S'true'\ntR."}), "it asks for os.system"),
    ],
)
def test_nothing_of_a_bad_archive_stays(fetching: Fetching, name: str, body: bytes, said: str) -> None:
    assert said in fetching.refused(name, body, convert="pickled_batches")
    assert left_in(fetching.folder) == {name}
