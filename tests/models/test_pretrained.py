"""Weights to start from: files of every kind, stems of other bands, what is reported, the Hub and its absence."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import adapt_input_conv
from torch import Tensor

from helpers.paths import PROJECT
from helpers.toys import toy_pack, toy_recipe
from helpers.trainings import fit_toy
from skyclass.core.errors import SkyclassError
from skyclass.models import pretrained
from skyclass.models.network import Network, build_network
from skyclass.models.pretrained import LoadedWeights, _unreachable, fill, load_weights, read_state
from skyclass.recipes.model_settings import ModelSettings

pytestmark = pytest.mark.usefixtures("blank_figures")  # the runs are looked at, not their pictures

REAL = PROJECT.parent / "shared" / "weights" / "resnet18_imagenet_without_layer4_convs.safetensors"


def network_of(backbone: str = "test_resnet", n_bands: int = 3) -> Network:
    return build_network(ModelSettings(backbone=backbone), n_bands, 2)


def random_state(backbone: str = "test_resnet", n_bands: int = 3, seed: int = 1) -> dict[str, Tensor]:
    """The backbone's tensors with numbers that no initialisation gives."""
    generator = torch.Generator().manual_seed(seed)
    state = network_of(backbone, n_bands).backbone.state_dict()
    return {
        name: torch.rand(value.shape, generator=generator) if value.is_floating_point() else torch.tensor(7)
        for name, value in state.items()
    }


def load(path: Path, n_bands: int = 3, backbone: str = "test_resnet") -> tuple[Network, LoadedWeights]:
    network = network_of(backbone, n_bands)
    report = load_weights(network, ModelSettings(backbone=backbone, weights=str(path)), n_bands)
    assert report is not None
    return network, report


def assert_filled(network: Network, state: dict[str, Tensor]) -> None:
    own = network.backbone.state_dict()
    assert all(torch.equal(own[name], value) for name, value in state.items())


# Files


def test_none_leaves_the_network_as_it_is() -> None:
    network = network_of()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert load_weights(network, ModelSettings(backbone="test_resnet", weights="none"), 3) is None
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".ckpt"])
def test_a_file_fills_the_whole_backbone(tmp_path: Path, suffix: str) -> None:
    state, file = random_state(), tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file)
    network, report = load(file)
    assert_filled(network, state)
    assert (set(report.loaded), report.skipped, report.missing, report.stem) == (set(state), (), (), None)
    assert str(report) == f"Weights from {file}: {len(state)} tensors loaded"


@pytest.mark.parametrize("outer", [["state_dict"], ["model"], ["model_state_dict"], ["model", "state_dict"]])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "backbone.", "module.model.", "network.backbone."])
def test_nested_dicts_and_prefixes_are_seen_through(tmp_path: Path, outer: list[str], prefix: str) -> None:
    state = random_state()
    content: Any = {f"{prefix}{name}": value for name, value in state.items()}
    for key in outer:
        content = {key: content, "epoch": 3, "name": "toy"}
    torch.save(content, tmp_path / "nested.pt")
    network, report = load(tmp_path / "nested.pt")
    assert_filled(network, state)
    assert set(report.loaded) == set(state)


def test_the_checkpoint_of_a_run_is_a_weight_file(tmp_path: Path) -> None:
    _, last = fit_toy(toy_recipe(training={"epochs": 1}), toy_pack(tmp_path / "pack"), tmp_path / "run")
    network, report = load(tmp_path / "run" / "checkpoints" / "last.ckpt", 1, "resnet20_cifar")
    backbone = {name.removeprefix("backbone."): value for name, value in last.items() if name.startswith("backbone.")}
    assert_filled(network, backbone)
    assert report.skipped == ("head.1.weight", "head.1.bias")
    assert not report.missing


@pytest.mark.parametrize("place", ["model.safetensors", "classifier/model.safetensors"])
def test_the_folder_of_a_classifier_or_a_run_is_a_source(tmp_path: Path, place: str) -> None:
    file = tmp_path / "folder" / place
    file.parent.mkdir(parents=True)
    state = random_state()
    save_file({f"backbone.{name}": value for name, value in state.items()}, file)
    network, _ = load(tmp_path / "folder")
    assert_filled(network, state)


