"""Galaxy Zoo's questions: which columns of votes are answers of the same one, and which of them become the classes.

The questions are a decision tree: whether a galaxy has anything odd is asked of all, how many arms it has of spirals
alone. The largest of all fractions therefore is mostly the answer of a question that nearly all agree on, and no class.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ..core.errors import SkyclassError, did_you_mean
from ..recipes.data_settings import VotesSettings

logger = logging.getLogger(__name__)

ALL = "all"  # the question that takes the largest fraction of all questions, if that is really wanted

_KINDS = ("fraction", "weighted_fraction", "debiased")  # of the columns of an answer the first counts
_KIND = f"(?P<kind>{'|'.join(_KINDS)})"
_FORMS = (
    re.compile(r"Class(?P<question>[0-9]+)\.(?P<answer>[0-9]+)(?P<kind>)"),  # the Kaggle challenge of Galaxy Zoo 2
    re.compile(rf"(?P<question>t[0-9]{{2}}_.+)_a[0-9]{{2}}_(?P<answer>.+?)_{_KIND}"),  # Galaxy Zoo 2's catalog
    re.compile(rf"(?P<question>[^_]+)_(?P<answer>[^_]+)_{_KIND}"),  # GZ DECaLS: smooth-or-featured_smooth_fraction
)
_SURE = re.compile(r"[0-9]+|t[0-9]{2}_.+|.*-.*")  # one such question, or `gas_mass_fraction` might be taken for votes

# Question -> the columns of its answers -> the names of these.
Questions = dict[str, dict[str, str]]


def questions_of(columns: Iterable[str]) -> Questions:
    """The questions that columns of votes answer, in their order; of several columns an answer the plain fraction."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for name in columns:
        match = next((match for form in _FORMS if (match := form.fullmatch(name))), None)
        if match:
            answer = match["answer"] if match["kind"] else name
            found.setdefault(match["question"], {}).setdefault(match["kind"], {})[name] = answer
    if not any(_SURE.fullmatch(question) for question in found):
        return {}
    return {question: next(kinds[kind] for kind in ("", *_KINDS) if kind in kinds) for question, kinds in found.items()}


def refusal_to_guess(questions: Questions) -> tuple[str, str]:
    """Why no label follows from the answers of several questions, and the possible fixes."""
    some = list(questions)
    first = next(iter(questions[some[0]]))
    return (
        f"the columns of votes answer {len(questions)} questions of a decision tree, and the largest of all fractions "
        "is no class",
        f"choose a question (question={some[0]}; they are {', '.join(some)}), write rules (classes.NAME={first} > 0.6) "
        f"or take the largest of all nevertheless (question={ALL})",
    )


def answers_for(columns: Sequence[str], settings: VotesSettings, where: str | Path) -> dict[str, str]:
    """Columns of votes that are compared, in the order of the table -> the names of their classes.

    A question's answers are named as it names them (Class1.1; smooth of smooth-or-featured_smooth_fraction), all others
    as their columns.

    Errors: SkyclassError for columns or a question that are not there, and where several questions are answered and
    none is chosen, neither by `question` nor by `keep`.
    """
    candidates = _named(columns, settings.columns, where) if settings.columns else None
    questions = questions_of(columns if candidates is None else candidates)
    if candidates is None:
        candidates = [name for name in columns if any(name in answers for answers in questions.values())]
    if not candidates:
        if settings.classes and not settings.threshold:
            return {}
        what = "no column of votes such as Galaxy Zoo's Class1.1"
        raise SkyclassError(what, where=where, fix="name them (columns, in the settings of the votes)")
    if settings.classes or settings.question == ALL:  # rules name the columns that they compare
        return {name: name for name in candidates}
    question = settings.question or _kept_question(settings.keep, questions)
    if question is None and len(questions) > 1:
        what, fix = refusal_to_guess(questions)
        raise SkyclassError(what, where=where, fix=fix)
    if question is None:
        only = next(iter(questions.values()), {})
        return dict(only) if set(candidates) == set(only) else {name: name for name in candidates}
    answers = questions[_found(question, questions, where)]
    logger.info(f"Question {question}: {', '.join(answers)}")
    return answers


def _named(columns: Sequence[str], patterns: Iterable[str], where: str | Path) -> list[str]:
    """The columns that names or patterns choose. Errors: SkyclassError for one that chooses none."""
    chosen: set[str] = set()
    for pattern in patterns:
        matching = [name for name in columns if name == pattern]
        matching = matching or [name for name in columns if fnmatchcase(name, pattern)]
        if not matching:
            fix = did_you_mean(pattern, columns) or f"its columns are {', '.join(columns)}"
            raise SkyclassError(f"no column of votes {pattern!r}", where=where, fix=fix)
        chosen.update(matching)
    return [name for name in columns if name in chosen]


def _kept_question(keep: tuple[str, ...] | int | None, questions: Questions) -> str | None:
    """The one question that all classes to keep answer, or None."""
    if not isinstance(keep, tuple) or not keep:
        return None
    found = [name for name, answers in questions.items() if set(keep) <= {*answers, *answers.values()}]
    return found[0] if len(found) == 1 else None


def _found(question: str, questions: Mapping[str, object], where: str | Path) -> str:
    """The question's whole name: it may be given as Class1, t01, or by its beginning where no other begins so.

    Errors: SkyclassError where it is none of them.
    """
    short = question.removeprefix("Class")
    starting = [name for name in questions if name.startswith((question, f"t{question.zfill(2)}_"))]
    match = [name for name in questions if name in (question, short)] or starting
    if len(match) != 1:
        fix = did_you_mean(question, questions) or f"the questions are {', '.join(questions)}"
        raise SkyclassError(f"no one question of the votes is called {question!r}", where=where, fix=fix)
    return match[0]
