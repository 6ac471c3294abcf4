"""The meaning of the folders above the images: splits, classes, groups, or none."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ...core.errors import SkyclassError, did_you_mean
from ..source_options import SourceOptions
from ..split_names import SPLIT_NAMES, split_of

logger = logging.getLogger(__name__)

_PARTS = ("{split}", "{label}", "{group}")
_FIX = "write it as in '{label}', '{split}/{label}', '{label}/{split}', '{group}/{label}' or '*/{label}'"
_MOST = 5  # names of folders in a message


class Place(NamedTuple):
    """Split, label and group of an image from the folders above it; None where they give none."""

    split: str | None = None
    label: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Layout:
    """Meaning of the levels of folders below the root, from the top.

    levels : of each, `{split}`, `{label}`, `{group}`, or `*` for one without a meaning
    splits : name of a folder -> its split
    """

    levels: tuple[str, ...]
    splits: Mapping[str, str] = field(default_factory=dict)

    def place(self, file: str) -> Place:
        """Of an image, by its path from the root; nothing of one that lies above the last level, or in no split."""
        folders = file.split("/")[:-1]
        parts = dict(zip(self.levels, folders, strict=False))
        if len(folders) < len(self.levels) or parts.get("{split}", "") not in {"", *self.splits}:
            return Place()
        split = self.splits[parts["{split}"]] if "{split}" in parts else None
        return Place(split, parts.get("{label}"), parts.get("{group}"))


def find_layout(root: Path, files: Sequence[str], options: SourceOptions) -> Layout:
    """The layout that the options give, or else the one that follows from the names of the folders, which is logged.

    - folders that are called after splits, such as train and test, are splits, and the folders in them are classes. A
      single such folder among others is a class, unless it is one of training images and holds class folders
    - where all folders in the top ones are called after splits, the top ones are classes
    - all else are classes; where they hold the same folders, that is said

    files : the images, by their paths from the root, with slashes

    Errors: SkyclassError for an option that is not understood, or names folders that are not there.
    """
    paths = [file.split("/")[:-1] for file in files]
    names = {folder for folders in paths for folder in folders[:3]}
    unknown = sorted(set(options.split_names) - names)
    if unknown:
        fix = did_you_mean(unknown[0], names) or f"its folders are {_listed(sorted(names))}"
        raise SkyclassError(f"no folder is called {unknown[0]!r}", where="--split-names", fix=fix)
    if options.folders:
        return _given(root, paths, options.folders, options.split_names)
    tops: dict[str, set[str]] = {}
    for folders in paths:
        if folders:
            tops.setdefault(folders[0], set()).update(folders[1:2])
    layout = _of_splits(root, tops, options.split_names)
    return layout or _of_splits_below(root, paths, tops, options.split_names) or _of_classes(root, tops)


def _given(root: Path, paths: Iterable[Sequence[str]], text: str, given: Mapping[str, str]) -> Layout:
    levels = tuple(part.strip() for part in text.strip("/").split("/"))
    named = [level for level in levels if level != "*"]
    if not named or not set(named) <= set(_PARTS) or len(set(named)) < len(named):
        raise SkyclassError(f"the layout {text!r} is not understood", where="--folders", fix=_FIX)
    if "{split}" not in levels:
        return Layout(levels)
    depth = levels.index("{split}")
    found = {folders[depth] for folders in paths if len(folders) >= len(levels)}
    splits = {name: split for name in sorted(found) if (split := split_of(name, given))}
    none = sorted(found - set(splits))
    if none:
        fix = f"say which one it is, as in --split-names {shlex.quote(f'{none[0]}=test')}"
        raise SkyclassError(f"the folder {none[0]!r} is called after no split", where=root, fix=fix)
    return Layout(levels, splits)


def _of_splits(root: Path, tops: Mapping[str, set[str]], given: Mapping[str, str]) -> Layout | None:
    """Splits above classes, or None."""
    splits = {name: split for name in sorted(tops) if (split := split_of(name, given))}
    others = sorted(set(tops) - set(splits))
    if not splits:
        return None
    of_train = any(tops[name] for name, split in splits.items() if split == "train")
    # Two classes are never named like splits, and class folders are never inside a class named train.
    if others and not of_train and len(set(splits.values())) == 1 and not given:
        logger.warning(
            f"{root.name}: the folder {_listed(list(splits))} is taken for a class, because there is no split beside "
            "it, and no training images in class folders; --folders '{split}/{label}' takes it for a split"
        )
        return None
    if others:
        way_out = shlex.quote(f"{others[0]}=test")
        logger.warning(
            f"{root.name}: {_listed(others)} beside the splits: called after no split, so the images there have no "
            f"label; if it is one, --split-names {way_out}"
        )
    _log_splits(root, splits, "the folders in them for classes; --folders '{label}' takes them for classes")
    return Layout(("{split}", "{label}"), splits)


def _log_splits(root: Path, splits: Mapping[str, str], rest: str) -> None:
    """Log which folders were taken as splits, if their names are not the usual ones."""
    if any(name.lower() not in SPLIT_NAMES for name in splits):
        shown = ", ".join(f"{name} ({split})" for name, split in splits.items())
        logger.info(f"{root.name}: the folders {shown} are taken for splits, and {rest}")


def _of_splits_below(
    root: Path, paths: Iterable[Sequence[str]], tops: Mapping[str, set[str]], given: Mapping[str, str]
) -> Layout | None:
    """Classes (or one folder that holds all) above splits, or None."""
    below = set().union(*tops.values())
    splits = {name: split for name in sorted(below) if (split := split_of(name, given))}
    if not below or set(splits) != below or "train" not in splits.values():
        return None
    deeper = any(len(folders) > 2 for folders in paths)
    if len(tops) == 1 and not deeper:
        return None
    levels = ("*", "{split}", "{label}") if len(tops) == 1 else ("{label}", "{split}")
    shown = ", ".join(f"{name} ({split})" for name, split in splits.items())
    what = "splits, and the folders in them for classes" if len(tops) == 1 else "splits of the classes above them"
    logger.info(f"{root.name}: the folders {shown} are taken for {what}; --folders '{{label}}' takes them for neither")
    return Layout(levels, splits)


def _of_classes(root: Path, tops: Mapping[str, set[str]]) -> Layout:
    """Classes at the top. If all hold the same folders these may be the classes, and that is logged."""
    same = set.intersection(*tops.values()) if tops else set()
    if len(same) > 1:
        first, *rest = sorted(tops)
        pairs = ",".join(f"{name}={split}" for name, split in zip((first, *rest), ("train", "test"), strict=False))
        each = f"are taken for classes, though each holds the folders {_listed(sorted(same))}"
        if not rest:
            each = f"is taken for one class, though it holds the folders {_listed(sorted(same))}"
            pairs = f"{first}=train"
        logger.warning(
            f"{root.name}: {_listed(sorted(tops))} {each}; if those are the classes, --folders '*/{{label}}', and if "
            f"the folders above them are splits, --split-names {shlex.quote(pairs)}"
        )
    return Layout(("{label}",))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(names[:_MOST]) + more