def test_the_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_file(random_state(), tmp_path / "w.safetensors")
    assert load(Path("~/w.safetensors"))[1].loaded


class Dangerous:
    """Unpickling it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_pickled_objects_are_refused_and_not_run(tmp_path: Path, how: str) -> None:
    file, target = tmp_path / "model.pt", tmp_path / "proof"
    if how == "torch":
        torch.save({"state_dict": random_state(), "extra": Dangerous(target)}, file)
    else:
        file.write_bytes(pickle.dumps(Dangerous(target)))
    with pytest.raises(SkyclassError, match="not a file of plain tensors") as refusal:
        read_state(file)
    assert refusal.value.where == str(file)
    assert "safetensors" in str(refusal.value.fix)
    assert not target.exists()


def test_damaged_empty_and_absent_files_are_refused_by_name(tmp_path: Path) -> None:
    save_file(random_state(), tmp_path / "cut.safetensors")
    data = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.pt").write_text("<html>404</html>")
    torch.save({"state_dict": {"epoch": 3}}, tmp_path / "no_tensors.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "empty").mkdir()
    words = {
        "cut.safetensors": "damaged safetensors file",
        "text.pt": "not a file of plain tensors",
        "no_tensors.pt": "it holds no tensors",
        "list.pt": "it holds no tensors",
        "absent.safetensors": "no such weight file",
        "empty": "no such weight file",
    }
    for name, word in words.items():
        with pytest.raises(SkyclassError, match=word) as refusal:
            read_state(tmp_path / name)
        assert refusal.value.where == str(tmp_path / name)
        assert refusal.value.fix


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    save_file(random_state("test_efficientnet"), tmp_path / "other.safetensors")
    with pytest.raises(SkyclassError, match=r"none of its tensors fit the backbone; check that model\.backbone"):
        load(tmp_path / "other.safetensors", backbone="resnet20_cifar")


def test_the_report_names_what_was_skipped_and_what_is_missing(tmp_path: Path) -> None:
    state = random_state()
    state["layer1.0.conv1.weight"] = torch.rand(3, 3, 1, 1)  # another shape
    state["fc.weight"] = torch.rand(10, 96)
    del state["layer4.0.conv1.weight"], state["bn1.num_batches_tracked"]
    save_file(state, tmp_path / "partial.safetensors")
    network, report = load(tmp_path / "partial.safetensors")
    assert set(report.skipped) == {"layer1.0.conv1.weight", "fc.weight"}
    assert set(report.missing) == {"layer1.0.conv1.weight", "layer4.0.conv1.weight"}
    assert set(report.loaded) == set(state) - set(report.skipped)
    assert_filled(network, {name: state[name] for name in report.loaded})
    text = str(report).splitlines()
    assert text[1].startswith("  skipped: 2 (")
    assert "fc.weight" in text[1]
    assert text[2].startswith("  missing, left at random: 2 (")
    assert "layer4.0.conv1.weight" in text[2]


def test_a_long_report_is_cut_short() -> None:
    many = tuple(f"tensor{i}" for i in range(9))
    text = str(LoadedWeights("file", ("a",), many, (), None))
    assert "skipped: 9 (tensor0, tensor1, tensor2, tensor3, ...)" in text


# Stems


def stem_of(backbone: str) -> str:
    network = network_of(backbone)
    return (network.backbone.pretrained_cfg["first_conv"] if backbone != "resnet20_cifar" else "conv1") + ".weight"


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet", "resnet20_cifar"])
@pytest.mark.parametrize("n_bands", [1, 2, 5, 6, 7])
def test_a_stem_of_three_bands_is_adapted_as_timm_does_it(backbone: str, n_bands: int) -> None:
    state, stem = random_state(backbone), stem_of(backbone)
    network = network_of(backbone, n_bands)
    report = fill(network.backbone, dict(state), "file", n_bands)
    own = network.backbone.state_dict()
    torch.testing.assert_close(own[stem], adapt_input_conv(n_bands, state[stem]))
    assert all(torch.equal(own[name], value) for name, value in state.items() if name != stem)
    assert (report.skipped, report.missing) == ((), ())
    if n_bands in (1, 6):  # every band as often as any other: equal bands get the response of three equal bands
        coloured = network_of(backbone, 3)
        fill(coloured.backbone, dict(state), "file", 3)
        grey = torch.rand(2, 1, 64, 96)
        with torch.no_grad():
            expected = coloured.eval().features(grey.expand(-1, 3, -1, -1))
            got = network.eval().features(grey.expand(-1, n_bands, -1, -1))
        assert torch.allclose(got, expected, rtol=1e-4, atol=1e-3 * float(expected.max()))


@pytest.mark.parametrize("after", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("before", [1, 2, 3, 5])
def test_equal_bands_get_the_same_response_from_a_stem_whose_bands_are_alike(before: int, after: int) -> None:
    state = random_state(n_bands=before)
    state["conv1.0.weight"] = state["conv1.0.weight"][:, :1].expand(-1, before, -1, -1).clone()
    old, new = network_of(n_bands=before), network_of(n_bands=after)
    fill(old.backbone, dict(state), "file", before)
    report = fill(new.backbone, dict(state), "file", after)
    grey = torch.rand(2, 1, 64, 96)
    with torch.no_grad():
        expected = old.eval().features(grey.expand(-1, before, -1, -1))
        got = new.eval().features(grey.expand(-1, after, -1, -1))
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-3 * float(expected.max()))
    assert (report.stem is None) == (before == after)
    assert (report.skipped, report.missing) == ((), ())


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (3, 1, "stem: 3 bands -> 1, weights summed"),
        (3, 2, "stem: 3 bands -> 2, weights of the first 2 kept and scaled by 3/2"),
        (3, 5, "stem: 3 bands -> 5, weights repeated and scaled by 3/5"),
        (1, 3, "stem: 1 band -> 3, weights repeated and scaled by 1/3"),
    ],
)
def test_the_adaptation_stands_in_the_line_that_says_what_was_loaded(before: int, after: int, told: str) -> None:
    state = random_state(n_bands=before)
    report = fill(network_of(n_bands=after).backbone, dict(state), "file", after)
    assert str(report) == f"Weights from file: {len(state)} tensors loaded; {told}"


def test_a_stem_that_cannot_be_adapted_stays_at_random_and_is_reported() -> None:
    state = random_state()
    state["conv1.0.weight"] = torch.rand(24, 75)  # patches as vectors
    network = network_of(n_bands=5)
    own = network.backbone.state_dict()["conv1.0.weight"].clone()
    report = fill(network.backbone, state, "file", 5)
    assert torch.equal(network.backbone.state_dict()["conv1.0.weight"], own)
    assert report.stem is None
    assert report.skipped == report.missing == ("conv1.0.weight",)


@pytest.mark.parametrize("n_bands", [1, 2, 3, 5, 7])
def test_the_real_file_serves_any_number_of_bands(n_bands: int) -> None:
    if not REAL.is_file():
        pytest.skip(f"{REAL} is not there")
    network, report = load(REAL, n_bands, "resnet18")
    stem = network.backbone.state_dict()["conv1.weight"]
    torch.testing.assert_close(stem, adapt_input_conv(n_bands, load_file(REAL)["conv1.weight"]))
    assert f"stem: 3 bands -> {n_bands}" in str(report) or n_bands == 3
    with torch.no_grad():
        assert network.eval()(torch.rand(2, n_bands, 48, 64)).shape == (2, 2)


def test_a_classifier_of_three_bands_starts_one_of_five(tmp_path: Path) -> None:
    recipe = toy_recipe(training={"epochs": 1})
    _, last = fit_toy(recipe, toy_pack(tmp_path / "pack", bands=3), tmp_path / "run")
    network, report = load(tmp_path / "run" / "checkpoints" / "last.ckpt", 5, "resnet20_cifar")
    expected = last["backbone.conv1.weight"][:, [0, 1, 2, 0, 1]] * 3 / 5
    torch.testing.assert_close(network.backbone.state_dict()["conv1.weight"], expected)
    assert report.stem == "3 bands -> 5, weights repeated and scaled by 3/5"


def test_the_real_file_gives_timms_features() -> None:
    if not REAL.is_file():
        pytest.skip(f"{REAL} is not there")
    network, report = load(REAL, backbone="resnet18")
    assert len(report.loaded) > 80
    assert set(report.skipped) == {"fc.weight", "fc.bias"}
    assert report.missing
    assert all(name.startswith("layer4.") and "conv" in name for name in report.missing)
    backbone = timm.create_model("resnet18", pretrained=False, num_classes=0).eval()
    backbone.load_state_dict(load_file(REAL), strict=False)
    images = torch.rand(1, 3, 48, 64)
    early = torch.nn.Sequential(*list(network.eval().backbone.children())[:7])  # up to layer3
    with torch.no_grad():
        assert torch.equal(early(images), torch.nn.Sequential(*list(backbone.children())[:7])(images))


# The Hub


@pytest.fixture
def empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "try_to_load_from_cache", lambda *_, **__: None)


@pytest.mark.usefixtures("empty_cache")
def test_without_a_connection_the_error_names_the_offline_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_unreachable", lambda _: "no connection to there")
    with pytest.raises(SkyclassError) as refusal:
        load_weights(network_of(), ModelSettings(backbone="test_resnet", weights="imagenet"), 3)
    assert "test_resnet could not be downloaded (no connection to there)" in str(refusal.value)
    assert "--set model.weights=FILE" in str(refusal.value)
    assert "--set model.weights=none" in str(refusal.value)


@pytest.mark.usefixtures("empty_cache")
def test_a_download_that_breaks_off_names_the_offline_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ConnectionError("reset by\npeer")

    network = network_of()
    monkeypatch.setattr(pretrained, "_unreachable", lambda _: None)
    monkeypatch.setattr("timm.create_model", broken)
    with pytest.raises(SkyclassError, match=r"\(reset by peer\).*model.weights=none"):
        load_weights(network, ModelSettings(backbone="test_resnet", weights="imagenet"), 3)


def test_our_own_backbone_has_no_imagenet_weights() -> None:
    with pytest.raises(SkyclassError, match="resnet20_cifar has no ImageNet weights"):
        load_weights(network_of("resnet20_cifar"), ModelSettings(backbone="resnet20_cifar", weights="imagenet"), 3)


def test_what_lies_in_the_cache_needs_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = random_state()
    asked: list[tuple[str, str, str | None]] = []
    save_file({**state, "fc.weight": torch.rand(10, 96)}, tmp_path / "model.safetensors")

    def cached(repository: str, file: str, revision: str | None) -> str:
        asked.append((repository, file, revision))
        return str(tmp_path / file)

    monkeypatch.setattr(pretrained, "try_to_load_from_cache", cached)
    monkeypatch.setattr(pretrained, "_unreachable", lambda _: pytest.fail("it asked for a connection"))
    for backbone in ("test_resnet", "hf_hub:owner/toy", "hf_hub:owner/toy@v2"):
        network = network_of()
        report = load_weights(network, ModelSettings(backbone=backbone, weights="imagenet"), 3)
        assert report is not None
        assert_filled(network, state)
        assert report.skipped == ("fc.weight",)
    assert asked == [
        ("timm/test_resnet.r160_in1k", "model.safetensors", None),
        ("owner/toy", "model.safetensors", None),
        ("owner/toy", "model.safetensors", "v2"),
    ]


def test_a_closed_port_is_unreachable_and_an_open_one_is_not(
    monkeypatch: pytest.MonkeyPatch, hub: tuple[str, list[str]]
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert _unreachable(hub[0]) is None
    assert "no connection to 127.0.0.1" in str(_unreachable("http://127.0.0.1:9"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert _unreachable("http://127.0.0.1:9") is None  # a proxy answers for it


FILES: dict[str, bytes] = {}


class HubHandler(BaseHTTPRequestHandler):
    """The Hub's answers to HEAD and GET of /OWNER/NAME/resolve/REVISION/FILE."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        self.server.asked.append(f"{self.command} {self.path}")  # type: ignore[attr-defined]
        body = FILES.get(self.path)
        self.send_response(404 if body is None else 200)
        if body is None:
            self.send_header("X-Error-Code", "EntryNotFound")
            body = b""
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Silence."""


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    """A Hub on this machine: its address and what it was asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), HubHandler)
    server.asked = asked = []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    FILES.clear()


