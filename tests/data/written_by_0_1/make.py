"""Wrote the artefacts beside it with Skyclass 0.1, as the README says.

python make.py FOLDER -> fills the empty FOLDER; run it with the code of commit 716e750 alone
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2]))

import pandas as pd
import tiny_backbone
import torch
from make_data import class_folders
from skyclass.training.checkpoints import LastCheckpoint
from skyclass.verbs.evaluate import evaluate
from skyclass.verbs.explain import explain
from skyclass.verbs.pack import pack
from skyclass.verbs.predict import predict
from skyclass.verbs.train import train
from skyclass.verbs.tune import tune

from skyclass.classifier import Classifier

CLASSES = ("bar", "blob", "ring")
PIXELS = ("uint8", "uint16", "float16", "float32")
SETTINGS = {
    "model.backbone": tiny_backbone.NAME,
    "training.precision": "float32",
    "training.epochs": 3,
    "training.batch_size": 9,
    "training.learning_rate": 0.02,
    "augment.flip_horizontal": 0.5,
}
SGD = {"training.optimizer": "sgd", "training.learning_rate": 0.05}  # its checkpoints are smaller than AdamW's
CALIBRATED = {
    **SGD,
    "model.uncertainty": "true",
    "calibration.method": "vector",
    "calibration.sets": "aps",
    "calibration.class_conditional": "true",
    "training.validations_per_epoch": 2,
}
LORA = {"model.lora.rank": 2, "model.lora.train_also": "[conv1]"}
OWN = {"model.backbone": "resnet20_cifar", "training.learning_rate": 0.001}
TUNED = {**SGD, "training.epochs": 2, "tune.space": "{training.learning_rate: [0.01, 0.03, 0.1]}"}
# Checkpoints that no test needs.
SPARED = (
    "runs/ensemble/members/*/checkpoints/*",
    "runs/lora/checkpoints/*",
    "tunings/ended/trials/*/checkpoints/*",
    "tunings/interrupted/trials/0000/checkpoints/*",
)


def settings(more: dict[str, object]) -> list[str]:
    return [f"{key}={value}" for key, value in {**SETTINGS, **more}.items()]


def killed(command: Callable[[], object], checkpoints: int) -> None:
    """Do it in a process that is killed as soon as it has written so many last checkpoints."""
    child = os.fork()
    if child == 0:
        write, written = LastCheckpoint.on_train_epoch_end, [0]

        def dying(callback: LastCheckpoint, *arguments: object) -> None:
            write(callback, *arguments)
            written[0] += 1
            if written[0] == checkpoints:
                os.kill(os.getpid(), signal.SIGKILL)

        LastCheckpoint.on_train_epoch_end = dying
        command()
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def make() -> None:
    """Everything, by names relative to the folder that this runs in."""
    Path("recipe.yaml").write_text("name: tiny\n")
    class_folders(Path("images"), CLASSES, size=(12, 16), splits={"train": 9, "val": 10, "test": 4}, bands=1)
    for dtype in PIXELS:
        pack("images", f"packs/{dtype}", pixels=[f"dtype={dtype}"], duplicates=dtype == "uint8")
    make_runs()
    make_tunings()
    make_predictions()


def make_runs() -> None:
    def trained(out: str, more: dict[str, object], data: str = "uint8", **options: int) -> None:
        train("recipe.yaml", f"packs/{data}", out=out, overrides=settings(more), device="cpu", **options)

    killed(lambda: trained("runs/interrupted", CALIBRATED), 4)  # of six
    trained("runs/ended", CALIBRATED)
    killed(lambda: trained("runs/lora-interrupted", LORA, "float32"), 2)  # of three
    trained("runs/lora", LORA, "float32")
    trained("runs/ensemble", SGD, "uint16", ensemble=2)
    trained("runs/own", OWN, "float16")
    Classifier.load("runs/own").save("classifiers/own")
    shutil.rmtree("runs/own")
    evaluate("runs/ended")
    explain("runs/ended", per_class=1, grade=True, grade_per_class=2)


def make_tunings() -> None:
    def tuned(out: str) -> None:
        tune("recipe.yaml", "packs/uint8", out=out, overrides=settings(TUNED), device="cpu")

    tuned("tunings/ended")
    killed(lambda: tuned("tunings/interrupted"), 3)  # in the first epoch of the second trial


def make_predictions() -> None:
    names = ("runs/ended", "runs/lora", "runs/ensemble", "classifiers/own")
    for name, data in zip(names, ("uint8", "float32", "uint16", "float16"), strict=True):
        for source, of in ((f"packs/{data}", "pack"), ("images", "images")):
            predict(name, source, out=f"predictions/{Path(name).name}-of-{of}.parquet", device="cpu")


def forget() -> None:
    """Remove what tells of the machine, and what would fill the repository with nothing to test."""
    here = str(Path.cwd())
    for log in Path.cwd().rglob("log"):
        shutil.rmtree(log)  # TensorBoard's, named after the machine
    for locks in Path.cwd().rglob(".locks"):
        shutil.rmtree(locks)
    for pattern in SPARED:
        for file in Path.cwd().glob(pattern):
            file.unlink()
    for name in ("environment.json", "run.json", "pack.json"):
        for file in Path.cwd().rglob(name):
            content = json.loads(file.read_text().replace(f"{here}/", ""))
            if name == "environment.json":
                content |= {"machine": "Linux", "device": "CPU", "command": "skyclass"}
            file.write_text(json.dumps(content, indent=2) + "\n")
    for file in (*Path.cwd().rglob("*.png"), *Path.cwd().rglob("prepared/*.npy")):
        if not file.is_relative_to(Path.cwd() / "images"):
            file.unlink()
    Path("runs/ended/explanations/explanations.csv").unlink()  # it lists pictures


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    torch.set_num_threads(1)
    make()
    forget()
    print(pd.Series({str(f): f.stat().st_size for f in Path().rglob("*") if f.is_file()}).sum(), "bytes")
