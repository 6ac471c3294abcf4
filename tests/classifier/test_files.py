"""A classifier's folder while it is written: a kill at any moment leaves the old classifier or the new one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from skyclass.classifier.classifier import Classifier
from skyclass.classifier.files import NOVELTY, check_classifier
from skyclass.classifier.novelty import Gaussians, Novelty
from skyclass.core.files import atomic_files as files
from skyclass.core.files import replacing
from skyclass.models.network import build_network
from skyclass.models.pretrained import read_state
from skyclass.recipes.data_settings import PixelSettings
from skyclass.recipes.model_settings import ModelSettings


class Killed(BaseException):
    """In place of SIGKILL."""


def classifier(seed: int, *, novelty: bool) -> Classifier:
    torch.manual_seed(seed)
    model = ModelSettings(backbone="resnet20_cifar")
    network = build_network(model, 1, 2)
    made = Classifier([network], model, ["a", f"b{seed}"], ("grey",), [PixelSettings(size=(8, 9))], (0.2,), (0.3,))
    if novelty:
        generator = torch.Generator().manual_seed(seed)
        means, whitening = (torch.randn(2, 3, generator=generator).numpy() for _ in range(2))
        made.novelty = Novelty([Gaussians(means, whitening)], 1.0, 10, 10)
    return made.to("cpu")


def killed_while_saving(new: Classifier, folder: Path, at: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Save into `folder`, dying before change number `at` of its files; whether it came to that."""
    count = 0

    def dying(owner: object, name: str) -> None:
        original = getattr(owner, name)

        def change(path: Path, *arguments: object, **options: object) -> object:
            nonlocal count
            if folder in (path, *path.parents):
                count += 1
                if count >= at:  # who is dead tidies nothing up either
                    raise Killed
            return original(path, *arguments, **options)

        patch.setattr(owner, name, change)

    with monkeypatch.context() as patch:
        for name in ("mkdir", "replace", "unlink", "rmdir"):
            dying(Path, name)
        for module in (files, replacing):
            dying(module, "remove")
        try:
            new.save(folder)
        except Killed:
            return True
    return False


@pytest.mark.parametrize("has_novelty", [(True, False), (False, True)], ids=["less", "more"])
def test_a_kill_while_saving_leaves_the_old_classifier_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_novelty: tuple[bool, bool]
) -> None:
    old, new = (classifier(seed, novelty=novelty) for seed, novelty in enumerate(has_novelty))
    old.save(tmp_path / "old")
    seen = []
    for at in range(1, 80):
        folder = tmp_path / str(at)
        shutil.copytree(tmp_path / "old", folder)
        (folder / "README.md").write_text("mine")
        was_killed = killed_while_saving(new, folder, at, monkeypatch)
        shutil.copytree(folder, tmp_path / "weights")
        read_state(tmp_path / "weights")  # as `model.weights` of a recipe
        shutil.rmtree(tmp_path / "weights")
        found = Classifier.load(folder, "cpu")
        assert found.classes in (old.classes, new.classes)
        seen.append(found.classes == new.classes)
        wanted = (old, new)[seen[-1]]
        state, expected = (one.networks[0].state_dict() for one in (found, wanted))
        assert all(torch.equal(state[name], expected[name]) for name in expected)
        check_classifier(folder)
        assert (found.novelty is None) == (wanted.novelty is None) != (folder / NOVELTY).exists()
        assert (folder / "README.md").read_text() == "mine"
        shutil.rmtree(folder)
        if not was_killed:
            break
    assert seen == sorted(seen)  # the old one, and from some moment on the new one
    assert seen[0] is False
    assert True in seen[:-1]
    assert len(seen) > 8