SCRIPT = """
import sys
import torch
from skyclass.models.network import architecture_of, build_network
from skyclass.models.pretrained import load_weights
from skyclass.recipes.model_settings import ModelSettings
from safetensors.torch import save_file

recipe = ModelSettings(backbone=sys.argv[1], weights="imagenet")
network = build_network(recipe, 1, 2)
report = load_weights(network, recipe, 1)
save_file(network.backbone.state_dict(), sys.argv[2])
print(architecture_of(network, recipe), len(report.loaded), report.missing, report.stem)
"""


def run_script(endpoint: str, home: Path, backbone: str) -> subprocess.CompletedProcess[str]:
    """The script in a process of its own, whose Hub is at `endpoint`."""
    proxies = ("http_proxy", "https_proxy", "all_proxy")
    environment = {name: value for name, value in os.environ.items() if name.lower() not in proxies}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, backbone, str(home / "loaded.safetensors")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["test_resnet", "hf_hub:owner/toy"])
def test_weights_come_from_the_hub(tmp_path: Path, hub: tuple[str, list[str]], backbone: str) -> None:
    endpoint, asked = hub
    model = timm.create_model("test_resnet", pretrained=False)
    state = {**random_state(), "fc.weight": torch.rand(model.fc.weight.shape), "fc.bias": torch.rand(1000)}
    save_file(state, tmp_path / "model.safetensors")
    repository = "timm/test_resnet.r160_in1k" if backbone == "test_resnet" else "owner/toy"
    keys = ("input_size", "fixed_input_size", "interpolation", "mean", "std", "first_conv", "classifier")
    config = {key: model.pretrained_cfg[key] for key in keys if key in model.pretrained_cfg}
    content = {"architecture": "test_resnet", "num_classes": 1000, "num_features": 96, "pretrained_cfg": config}
    FILES[f"/{repository}/resolve/main/model.safetensors"] = (tmp_path / "model.safetensors").read_bytes()
    FILES[f"/{repository}/resolve/main/config.json"] = json.dumps(content).encode()
    result = run_script(endpoint, tmp_path, backbone)
    assert result.returncode == 0, result.stderr[-2000:]
    n_loaded = len(state) - 2
    assert result.stdout.split("\n")[0] == f"test_resnet {n_loaded} () 3 bands -> 1, weights summed"
    assert any(line.endswith("model.safetensors") and line.startswith("GET") for line in asked)
    loaded = load_file(tmp_path / "loaded.safetensors")
    assert torch.allclose(loaded.pop("conv1.0.weight"), state["conv1.0.weight"].sum(1, keepdim=True))
    assert all(torch.equal(value, state[name]) for name, value in loaded.items())


@pytest.mark.slow
def test_a_hub_without_the_file_leads_to_the_offline_ways(tmp_path: Path, hub: tuple[str, list[str]]) -> None:
    result = run_script(hub[0], tmp_path, "test_resnet")
    assert result.returncode != 0
    assert "the weights of test_resnet could not be downloaded" in result.stderr
    assert "--set model.weights=FILE" in result.stderr


@pytest.mark.slow
def test_no_hub_at_all_is_told_within_seconds(tmp_path: Path) -> None:
    result = run_script("http://127.0.0.1:9", tmp_path, "test_resnet")
    assert result.returncode != 0
    assert "no connection to 127.0.0.1" in result.stderr
    assert "--set model.weights=none" in result.stderr
