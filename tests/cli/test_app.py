"""The command line itself: exit status, streams, messages, start-up, and that every option reaches its verb."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import importlib
import inspect
import io
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
import typer

from helpers.commands import copy_toy_run, done, refused, skyclass, the_error
from helpers.make_data import class_folders, image_table
from helpers.paths import PROJECT
from skyclass.cli import app as cli
from skyclass.cli import recipes as cli_recipes
from skyclass.cli.signatures import FunctionCommand
from skyclass.commands.options.source import SOURCE_OPTIONS
from skyclass.commands.recipes import list_recipes
from skyclass.core.version import __version__
from skyclass.data.source_options import SourceOptions

VERBS = (
    *("simulate", "fetch", "inspect", "pack", "train", "tune", "predict", "evaluate", "explain", "compare", "report"),
    "demo",
)
HEAVY = {"torch", "pandas", "pydantic", "numpy", "lightning", "timm", "matplotlib", "sklearn", "astropy", "yaml"}
RECIPE_VERBS = {"list": "list_recipes", "show": "show", "copy": "copy", "check": "check", "schema": "schema"}


def process(*words: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python -m skyclass WORDS...` as a process of its own."""
    command = [sys.executable, "-m", "skyclass", *(str(word) for word in words)]
    return subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, timeout=120)


# Start-up


def test_help_is_quick_because_it_imports_nothing_heavy() -> None:
    code = (
        "import sys; from skyclass.cli.app import main; sys.argv = ['skyclass', '--help']\n"
        "try: main()\n"
        "except SystemExit as end: print('status', end.code, *sorted(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    status, *modules = shown.splitlines()[-1].split()[1:]
    assert status == "0"
    assert "typer" in modules
    assert not HEAVY & set(modules)
    assert not [name for name in modules if name.startswith("skyclass.commands.") and name.split(".")[2] in VERBS]
    for verb in (*VERBS, "recipes"):
        assert verb in shown


@pytest.mark.parametrize("command", ["inspect", "pack", "evaluate", "report", "compare"])
def test_what_needs_no_network_does_not_wait_for_torch(command: str) -> None:
    """Not even for what the command imports when it runs."""
    function = ast.parse(textwrap.dedent(inspect.getsource(verb_of(command)))).body[0]
    imports = [ast.unparse(node) for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(imports) >= 3
    code = "\n".join(["import sys", "__package__ = 'skyclass.commands'", *imports, "sys.exit('torch' in sys.modules)"])
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("command", [*VERBS, "recipes list", "recipes check"])
def test_the_help_of_a_command_waits_for_no_library_of_its_own(command: str) -> None:
    code = (
        f"import sys; from skyclass.cli.app import main; sys.argv = 'skyclass {command} --help'.split()\n"
        "try: main()\n"
        "except SystemExit as end: print('status', end.code, *sorted(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    status, *modules = shown.splitlines()[-1].split()[1:]
    assert status == "0"
    assert f"skyclass.commands.{command.split()[0]}" in modules
    assert HEAVY & set(modules) <= {"pydantic"}  # by which Typer reads values
    assert not [name for name in modules if name.startswith("skyclass.commands.steps")]


def test_the_console_script_and_the_module_are_the_same_command() -> None:
    script = Path(sys.executable).with_name("skyclass")
    for command in ([str(script)], [sys.executable, "-m", "skyclass"]):
        shown = subprocess.run([*command, "--version"], check=True, capture_output=True, text=True)
        assert shown.stdout == f"skyclass {__version__}\n"
        assert shown.stderr == ""


def test_the_streams_and_exit_statuses_of_a_process(tmp_path: Path) -> None:
    """A result goes to standard output; an error is one line on standard error, and with --debug the traceback."""
    (tmp_path / "own.yaml").write_text("seed: 1\ntraining:\n  epoch: 3\n", encoding="utf-8")
    good = process("recipes", "check", "lensing-demo")
    assert (good.returncode, good.stdout, good.stderr) == (0, "lensing-demo: valid\n", "")
    bad = process("recipes", "check", "own.yaml", cwd=tmp_path)
    sentence = "Error: own.yaml:3: unknown key 'training.epoch'; did you mean 'epochs'?\n"
    assert (bad.returncode, bad.stdout, bad.stderr) == (1, "", sentence)
    for words in (("--debug", "recipes", "check", "own.yaml"), ("recipes", "check", "own.yaml", "--debug")):
        traced = process(*words, cwd=tmp_path)
        assert traced.returncode == 1
        assert traced.stderr.startswith("Traceback (most recent call last)")
        assert "SkyclassError: own.yaml:3: unknown key" in traced.stderr


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["nonsense"], "No such command"),
        (["predict"], "Missing argument"),
        (["predict", "run", "source", "--nonsense"], "No such option"),
        (["simulate", "planets", "out"], "lensing"),
        (["simulate", "lensing", "out", "--as", "zip"], "folders"),
        (["simulate", "lensing", "out", "--per-class", "many"], "--per-class"),
        ([], "Usage"),
    ],
)
def test_wrong_usage_is_exit_status_2(words: list[str], hint: str) -> None:
    result = skyclass(*words)
    assert result.code == 2
    assert "Usage: skyclass" in result.out + result.err
    assert hint in result.out + result.err
    assert "Traceback" not in result.err


