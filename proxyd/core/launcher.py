"""What can be opened: for Jupyter's launcher, and for the start page (contract of managed servers, section 12)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import attrs

from proxyd.model.auth import AnonymousAuthConfig
from proxyd.model.routes import Route
from proxyd.model.servers import ServerSpec, ServerStatus

_SAFE = ":@!$&()*+,;=~"  # in a segment of a path, besides letters and digits (RFC 3986 §3.3)

# Most pressing first: a server with several instances is as well as the best of them.
_STATES = ("ready", "starting", "renewing", "backing_off", "stopping", "aborting", "failed", "stopped")


def best_state(statuses: Iterable[ServerStatus]) -> str:
    """The state of a server as a whole; empty if it has no instances."""
    return min((status.state for status in statuses), key=_STATES.index, default="")


def servers_info(specs: Mapping[str, ServerSpec], base_url: str) -> dict[str, Any]:
    """The answer of `server-proxy/servers-info`."""
    return {"server_processes": [_process(name, spec, base_url) for name, spec in specs.items()]}


def _process(name: str, spec: ServerSpec, base_url: str) -> dict[str, Any]:
    entry = spec.launcher_entry
    shown: dict[str, Any] = {
        "enabled": entry.enabled,
        "title": entry.title or name,
        "path_info": path_info(name, spec),
        "category": entry.category,
    }
    if entry.icon_path:
        shown["icon_url"] = icon_url(name, base_url)
    return {"name": name, "new_browser_tab": spec.new_browser_tab, "launcher_entry": shown}


def path_info(name: str, spec: ServerSpec) -> str:
    """Where the server opens, below `base_url`."""
    return spec.launcher_entry.path_info or f"{context_of(name, '')}/"


def context_of(name: str, base_url: str) -> str:
    """The raw path that everything of the server is below, without a final slash."""
    return base_url + quote(name, safe="/" + _SAFE)


def icon_url(name: str, base_url: str) -> str:
    """Where the icon of a server is."""
    return f"{base_url}server-proxy/icon/{quote(name, safe='/')}"


@attrs.frozen(kw_only=True)
class Card:
    """One thing to open on the start page; `name` and `state` are empty for what proxyd does not manage."""

    title: str
    url: str
    category: str
    detail: str = ""
    icon: str = ""
    name: str = ""
    state: str = ""
    new_tab: bool = False


def server_cards(
    specs: Mapping[str, ServerSpec], statuses: Mapping[str, Iterable[ServerStatus]], base_url: str
) -> list[Card]:
    """A card for each server that wants one and can be reached."""
    cards = []
    for name, spec in specs.items():
        entry = spec.launcher_entry
        if not entry.enabled or not spec.is_reachable:
            continue
        state = best_state(statuses.get(name, ())) if spec.is_managed else ""
        cards.append(
            Card(
                title=entry.title or name,
                url=base_url + path_info(name, spec).lstrip("/"),  # `//` would be another host
                category=entry.category,
                icon=icon_url(name, base_url) if entry.icon_path else "",
                name=name if state else "",
                state=state,
                new_tab=spec.new_browser_tab,
            )
        )
    return cards


def route_cards(routes: Iterable[Route], base: tuple[str, ...]) -> list[Card]:
    """A card for each route below the segments `base` that everybody can open who sees the page.

    A route for one host only is not among them, nor one with a login of its own, nor that of a single user of
    JupyterHub.
    """
    cards = []
    for route in sorted(routes, key=lambda route: route.key):
        own = route.options.auth
        is_below = len(route.segments) > len(base) and route.segments[: len(base)] == base
        if route.host or not is_below or '"jupyterhub"' in route.members:
            continue
        if own is not None and not isinstance(own, AnonymousAuthConfig):
            continue
        path = "/".join(quote(segment, safe=_SAFE) for segment in route.segments)
        title = "/".join(route.segments[len(base) :])
        cards.append(Card(title=title, url=f"/{path}/", category="Routes", detail=f"/{'/'.join(route.segments)}"))
    return cards
