"""Every file that a user relies on is written whole: each function that writes does it under `written_whole`."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from helpers.paths import PROJECT

SOURCE = PROJECT / "src" / "skyclass"
WRITERS = {"savefig", "to_csv", "to_parquet", "writeto", "write_text", "write_bytes", "save", "save_file", "savez"}
FREE = {
    "commands/steps/simulate.py": {"_write_npy", "_write_png"},  # into the hidden folder of `new_contents`
    "commands/steps/tune.py": {"_work_as_process"},  # to nowhere
    "core/devices.py": {"reset_peak_memory"},  # Linux's own file of a process
    "core/files/replacing.py": {"new_contents"},  # the order of a replacement, in its hidden folder
    "core/html.py": {"jpeg_uri"},  # into memory, as the next two
    "reports/pages.py": {"_webp"},
    "training/finish.py": {"save_results"},  # `Classifier.save`, which writes whole
    "data/packs/resize.py": {"_reserve"},  # the room for a file that is written whole
    "data/public/download.py": {"_receive"},  # a part, resumed and then compared with its hash
    "data/public/unpack.py": {"write"},  # into a folder that is moved when it is whole
    "training/loop/checkpoint_hash.py": {"add_hash"},  # into the temporary file of a checkpoint
    "training/tuning/worker.py": {"_outcome"},  # a log, which grows
}


def is_write(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Name):
        return call.func.id == "save_file"  # of safetensors
    if not isinstance(call.func, ast.Attribute):
        return False
    if call.func.attr == "open":
        given = [*call.args, *(keyword.value for keyword in call.keywords)]
        texts = [node.value for one in given for node in ast.walk(one) if isinstance(node, ast.Constant)]
        return any(isinstance(text, str) and len(text) < 4 and set(text) & set("wax+") for text in texts)
    return call.func.attr in WRITERS


def writing_functions() -> Iterator[tuple[str, str, str]]:
    """(file, function, its text) of each function with a call that writes a file."""
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text()
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef) and any(
                is_write(node) for node in ast.walk(function) if isinstance(node, ast.Call)
            ):
                yield path.relative_to(SOURCE).as_posix(), function.name, ast.get_source_segment(text, function) or ""


def test_every_function_that_writes_does_it_whole() -> None:
    found = list(writing_functions())
    assert len(found) > 20
    bare = {(file, name) for file, name, text in found if "written_whole" not in text}
    assert bare == {(file, name) for file, names in FREE.items() for name in names}
