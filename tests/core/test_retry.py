"""What may be sent a second time."""

from __future__ import annotations

from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.head import CHUNKED
from proxyd.core.retry import is_repeatable, may_retry


class RetryTests(SynchronousTestCase):
    """Once, and only what does no harm twice."""

    def test_idempotent_methods_without_a_body_are_repeatable(self) -> None:
        """The methods that RFC 9110 §9.2.2 and WebDAV call idempotent, and only while there is no body."""
        for method, body, expected in (
            (b"GET", 0, True),
            (b"HEAD", 0, True),
            (b"OPTIONS", 0, True),
            (b"PUT", 0, True),
            (b"DELETE", 0, True),
            (b"TRACE", 0, True),
            (b"PROPFIND", 0, True),
            (b"REPORT", 0, True),
            (b"SEARCH", 0, True),
            (b"GET", 1, False),
            (b"PUT", 5, False),
            (b"DELETE", CHUNKED, False),
            (b"POST", 0, False),
            (b"PATCH", 0, False),
            (b"LOCK", 0, False),
            (b"get", 0, False),
            (b"FROB", 0, False),
        ):
            self.assertEqual(is_repeatable(method, body), expected, f"{method!r} {body}")

    def test_request_is_retried_once_on_a_connection_that_had_served(self) -> None:
        """Every single condition has to hold: repeatable, reused, not one byte of an answer, the first attempt."""
        for method, body, reused, answered, attempts in product(
            (b"GET", b"POST"), (0, 5, CHUNKED), (False, True), (False, True), (1, 2, 3)
        ):
            expected = (method, body, reused, answered, attempts) == (b"GET", 0, True, False, 1)
            self.assertEqual(
                may_retry(method, body, reused=reused, answered=answered, attempts=attempts),
                expected,
                f"{method!r} body={body} reused={reused} answered={answered} attempts={attempts}",
            )
