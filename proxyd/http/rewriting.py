"""Exchanges whose responses are rewritten by functions of users; the work is in `proxyd.core.rewriting`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004  # Twisted's own
from twisted.python.failure import Failure

from proxyd.core.head import UNTIL_CLOSE, ResponseHead
from proxyd.core.rewriting import Headers, Rewriter, RewriteRequest, rewrite
from proxyd.errors import RequestError, UpstreamError
from proxyd.http.exchange import Exchange

if TYPE_CHECKING:
    from proxyd.http.request import Request
    from proxyd.http.resources import ForwardResource

_EVENT_STREAM = b"text/event-stream"


@attrs.frozen(kw_only=True)
class Rewriting:
    """What is done to the responses of a resource.

    `rewriters` are offered what is in `offered`, besides the request, the response, and the path below the prefix;
    `run` runs them, in a thread. A body of more than `max_body` bytes cannot be rewritten; one that has no
    `max_seconds` left is not waited for.
    """

    rewriters: tuple[Rewriter, ...]
    run: Callable[[Callable[[], bytes]], Deferred[bytes]]
    clock: Any
    max_body: int
    max_seconds: float
    offered: Mapping[str, object] = attrs.field(factory=dict)


class RewritingExchange(Exchange):
    """Collects the response, and sends what `rewriting` makes of it.

    Event streams pass as they are, and so do WebSockets. The body of the request is kept as well, up to the same bound:
    a function may ask for it.
    """

    _keeps_body = True

    def __init__(self, request: Request, resource: ForwardResource, rewriting: Rewriting) -> None:
        super().__init__(request, resource, is_handshake=False)
        self._rewriting = rewriting
        self._head: ResponseHead | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._sent = bytearray(request.body_start)
        self._is_over = False

    def body_received(self, data: bytes, *, complete: bool) -> None:
        """Keep it, and pass it on."""
        self._sent += data[: max(0, self._rewriting.max_body - len(self._sent))]
        super().body_received(data, complete=complete)

    def client_lost(self, reason: Failure) -> None:
        """There is nobody to answer."""
        self._is_over = True
        super().client_lost(reason)

    def response_started(self, head: ResponseHead, length: int, data: bytes, *, complete: bool) -> None:
        """Keep the head, unless the response is a stream of events."""
        if (head.get(b"content-type") or b"").partition(b";")[0].strip().lower() == _EVENT_STREAM:
            super().response_started(head, length, data, complete=complete)
            return
        meters = self._channel.site.meters
        if meters is not None:
            meters.upstream_answered(head.status)
        self._head = head
        self._collect(data, complete=complete)

    def response_continued(self, data: bytes, *, complete: bool) -> None:
        """Keep more of the body."""
        if self._head is None:
            super().response_continued(data, complete=complete)
        else:
            self._collect(data, complete=complete)

    def _collect(self, data: bytes, *, complete: bool) -> None:
        self._size += len(data)
        if self._size > self._rewriting.max_body:
            upstream = str(self._resource.plan.upstream)
            self._drop_upstream()
            self._end(UpstreamError(upstream, "its response is longer than limits.rewrite_body"))
            return
        self._pieces.append(data)
        if complete:
            self._rewrite()

    def _rewrite(self) -> None:
        self._release()
        self._channel.pause_body()  # an early answer: nobody takes the rest
        head, rewriting, request = self._head, self._rewriting, self._request
        assert head is not None  # noqa: S101  # for mypy; a body has a head
        body = b"".join(self._pieces)
        path = self._resource.plan.path_below(request.path).decode("latin-1")
        offered = {"path": path, **rewriting.offered, "request": client_request(request, bytes(self._sent))}
        done = rewriting.run(lambda: rewrite(rewriting.rewriters, head, body, offered))
        if rewriting.max_seconds:
            done.addTimeout(rewriting.max_seconds, rewriting.clock)
        done.addCallbacks(self._send_rewritten, self._not_rewritten, callbackArgs=(head,))
        done.addErrback(self.taking_failed)
        request.sink = self

    def _send_rewritten(self, body: bytes, head: ResponseHead) -> None:
        if self._is_over:
            return
        request, channel = self._request, self._channel
        has_body = request.method != b"HEAD" and head.status not in (204, 304)
        keep_alive = self._keep_alive = request.may_keep_alive
        request.status = head.status
        request.body_sent = len(body) if has_body else 0
        announced = len(body) if has_body else UNTIL_CLOSE  # how long it would be depends on the body
        plan = self._resource.plan
        sent = plan.response_head(head, request.head, announced, channel.site.date(), keep_alive=keep_alive)
        channel.write(sent + (body if has_body else b""))
        self._response_complete()

    def _not_rewritten(self, failure: Failure) -> None:
        error = failure.value
        if isinstance(error, TimeoutError):
            error = RequestError(500, f"rewrite_response took more than {self._rewriting.max_seconds:g} seconds")
        if not isinstance(error, RequestError):
            self._log.failure("unexpected error in rewrite_response", failure=failure)
            error = RequestError(500, "unexpected error, see the log")
        if not self._is_over:
            self._end(error)

    def _end(self, error: RequestError | UpstreamError) -> None:
        self._is_over = True
        self._fail(error)


def client_request(request: Request, body: bytes) -> RewriteRequest:
    """The request of a client, as functions of users see it."""
    head, peer = request.head, request.peer
    return RewriteRequest(
        method=head.method.decode("latin-1"),
        uri=head.target.decode("latin-1"),
        host=(head.host or b"").decode("latin-1"),
        protocol="https" if peer.secure else "http",
        headers=Headers([("Host", (head.host or b"").decode("latin-1")), *Headers.of_lines(head.fields).get_all()]),
        body=body,
        remote_ip=peer.address.decode("latin-1"),
    )
