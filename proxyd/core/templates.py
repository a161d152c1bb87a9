"""Templates and callables of managed servers: what `{port}` stands for, and what a function may ask for.

The text is Python's `str.format`, cut down to names: nothing that is written in a definition reaches an attribute or an
item of an object.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from string import Formatter

from proxyd.core.calls import call_by_name
from proxyd.errors import TemplateError
from proxyd.model.servers import Place
from proxyd.option import Function

Names = Mapping[str, int | str]
"""What a template or a callable may name, and what it stands for."""

_FORMATTER = Formatter()


def names_at(place: Place, base_url: str) -> Names:
    """The names of a server that listens at `place`."""
    return {"port": place.port, "unix_socket": place.socket, "base_url": base_url}


def render(text: str, names: Names) -> str:
    """Put `names` into `text`, in which a brace that is meant is doubled.

    Raises `TemplateError`.
    """
    try:
        for _, name, form, _ in _FORMATTER.parse(text):
            if name is not None and name not in names:
                raise TemplateError(f"{text!r}: {{{name}}} is none of {', '.join(names)}")
            if form and "{" in form:
                raise TemplateError(f"{text!r}: braces inside of braces")
        return text.format(**names)
    except (ValueError, OverflowError, MemoryError) as error:
        raise TemplateError(f"{text!r}: {error} (a brace that is meant is doubled)") from None


def render_words(given: object, names: Names, what: str) -> tuple[str, ...]:
    """The texts of a list or a tuple, or of the one that a `Function` returns; `what` says whose they are.

    Raises `TemplateError`.
    """
    value = _value_of(given, names, what)
    if not isinstance(value, list | tuple):
        raise TemplateError(f"{what}: expected a list, got {_kind_of(value)}")
    return tuple(_render_item(item, names, f"{what}[{index}]") for index, item in enumerate(value))


def render_pairs(given: object, names: Names, what: str) -> dict[str, str]:
    """The texts of a mapping, or of the one that a `Function` returns; keys are templates, too.

    Raises `TemplateError`.
    """
    value = _value_of(given, names, what)
    if not isinstance(value, Mapping):
        raise TemplateError(f"{what}: expected a dict, got {_kind_of(value)}")
    return {
        _render_item(key, names, f"{what}: a key"): _render_item(item, names, f"{what}[{key!r}]")
        for key, item in value.items()
    }


def ask(function: Function, names: Mapping[str, object]) -> object:
    """Call `function` with those of `names` that it asks for.

    It may block. Raises `TemplateError` for whatever goes wrong inside, and for what is asynchronous.
    """
    try:
        result = call_by_name(function.call, names)
    except (Exception, SystemExit) as error:  # code of the user's own, whatever it does
        raise TemplateError(f"{function.name}: {type(error).__name__}: {error}") from error
    if inspect.iscoroutine(result):
        result.close()
    if inspect.isawaitable(result) or inspect.isasyncgen(result):
        raise TemplateError(f"{function.name} is asynchronous: it has to return its result")
    return result


def _value_of(given: object, names: Names, what: str) -> object:
    if not isinstance(given, Function):
        return given
    try:
        return ask(given, names)
    except TemplateError as error:
        raise TemplateError(f"{what}: {error}") from error


def _render_item(item: object, names: Names, what: str) -> str:
    if not isinstance(item, str):
        raise TemplateError(f"{what}: expected text, got {_kind_of(item)}")
    text = render(item, names)
    if "\0" in text:
        raise TemplateError(f"{what}: a NUL character")
    return text


def _kind_of(value: object) -> str:
    return "nothing" if value is None else f"a value of the type {type(value).__name__}"
