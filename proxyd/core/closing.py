"""How the sides of a relay part: which closes are valid, and what one side hears of the end of the other."""

from __future__ import annotations

from enum import Enum, auto

import attrs

# RFC 6455 §7.4 and the registry of IANA; 1004 to 1006 and 1015 never stand in a frame.
_REGISTERED = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
_OWN = range(3000, 5000)
# RFC 6455 §5.5: the payload of a control frame, less the two bytes of the code.
_MAX_REASON = 123


@attrs.frozen
class Close:
    """What a Close frame says: a code with a reason, or, as `code` None, nothing."""

    code: int | None = None
    reason: bytes = b""


GOING_AWAY = Close(1001, b"the proxy ends")

_LOST_UPSTREAM = Close(1011, b"the upstream is lost")
_FAULTY_UPSTREAM = Close(1011, b"the upstream broke the protocol or a limit")
_FAULTY_CLIENT = Close(1001, b"the client broke the protocol or a limit")


class Side(Enum):
    """Who is at one end of a relay."""

    CLIENT = auto()
    UPSTREAM = auto()


def fault_of(close: Close) -> Close | None:
    """The Close that a side deserves for this one (RFC 6455 §7.4, §5.5.1), None if there is nothing wrong with it."""
    if close.code is not None and close.code not in _REGISTERED and close.code not in _OWN:
        return Close(1002, b"a close code that never stands in a frame")
    try:
        close.reason.decode()
    except UnicodeDecodeError:
        return Close(1007, b"the reason of a close is not UTF-8")
    return None


def after_loss(lost: Side) -> Close | None:
    """What is said to the other side when `lost` ended without a Close.

    A client is told, because a bare end tells it nothing. None: an upstream hears nothing but the end of the
    connection, as it would have heard without a proxy.
    """
    return _LOST_UPSTREAM if lost is Side.UPSTREAM else None


def after_fault(faulty: Side) -> Close:
    """What is said to the other side when `faulty` broke the protocol or a limit.

    1002, 1007 and 1009 blame the one that gets them, so they are for the faulty side only.
    """
    return _FAULTY_UPSTREAM if faulty is Side.UPSTREAM else _FAULTY_CLIENT


def fault(code: int, reason: str) -> Close:
    """A Close with `code` for a side that broke a rule; `reason` is cut to what fits, between two characters."""
    return Close(code, reason.encode()[:_MAX_REASON].decode(errors="ignore").encode())
