"""Calling functions of users by what they ask for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.calls import call_by_name, name_of

OFFERED = {"port": 8080, "base_url": "/b/"}


class App:
    """Has a method and can be called."""

    def command(self, port: int) -> list[str]:
        return [str(port)]

    def __call__(self, base_url: str) -> str:
        return base_url


def positional(port: int, /, base_url: str) -> tuple[int, str]:
    return port, base_url


class CallTests(SynchronousTestCase):
    """Functions of every kind."""

    def test_each_gets_what_it_asks_for(self) -> None:
        """In any order, by name; methods, objects and partials too; defaults and stars are left alone."""
        cases: list[tuple[Callable[..., Any], Any]] = [
            (lambda: 1, 1),
            (lambda base_url, port: (port, base_url), (8080, "/b/")),
            (lambda port, extra=3: (port, extra), (8080, 3)),
            (lambda *args, port, **kwargs: (args, port, kwargs), ((), 8080, {})),
            (App().command, ["8080"]),
            (App(), "/b/"),
            (partial(positional, base_url="/c/"), (8080, "/b/")),
            (partial(lambda first, port: (first, port), 1), (1, 8080)),
            (positional, (8080, "/b/")),
            (dict, {}),
        ]
        for function, expected in cases:
            try:
                self.assertEqual(expected, call_by_name(function, OFFERED))
            except TypeError as error:
                self.assertEqual((dict, "dict does not tell its parameters"), (function, str(error)))

    def test_what_nobody_offers_is_an_error(self) -> None:
        """It names the function and the parameter."""
        error = self.assertRaises(TypeError, call_by_name, positional, {"port": 1})
        self.assertEqual("positional asks for base_url, which is none of port", str(error))

    def test_a_coroutine_function_is_an_error(self) -> None:
        """Nobody would wait for it."""

        async def command() -> list[str]:
            return []

        error = self.assertRaises(TypeError, call_by_name, command, {})
        self.assertIn("command is a coroutine function", str(error))

    def test_errors_of_the_function_come_through(self) -> None:
        """As they are."""
        self.assertRaises(ZeroDivisionError, call_by_name, lambda port: port / 0, OFFERED)

    def test_names(self) -> None:
        """Of functions, partials, and objects that have none."""
        self.assertEqual("positional", name_of(positional))
        self.assertEqual("positional", name_of(partial(positional)))
        self.assertEqual("App", name_of(App()))
