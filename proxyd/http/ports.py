"""Ports by number, below `base_url`. What may be asked for is `core.ports`."""

from __future__ import annotations

from collections.abc import Callable
from logging import getLogger
from typing import TYPE_CHECKING

from proxyd.core.bounded import Bounded
from proxyd.core.ports import PortPlace, PortRules
from proxyd.core.rewriting import RewriteRequest
from proxyd.core.target import decode_path, key_of
from proxyd.http.activity import Activity
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


class PortsResource(StreamingResource):
    """Forwards to the ports that `rules` allow; `build` makes what serves one. All of it is `activity`."""

    def __init__(self, rules: PortRules, build: Callable[[PortPlace], IStreamingResource], activity: Activity) -> None:
        super().__init__()
        self._rules = rules
        self._build = build
        self._activity = activity
        self._resources: Bounded[PortPlace, IStreamingResource] = Bounded(_CAPACITY)

    def render_streaming(self, request: Request) -> None:
        """Forward a request whose head has come."""
        place = self._rules.place(key_of(decode_path(request.path)), Handler(request))
        request.use = self._activity
        self._activity.touch()
        self._resources.get(place, lambda: self._build(place)).render_streaming(request)


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