# What Python raises below a command


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    @functools.wraps(verb_of("report"))
    def verb(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(importlib.import_module("skyclass.commands.report"), "report", verb)


def test_the_list_of_recipes_fits_a_terminal_and_keeps_a_line_each_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    piped = done("recipes", "list").out.splitlines()
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setattr(cli_recipes, "sys", SimpleNamespace(stdout=SimpleNamespace(isatty=lambda: True), argv=sys.argv))
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        cli_recipes.print_list(list_recipes())
    lines = shown.getvalue().splitlines()
    assert len(lines) > len(piped)
    assert max(map(len, lines)) <= 70
    assert shown.getvalue().split() == " ".join(piped).split()


def test_an_unexpected_exception_is_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, ValueError("one\n  two"))
    assert refused("report", "run") == "Error: ValueError: one two (add --debug to see where)"


@pytest.mark.parametrize("words", [["--debug", "report", "run"], ["report", "run", "--debug"]])
def test_debug_lets_an_exception_through(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    fail_with(monkeypatch, ValueError("one"))
    with pytest.raises(ValueError, match="one"):
        skyclass(*words)


def test_ctrl_c_is_exit_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, KeyboardInterrupt())
    result = skyclass("report", "run")
    assert (result.code, result.err) == (130, "Stopped.\n")


# Every option reaches its verb


