"""Tests of `proxyd.workers.link`: messages in pieces, in their order, with answers, until the link is lost."""

from __future__ import annotations

import pickle
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import LinkLostError, LinkRefusedError
from proxyd.workers.link import PIECE_BYTES, WINDOW
from tests.workers.links import Links

# What an AMP value may have, and some names and lengths around it.
_MOST_BYTES = 65_535 + 100


class LinkTests(SynchronousTestCase):
    """Both ends, in memory."""

    def setUp(self) -> None:
        self.links = Links().connect()

    def test_messages_come_in_their_order(self) -> None:
        """Both ways, also those that were sent before there was a connection."""
        links = Links()
        links.controller.tell("a", ("x", b"y"))
        links.connect()
        links.worker.tell("b", [1, None])
        for number in range(1000):
            links.controller.tell("n", number)
        links.pump()
        self.assertEqual(links.worker_heard, [("a", ("x", b"y")), *(("n", number) for number in range(1000))])
        self.assertEqual(links.controller_heard, [("b", [1, None])])

    def test_a_large_message_travels_in_pieces(self) -> None:
        """No AMP value is too long, however large the message is, and it arrives as it was."""
        content = bytes(range(256)) * 40_000
        self.links.controller.tell("large", content)
        self.links.controller.tell("next")
        self.links.pump()
        self.assertEqual(self.links.worker_heard, [("large", content), ("next", None)])
        self.assertGreater(len(self.links.to_worker.sizes), len(content) // PIECE_BYTES)
        self.assertLess(max(self.links.to_worker.sizes), _MOST_BYTES)

    def test_so_many_pieces_are_on_their_way(self) -> None:
        """The rest waits until the other end has taken some."""
        for number in range(WINDOW * 2):
            self.links.controller.tell("n", (number, b"x" * PIECE_BYTES))
            self.links.clock.advance(0)
        self.assertEqual(len(self.links.to_worker.sizes), WINDOW)
        self.assertGreater(self.links.controller.backlog, 0)
        self.links.pump()
        self.assertEqual(self.links.controller.backlog, 0)
        self.assertEqual([content[0] for _, content in self.links.worker_heard], list(range(WINDOW * 2)))

    def test_messages_of_one_turn_travel_together(self) -> None:
        """A thousand changes of routes are no thousand boxes."""
        for number in range(1000):
            self.links.controller.tell("n", number)
        self.links.pump()
        self.assertLess(len(self.links.to_worker.sizes), 10)

    def test_answers(self) -> None:
        """They come at once or later, each to the one who asked."""
        later: Deferred[str] = Deferred()
        self.links.answers = {"now": lambda content: content + 1, "later": lambda _: later}
        now = [self.links.controller.ask("now", number) for number in (1, 2)]
        slow = self.links.worker.ask("later")
        self.links.pump()
        self.assertEqual([self.successResultOf(answer) for answer in now], [2, 3])
        self.assertNoResult(slow)
        later.callback("done")
        self.links.pump()
        self.assertEqual(self.successResultOf(slow), "done")

    def test_a_refusal_carries_facts(self) -> None:
        """Whatever else goes wrong is logged where it happens, and is a refusal without any."""

        def refuse(_: Any) -> None:
            raise LinkRefusedError(("start", "lab"))

        self.links.answers = {"refuse": refuse, "break": lambda _: 1 // 0}
        refused, broken = self.links.worker.ask("refuse"), self.links.worker.ask("break")
        self.links.pump()
        self.assertEqual(self.failureResultOf(refused, LinkRefusedError).value.facts, ("start", "lab"))
        self.assertIsNone(self.failureResultOf(broken, LinkRefusedError).value.facts)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_message_that_breaks_something_does_not_end_the_link(self) -> None:
        """It is logged, and the next one is taken."""
        self.links.answers = {"break": lambda _: 1 // 0}
        self.links.worker.tell("break")
        self.links.worker.tell("fine")
        self.links.pump()
        self.assertEqual([name for name, _ in self.links.controller_heard], ["break", "fine"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_what_a_worker_says_is_plain(self) -> None:
        """It travels as JSON: what is nothing else cannot be said, and pickles are not read."""
        self.links.worker.tell("plain", {"number": 1, "words": ["a", None]})
        self.links.pump()
        self.assertEqual(self.links.controller_heard, [("plain", {"number": 1, "words": ["a", None]})])
        with self.assertRaises(TypeError):
            self.links.worker._encode([(1, 0, "more", object)])
        with self.assertRaises(ValueError):
            self.links.controller._decode(pickle.dumps([(1, 0, "forged", object)]))

    def test_a_lost_link(self) -> None:
        """Who waits for an answer is told, both ends are told once, and nobody can ask or tell any more."""
        self.links.answers = {"never": lambda _: Deferred()}
        asked = self.links.controller.ask("never")
        self.links.pump()
        for _ in range(WINDOW * 2):
            self.links.controller.tell("n", b"x" * PIECE_BYTES)
        self.links.clock.advance(0)
        self.links.cut()
        self.failureResultOf(asked, LinkLostError)
        self.links.controller.close()
        self.assertEqual(sorted(self.links.lost), ["controller", "worker"])
        self.failureResultOf(self.links.controller.ask("more"), LinkLostError)
        self.links.controller.tell("more")
        self.assertEqual(self.links.controller.backlog, 0)
        self.assertEqual(self.links.clock.getDelayedCalls(), [])

    def test_the_link_can_be_closed(self) -> None:
        """Before there is a connection, and after."""
        links = Links()
        asked = links.controller.ask("boot")
        links.controller.close()
        self.failureResultOf(asked, LinkLostError)
        self.links.worker.close()
        self.assertTrue(self.links.to_controller.is_cut)
        self.assertTrue(self.links.worker.is_lost)

    def test_it_is_known_whether_the_other_end_lives(self) -> None:
        """Everything that arrives counts, also that a piece did."""
        before = self.links.controller.heard
        self.links.controller.tell("ping")
        self.links.clock.advance(0)
        self.assertEqual(self.links.controller.heard, before)
        self.links.pump()
        self.assertGreater(self.links.controller.heard, before)
