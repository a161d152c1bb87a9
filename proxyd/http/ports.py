"""Ports by number, below `base_url`. What may be asked for is `core.ports`."""

from __future__ import annotations

from collections.abc import Callable
from logging import getLogger
from typing import TYPE_CHECKING, Any

import attrs
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004  # Twisted's own

from proxyd.core.bounded import Bounded
from proxyd.core.managed import takes_origin
from proxyd.core.ports import PortPlace, PortRules
from proxyd.core.rewriting import RewriteRequest
from proxyd.core.target import decode_loosely, key_of
from proxyd.core.upgrade import is_handshake
from proxyd.errors import RequestError
from proxyd.http.activity import Activity
from proxyd.http.holding import hold
from proxyd.http.rewriting import client_request
from proxyd.http.streaming import StreamingResource
from proxyd.interfaces import IStreamingResource

if TYPE_CHECKING:
    from proxyd.http.request import Request

# Somebody may ask for all 65,535 ports. A resource that was dropped is made again; its pool lives on its connections.
_CAPACITY = 256


class Handler:
    """What a function that decides on hosts gets to know, as it does from jupyter-server-proxy."""

    log = getLogger("proxyd.ports")

    def __init__(self, request: Request) -> None:
        self._request = request

    @property
    def request(self) -> RewriteRequest:
        """The client's request, without its body."""
        return client_request(self._request, b"")


@attrs.define(kw_only=True)
class Surroundings:
    """What requests for ports have in common, whatever the rules.

    `activity` is told of all of them. `run` calls what may block, in a thread; who takes more than `max_seconds` is
    not waited for.
    """

    activity: Activity
    run: Callable[[Callable[[], PortPlace]], Deferred[PortPlace]]
    clock: Any
    max_seconds: float = 0.0


class PortsResource(StreamingResource):
    """Forwards to the ports that `rules` allow, for WebSockets of our own origin and of those in `allow_origin`.

    `build` makes what serves one.
    """

    def __init__(
        self,
        rules: PortRules,
        allow_origin: tuple[str, ...],
        build: Callable[[PortPlace], IStreamingResource],
        around: Surroundings,
    ) -> None:
        super().__init__()
        self._rules = rules
        self._allow_origin = allow_origin
        self._build = build
        self._around = around
        self._resources: Bounded[PortPlace, IStreamingResource] = Bounded(_CAPACITY)

    def render_streaming(self, request: Request) -> None:
        """Forward a request whose head has come."""
        head, around, rules = request.head, self._around, self._rules
        place = rules.place(key_of(decode_loosely(request.path)))
        if head.upgrade and is_handshake(head) and not takes_origin(head, request.peer, self._allow_origin):
            raise RequestError(403, "the origin of the WebSocket is not in ports.allow_origin")
        if not rules.asks(place):
            self._serve(request, place)
            return
        handler = Handler(request)
        deciding = around.run(lambda: rules.decide(place, handler))
        if around.max_seconds and not deciding.called:
            deciding.addTimeout(around.max_seconds, around.clock)
        hold(request, deciding, self._serve, self._failed)

    def _serve(self, request: Request, place: PortPlace) -> None:
        activity = request.use = self._around.activity
        activity.touch()
        self._resources.get(place, lambda: self._build(place)).render_streaming(request)

    def _failed(self, request: Request, error: BaseException | None) -> bool:
        if not isinstance(error, TimeoutError):
            return False
        seconds = self._around.max_seconds
        request.fail(RequestError(403, f"ports.hosts took more than {seconds:g} seconds"))
        return True


class Reminder:
    """Says `words`, at most once in `interval` seconds."""

    def __init__(self, words: str, seconds: Callable[[], float], interval: float) -> None:
        self._words = words
        self._seconds = seconds
        self._interval = interval
        self._said: float | None = None

    def __call__(self) -> str:
        """The words, or nothing if they have just been said."""
        now = self._seconds()
        if self._said is not None and now < self._said + self._interval:
            return ""
        self._said = now
        return self._words
