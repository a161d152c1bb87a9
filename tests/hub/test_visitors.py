"""Tests of `proxyd.hub.visitors`: one question at a time, and what is known for how long."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.visitors import Visitor
from proxyd.errors import HubError
from proxyd.hub.visitors import Visitors

ALICE = Visitor.read(b'{"name": "alice"}')


class VisitorsTests(SynchronousTestCase):
    """A Hub that answers when the test says so."""

    def setUp(self) -> None:
        self.now = 0.0
        self.asked: list[tuple[bytes, Deferred[Visitor | None]]] = []
        self.visitors = Visitors(self.ask, lambda: self.now, 60)

    def ask(self, token: bytes) -> Deferred[Visitor | None]:
        answer: Deferred[Visitor | None] = Deferred()
        self.asked.append((token, answer))
        return answer

    def find(self, token: bytes = b"t", session: bytes = b"s") -> Deferred[Visitor | None]:
        """What is not known yet."""
        found = self.visitors.find(session, token)
        assert isinstance(found, Deferred), found
        return found

    def test_who_asks_together_waits_together(self) -> None:
        """The Hub is asked once; somebody who leaves takes nobody along."""
        first, second, third = self.find(), self.find(), self.find()
        self.assertEqual(len(self.asked), 1)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.asked[0][1].callback(ALICE)
        self.assertEqual([self.successResultOf(found) for found in (second, third)], [ALICE, ALICE])
        self.assertIs(self.visitors.find(b"s", b"t"), ALICE)

    def test_all_leave(self) -> None:
        """The answer is remembered all the same."""
        found = self.find()
        found.cancel()
        self.failureResultOf(found, CancelledError)
        self.asked[0][1].callback(ALICE)
        self.assertIs(self.visitors.find(b"s", b"t"), ALICE)

    def test_faults_are_not_remembered(self) -> None:
        """All who wait fail, and the next one asks again."""
        waiting = [self.find(), self.find()]
        self.asked[0][1].errback(HubError(503, "is down"))
        for found in waiting:
            self.failureResultOf(found, HubError)
        self.find()
        self.assertEqual(len(self.asked), 2)

    def test_sessions_and_tokens_are_told_apart(self) -> None:
        """Each pair is a question of its own."""
        for token, session in ((b"t", b"s"), (b"t", b"s2"), (b"t2", b"s"), (b"ts", b"")):
            self.find(token, session)
        self.assertEqual(len(self.asked), 4)

    def test_a_flood_of_bad_tokens(self) -> None:
        """Does not drive the good ones out, and asks only so much at once."""
        self.find()
        self.asked.pop()[1].callback(ALICE)
        for number in range(12_000):
            self.find(b"%d" % number)
            self.asked.pop()[1].callback(None)
        self.assertLessEqual(len(self.visitors._unknown), 10_000)
        self.assertIs(self.visitors.find(b"s", b"t"), ALICE)
        for number in range(256):
            self.find(b"x%d" % number)
        error = self.failureResultOf(self.find(b"one more"), HubError)
        self.assertEqual(error.value.status, 503)
        self.find(b"x1")  # this one waits with another
