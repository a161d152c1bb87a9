"""What may be sent a second time (RFC 9110 §9.2.2, RFC 9112 §9.3.1)."""

from __future__ import annotations

_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE", b"PROPFIND", b"REPORT", b"SEARCH"})


def is_repeatable(method: bytes, body: int) -> bool:
    """Whether a request could be sent again without asking: an idempotent method, and no body to replay."""
    return body == 0 and method in _IDEMPOTENT


def may_retry(method: bytes, body: int, *, reused: bool, answered: bool, attempts: int) -> bool:
    """Whether to send a request again whose connection ended.

    Only once; only if the connection had served before, because then the upstream may have closed it as idle at
    the very moment of its reuse; only if not one byte of an answer came.
    """
    return reused and not answered and attempts == 1 and is_repeatable(method, body)
