"""Templates and callables of managed servers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.templates import ask, names_at, render, render_pairs, render_words
from proxyd.errors import TemplateError
from proxyd.model.servers import Place
from proxyd.option import Function

NAMES = names_at(Place(8080), "/user/a/")


def words_of(call: object, names: object = NAMES) -> tuple[str, ...]:
    return render_words(Function("m:f", call), names, "command")  # type: ignore[arg-type]


class RenderTests(SynchronousTestCase):
    """Text with braces."""

    def test_the_names_are_put_in(self) -> None:
        """Anywhere, and with a format, as Python has it."""
        for text, rendered in (
            ("", ""),
            ("plain", "plain"),
            ("--port={port}", "--port=8080"),
            ("{base_url}rstudio/{port}{port}", "/user/a/rstudio/80808080"),
            ("{unix_socket}", ""),
            ("{{port}}", "{port}"),
            ("{{{port}}}", "{8080}"),
            ("{port:06d}", "008080"),
            ("{base_url!r}", "'/user/a/'"),
        ):
            self.assertEqual(render(text, NAMES), rendered)

    def test_on_a_socket_the_port_is_0(self) -> None:
        """And the path is there."""
        self.assertEqual(render("{port} {unix_socket} {base_url}", names_at(Place(0, "/s"), "/")), "0 /s /")

    def test_nothing_else_may_stand_in_braces(self) -> None:
        """Neither other names, nor attributes and items, nor positions, nor half a brace."""
        for text in (
            "{nope}",
            "{",
            "}",
            "{}",
            "{0}",
            "{port.real}",
            "{port.__class__}",
            "{base_url[0]}",
            "{port:{port}}",
            "{port!x}",
            "{port:s}",
            "{port",
            "{ port}",
            "{port:99999999999999999999}",
        ):
            with self.assertRaises(TemplateError, msg=text):
                render(text, NAMES)

    @given(st.text())
    def test_a_doubled_brace_is_a_brace(self, text: str) -> None:
        """Whatever the text is."""
        self.assertEqual(render(text.replace("{", "{{").replace("}", "}}"), NAMES), text)

    @given(st.text("{}port.[]!:_0x"))
    def test_nothing_but_an_error_comes_of_nonsense(self, text: str) -> None:
        """Of the kind that is meant for it."""
        with contextlib.suppress(TemplateError):
            render(text, NAMES)


class StructureTests(SynchronousTestCase):
    """Lists and mappings."""

    def test_every_item_is_rendered(self) -> None:
        """Keys as well."""
        self.assertEqual(render_words(("a", "{port}"), NAMES, "command"), ("a", "8080"))
        self.assertEqual(render_words(["{port}"], NAMES, "command"), ("8080",))
        self.assertEqual(render_pairs({"P_{port}": "{port}"}, NAMES, "environment"), {"P_8080": "8080"})

    def test_what_is_no_text_is_an_error(self) -> None:
        """Which says where it is."""
        for given_, words in (
            (("a", 5), "command[1]: expected text, got a value of the type int"),
            (("a", None), "command[1]: expected text, got nothing"),
            (("a\0",), "command[0]: a NUL character"),
            ("text", "command: expected a list, got a value of the type str"),
            (None, "command: expected a list, got nothing"),
        ):
            with self.assertRaises(TemplateError) as caught:
                render_words(given_, NAMES, "command")
            self.assertEqual(str(caught.exception), words)
        for given_, words in (
            ({5: "a"}, "environment: a key: expected text, got a value of the type int"),
            ({"a": 5}, "environment['a']: expected text, got a value of the type int"),
            ([], "environment: expected a dict, got a value of the type list"),
        ):
            with self.assertRaises(TemplateError) as caught:
                render_pairs(given_, NAMES, "environment")
            self.assertEqual(str(caught.exception), words)


class Commands:
    """Callables of several kinds."""

    def method(self, port: int) -> list[str]:
        return [str(port)]

    def __call__(self, *, base_url: str) -> tuple[str]:
        return (base_url,)


class CallTests(SynchronousTestCase):
    """Callables."""

    def test_a_callable_gets_what_it_asks_for(self) -> None:
        """By name and in any order, whatever kind of callable it is (defect 23)."""

        def positional(port: int, /, unix_socket: str) -> list[str]:
            return [f"{port}/{unix_socket}"]

        for call, words in (
            (lambda: ["a"], ("a",)),
            (lambda base_url, port: [base_url, str(port)], ("/user/a/", "8080")),
            (positional, ("8080/",)),
            (Commands().method, ("8080",)),
            (Commands(), ("/user/a/",)),
            (partial(lambda a, port: [a, str(port)], "a"), ("a", "8080")),
            (partial(lambda port, b: [str(port), b], b="b"), ("8080", "b")),
            (lambda port, more="x": [more], ("x",)),
            (lambda other=1, *args, **named: [str(other), str(args), str(len(named))], ("1", "()", "0")),
        ):
            self.assertEqual(words_of(call), words)

    def test_a_result_is_a_template_again(self) -> None:
        """So a brace that is meant is doubled."""
        self.assertEqual(words_of(lambda: ("--port={port}", "{{}}")), ("--port=8080", "{}"))

    def test_whatever_goes_wrong_is_one_kind_of_error(self) -> None:
        """Which names the option and the callable."""

        async def coroutine() -> list[str]:
            return []

        async def generator() -> AsyncIterator[str]:
            yield ""

        def leave() -> None:
            raise SystemExit("enough")

        for call, words in (
            (lambda nope: [], "asks for nope, which is none of base_url, port, unix_socket"),
            (coroutine, "is a coroutine function: it has to be a plain one"),
            (partial(lambda call: call(), coroutine), "is asynchronous: it has to return its result"),
            (generator, "is asynchronous: it has to return its result"),
            (lambda: 1 / 0, ": ZeroDivisionError: division by zero"),
            (leave, ": SystemExit: enough"),
            (5, ": TypeError: 5 is not a callable object"),
        ):
            with self.assertRaises(TemplateError) as caught:
                words_of(call)
            self.assertTrue(str(caught.exception).startswith("command: m:f"), str(caught.exception))
            self.assertTrue(str(caught.exception).endswith(words), str(caught.exception))

    def test_other_names_may_be_offered(self) -> None:
        """To callables that are asked for something else."""
        self.assertEqual(ask(Function("m:f", lambda path: path + "?x"), {"path": "/a"}), "/a?x")
