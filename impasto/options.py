"""Command line options made from the fields of a pydantic model; and the settings."""

from collections.abc import Callable, Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

import click
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from impasto.core.errors import BadParameter
from impasto.core.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


def options(model: type[BaseModel], *, only: Iterable[str] | None = None, defaults: bool = True) -> Callable[[F], F]:
    """A decorator: an option for each field of `model`, or for the fields in `only`.

    An option that is not given takes the model's default. Without `defaults` the help shows none and no option is
    required: the defaults come from a table.
    """
    names = list(only or model.model_fields)

    def decorate(command: F) -> F:
        for name in reversed(names):
            command = _option(name, model.model_fields[name], defaults)(command)
        return command

    return decorate


def learning(command: F) -> F:
    """A decorator: the options of a command that trains on pictures and writes one file."""
    pictures = "Pictures: a folder or an archive; may be repeated.  [default: coco, as fetched]"
    for option in (
        click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write it to."),
        click.option(
            "--seed",
            type=click.IntRange(min=0),
            default=0,
            show_default=True,
            help="Seed of the weights and the crops.",
        ),
        click.option("--data", type=click.Path(path_type=Path), multiple=True, help=pictures),
    ):
        command = option(command)
    return command


def given(values: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in values.items() if value is not None and value != ()}


def validated(make: Callable[[], T]) -> T:
    """Return `make()`. Raises BadParameter, which names the options, where pydantic refuses them."""
    try:
        return make()
    except ValidationError as error:
        raise _in_words(error) from error


def read_settings(**flags: Any) -> Settings:
    """Read the settings of the environment, with `flags` over them. Raises UsageError, which names the wrong ones."""
    try:
        return Settings(**flags)
    except ValidationError as error:
        wrong = {str(e["loc"][0]).upper().removeprefix("IMPASTO_"): e["msg"] for e in error.errors()}
        names = ", ".join(f"IMPASTO_{name} ({message})" for name, message in wrong.items())
        raise click.UsageError(f"These settings are wrong: {names}") from error


def _in_words(error: ValidationError) -> BadParameter:
    """Convert pydantic's error to ours, which names the options."""
    parts = []
    for e in error.errors():
        place = "--" + "-".join(str(e["loc"][0]).split("_")) if e["loc"] else "parameters"
        parts.append(f"{place}: {e['msg'].removeprefix('Value error, ')}")
    return BadParameter("; ".join(dict.fromkeys(parts)))


def _option(name: str, field: FieldInfo, defaults: bool) -> Callable[[F], F]:
    flag = "--" + name.replace("_", "-")
    default = field.get_default(call_default_factory=True)
    required = defaults and default is PydanticUndefined
    kind, many = _kind(field.annotation)
    text = field.description or ""
    if defaults and (shown := _shown(default)):
        text += f"  [default: {shown}]"
    if kind is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", name, default=None, help=text)
    return click.option(flag, name, type=kind, multiple=many, required=required, help=text, metavar=_metavar(kind))


def _kind(annotation: Any) -> tuple[Any, bool]:
    """click's type of an annotation, and whether the option may be repeated."""
    if get_origin(annotation) is tuple:
        return _kind(get_args(annotation)[0])[0], True
    if isinstance(annotation, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
        return _kind(kinds[0]) if len(kinds) == 1 else (str, False)
    if get_origin(annotation) is Literal:
        return click.Choice(get_args(annotation)), False
    return annotation if annotation in (bool, int, float) else str, False


def _shown(default: Any) -> str:
    """A default as the help shows it; nothing for none, no and an empty list."""
    if default is False or default in (PydanticUndefined, None):
        return ""
    return ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def _metavar(kind: Any) -> str | None:
    return {int: "N", float: "X"}.get(kind)
