"""Managed servers below `base_url`, as the configuration of the moment has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import attrs
from twisted.internet.defer import Deferred

from proxyd.core.forward import ForwardPlan
from proxyd.core.launcher import context_of
from proxyd.core.managed import Decisions, override
from proxyd.core.prefixed import PrefixedPlan
from proxyd.core.target import decode_path, key_of
from proxyd.core.templates import names_at
from proxyd.http.activity import Activity
from proxyd.http.managed import Build, ManagedResource, PlainPages, ServerPages, Surroundings
from proxyd.http.rawsocket import RawSocketResource
from proxyd.http.resources import ForwardResource
from proxyd.http.rewriting import Rewriting
from proxyd.http.streaming import StreamingResource
from proxyd.http.tree import RouteTree
from proxyd.interfaces import IServerSupervisor
from proxyd.model.relay import RelaySettings
from proxyd.model.routes import HeaderChanges, RouteOptions
from proxyd.model.servers import Place, ServerSpec
from proxyd.model.settings import Config
from proxyd.option import ByteCount, Function, Seconds, ServerName
from proxyd.upstream.pools import Pools, UpstreamPool
from proxyd.websocket.rawsocket import RawPlan
from proxyd.workers.guards import Guards

F = TypeVar("F", bound=ForwardResource)

# A function that changes nothing: the response is collected for it all the same.
_NOTHING = Function("progressive", lambda: None)
# WebSockets of raw sockets, when nobody says anything about relays: no limits, and no pings of our own.
_UNLIMITED = RelaySettings(kind="relay", max_message_size=ByteCount(0), ping_interval=Seconds(0))


class Forward(Protocol):
    """Makes a resource that forwards, of the given kind."""

    def __call__(
        self, kind: type[F], plan: ForwardPlan, options: RouteOptions, pool: UpstreamPool, rewriting: Rewriting | None
    ) -> F:
        """`options` are complete."""


class Front(Protocol):
    """What stands in front of the server at `base_url` itself."""

    def behind(self, resource: StreamingResource) -> StreamingResource:
        """`resource` behind something that serves only who was let in."""

    def before(self, resource: StreamingResource) -> StreamingResource:
        """`resource`, which asks who it is, behind something that serves everybody."""


class Servers:
    """Keeps the servers of `supervisor` on `tree`.

    `pools` has the connections to them. `make_rewriting` makes what functions do to responses, from them and from what
    they are offered. `forward` makes what forwards. `run` calls what may block, in a thread, and `clock` has its time.
    `activity` is told of what counts. `front` is for the server at `base_url` itself. `pages` may be replaced: it is
    asked for each request.
    """

    def __init__(
        self,
        tree: RouteTree,
        supervisor: IServerSupervisor,
        pools: Pools,
        *,
        make_rewriting: Callable[[tuple[Function, ...], Mapping[str, object]], Rewriting | None],
        forward: Forward,
        run: Callable[[Callable[[], Decisions]], Deferred[Decisions]],
        clock: Any,
        activity: Activity,
        front: Front | None = None,
    ) -> None:
        self._front = front
        self._tree = tree
        self._supervisor = supervisor
        self._pools = pools
        self._make_rewriting = make_rewriting
        self._forward = forward
        self._served: tuple[dict[ServerName, ServerSpec], str] | None = None  # what the supervisor began with
        self._mounted: list[tuple[str, ...]] = []
        self._around = Surroundings(supervisor=supervisor, pages=PlainPages(), activity=activity, run=run, clock=clock)

    @property
    def pages(self) -> ServerPages:
        """What people see of a server that is not ready."""
        return self._around.pages

    @pages.setter
    def pages(self, pages: ServerPages) -> None:
        self._around.pages = pages

    def apply(self, config: Config, options: RouteOptions, guards: Guards) -> None:
        """Serve what `config` says from now on; `options` are those of a route that says nothing.

        Exchanges and tunnels that are under way go on.
        """
        around = self._around
        around.base_url, around.max_seconds = config.base_url, config.timeouts.response
        before, self._served = self._served, (dict(config.servers), config.base_url)
        if before is not None and before != self._served:
            self._supervisor.replace(config.servers, config.base_url)
        for segments in self._mounted:
            self._tree.unmount(segments)
        self._mounted = []
        reachable = {name: spec for name, spec in config.servers.items() if spec.is_reachable}
        # Now, so that no request waits for what it imports.
        raw = _raw_plan(options) if any(spec.raw_socket_proxy for spec in reachable.values()) else None
        for name, spec in reachable.items():
            is_root = name == config.root_server
            context = config.base_url.rstrip("/") if is_root else context_of(name, config.base_url)
            segments = key_of(decode_path(context.encode()))
            resource: StreamingResource = ManagedResource(
                name, spec, context, len(segments), around, self._builder(context, len(segments), options, raw)
            )
            if is_root and self._front is not None:
                resource = self._front.before(guards.guard_mounted(segments, self._front.behind(resource)))
            else:
                resource = guards.guard_mounted(segments, resource)
            self._tree.mount(segments, resource)
            self._mounted.append(segments)

    def _builder(self, context: str, depth: int, options: RouteOptions, raw: RawPlan | None) -> Build:
        """What makes the resources that forward to the places of a server below `context`."""
        base_url = self._around.base_url

        def build(
            place: Place, spec: ServerSpec, *, fields: Mapping[str, str] | None = None, buffers: bool = False
        ) -> ForwardResource:
            pool = self._pools.of(place.upstream)
            if spec.raw_socket_proxy:
                plan = PrefixedPlan(place.upstream, options, context, depth)
                resource = self._forward(RawSocketResource, plan, options, pool, None)
                resource.raw = raw or _raw_plan(options)
                return resource
            if fields is None:
                fields = override(spec, names_at(place, base_url))
            changes = options.request_headers or HeaderChanges()
            changes = attrs.evolve(changes, set={**(changes.set or {}), **fields})
            own = attrs.evolve(options, request_headers=changes)
            plan = PrefixedPlan(
                place.upstream,
                own,
                context,
                depth,
                is_absolute=spec.absolute_url,
                rewrites_location=spec.rewrite_location,
            )
            rewriters = spec.rewriters or ((_NOTHING,) if buffers else ())
            rewriting = self._make_rewriting(rewriters, {"host": "localhost", "port": place.port})
            return self._forward(ForwardResource, plan, options, pool, rewriting)

        return build


def _raw_plan(options: RouteOptions) -> RawPlan:
    return RawPlan(options.websocket if isinstance(options.websocket, RelaySettings) else _UNLIMITED)
