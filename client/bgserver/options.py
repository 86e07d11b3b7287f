"""The settings of a server as the options of a command: ``--drain-s``, or BGSERVER_DRAIN_S in the environment."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Callable, Iterable
from inspect import Parameter, Signature
from itertools import pairwise
from typing import Annotated, Any, get_type_hints

import typer

from bgserver.settings import Settings

PORTS = {"http_port": 8000, "grpc_port": 8001, "metrics_port": 8002}
"""Triton's own. ``Settings`` takes any free ones: a program that embeds a server asks it for its address."""


def variable(name: str) -> str:
    """The environment's name of a setting."""
    return f"BGSERVER_{name.upper()}"


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """A command for typer whose first parameter is the settings, read from options and environment.

    A variable that is empty counts as absent.
    """

    def settings(**chosen: Any) -> Settings:
        return Settings(**{name: value for name, value in chosen.items() if value not in (None, "")})

    return with_options(command, _options(), settings)


def with_options(
    command: Callable[..., None], options: Iterable[Parameter], made: Callable[..., Any]
) -> Callable[..., None]:
    """A command for typer with ``options`` and its own; its first parameter is what ``made`` makes of ``options``."""
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    shared = list(options)

    def run(**given: Any) -> None:
        command(made(**{option.name: given.pop(option.name) for option in shared}), **given)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    all_of_them = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in (*own, *shared)]
    run.__signature__ = Signature(all_of_them)  # type: ignore[attr-defined]
    return run


def _options() -> list[Parameter]:
    kinds, helps = get_type_hints(Settings), _docstrings(Settings)
    options = []
    for each in dataclasses.fields(Settings):
        if each.name in ("models", "extra_args"):
            continue
        found = each.default is dataclasses.MISSING  # when the server starts
        default = None if found else PORTS.get(each.name, each.default)
        kind = kinds[each.name] | None if found else kinds[each.name]
        flag = f"--{each.name.replace('_', '-')}"
        option = typer.Option(flag, envvar=variable(each.name), help=helps.get(each.name))
        options.append(
            Parameter(each.name, Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])
        )
    return options


def _docstrings(kind: type) -> dict[str, str]:
    """What stands under the fields of a class; nothing where a program was packed without its sources."""
    try:
        (definition,) = ast.parse(inspect.getsource(kind)).body
    except OSError:
        return {}
    assert isinstance(definition, ast.ClassDef)
    return {
        above.target.id: inspect.cleandoc(below.value.value)
        for above, below in pairwise(definition.body)
        if isinstance(above, ast.AnnAssign)
        and isinstance(above.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }
