"""What the controller and each worker make of the same configuration: static routes, meters, writers of logs."""

from __future__ import annotations

import json
from collections.abc import Mapping

import attrs

from proxyd.metrics.meters import ChpMeters, Meters
from proxyd.model.routes import DEFAULT_OPTIONS, Route, RouteOptions, over, place_of
from proxyd.model.settings import Config, RouteSpec
from proxyd.model.tls import UpstreamTlsSettings
from proxyd.net.certificates import ClientContexts
from proxyd.option import AUTO_WORKERS
from proxyd.system.cores import usable_cores


def static_route(key: str, spec: RouteSpec) -> Route:
    """The route that a key and a section of the file describe."""
    options = RouteOptions(**{field.name: getattr(spec, field.name) for field in attrs.fields(RouteOptions)})
    members = json.dumps({"target": spec.upstream, "static": True})
    host, segments = place_of(key)
    return Route.told(key, members, host, options, segments=segments)  # the table keeps them for each static route


def static_routes(
    config: Config, running: Config | None = None, known: Mapping[str, Route] | None = None
) -> dict[str, Route]:
    """The static routes of `config` by their keys; those that are the same in `running` are taken from `known`."""
    kept = {} if running is None or known is None else known
    before = {} if running is None else running.routes
    return {
        key: kept[key] if key in kept and before.get(key) == spec else static_route(key, spec)
        for key, spec in config.routes.items()
    }


def load_upstream_tls(config: Config, contexts: ClientContexts) -> None:
    """Try what the configuration says, so that a mistake does not wait for the first request.

    Raises `TlsError`.
    """
    default = over(config.route_defaults, DEFAULT_OPTIONS).upstream_tls or UpstreamTlsSettings()
    own = (spec.upstream_tls for spec in (*config.routes.values(), *config.patterns))
    for settings in {default, *(over(settings, default) for settings in own if settings)} - {UpstreamTlsSettings()}:
        contexts.of(settings)


def make_meters(config: Config) -> Meters | ChpMeters | None:
    """What counts, if anybody can see it."""
    metrics = config.metrics
    if not metrics.enabled or not (metrics.has_listener or config.api is not None):
        return None
    return ChpMeters() if metrics.names == "chp" else Meters()


def renew_meters(config: Config, running: Meters | ChpMeters | None) -> Meters | ChpMeters | None:
    """What counts from now on: what does already, if it is what is wanted."""
    fresh = make_meters(config)
    return running if type(running) is type(fresh) else fresh


def worker_count(config: Config) -> int:
    """How many processes serve."""
    return usable_cores() if config.workers == AUTO_WORKERS else config.workers
