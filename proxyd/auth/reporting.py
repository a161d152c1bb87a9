"""Whether and how the Hub is told of activity: section `activity`, and what the Hub has set in the environment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from proxyd.config.hub import is_under_hub
from proxyd.errors import OptionError
from proxyd.hub.activity import ActivityReports
from proxyd.model.auth import AuthConfig
from proxyd.model.settings import Config
from proxyd.model.upstream import can_be_asked

if TYPE_CHECKING:
    from proxyd.hub.client import HubPlace

_INTERVAL = 300.0
_log = Logger()


def activity_reports(
    config: Config,
    environ: Mapping[str, str],
    reactor: Any,
    last_activity: Callable[[], float],
    wall_clock: Callable[[], float] = time.time,
) -> ActivityReports | None:
    """What reports `last_activity`, in seconds since the epoch, once it is started; None if nobody is to be told.

    Raises `OptionError`, and `TlsError` for files that cannot be used.
    """
    settings = config.activity
    hub = _hub_section(config)
    if not settings.url and hub is None and not _is_expected(config, environ):
        return None
    url = settings.url or environ.get("JUPYTERHUB_ACTIVITY_URL", "")
    if not url:
        return None
    from proxyd.hub.client import HubClient  # noqa: PLC0415  # only now is anybody asked

    if not can_be_asked(url):
        raise OptionError("is no URL with http, https or http+unix", "activity", "url")
    interval: float = _seconds(environ.get("JUPYTERHUB_ACTIVITY_INTERVAL", ""))
    if settings.interval is not None:
        interval = settings.interval
    if not interval:
        return None
    client = HubClient(reactor, _place(settings.token, hub, environ, url))
    server_name = settings.server_name
    return ActivityReports(
        client.post_activity,
        last_activity,
        server_name=environ.get("JUPYTERHUB_SERVER_NAME", "") if server_name is None else server_name,
        interval=interval,
        force_alive=settings.force_alive,
        clock=reactor,
        wall_clock=wall_clock,
    )


def is_reported_alike(one: Config, other: Config) -> bool:
    """Whether both have the same reports."""
    facts = ((config.activity, _hub_section(config), _has_applications(config)) for config in (one, other))
    return next(facts) == next(facts)


def _has_applications(config: Config) -> bool:
    return bool(config.servers) or config.ports.enabled


def _is_expected(config: Config, environ: Mapping[str, str]) -> bool:
    """Whether a Hub has started us, under another login, for something whose activity counts."""
    token = environ.get("JUPYTERHUB_API_TOKEN") or environ.get("JPY_API_TOKEN") or config.activity.token
    return is_under_hub(environ) and bool(token) and _has_applications(config)


def _hub_section(config: Config) -> AuthConfig | None:
    own = (spec.auth for spec in (*config.routes.values(), *config.patterns))
    sections = (config.route_defaults.auth, config.auth, *own)
    return next((section for section in sections if section is not None and section.asks_hub), None)


def _place(token: str, hub: AuthConfig | None, environ: Mapping[str, str], url: str) -> HubPlace:
    from proxyd.auth.hubsettings import HubAuthConfig, hub_place  # noqa: PLC0415  # see above
    from proxyd.hub.asking import AskerTls  # noqa: PLC0415
    from proxyd.hub.client import HubPlace  # noqa: PLC0415

    if isinstance(hub, HubAuthConfig):
        place = hub_place(hub, environ)
        return HubPlace(url=url, token=token or place.token, tls=place.tls, seconds=place.seconds)
    token = token or environ.get("JUPYTERHUB_API_TOKEN", "") or environ.get("JPY_API_TOKEN", "")
    if not token:
        raise OptionError("is needed: JUPYTERHUB_API_TOKEN is not set in the environment either", "activity", "token")
    files = (environ.get(f"JUPYTERHUB_SSL_{name}", "") for name in ("KEYFILE", "CERTFILE", "CLIENT_CA"))
    return HubPlace(url=url, token=token, tls=AskerTls(*files))


def _seconds(text: str) -> float:
    """What JUPYTERHUB_ACTIVITY_INTERVAL says."""
    try:
        return max(0.0, float(text)) if text else _INTERVAL
    except ValueError:
        _log.warn("JUPYTERHUB_ACTIVITY_INTERVAL is no number of seconds: {seconds} are used", seconds=_INTERVAL)
        return _INTERVAL
