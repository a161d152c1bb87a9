"""What a case is made of: what the client sends, what the upstream answers, and what may come of it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto

import attrs

GET = b"GET /get HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /post HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
# Stands behind everything that has to be refused: it is never a request.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

REFUSALS = frozenset({400, 401, 403, 404, 405, 408, 411, 413, 414, 417, 421, 431, 501, 505})
FAULTS = frozenset({500, 502, 503, 504})


class Wait(Enum):
    """What a side waits for before it goes on."""

    REQUEST = auto()  # the upstream has the head of a request
    ANSWER = auto()  # the client has got something since the last wait
    END = auto()  # the client has seen the end of its connection


class End(Enum):
    """How a side ends its connection."""

    FINISH = auto()  # its own direction only
    CLOSE = auto()
    RESET = auto()


@attrs.frozen
class Endless:
    """The same bytes again and again, until the other side ends it, or `limit` bytes were taken."""

    piece: bytes
    limit: int = 16 * 1024 * 1024


Step = bytes | Wait | End | Endless


@attrs.frozen(kw_only=True)
class Seen:
    """A request that the upstream gets, exactly once.

    `targets` are forms of one target; the first one is ours. `has` are pairs of name (in lower case) and value that
    must be there, `lacks` names that must not.
    """

    method: bytes = b"GET"
    targets: tuple[bytes, ...] = (b"/get",)
    body: bytes = b""
    host: bytes | None = b"a"
    has: tuple[tuple[bytes, bytes], ...] = ()
    lacks: tuple[bytes, ...] = ()


@attrs.frozen(kw_only=True)
class Case:
    """What one client sends on one connection, and what may come of it.

    `statuses`: those of the final responses, in order, each of them one of a set. `interim`: the 1xx before them.
    `closes`: whether the connection ends behind them; if not, it serves one more request. `partial`: the upstream
    may get the beginning of one more request, but never its end. `script`: what the upstream does with each request;
    without it, it repeats method and target. `early`: it does so when it has the head. `body`: that of the one
    response. `is_cut`: that response must not look complete. `tunnel`: what the upstream, and the client, get behind
    a 101. `tls`: whether the case makes sense over TLS.
    """

    name: str
    family: str = ""
    sends: tuple[Step, ...]
    statuses: tuple[frozenset[int], ...] = ()
    interim: tuple[int, ...] = ()
    closes: bool | None = False
    forwarded: tuple[Seen, ...] = ()
    partial: bool = False
    script: tuple[Step, ...] = ()
    early: bool = False
    body: bytes | None = None
    is_cut: bool = False
    tunnel: tuple[bytes, bytes] | None = None
    has: tuple[tuple[bytes, bytes], ...] = ()
    lacks: tuple[bytes, ...] = ()
    tls: bool = True
    for_peers: bool = True

    @property
    def methods(self) -> list[bytes]:
        """What the responses answer."""
        if not self.forwarded and isinstance(self.sends[0], bytes) and self.sends[0].startswith(b"HEAD "):
            return [b"HEAD"]
        return [seen.method for seen in self.forwarded]


def bytewise(data: bytes) -> tuple[bytes, ...]:
    """Every byte as a piece of its own."""
    return tuple(data[index : index + 1] for index in range(len(data)))


def head(*lines: bytes, start: bytes = b"GET /get HTTP/1.1", host: bool = True) -> bytes:
    """A head of these lines."""
    return b"\r\n".join([start, *([b"Host: a"] if host else []), *lines, b"", b""])


def family(name: str, *cases: Case | Iterable[Case]) -> tuple[Case, ...]:
    """Cases of one family."""
    flat = [case for item in cases for case in ([item] if isinstance(item, Case) else item)]
    return tuple(attrs.evolve(case, family=name) for case in flat)


def refused(name: str, *sends: Step, status: int | tuple[int, ...] = 400, more: bytes = SMUGGLED) -> Case:
    """A request that is answered by `status` and the end, and of which the upstream hears nothing; nor of `more`."""
    statuses = frozenset({status} if isinstance(status, int) else status)
    return Case(name=name, sends=(*sends, more) if more else sends, statuses=(statuses,), closes=True)


def broken(name: str, *sends: Step, status: int = 400, more: bytes = SMUGGLED) -> Case:
    """A body that turns out wrong: the upstream may have begun to get the request, but never sees its end."""
    return attrs.evolve(refused(name, *sends, status=status, more=more), partial=True)


def passed(name: str, *sends: Step, seen: Seen | tuple[Seen, ...] = Seen(), closes: bool = False) -> Case:
    """Good requests, each of which the upstream gets, and answers."""
    forwarded = seen if isinstance(seen, tuple) else (seen,)
    return Case(
        name=name, sends=sends, statuses=(frozenset({200}),) * len(forwarded), forwarded=forwarded, closes=closes
    )


def answered(
    name: str,
    *script: Step,
    body: bytes = b"",
    status: int = 200,
    request: bytes = GET + b"\r\n",
    seen: Seen = Seen(),
    **more: object,
) -> Case:
    """An answer of the upstream that the client gets."""
    case = Case(
        name=name,
        sends=(request,),
        statuses=(frozenset({status}),),
        forwarded=(seen,),
        script=script,
        body=body,
        closes=None,
    )
    return attrs.evolve(case, **more)


def fault(name: str, *script: Step, status: int = 502, request: bytes = GET + b"\r\n", seen: Seen = Seen()) -> Case:
    """An answer of the upstream that the client gets nothing of."""
    return Case(
        name=name, sends=(request,), statuses=(frozenset({status}),), forwarded=(seen,), script=script, closes=None
    )


def cut(name: str, *script: Step, request: bytes = GET + b"\r\n", seen: Seen = Seen()) -> Case:
    """An answer that breaks off after the client has begun to get it: it must not look complete."""
    return Case(
        name=name,
        sends=(request,),
        statuses=(frozenset({200}),),
        forwarded=(seen,),
        script=script,
        closes=True,
        is_cut=True,
    )
