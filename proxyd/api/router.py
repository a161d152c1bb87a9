"""A router in Klein's manner: functions under patterns, found by method and path.

Own code, because Klein turns `%2F` in a path into `/`, and in the path of a route that is a different name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from proxyd.errors import RequestError

F = TypeVar("F", bound=Callable[..., object])

_PLACEHOLDER = re.compile(r"<(path:)?([a-z_]+)>")


class PathError(RequestError):
    """There is nothing at this path."""

    def __init__(self) -> None:
        super().__init__(404, "Not Found")


class MethodError(RequestError):
    """The path is there, but not for this method; `allowed` lists those that are."""

    def __init__(self, allowed: list[str]) -> None:
        self.allowed = allowed
        super().__init__(405, "Method not supported")


class Router(Generic[F]):
    """Maps methods and raw paths to functions.

    `<name>` in a pattern takes one raw segment, `<path:name>` the rest, slashes included. It begins with what `base`
    has.
    """

    def __init__(self, base: Router[F] | None = None) -> None:
        known = () if base is None else base._rules
        self._rules: list[tuple[str, re.Pattern[str], dict[str, F]]] = [
            (pattern, expression, dict(functions)) for pattern, expression, functions in known
        ]

    def route(self, pattern: str, *methods: str) -> Callable[[F], F]:
        """Serve `methods` on `pattern` by the decorated function."""
        expression = _compile(pattern)

        def register(function: F) -> F:
            for known, _, functions in self._rules:
                if known == pattern:
                    functions.update(dict.fromkeys(methods, function))
                    return function
            self._rules.append((pattern, expression, dict.fromkeys(methods, function)))
            return function

        return register

    def find(self, method: str, path: str) -> tuple[F, dict[str, str]]:
        """The function for a request, and what the placeholders of its pattern stand for, still raw.

        Raises `PathError` if no pattern fits, and `MethodError` if one does for other methods only.
        """
        for _, expression, functions in self._rules:
            match = expression.fullmatch(path)
            if match is not None:
                if method not in functions:
                    raise MethodError(sorted(functions))
                return functions[method], match.groupdict()
        raise PathError

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """All patterns, each with each of its methods."""
        for pattern, _, functions in self._rules:
            for method in functions:
                yield pattern, method


def _compile(pattern: str) -> re.Pattern[str]:
    position = 0
    expression = ""
    for placeholder in _PLACEHOLDER.finditer(pattern):
        expression += re.escape(pattern[position : placeholder.start()])
        expression += f"(?P<{placeholder[2]}>{'.*' if placeholder[1] else '[^/]+'})"
        position = placeholder.end()
    return re.compile(expression + re.escape(pattern[position:]))
