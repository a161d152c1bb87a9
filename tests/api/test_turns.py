"""Tests of `proxyd.api.turns`."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from proxyd.api.turns import Turns


class TurnsTests(SynchronousTestCase):
    """Who may work when."""

    def setUp(self) -> None:
        self.turns = Turns()
        self.begun: list[str] = []
        self.works: dict[str, Deferred[str]] = {}

    def ask(self, name: str, *, alone: bool = False) -> Deferred[str]:
        """Ask for a turn."""

        def work() -> Deferred[str]:
            self.begun.append(name)
            self.works[name] = Deferred()
            return self.works[name]

        return Deferred.fromCoroutine(self.turns.run(work, alone=alone))

    def test_together_or_alone(self) -> None:
        """In the order in which they asked; who asks to be alone is, and nobody overtakes."""
        a, b = self.ask("a"), self.ask("b")
        c, d = self.ask("c", alone=True), self.ask("d", alone=True)
        e, f = self.ask("e"), self.ask("f")
        self.assertEqual(["a", "b"], self.begun)
        self.works["a"].callback("A")
        self.assertEqual(["a", "b"], self.begun)
        self.works["b"].callback("B")
        self.assertEqual(["a", "b", "c"], self.begun)
        self.works["c"].callback("C")
        self.assertEqual(["a", "b", "c", "d"], self.begun)
        self.works["d"].callback("D")
        self.assertEqual(["a", "b", "c", "d", "e", "f"], self.begun)
        self.works["f"].callback("F")
        self.works["e"].callback("E")
        self.assertEqual(["A", "B", "C", "D", "E", "F"], [self.successResultOf(each) for each in (a, b, c, d, e, f)])

    def test_a_failure_makes_room(self) -> None:
        """And is that of who asked."""
        a, b = self.ask("a", alone=True), self.ask("b")
        self.works["a"].errback(ValueError())
        self.failureResultOf(a, ValueError)
        self.works["b"].callback("B")
        self.assertEqual("B", self.successResultOf(b))

    def test_a_long_queue(self) -> None:
        """Of work that is done at once is not one deep recursion."""
        self.ask("a", alone=True)
        queue = [Deferred.fromCoroutine(self.turns.run(lambda: succeed(1), alone=bool(n % 2))) for n in range(5000)]
        self.works["a"].callback("A")
        self.assertEqual(5000, sum(self.successResultOf(each) for each in queue))
