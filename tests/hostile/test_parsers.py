"""What the fuzzer looks for, in everything that the cases send, and in what it has found."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.hostile import parsers
from tests.hostile.families import ANSWERS, REQUESTS
from tests.hostile.parsers import CHECKS, FindingError, check_request_head, check_response_head

# Inputs that once broke a check, with what was wrong.
FINDINGS: dict[str, tuple[bytes, ...]] = {
    "request": (),
    "response": (),
    # An incomplete line that can never become a chunk size: the oracle refused it before we could.
    "chunks": (b"ok", b"0\r\nX"),
}


class ParserTests(SynchronousTestCase):
    """The readers of heads and chunks, without a process."""

    def test_findings(self) -> None:
        """What the fuzzer has found holds now."""
        for what, inputs in FINDINGS.items():
            for data in inputs:
                CHECKS[what](data)

    def test_cases(self) -> None:
        """All that clients and upstreams send in the cases, however it is read."""
        for families, whats in ((REQUESTS, ("request", "chunks")), (ANSWERS, ("response", "chunks"))):
            for case in (case for family in families for case in family):
                for step in case.sends + case.script:
                    if isinstance(step, bytes) and len(step) < 4000:
                        for what in whats:
                            CHECKS[what](step if what != "chunks" else step.partition(b"\r\n\r\n")[2])

    def test_the_checks_can_fail(self) -> None:
        """A reader that took more than a strict one would be noticed."""
        for check, reader, good in (
            (check_request_head, "_REQUESTS", b"GET / HTTP/1.1\r\nHost: a\r\n"),
            (check_response_head, "_RESPONSES", b"HTTP/1.1 200 OK\r\n"),
        ):
            self.patch(parsers, reader, _Lenient(getattr(parsers, reader), good))
            check(good + b"X: y")
            for line in (b"X : y", b"X: y\nContent-Length: 5", b"no colon", b" folded"):
                self.assertRaises(FindingError, check, good + line)


class _Lenient:
    """Reads `good`, and takes whatever stands behind it for fields."""

    def __init__(self, reader: Any, good: bytes) -> None:
        self._reader = reader
        self._good = good

    def read(self, block: bytes) -> Any:
        head = self._reader.read(self._good.removesuffix(b"\r\n"))
        head.fields = block.removeprefix(self._good).split(b"\r\n")
        return head
