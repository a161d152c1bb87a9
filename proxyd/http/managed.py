"""Managed servers on the public side: a request waits until its server is ready, and holds a lease while it is served.

What a server gets to see of a request is `core.prefixed`; starting and stopping is the supervisor's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import attrs
from twisted.internet.defer import Deferred, TimeoutError  # noqa: A004  # Twisted's own
from twisted.web.proxy import ReverseProxyResource
from twisted.web.resource import IResource, Resource

from proxyd.core.bounded import Bounded
from proxyd.core.managed import (
    Decisions,
    counts,
    decide,
    has_functions,
    map_path,
    mapped_target,
    stripped_path,
    takes_origin,
)
from proxyd.core.target import decode_loosely, key_of
from proxyd.core.templates import names_at
from proxyd.core.upgrade import is_handshake
from proxyd.errors import RequestError, ServerStartError, TemplateError, UnknownServerError
from proxyd.http.activity import Activity
from proxyd.http.holding import hold
from proxyd.http.ports import Handler
from proxyd.http.rawsocket import refuse_all_but_handshakes
from proxyd.http.resources import ForwardResource
from proxyd.http.streaming import StreamingResource
from proxyd.model.servers import Place, ServerSpec

if TYPE_CHECKING:
    from proxyd.http.request import Request
    from proxyd.interfaces import ILease, IServerSupervisor

# A server has few places at a time, but a new one whenever a start has failed.
_CAPACITY = 64


class ServerPages(Protocol):
    """What people see of a server that is not ready."""

    def waiting(self, request: Request, name: str) -> bool:
        """Answer with a page that waits in place of the request; False: the request itself has to go on, or wait.

        Comes before anything is asked of the supervisor: the page starts the server, unless it tells of a failure.
        """

    def failed(self, request: Request, error: ServerStartError) -> None:
        """Answer a request whose server did not become ready."""


class PlainPages:
    """Everybody waits, and a failure is an error like others."""

    def waiting(self, request: Request, name: str) -> bool:
        """Never instead of the request."""
        return False

    def failed(self, request: Request, error: ServerStartError) -> None:
        """503, with the time after which another attempt may go better."""
        retry = b"Retry-After: %d" % max(1, math.ceil(error.retry_seconds))
        request.fail(RequestError(503, str(error), (retry,)))


class Build(Protocol):
    """Makes what forwards to a place of a server that is `spec`.

    With `fields`, those are set in place of the static ones; `buffers` collects responses before they are passed on.
    """

    def __call__(
        self, place: Place, spec: ServerSpec, *, fields: Mapping[str, str] | None = None, buffers: bool = False
    ) -> ForwardResource:
        """Raises `TemplateError` for static fields that are none."""


@attrs.define(kw_only=True)
class Surroundings:
    """What the resources of all servers share.

    `run` calls what may block, in a thread; who takes more than `max_seconds` is not waited for.
    """

    supervisor: IServerSupervisor
    pages: ServerPages
    activity: Activity
    run: Callable[[Callable[[], Decisions]], Deferred[Decisions]]
    clock: Any
    max_seconds: float = 0.0
    base_url: str = "/"


class ManagedResource(StreamingResource, ReverseProxyResource):
    """Serves the server `name`, which is `spec`, below `context`: a raw path without a final slash.

    `depth` is the number of decoded segments of `context`.
    """

    decides_activity = True

    def __init__(
        self, name: str, spec: ServerSpec, context: str, depth: int, around: Surroundings, build: Build
    ) -> None:
        Resource.__init__(self)
        self._name = name
        self._spec = spec
        self._context = context.encode("ascii")
        self._depth = depth
        self._around = around
        self._build = build
        self._forwards: Bounded[tuple[Place, int], tuple[ServerSpec, ForwardResource]] = Bounded(_CAPACITY)

    def render_streaming(self, request: Request) -> None:
        """Serve a request whose head has come, once the server is ready."""
        path = request.path
        if path[-1:] != b"/" and len(key_of(decode_loosely(path))) == self._depth:
            self._add_slash(request)
            return
        if self._spec.raw_socket_proxy:
            refuse_all_but_handshakes(request)
        is_websocket = bool(request.head.upgrade) and is_handshake(request.head)
        if is_websocket and not takes_origin(request.head, request.peer, self._spec.allow_origin):
            raise RequestError(403, f"server {self._name}: the origin of the WebSocket is not in allow_origin")
        request.kind = "websocket" if is_websocket else "forward"
        if self._around.pages.waiting(request, self._name):
            return
        hold(request, self._around.supervisor.lease(self._name, counts=False), self._serve, self._failed)

    def getChild(self, path: bytes, request: object) -> IResource:
        """Everything below is served as well."""
        return self

    def _add_slash(self, request: Request) -> None:
        """Redirect to the server's own `/`, without starting it."""
        status = 302 if request.method in (b"GET", b"HEAD") else 308
        # Our own spelling: what the client sent could begin with `//`, which is another host.
        request.answer(status, [b"Location: " + self._context + b"/" + request.query])

    def _failed(self, request: Request, error: BaseException | None) -> bool:
        if isinstance(error, UnknownServerError):  # it has just been removed
            request.fail(RequestError(404, str(error)))
        elif isinstance(error, ServerStartError):
            self._around.pages.failed(request, error)
        elif isinstance(error, TemplateError):
            request.fail(RequestError(500, f"server {self._name}: {error}"))
        elif isinstance(error, TimeoutError):
            seconds = self._around.max_seconds
            request.fail(RequestError(500, f"server {self._name}: its functions took more than {seconds:g} seconds"))
        else:
            return False
        return True

    def _serve(self, request: Request, lease: ILease) -> None:
        """Forward a request to a server that is ready."""
        spec = lease.spec
        use = request.use = _Use(lease, self._around.activity, request.visitor_touch)
        is_websocket = bool(request.head.upgrade) and is_handshake(request.head)
        if has_functions(spec, is_handshake=is_websocket):
            self._ask(request, lease, use, is_handshake=is_websocket)
            return
        use.begin(counts=counts(spec, request.path))
        if spec.mappath and not is_websocket:
            self._map(request, map_path(spec, stripped_path(request.path, self._depth)))
        self._forward_to(lease).render_streaming(request)

    def _ask(self, request: Request, lease: ILease, use: _Use, *, is_handshake: bool) -> None:
        """Forward a request as functions decide."""
        spec, around = lease.spec, self._around
        path = stripped_path(request.path, self._depth)
        names, handler = names_at(lease.place, around.base_url), Handler(request)
        deciding = around.run(lambda: decide(spec, names, path, handler, is_handshake=is_handshake))
        if around.max_seconds and not deciding.called:
            deciding.addTimeout(around.max_seconds, around.clock)

        def go_on(request: Request, decisions: Decisions) -> None:
            use.begin(counts=decisions.counts)
            self._map(request, decisions.path)
            if decisions.fields is None and decisions.buffers == (spec.progressive is False):
                forward = self._forward_to(lease)
            else:
                forward = self._build(lease.place, spec, fields=decisions.fields, buffers=decisions.buffers)
            forward.render_streaming(request)

        hold(request, deciding, go_on, self._failed)

    def _map(self, request: Request, mapped: str | None) -> None:
        if mapped is not None:
            path, request.query = mapped_target(mapped, request.query)
            request.path = self._context + path

    def _forward_to(self, lease: ILease) -> ForwardResource:
        """What forwards to the place of the lease; after a reload there may be something else than before."""
        place, spec = lease.place, lease.spec

        def build() -> tuple[ServerSpec, ForwardResource]:
            return spec, self._build(place, spec, buffers=spec.progressive is False)

        return self._forwards.get((place, id(spec)), build)[1]  # the value keeps the spec: nothing else gets its id


class _Use:
    """The use that a request makes of a server: its lease, and what shows that somebody is at work."""

    def __init__(self, lease: ILease, activity: Activity, touch: Callable[[], None] | None) -> None:
        self._lease = lease
        self._activity = activity
        self._touch = touch
        self._counts = False

    def begin(self, *, counts: bool) -> None:
        """From now on it `counts` as activity, or not."""
        self._counts = counts
        self.touch()

    def touch(self) -> None:
        """Something happened."""
        if self._counts:
            self._lease.touch()
            self._activity.touch()
            if self._touch is not None:
                self._touch()

    def end(self) -> None:
        """The exchange or tunnel is over."""
        self.touch()
        self._lease.release()
