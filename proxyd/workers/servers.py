"""Managed servers below `base_url`, as the configuration of the moment has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import attrs

from proxyd.core.forward import ForwardPlan
from proxyd.core.launcher import context_of
from proxyd.core.prefixed import PrefixedPlan
from proxyd.core.target import decode_path, key_of
from proxyd.core.templates import names_at, render_pairs
from proxyd.http.managed import Activity, ManagedResource, PlainPages, ServerPages, Surroundings
from proxyd.http.resources import ForwardResource
from proxyd.http.rewriting import Rewriting
from proxyd.http.streaming import StreamingResource
from proxyd.http.tree import RouteTree
from proxyd.interfaces import IServerSupervisor
from proxyd.model.routes import HeaderChanges, RouteOptions
from proxyd.model.servers import Place, ServerSpec
from proxyd.model.settings import Config
from proxyd.option import Function
from proxyd.upstream.pools import Pools, UpstreamPool
from proxyd.workers.guards import Guards


class Front(Protocol):
    """What stands in front of the server at `base_url` itself."""

    def behind(self, resource: StreamingResource) -> StreamingResource:
        """`resource` behind something that serves only who was let in."""

    def before(self, resource: StreamingResource) -> StreamingResource:
        """`resource`, which asks who it is, behind something that serves everybody."""


class Servers:
    """Keeps the servers of `supervisor` on `tree`.

    `pools` has the connections to them. `make_rewriting` makes what functions do to responses, from them and from what
    they are offered. `build` makes what forwards. `front` is for the server at `base_url` itself. `pages` may be
    replaced: it is asked for each request.
    """

    def __init__(
        self,
        tree: RouteTree,
        supervisor: IServerSupervisor,
        pools: Pools,
        *,
        wall_clock: Callable[[], float],
        make_rewriting: Callable[[tuple[Function, ...], Mapping[str, object]], Rewriting | None],
        build: Callable[[ForwardPlan, RouteOptions, UpstreamPool, Rewriting | None], ForwardResource],
        front: Front | None = None,
    ) -> None:
        self._front = front
        self._tree = tree
        self._supervisor = supervisor
        self._pools = pools
        self._make_rewriting = make_rewriting
        self._build = build
        self._mounted: list[tuple[str, ...]] = []
        self._around = Surroundings(supervisor=supervisor, pages=PlainPages(), activity=Activity(wall_clock))

    @property
    def last_activity(self) -> float:
        """When something last happened on any of them: seconds since the epoch, 0 for never."""
        return self._around.activity.last

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
        for segments in self._mounted:
            self._tree.unmount(segments)
        self._mounted = []
        for name, spec in config.servers.items():
            if not spec.is_reachable:
                continue
            is_root = name == config.root_server
            context = config.base_url.rstrip("/") if is_root else context_of(name, config.base_url)
            segments = key_of(decode_path(context.encode()))
            resource: StreamingResource = self._make(name, spec, context, len(segments), config.base_url, options)
            if is_root and self._front is not None:
                resource = self._front.before(guards.guard_mounted(segments, self._front.behind(resource)))
            else:
                resource = guards.guard_mounted(segments, resource)
            self._tree.mount(segments, resource)
            self._mounted.append(segments)

    def _make(
        self, name: str, spec: ServerSpec, context: str, depth: int, base_url: str, options: RouteOptions
    ) -> ManagedResource:
        def build(place: Place, spec: ServerSpec) -> ForwardResource:
            fields = render_pairs(spec.request_headers_override, names_at(place, base_url), "request_headers_override")
            changes = options.request_headers or HeaderChanges()
            changes = attrs.evolve(changes, set={**(changes.set or {}), **fields})
            plan = PrefixedPlan(
                place.upstream,
                attrs.evolve(options, request_headers=changes),
                context,
                depth,
                is_absolute=spec.absolute_url,
                rewrites_location=spec.rewrite_location,
            )
            rewriting = self._make_rewriting(spec.rewriters, {"host": "localhost", "port": place.port})
            return self._build(plan, options, self._pools.of(place.upstream), rewriting)

        return ManagedResource(name, spec, context, depth, self._around, build)
