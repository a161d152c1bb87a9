"""Ports by number, as the configuration of the moment has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from proxyd.core.forward import ForwardPlan
from proxyd.core.ports import PortPlace, PortRules
from proxyd.core.prefixed import PrefixedPlan
from proxyd.http.activity import Activity
from proxyd.http.ports import PortsResource, Reminder, Surroundings
from proxyd.http.resources import ForwardResource
from proxyd.http.rewriting import Rewriting
from proxyd.http.tree import Rank, RouteTree
from proxyd.model.routes import RouteOptions
from proxyd.model.settings import Config
from proxyd.option import Function
from proxyd.upstream.checked import CheckedNames
from proxyd.upstream.dialing import Names
from proxyd.upstream.pools import Pools, UpstreamPool
from proxyd.workers.guards import Guards

# How often the log says that ports are off.
_REMINDER_SECONDS = 60.0


class Ports:
    """Keeps ports on `tree`.

    `make_pools` makes pools whose upstreams are looked up by the given names: those of ports are none of the routes',
    because their addresses are checked. `make_rewriting` makes what functions do to responses, from them and from what
    they are offered. `build` makes what serves one port. `activity` is told of every request. `run` calls what may
    block, in a thread, and `clock` has its time.
    """

    def __init__(
        self,
        tree: RouteTree,
        names: Names,
        seconds: Callable[[], float],
        *,
        make_pools: Callable[[Names], Pools],
        make_rewriting: Callable[[tuple[Function, ...], Mapping[str, object]], Rewriting | None],
        build: Callable[[ForwardPlan, RouteOptions, UpstreamPool, Rewriting | None], ForwardResource],
        activity: Activity,
        run: Callable[[Callable[[], PortPlace]], Deferred[PortPlace]],
        clock: Any,
    ) -> None:
        self._tree = tree
        self._names = names
        self._seconds = seconds
        self._make_pools = make_pools
        self._make_rewriting = make_rewriting
        self._build = build
        self._around = Surroundings(activity=activity, run=run, clock=clock)
        self._pools: Pools | None = None
        self._prefix: tuple[str, ...] = ()

    def apply(self, config: Config, options: RouteOptions, guards: Guards) -> None:
        """Serve ports as `config` says from now on; `options` are those of a route that says nothing.

        Exchanges and tunnels that are under way go on.
        """
        self.close()
        tree = self._tree
        if self._prefix:
            tree.unmount(self._prefix, Rank.BUILT_IN)
            tree.explain(self._prefix, None)
        self._around.max_seconds = config.timeouts.response
        rules = PortRules(config.ports, config.base_url)
        self._prefix = rules.prefix
        if not config.ports.enabled:
            tree.explain(rules.prefix, Reminder("ports.enabled is false", self._seconds, _REMINDER_SECONDS))
            return
        pools = self._pools = self._make_pools(CheckedNames(self._names, rules.permits))

        def build(place: PortPlace) -> ForwardResource:
            context = rules.context(place)
            plan = PrefixedPlan(place.upstream, options, context, place.depth, is_absolute=place.is_absolute)
            # The port as text: so jupyter-server-proxy gives it to functions here, and here only.
            offered = {"host": place.host, "port": str(place.port)}
            rewriting = self._make_rewriting(config.ports.rewriters, offered)
            return self._build(plan, options, pools.of(place.upstream), rewriting)

        resource = PortsResource(rules, config.ports.allow_origin, build, self._around)
        tree.mount(rules.prefix, guards.guard_mounted(rules.prefix, resource), Rank.BUILT_IN)

    @property
    def idle(self) -> int:
        """How many connections are idle."""
        return 0 if self._pools is None else self._pools.idle

    def close(self) -> None:
        """Close every idle connection."""
        pools, self._pools = self._pools, None
        if pools is not None:
            pools.close()
