"""Tests of the oracle itself: `tests.websocket.transcripts` finds what is wrong."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.websocket.exchanges import EXCHANGES, Exchange
from tests.websocket.frames import CLOSE, PING, PONG, TEXT, close_frame, frame
from tests.websocket.transcripts import Transcript, problem

_STATUS = b"HTTP/1.1 101 Switching Protocols"
_BYE = frame(CLOSE, b"\x03\xe8bye")
_ECHO = frame(TEXT, b"Hello")


def seen(*frames: bytes, is_hung: bool = False) -> Transcript:
    """What came in an open WebSocket."""
    return Transcript(_STATUS, b"".join(frames), is_hung)


class ProblemTests(SynchronousTestCase):
    """A transcript is right, or something is said of it."""

    good = Exchange(1, "a text", (), ((TEXT, b"Hello"), (PONG, b"1")), b"\x03\xe8bye")
    bad = Exchange(4, "a fault", (), ((TEXT, b"Hello"),), b"\x03\xea", 1002)

    def test_right(self) -> None:
        """Every answer and the Close; for a fault its code, and as much of the answers as there was time for."""
        pong = frame(PONG, b"1")
        self.assertEqual("", problem(self.good, seen(_ECHO, pong, _BYE)))
        self.assertEqual("", problem(self.good, seen(pong, _ECHO, _BYE), in_order=False))
        self.assertEqual("", problem(self.good, seen(frame(PING), _ECHO, pong, _BYE), in_order=False))
        self.assertEqual("", problem(self.bad, seen(_ECHO, close_frame(1002, b"why"))))
        self.assertEqual("", problem(self.bad, seen(close_frame(1002))))

    def test_wrong(self) -> None:
        """Everything else."""
        pong = frame(PONG, b"1")
        cases = {
            "order": (self.good, seen(pong, _ECHO, _BYE)),
            "missing": (self.good, seen(_ECHO, _BYE)),
            "twice": (self.good, seen(_ECHO, _ECHO, pong, _BYE)),
            "another": (self.good, seen(frame(TEXT, b"hello"), pong, _BYE)),
            "no close": (self.good, seen(_ECHO, pong)),
            "another close": (self.good, seen(_ECHO, pong, close_frame(1000))),
            "behind the close": (self.good, seen(_ECHO, pong, _BYE, b"\x88")),
            "HTTP in the stream": (self.good, seen(_ECHO, b"HTTP/1.1 503 Service Unavailable\r\n\r\n")),
            "masked": (self.good, seen(frame(TEXT, b"Hello", mask=True), pong, _BYE)),
            "no end": (self.good, seen(_ECHO, pong, _BYE, is_hung=True)),
            "refused": (self.good, Transcript(b"HTTP/1.1 502 Bad Gateway", b"")),
            "another fault": (self.bad, seen(close_frame(1007))),
            "answered behind the fault": (self.bad, seen(_ECHO, _ECHO, close_frame(1002))),
        }
        for name, (exchange, transcript) in cases.items():
            self.assertNotEqual("", problem(exchange, transcript), name)
        self.assertNotEqual("", problem(self.good, seen(_ECHO, _BYE), in_order=False))

    def test_none_is_right_with_nothing(self) -> None:
        """No exchange is satisfied by a Close alone that says nothing, unless it asks for that."""
        for exchange in EXCHANGES:
            if exchange.close or exchange.answered:
                self.assertNotEqual("", problem(exchange, seen(close_frame(None))), exchange.title)
