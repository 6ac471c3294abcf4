"""Commands of the command line made from functions: their parameters are the options."""

from __future__ import annotations

import collections.abc
import inspect
import types
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand
from typer.models import ParameterInfo

from ..commands.options.written import Several, Written, one_of

UNIONS = (Union, types.UnionType)


class FunctionCommand(TyperCommand):
    """A command that calls a function, whose module is imported when the command is called or its help is shown.

    name : of the command
    function : MODULE:FUNCTION, of the package `skyclass.commands`
    summary : the first line of the function's docstring, for the list of commands
    show : prints what the function returns; by default nothing is printed
    """

    def __init__(self, name: str, function: str, summary: str, show: Callable[[Any], None] | None = None) -> None:
        super().__init__(name, help=summary)
        self.function, self._show = function, show

    def find(self) -> Callable[..., Any]:
        """The function."""
        module, _, name = self.function.partition(":")
        found: Callable[..., Any] = getattr(import_module(f"..commands.{module}", __package__), name)
        return found

    def get_params(self, ctx: Any) -> list[Any]:
        """The options, which are read from the function at the first call."""
        if self.callback is None:
            single = typer.Typer(add_completion=False)
            single.command()(self._parsed())
            made = typer.main.get_command(single)
            self.params, self.callback = made.params, made.callback
        return super().get_params(ctx)

    def _parsed(self) -> Callable[..., None]:
        """A function with parameters that Typer parses, which reads them and calls the function."""
        options, groups = _options_of(self.find())

        def call(**values: Any) -> None:
            given = {name: options[name].read(value) for name, value in values.items() if value is not None}
            for name, group in groups.items():
                given[name] = group.kind(**{field: given.pop(field) for field in group.fields if field in given})
            result = self.find()(**given)
            if self._show:
                self._show(result)

        parameters = [option.parameter for option in options.values()]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return call


class Option(NamedTuple):
    """A parameter that Typer parses, and what reads the value that it gives."""

    parameter: inspect.Parameter
    read: Callable[[Any], Any]


class Group(NamedTuple):
    """The class of an argument that is several options, and its fields that are these options."""

    kind: Callable[..., Any]
    fields: list[str]


def _options_of(function: Callable[..., Any]) -> tuple[dict[str, Option], dict[str, Group]]:
    """The options of a function by name, those of its groups last; and its groups by the name of the argument."""
    parameters = inspect.signature(function).parameters
    # Without the type that is returned, which may be imported for type checkers alone.
    texts = types.SimpleNamespace(__annotations__={name: one.annotation for name, one in parameters.items()})
    annotations = get_type_hints(texts, inspect.unwrap(function).__globals__, include_extras=True)
    own: dict[str, Option] = {}
    grouped: dict[str, Option] = {}
    groups: dict[str, Group] = {}
    for name, parameter in parameters.items():
        annotation = _without_none(annotations[name])
        group: Several | None = _only(Several, annotation)
        if group is None:
            own[name] = _option(name, annotation, parameter.default)
        else:
            grouped |= {field: _option(field, one, None) for field, one in group.options.items()}
            groups[name] = Group(get_args(annotation)[0], list(group.options))
    return own | grouped, groups


def _option(name: str, annotation: Any, default: Any) -> Option:
    """The option of a parameter of a function."""
    written = _only(Written, annotation) or _usual(get_args(annotation)[0])
    if isinstance(default, tuple):  # in one text, several values stand with commas between them
        default = (",".join(map(str, default)) if written.kind is str else list(default)) or None
    parsed: Any = Annotated[written.kind, _only(ParameterInfo, annotation)]
    parameter = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=parsed)
    return Option(parameter, written.read)


def _usual(kind: Any) -> Written:
    """How a type is usually written: a union as its first type, a sequence as an option that is repeated."""
    if get_origin(kind) in UNIONS:
        return _usual(get_args(kind)[0])
    if get_origin(kind) is Literal:
        return one_of(get_args(kind))
    if get_origin(kind) is collections.abc.Sequence:
        item = _usual(get_args(kind)[0])
        return Written(list[item.kind], lambda values: [item.read(value) for value in values])  # type: ignore[name-defined]
    return Written(kind, lambda value: value)


def _without_none(annotation: Any) -> Any:
    """`Annotated[...] | None` as `Annotated[...]`."""
    return get_args(annotation)[0] if get_origin(annotation) in UNIONS else annotation


def _only(kind: type, annotation: Any) -> Any:
    """What stands beside the type in `Annotated` and is of this class; None where nothing is."""
    return next((one for one in get_args(annotation)[1:] if isinstance(one, kind)), None)