def verb_of(name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(importlib.import_module(f"skyclass.commands.{name}"), name)
    return function


def plain(value: object) -> object:
    """A default as a person means it: no list is an empty list, shares are numbers, a path is its text."""
    if isinstance(value, list | tuple):
        return [plain(one) for one in value] or None
    if value == "0.7,0.1,0.2":
        return [0.7, 0.1, 0.2]
    return str(value) if isinstance(value, Path) else value


def command_of(name: str) -> FunctionCommand:
    """The command of the command line, as in `train` or `recipes show`."""
    group = cli.app
    for word in name.split():
        group = group.commands[word]  # type: ignore[assignment]
    assert isinstance(group, FunctionCommand)
    return group


def options_of(name: str) -> list[Any]:
    """The options and arguments of a command, without --help."""
    command = command_of(name)
    return [one for one in command.get_params(typer.Context(command)) if one.name != "help"]


COMMANDS = (*VERBS, *(f"recipes {name}" for name in RECIPE_VERBS))


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_has_the_options_and_defaults_of_its_command(name: str) -> None:
    def defaults(function: Callable[..., Any]) -> dict[str, object]:
        parameters = inspect.signature(function).parameters.values()
        return {one.name: plain(None if one.default is one.empty else one.default) for one in parameters}

    command = {one.name: plain(one.default) for one in options_of(name)}
    of_source = {key: command.pop(key) for key in SOURCE_OPTIONS if key in command}
    if of_source:
        assert of_source == dict.fromkeys(SOURCE_OPTIONS)
        command["options"] = SourceOptions()
    assert command == defaults(verb_of(name))
    required = {key for key, one in inspect.signature(verb_of(name)).parameters.items() if one.default is one.empty}
    assert {one.name for one in options_of(name) if one.required} == required


def test_the_command_line_has_every_option_of_a_source() -> None:
    assert [field.name for field in dataclasses.fields(SourceOptions)] == list(SOURCE_OPTIONS)


@pytest.mark.parametrize("name", RECIPE_VERBS)
def test_a_recipes_command_has_the_options_of_its_function(name: str) -> None:
    function = getattr(importlib.import_module("skyclass.commands.recipes"), RECIPE_VERBS[name])
    command = {one.name for one in options_of(f"recipes {name}")}
    assert command_of(f"recipes {name}").find() is function
    assert command == set(inspect.signature(function).parameters)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_of_each_what_its_function_says(name: str) -> None:
    command = command_of(name)
    assert command.help == (command.find().__doc__ or "").splitlines()[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_has_its_own_name_and_is_explained(name: str) -> None:
    options = options_of(name)
    names = [word for one in options for word in (*one.opts, *one.secondary_opts)]
    assert len(set(names)) == len(names)
    assert all(one.help for one in options)


def test_no_option_is_declared_twice() -> None:
    """Neither in two places of the source nor, with the same words, for two commands."""
    makers = ("typer.Option", "typer.Argument", "_option")
    declared: dict[str, list[str]] = {"cli": [], "commands": []}
    for room, texts in declared.items():
        for path in sorted((PROJECT / "src/skyclass" / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in makers:
                    said = [one.value for one in node.keywords if one.arg == "help"] or node.args[:1]
                    texts += [ast.unparse(one) for one in said if not isinstance(one, ast.Name)]
    assert declared["cli"] == ["'show the traceback of an error'", "'print the version'"]
    assert len(set(declared["commands"])) == len(declared["commands"]) > 50


OF_SOURCE = (
    "--image-root ir --id-column ic --file-column fc --label-column lc --split-column sc --group-column gc "
    "--band-files {id}_{band}.fits --cutout 48x64 --votes keep=3 --votes threshold=0.6 --class-names spiral,,bar "
    "--folders {label} --split-names night1=train"
)
OPTIONS = SourceOptions(
    image_root=Path("ir"),
    id_column="ic",
    file_column="fc",
    label_column="lc",
    split_column="sc",
    group_column="gc",
    band_files="{id}_{band}.fits",
    cutout=(48, 64),
    votes=("keep=3", "threshold=0.6"),
    class_names=("spiral", "bar"),
    folders="{label}",
    split_names={"night1": "train"},
)
EVERY_OPTION: dict[str, tuple[str, dict[str, object]]] = {
    "simulate": (
        "galaxies o --per-class 3 --size 9 --difficulty 1.5 --seed 4 --as folders --splits 0.5,0.2,0.3 --workers 2 "
        "--device cuda --overwrite",
        {"kind": "galaxies", "out": "o", "per_class": 3, "size": 9, "difficulty": 1.5, "seed": 4, "form": "folders"}
        | {"splits": [0.5, 0.2, 0.3], "workers": 2, "device": "cuda", "overwrite": True},
    ),
    "fetch": ("n --out o", {"name": "n", "out": "o"}),
    "inspect": (
        f"s --out o {OF_SOURCE} --no-duplicates --run u --run v --check",
        {"source": "s", "out": "o", "options": OPTIONS, "duplicates": False, "run": ["u", "v"], "check": True},
    ),
    "pack": (
        f"s o {OF_SOURCE} --splits 0.5,0.2,0.3 --seed 4 --pixels size=9 --pixels fit=pad --like c --overwrite "
        "--no-duplicates --as npz",
        {"source": "s", "out": "o", "options": OPTIONS, "splits": [0.5, 0.2, 0.3], "seed": 4, "like": "c"}
        | {"pixels": ["size=9", "fit=pad"], "overwrite": True, "duplicates": False, "form": "npz"},
    ),
    "train": (
        "r p --out o --set seed=1 --set name=x --ensemble 3 --resume u --checkpoint best --find-rate --device cpu "
        "--devices 2 --num-nodes 3 --check",
        {"recipe": "r", "pack": "p", "out": "o", "overrides": ["seed=1", "name=x"], "ensemble": 3}
        | {"resume": "u", "checkpoint": "best", "find_rate": True, "device": "cpu", "devices": 2, "num_nodes": 3}
        | {"check": True},
    ),
    "tune": (
        "r p --out o --set seed=1 --space a=[1] --trials 3 --storage u --jobs 2 --keep-all --device cpu --check",
        {"recipe": "r", "pack": "p", "out": "o", "overrides": ["seed=1"], "space": ["a=[1]"], "trials": 3}
        | {"storage": "u", "jobs": 2, "keep_all": True, "device": "cpu", "check": True},
    ),
    "predict": (
        f"c s --out o {OF_SOURCE} --batch-size 3 --orientations --device cpu --strict --columns mag --check",
        {"classifier": "c", "source": "s", "out": "o", "options": OPTIONS, "batch_size": 3, "orientations": True}
        | {"device": "cpu", "strict": True, "columns": ["mag"], "check": True},
    ),
    "evaluate": (
        "p --out o --split val --by a --by b --catalog t --uncertainty --device cpu --check",
        {"path": "p", "out": "o", "split": "val", "by": ["a", "b"], "catalog": "t", "uncertainty": True}
        | {"device": "cpu", "check": True},
    ),
    "explain": (
        f"c s --out o --image a --image b --per-class 2 --target true {OF_SOURCE} --device cpu --method layercam "
        "--layer l --fits --grade --grade-per-class 5 --check",
        {"classifier": "c", "source": "s", "out": "o", "image": ["a", "b"], "per_class": 2, "target": "true"}
        | {
            "options": OPTIONS,
            "device": "cpu",
            "method": "layercam",
            "layer": "l",
            "fits": True,
            "grade": True,
            "grade_per_class": 5,
            "check": True,
        },
    ),
    "compare": (
        "r s --out o --split val --reported",
        {"runs": ["r", "s"], "out": "o", "split": "val", "reported": True},
    ),
    "report": ("r --out o --check", {"run": "r", "out": "o", "check": True}),
    "demo": (
        "o --per-class 2 --size 9 --clean --set seed=1",
        {"out": "o", "per_class": 2, "size": 9, "clean": True, "overrides": ["seed=1"]},
    ),
}


@pytest.mark.parametrize("name", VERBS)
def test_every_option_reaches_the_verb(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words, expected = EVERY_OPTION[name]
    signature = inspect.signature(verb_of(name))
    assert all(plain(signature.parameters[key].default) != value for key, value in expected.items())
    seen = SimpleNamespace()

    @functools.wraps(verb_of(name))
    def verb(*arguments: object, **options: object) -> None:
        seen.options = signature.bind(*arguments, **options).arguments

    monkeypatch.setattr(importlib.import_module(f"skyclass.commands.{name}"), name, verb)
    done(name, *words.split())
    assert {key: plain(value) for key, value in seen.options.items()} == expected
    assert set(expected) == set(signature.parameters)


# What a person does wrong


@pytest.fixture(scope="module")
def place(toy_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has not been evaluated, and sources with one fault each."""
    folder = copy_toy_run(toy_run, tmp_path_factory.mktemp("errors"))
    frame = pd.read_csv(image_table(folder / "table"))
    frame.assign(split="holdout").to_csv(folder / "table" / "holdout.csv", index=False)
    frame.assign(split=["train", "val"] * 6, group="one").to_csv(folder / "table" / "parted.csv", index=False)
    frame[["label", "ra"]].to_csv(folder / "table" / "nameless.csv", index=False)
    frame.assign(file="gone.png").to_csv(folder / "table" / "gone.csv", index=False)
    (folder / "empty").mkdir()
    class_folders(folder / "alone", ("blob",), per_class=9)
    class_folders(folder / "strangers", ("blob", "zebra"), per_class=2)
    (folder / "wrong.yaml").write_text("name: wrong\nmodel:\n  backbone: resnet20_cifar\n  wieghts: none\n")
    (folder / "broken.yaml").write_text("training: [unclosed\n")
    done("predict", folder / "run", folder / "images/test/blob/blob_000.png", "--out", folder / "unlabelled.parquet")
    done("predict", folder / "run", folder / "strangers", "--out", folder / "strangers.parquet")
    done("pack", folder / "alone", folder / "alone-pack", "--no-duplicates")
    return folder


ERRORS: dict[str, list[str]] = {
    # source
    "pack nowhere p": ["nowhere: no such file or folder; check the path"],
    "pack empty p": ["empty: no image in this folder; images end in .jpg"],
    "pack toy.yaml p": ["toy.yaml: neither a table nor an image", "the suffixes are .csv"],
    "pack pack p": ["pack: it is a pack already; train on it"],
    "pack images pack": ["pack: the folder is not empty; add --overwrite to replace it, or name another folder"],
    "pack images toy.yaml": ["toy.yaml: it is a file, not a folder; name another folder"],
    "pack images p --label-column kind": ["images: --label-column is for tables and arrays, and this is neither"],
    "pack images p --cutout 64": ["images: --cutout is for a table, and this is none; leave it out"],
    "pack table/labels.csv p --cutout big": ["--cutout: 'big' is no size; as in --cutout 64 or --cutout 48x64"],
    "pack table/labels.csv p --cutout 0x9": ["--cutout: '0x9' is no size; as in --cutout 64 or --cutout 48x64"],
    "inspect pack --id-column kind": ["pack: --id-column: these options are for sources, and this is a pack; leave"],
    "pack table/labels.csv p --label-column kind": ["labels.csv: no column 'kind'; its columns are image_id, file"],
    "pack table/nameless.csv p": ["nameless.csv: no column of files or ids", "among label, ra (--file-column"],
    "pack table/gone.csv p": ["gone.csv: none of its 12 rows can be used", "no such file", "gone.png", "--image-root"],
    "pack table/labels.csv p --image-root nowhere": ["nowhere: the image root is no folder; give the folder"],
    "pack table/holdout.csv p --split-column split": [
        "holdout.csv: unknown split 'holdout'; the splits are train, val, test"
    ],
    "pack table/parted.csv p": ["parted.csv: group one lies in train and in val", "put the group into one split"],
    "pack images p --splits nonsense": ["--splits: 'nonsense' is not three shares; as in --splits 0.7,0.1,0.2"],
    "pack images p --splits 0.5,0.5": ["--splits: '0.5,0.5' is not three shares; as in --splits 0.7,0.1,0.2"],
    "pack images p --splits 1,1,1": [
        "splits: the fractions of train, val and test are 1, 1, 1; give three numbers from 0"
    ],
    "pack images p --pixels sise=9": ["--pixels sise=9: unknown key 'sise'; did you mean 'size'?"],
    "pack images p --pixels fit=squeeze": ["--pixels fit=squeeze: fit: ", "'pad'", "got 'squeeze'"],
    "pack images p --like images": ["images: this is no classifier; give the folder that `skyclass train` made"],
    "inspect nowhere": ["nowhere: no such file or folder; check the path"],
    "inspect pack --run nowhere": ["nowhere: no such predictions file"],
    "inspect strangers --run run": [
        "strangers: no image with a label that the runs know was held out in them; give the source that the runs"
    ],
    "fetch nothing": ["nothing: no public data set is called so; the names are lenses, "],
    "simulate lensing pack --per-class 2": ["pack: the folder is not empty; add --overwrite"],
    "simulate lensing s --per-class 0": ["--per-class: 0 images a class; ask for at least one"],
    "simulate lensing s --per-class 2 --size 0": ["0x0 pixels are too few", "ask for 8 or more"],
    "simulate lensing s --per-class 2 --difficulty 0": ["difficulty: 0.0 is no factor on a mass; give a number"],
    # training
    "train": ["a recipe, a pack and an output folder are needed; skyclass train RECIPE PACK --out RUN"],
    "train toy.yaml pack": ["a recipe, a pack and an output folder are needed; skyclass train RECIPE PACK --out RUN"],
    "train toy.yaml nowhere --out r": ["nowhere: this folder is no finished pack; make one with `skyclass pack"],
    "train toy.yaml images --out r": ["images: this folder is no finished pack; make one with `skyclass pack"],
    "train toy.yaml alone-pack --out r": ["alone-pack: 1 class; a classifier needs two at least; check the label"],
    "train toy.yaml pack --out run": ["run: the folder is not empty; its run has ended: name another folder"],
    "train toy.yaml pack --out r --set augment.mirror_swaps=[[left,right]]": [
        "no class is called 'left'; if a mirror changes no label, add --set augment.mirror_swaps=[]",
        "if one does, the classes are bar, blob, ring",
    ],
    "train toy.yaml pack --out r --set pixels.size=30x40": ["pixels.size: should be a list, such as [first, second]"],
    "train lensing-dmo pack --out r": ["lensing-dmo: no such recipe; did you mean 'lensing-demo'?"],
    "train wrong.yaml pack --out r": ["wrong.yaml:4: unknown key 'model.wieghts'; did you mean 'weights'?"],
    "train broken.yaml pack --out r": ["broken.yaml: not valid YAML", "line 2", "; mend that line"],
    "train toy.yaml pack --out r --set training.epoch=3": [
        "--set training.epoch=3: unknown key 'training.epoch'; did you mean 'epochs'?"
    ],
    "train toy.yaml pack --out r --set epochs": ["--set epochs: not of the form KEY=VALUE; as in --set training"],
    "train toy.yaml pack --out r --set training.epochs=few": ["--set training.epochs=few", "got 'few'; see `skyclass"],
    "train toy.yaml pack --out r --set data.exclude=[star]": ["data.exclude: no class is called 'star'; the classes"],
    "train toy.yaml pack --out r --set model.backbone=resnet99": ["no backbone is called 'resnet99'; near names are"],
    "train toy.yaml pack --out r --set model.weights=gone.pt": ["gone.pt: no such weight file; give the path of"],
    "train toy.yaml pack --out r --device abacus": ["'abacus' is no device; use auto, cpu, cuda or cuda:N"],
    "train --resume run --find-rate": ["--find-rate: a run goes on with the learning rate it has; leave out"],
    "train toy.yaml pack --out r --find-rate --set training.epochs=0": [
        "--find-rate: without an epoch there is no learning rate to find; set training.epochs to 1 or more"
    ],
    "train toy.yaml pack --out r --ensemble 1": ["--ensemble: 1 members are no ensemble; ask for 2 or more"],
    "train --resume run --ensemble 2": ["run: a run is resumed by its own recipe", "leave out the recipe"],
    "train --resume nowhere": ["nowhere: this folder is no run; give the folder that `skyclass train` made"],
    "train toy.yaml pack --resume run": ["run: a run is resumed by its own recipe", "leave out the recipe"],
    "train --resume run --set training.epochs=9": ["run: a run is resumed by its own recipe", "leave out the recipe"],
    # prediction and evaluation
    "predict nowhere pack": ["nowhere: this is no classifier; give the folder that `skyclass train` made"],
    "predict run nowhere": ["nowhere: no such file or folder; check the path"],
    "predict run pack --out x.txt": [
        "x.txt: predictions are a file, whose suffix says its format; end its name in .parquet"
    ],
    "predict run pack --batch-size 0": ["--batch-size: 0 images at a time; give 1 or more"],
    "evaluate nowhere": ["nowhere: no such predictions file; make it with `skyclass predict`"],
    "evaluate toy.yaml": ["toy.yaml: not a table of predictions", "; predict again"],
    "evaluate table/labels.csv": ["labels.csv: no column p_<class>; one column of probabilities a class is needed"],
    "evaluate unlabelled.parquet": ["unlabelled.parquet: no row has a label; evaluate on a catalog with a filled"],
    "evaluate strangers.parquet": ["strangers.parquet: labels that the classifier does not know: 'zebra'; leave"],
    "evaluate run --split holdout": ["predictions.parquet: no prediction in the split 'holdout'", "are test, val"],
    "explain run/classifier": ["run/classifier: a classifier by itself has no images; name a pack, folder, table"],
    "explain run --image nobody": ["pack: no image has the id 'nobody'; ids here look like"],
    "explain run --target zebra": ["--target: no class is called 'zebra'; use predicted, true, or one of bar, blob"],
    "explain run --per-class 0": ["--per-class: 0 images of a class; give 1 or more"],
    "explain run --layer layr3": ["layer: the backbone has no module 'layr3'; did you mean 'layer3'?"],
    "explain run --layer layer3 --method integrated-gradients": [
        "layer: the maps of integrated-gradients are of the image itself, not of a layer; leave the layer out, or take"
    ],
    "report run": ["run: the run has no evaluation; run `skyclass evaluate run` first"],
    "report images": ["images: this folder is no run; give the folder that `skyclass train` made"],
    "recipes show nowhere": ["nowhere: no such recipe; "],
    "recipes copy lensing-demo toy.yaml": ["toy.yaml: the file exists; add --overwrite, or name another"],
}


@pytest.mark.parametrize("words", ERRORS)
def test_an_error_is_one_sentence_with_the_way_out(words: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    before = {path: path.stat().st_mtime_ns for path in place.iterdir()}
    sentence = refused(*words.split())
    for fragment in ERRORS[words]:
        assert fragment in sentence
    # A refused command leaves nothing half made behind, and nothing that was there changed.
    assert {path: path.stat().st_mtime_ns for path in place.iterdir() if path != place / "p"} == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize(
    "words",
    ["train toy.yaml pack --out r", "predict run pack --out x.parquet", "explain run", "simulate lensing s --size 9"],
)
def test_cuda_without_a_cuda_device(words: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert "this machine has no CUDA device; use --device cpu" in refused(*words.split(), "--device", "cuda")
    assert not {"r", "x.parquet", "s"} & {path.name for path in place.iterdir()}


def test_an_unfinished_run_is_named_as_such(place: Path, tmp_path: Path) -> None:
    for name in ("run.json", "recipe.yaml"):
        (tmp_path / name).write_bytes((place / "run" / name).read_bytes())
    for words in (["evaluate"], ["report"]):
        assert "--resume" in refused(*words, tmp_path)
    assert "an unfinished run" in the_error(skyclass("predict", tmp_path, place / "pack"))
