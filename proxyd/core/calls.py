"""Functions of users, called with what their parameters ask for by name (contract of managed servers, section 3)."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def call_by_name(function: Callable[..., Any], offered: Mapping[str, object]) -> Any:
    """Call `function` with those of the `offered` arguments that it asks for.

    Parameters with a default, and `*args`, are left alone; `**kwargs` gets nothing. Raises `TypeError` for a
    parameter that nobody offers, for a coroutine function, and whatever the function raises.
    """
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"{name_of(function)} is a coroutine function: it has to be a plain one")
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        raise TypeError(f"{name_of(function)} does not tell its parameters") from None
    positional: list[object] = []
    named: dict[str, object] = {}
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.name in offered:
            if parameter.kind is parameter.POSITIONAL_ONLY:
                positional.append(offered[parameter.name])
            else:
                named[parameter.name] = offered[parameter.name]
        elif parameter.default is parameter.empty:
            raise TypeError(
                f"{name_of(function)} asks for {parameter.name}, which is none of {', '.join(sorted(offered))}"
            )
    return function(*positional, **named)


def name_of(function: object) -> str:
    """What a callable is called in a message."""
    function = getattr(function, "func", function)  # of a functools.partial
    return getattr(function, "__qualname__", "") or type(function).__qualname__
