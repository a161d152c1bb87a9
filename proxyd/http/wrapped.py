"""In front of what a Hub has started: spellings of its prefix, the Hub's probe, what comes before the application."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, Protocol

from proxyd.core.landing import with_query
from proxyd.core.regular import regular_target
from proxyd.core.serverpages import preparing_page, unprepared_page
from proxyd.errors import RequestError
from proxyd.http.serverpages import may_read_lines
from proxyd.http.streaming import StreamingResource

if TYPE_CHECKING:
    from proxyd.http.request import Request

_JSON = b"Content-Type: application/json"
_SEEN = (b"GET", b"HEAD")


class Prepared(Protocol):
    """What has to be done before an application can be started."""

    @property
    def task(self) -> str:
        """What is being done, for people."""

    @property
    def reason(self) -> str:
        """Why it failed."""

    @property
    def lines(self) -> Iterable[str]:
        """What the programs said."""

    def ask(self) -> Literal["running", "done", "failed"]:
        """How it is."""


class Origin(Protocol):
    """Learns the public host."""

    def offer(self, host: bytes | None) -> bool:
        """Take the Host of a request that was let in; False if it is none, and none is known."""


class HubProbe(StreamingResource):
    """Tells the Hub that we are there, and for which of its versions: it asks before it sends anybody."""

    def __init__(self, version: Callable[[], str]) -> None:
        super().__init__()
        self._version = version

    def render_streaming(self, request: Request) -> None:
        """Answer, whatever else is going on."""
        request.kind = "health"
        body = b'{"version": "%b"}\n' % self._version().encode()
        request.answer(200, [_JSON, b"Cache-Control: no-store", self.version_field()], body)

    def version_field(self) -> bytes:
        """What the Hub looks for in the answer, whatever it is otherwise."""
        return b"X-JupyterHub-Version: " + self._version().encode()


class DoorResource(StreamingResource):
    """Serves by `inner`, which asks who it is, what is spelt like `prefix`; redirects other spellings to that one.

    A cookie is bound to a path as it is written, so a login would never end otherwise. `probe` answers the Hub, which
    shows nothing, as long as `is_ours` says so.
    """

    def __init__(
        self, inner: StreamingResource, prefix: str, probe: HubProbe, is_ours: Callable[[], bool] = lambda: True
    ) -> None:
        super().__init__()
        self._inner = inner
        self._prefix = prefix.encode("ascii")
        self._probe_path = self._prefix + b"api"
        self._probe = probe
        self._is_ours = is_ours

    def render_streaming(self, request: Request) -> None:
        """Serve, or send elsewhere."""
        if request.method in _SEEN and not request.head.upgrade:
            target = regular_target(request.path + request.query, self._prefix)
            if target is not None:
                regular = target.partition(b"?")[0]
                is_bare = not request.path.endswith(b"/") and regular == self._prefix
                request.kind = "resource"
                told = [self._probe.version_field()] if regular == self._probe_path else []
                request.answer(302 if is_bare else 301, [b"Location: " + target, *told])
                return
            if request.path == self._probe_path and not _shows_something(request) and self._is_ours():
                self._probe.render_streaming(request)
                return
        self._inner.render_streaming(request)


class PreparedResource(StreamingResource):
    """Serves by `inner` once everything is `prepared`; behind whatever asks who it is.

    `origin` learns the Host first. Whoever asks for `prefix` itself is sent to `landing`, unless that is empty.
    """

    def __init__(
        self, inner: StreamingResource, prepared: Prepared, origin: Origin | None, prefix: str, landing: str
    ) -> None:
        super().__init__()
        self._inner = inner
        self._prepared = prepared
        self._origin = origin
        self._prefix = prefix.encode("ascii")
        self._landing = landing.encode("ascii")

    def render_streaming(self, request: Request) -> None:
        """Serve, or tell how far it is."""
        state = self._prepared.ask()
        if state != "done":
            request.kind = "resource"
            failed, lines = state == "failed", self._prepared.lines if may_read_lines(request) else None
            page = (
                unprepared_page(self._prepared.reason, lines) if failed else preparing_page(self._prepared.task, lines)
            )
            fields = page.fields if failed else [*page.fields, b"Retry-After: 2"]
            request.answer(500 if failed else 503, fields, page.body)
            return
        if self._origin is not None and not self._origin.offer(request.head.host):
            raise RequestError(400, "the application needs to know its public host, and Host is none")
        if self._landing and request.path == self._prefix and request.method in _SEEN and not request.head.upgrade:
            request.kind = "resource"
            request.answer(302, [b"Location: " + with_query(self._landing, request.query)])
            return
        self._inner.render_streaming(request)


class NothingResource(StreamingResource):
    """There is nothing here, but who asks has been looked at."""

    def render_streaming(self, request: Request) -> None:
        """Answer 404."""
        raise RequestError(404, "no route")


class LandingResource(StreamingResource):
    """Sends everybody to `landing`."""

    def __init__(self, landing: str) -> None:
        super().__init__()
        self._landing = landing.encode("ascii")

    def render_streaming(self, request: Request) -> None:
        """Redirect."""
        request.kind = "resource"
        request.answer(302, [b"Location: " + with_query(self._landing, request.query)])


def _shows_something(request: Request) -> bool:
    """Whether a request has what could be a credential."""
    head = request.head
    return bool(head.get_all(b"authorization") or head.get_all(b"cookie") or b"token=" in request.query)
