from __future__ import annotations

import time
from pathlib import Path

import pytest

from skyclass.core.errors import SkyclassError
from skyclass.core.files.yaml_files import parse_yaml, read_yaml
from skyclass.core.limits import MAX_YAML, MAX_YAML_DEPTH
from skyclass.recipes.recipe import load_recipe, shipped_recipes

NESTED = "a: &a {k1: 1, k2: 2}\nm0: &m0 {p: *a, q: *a}\n" + "".join(
    f"m{i}: &m{i} {{p: *m{i - 1}, q: *m{i - 1}}}\n" for i in range(1, 27)
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"tune:\n  space:\n    {NESTED.replace(chr(10), chr(10) + '    ')}", 3),
        ("name: toy\ntraining: &me\n  nested: *me\n", 2),
        ("a: &a [1]\nb: {<<: *a}\n", 1),
        ("a: 1\nb: *nobody\n", 2),
        ("laughs: &l [ha, ha]\n", 1),
    ],
)
def test_anchors_and_aliases_are_refused_at_once(tmp_path: Path, text: str, line: int) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(text)
    began = time.process_time()
    with pytest.raises(SkyclassError, match="anchor or alias") as refusal:
        load_recipe(file)
    assert time.process_time() - began < 2
    assert refusal.value.where == f"{file}:{line}"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a: " + b"[" * 100_000, "deep"),
        (b"a: " + b"{b: " * (MAX_YAML_DEPTH + 1), "deep"),
        (b"a: " + b"1" * MAX_YAML, "characters"),
        (b"a: " + b"9" * 10_000, "no such value"),
        (b"a: 2001-99-99\n", "no such value"),
        (b"a: !!bool perhaps\n", "no such value"),
        (b"a: !!timestamp x\n", "type"),
        (b"a: !!python/name:os.system\n", "type"),
        (b"a: \xff\xfe\n", "UTF-8"),
        ("a: 1\n".encode("utf-16"), "UTF-8"),
        (b"a: \x00\x1b[31m\n", "not valid YAML"),
        (b"? [a, b]\n: 1\n", "not valid YAML"),
    ],
)
def test_other_texts_that_are_no_recipe(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes(content)
    began = time.process_time()
    with pytest.raises(SkyclassError, match=words) as refusal:
        load_recipe(file)
    assert time.process_time() - began < 2
    assert str(refusal.value).startswith(str(file))
    assert str(refusal.value).isprintable()


def test_many_keys_are_compared_in_a_moment(tmp_path: Path) -> None:
    text = "".join(f"key{i}: 1\n" for i in range(15_000)) + "key7: 2\n"
    began = time.process_time()
    with pytest.raises(SkyclassError, match="'key7' stands on line 8 already"):
        parse_yaml(text, "r.yaml")
    assert time.process_time() - began < 4


def test_a_key_that_repeats_within_a_list_is_found() -> None:
    with pytest.raises(SkyclassError, match="'b' stands on line 2 already"):
        parse_yaml("a:\n- b: 1\n  b: 2\n", "r.yaml")


def test_plain_yaml_is_read_as_ever(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_bytes("\ufeffname: tést\nlist: [1, 2.5, yes, null, ~]\ntext: !!str 5\n# nothing more\n".encode())
    document, node = read_yaml(file)
    assert document == {"name": "tést", "list": [1, 2.5, True, None, None], "text": "5"}
    assert node is not None
    assert parse_yaml("", "x") == (None, None)
    assert [load_recipe(path).name for path in shipped_recipes().values()]


def test_aliases_on_the_command_line_are_text() -> None:
    with pytest.raises(SkyclassError, match=r"&a"):
        load_recipe("lensing-demo", ["training.epochs=&a 3"])
