"""The words of a wrapped command."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.placeholders import fill, literal, names_in, template_of
from proxyd.core.templates import render
from proxyd.errors import TemplateError

VALUES = {"port": "8501", "base_url": "/user/dan", "-": "-", "--": "--"}


class PlaceholderTests(SynchronousTestCase):
    """What stands between braces."""

    def test_names_become_values(self) -> None:
        """Wherever they stand, as often as they stand there."""
        for word, filled in (
            ("", ""),
            ("plain", "plain"),
            ("{--}port={port}", "--port=8501"),
            ("{-}m", "-m"),
            ("{base_url}/{port}{port}", "/user/dan/85018501"),
            ("{{port}}", "{port}"),
            ('{{"a": {port}}}', '{"a": 8501}'),
        ):
            self.assertEqual(filled, fill(word, VALUES), word)

    def test_what_is_none_of_the_names_is_refused(self) -> None:
        """Attributes, items, conversions, formats and lone braces among them; the word is named."""
        for word in ("{nope}", "{port.__class__}", "{port!r}", "{port:d}", "{}", "{", "}", "a{port", "{ port }", "{0}"):
            error = self.assertRaises(TemplateError, fill, word, VALUES)
            self.assertIn(repr(word), str(error))

    def test_names_are_told(self) -> None:
        """Those that a word asks for, and no others."""
        self.assertEqual(frozenset({"port", "--"}), names_in("{--}p={port}{{base_url}}", VALUES))

    def test_a_template_keeps_what_is_known_later(self) -> None:
        """And holds everything else as it is, braces of values among them."""
        template = template_of("{{x}}{base_url}:{port}", {"base_url": "/{a}"}, ("port",))
        self.assertEqual("{x}/{a}:99", render(template, {"port": 99}))
        self.assertRaises(TemplateError, template_of, "{nope}", {}, ("port",))

    @given(st.text())
    def test_a_literal_stays_what_it_is(self, text: str) -> None:
        """Whatever is in it."""
        self.assertEqual(text, fill(literal(text), VALUES))
        self.assertEqual(text, render(literal(text), {}))
