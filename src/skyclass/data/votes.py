"""Vote fractions, a column a possible answer as in Galaxy Zoo, become labels.

Expressions are evaluated by a walk of their syntax tree: `numexpr` and `pandas.eval` say of a wrong one neither which
setting it stands in nor which column is meant, and know more than numbers and columns.
"""

from __future__ import annotations

import ast
import logging
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..core.errors import SkyclassError, did_you_mean
from ..recipes.data_settings import VotesSettings
from ..recipes.schema import apply_overrides, validate
from .vote_questions import answers_for

logger = logging.getLogger(__name__)

_LONGEST = 1000  # characters of an expression
_WORD = r"(?<![\w.])[^\W\d][\w.]*"
_BOTH = {ast.And: np.logical_and, ast.Or: np.logical_or}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: np.divide,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


def parse_votes(overrides: Sequence[str]) -> VotesSettings:
    """The settings of `KEY=VALUE` overrides, validated; a class is set by `classes.NAME=EXPRESSION`."""
    document: dict[str, Any] = {}
    places = dict(apply_overrides(document, overrides, "--votes"))
    return validate(VotesSettings, document, "votes", None, places)


def label_by_votes(frame: pd.DataFrame, settings: VotesSettings, where: str | Path) -> pd.DataFrame:
    """The table with the `label` that its votes give each row; every other column stays.

    The label is the answer with the largest fraction of one question (the first of equals), or the class whose
    expression holds. Rows below the threshold, of a class that is not kept, without votes, or of several classes get
    none; their number is logged.

    Errors: SkyclassError for columns that are absent or no numbers, and for an expression that is not understood;
    as of `answers_for`.
    """
    answers = answers_for([str(name) for name in frame.columns], settings, where)
    columns = list(answers)
    votes = _numbers(frame, columns, where)
    largest = votes.fillna(-np.inf).max(axis=1).to_numpy()
    labels = np.full(len(frame), None, dtype=object)
    several = 0
    if settings.classes:
        if settings.rename:
            what = "rename is for labels by the largest fraction, and these are by expressions"
            raise SkyclassError(what, where=where, fix="give the classes their names in `classes`")
        holds = np.array([_holds(text, frame, f"{where}: class {name}") for name, text in settings.classes.items()])
        one = holds.sum(axis=0) == 1  # (classes, N) -> (N,)
        several = int((holds.sum(axis=0) > 1).sum())
        labels[one] = np.array(list(settings.classes), dtype=object)[holds[:, one].argmax(axis=0)]
    else:
        _check_renamed(settings, columns, where)
        names = np.array([settings.rename.get(column, name) for column, name in answers.items()], dtype=object)
        voted = np.isfinite(largest)
        labels[voted] = names[votes.fillna(-np.inf).to_numpy()[voted].argmax(axis=1)]
    low = (largest < settings.threshold) & pd.notna(labels)
    labels[low] = None
    dropped = _keep(labels, settings, where)
    _log_labels(
        labels, {"below the threshold": int(low.sum()), "of several classes": several, "of classes not kept": dropped}
    )
    return frame.assign(label=pd.Series(labels, index=frame.index, dtype=object))


def _numbers(frame: pd.DataFrame, columns: Iterable[str], where: str | Path) -> pd.DataFrame:
    """The columns as float64.

    Errors: SkyclassError for a column that holds something else than numbers.
    """
    numbers = {}
    for name in columns:
        try:
            numbers[name] = pd.to_numeric(frame[name]).astype("float64")
        except (ValueError, TypeError):
            what = f"column {name!r} is not one of numbers"
            raise SkyclassError(what, where=where, fix="mend the table or choose other columns") from None
    return pd.DataFrame(numbers, index=frame.index)


def _check_renamed(settings: VotesSettings, columns: Sequence[str], where: str | Path) -> None:
    unknown = next((name for name in settings.rename if name not in columns), None)
    if unknown is not None:
        fix = did_you_mean(unknown, columns) or f"the columns of votes are {', '.join(columns)}"
        raise SkyclassError(f"rename: no column of votes {unknown!r}", where=where, fix=fix)


