"""How an option is declared."""

from __future__ import annotations

import attrs
from twisted.trial.unittest import SynchronousTestCase

from proxyd.option import HELP, SECTION, option, section


@attrs.frozen
class Inner:
    """A section."""

    depth: int = option(1, help="How deep.")


@attrs.frozen
class Outer:
    """Options of all sorts."""

    name: str = option("x", help="What it is called.")
    words: list[str] = option(["a"], help="Words.")
    pairs: dict[str, int] = option({}, help="Pairs.")
    odd: set[int] = option({1, 2}, help="Numbers.")
    fixed: tuple[int, ...] = option((1, 2), help="Fixed numbers.")
    nothing: int | None = option(None, help="Nothing.")
    inner: Inner = section(Inner, help="More options.")


class OptionTests(SynchronousTestCase):
    """Declarations and what they yield."""

    def test_default_is_the_value(self) -> None:
        """Without an argument an option has its default."""
        self.assertEqual(Outer(), Outer("x", ["a"], {}, {1, 2}, (1, 2), None, Inner(1)))

    def test_mutable_defaults_are_copied(self) -> None:
        """No two objects share a default that could be changed, nor does the declaration."""
        one, other = Outer(), Outer()
        one.words.append("b")
        one.pairs["b"] = 1
        one.odd.add(3)
        self.assertEqual((other.words, other.pairs, other.odd), (["a"], {}, {1, 2}))
        self.assertEqual(Outer(), other)

    def test_help_is_kept(self) -> None:
        """The help text is found in the metadata, for the loader, the schema and the manual."""
        fields = attrs.fields(Outer)
        self.assertEqual(fields.name.metadata, {HELP: "What it is called."})
        self.assertEqual(fields.words.metadata, {HELP: "Words."})
        self.assertEqual(fields.inner.metadata, {HELP: "More options.", SECTION: True})