def _keep(labels: np.ndarray, settings: VotesSettings, where: str | Path) -> int:
    """Take the labels of classes that are not kept away; returns how many."""
    if settings.keep is None:
        return 0
    counts = Counter(label for label in labels if label is not None)
    if isinstance(settings.keep, int):
        kept = set(sorted(counts, key=lambda name: (-counts[name], name))[: settings.keep])
    else:
        kept = set(settings.keep)
        missing = sorted(kept - set(counts))
        if missing:
            fix = did_you_mean(missing[0], counts) or f"the classes are {', '.join(sorted(counts)) or 'none'}"
            raise SkyclassError(f"keep: no image is voted {missing[0]!r}", where=where, fix=fix)
    out = np.array([label is not None and label not in kept for label in labels], dtype=bool)
    labels[out] = None
    return int(out.sum())


def _log_labels(labels: np.ndarray, reasons: dict[str, int]) -> None:
    """Log the labels that the votes gave, and why some rows have none."""
    counts = Counter(label for label in labels if label is not None)
    shown = ", ".join(f"{name} {count:,}" for name, count in counts.most_common(8))
    more = f" and {len(counts) - 8} classes more" if len(counts) > 8 else ""
    logger.info(f"Labels by votes for {sum(counts.values()):,} of {len(labels):,} images: {shown or 'none'}{more}")
    why = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items() if count)
    if why:
        logger.info(f"  without a label: {why}")


# Expressions


def _holds(text: str, frame: pd.DataFrame, where: str) -> np.ndarray:
    """(N,) whether an expression over the columns holds; false where a column that it names is empty.

    Only comparisons, and, or, not, + - * /, numbers and columns are understood; nothing is ever run as Python.
    """
    names: dict[str, str] = {}
    have = [str(name) for name in frame.columns]

    def placeholder(match: re.Match[str]) -> str:
        word = match[0]
        if word in ("and", "or", "not"):
            return word
        if word not in have:
            fix = did_you_mean(word, have) or f"its columns are {', '.join(have)}"
            raise SkyclassError(f"no column {word!r} for the expression {text!r}", where=where, fix=fix)
        return names.setdefault(word, f"column_{len(names)}")

    known = "|".join(re.escape(name) for name in sorted(have, key=len, reverse=True))
    if len(text) > _LONGEST:
        raise _not_understood(text[:40] + "...", where)
    try:
        tree = ast.parse(re.sub(rf"(?<![\w.])(?:{known})(?![\w.])|{_WORD}", placeholder, text).strip(), mode="eval")
        columns = _numbers(frame, names, where)
        values = {short: columns[name].to_numpy() for name, short in names.items()}
        with np.errstate(all="ignore"):
            holds = _value(tree.body, values)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError, OverflowError):
        raise _not_understood(text, where) from None
    if not isinstance(holds, np.ndarray) or holds.dtype != np.bool_:
        raise SkyclassError(f"the expression {text!r} compares nothing", where=where, fix="write as in Class1.1 > 0.8")
    filled: np.ndarray = columns.notna().all(axis=1).to_numpy()
    return holds & filled


def _not_understood(text: str, where: str) -> SkyclassError:
    fix = "write comparisons of columns and numbers, joined by and, or, not, as in Class1.1 > 0.8 and Class2.1 < 0.5"
    return SkyclassError(f"the expression {text!r} is not understood", where=where, fix=fix)


def _value(node: ast.expr, columns: dict[str, np.ndarray]) -> Any:
    """The value of an expression; ValueError for whatever is not on the list of what is allowed."""
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.Name(id=name):
            return columns[name]
        case ast.BoolOp(op=op, values=parts):
            values = [_truth(_value(part, columns)) for part in parts]
            return _BOTH[type(op)].reduce(values)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return ~_truth(_value(operand, columns))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_number(_value(operand, columns))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return _ARITHMETIC[type(op)](_number(_value(left, columns)), _number(_value(right, columns)))
        case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in _COMPARISONS for op in ops):
            sides = [_number(_value(side, columns)) for side in (left, *others)]
            pairs = zip(ops, sides[:-1], sides[1:], strict=True)
            return np.logical_and.reduce([_COMPARISONS[type(op)](one, other) for op, one, other in pairs])
    raise ValueError(f"{type(node).__name__} is not allowed")


def _truth(value: Any) -> Any:
    if getattr(value, "dtype", None) != np.bool_:
        raise ValueError("a number where a comparison should stand")
    return value


def _number(value: Any) -> Any:
    if getattr(value, "dtype", None) == np.bool_:
        raise ValueError("a comparison where a number should stand")
    return value
