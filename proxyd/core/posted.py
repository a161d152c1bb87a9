"""Routes as the API takes them and stores keep them: a key and a JSON object -> a route."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, get_args, get_type_hints

import attrs

from proxyd.core.jsontext import refuse_depth
from proxyd.errors import OptionError, RequestError
from proxyd.model.routes import INHERITED, Route, RouteOptions, place_of
from proxyd.model.upstream import Upstream
from proxyd.option import Secret

RESERVED = ".proxyd"
"""A segment that no route has: what is below it belongs to authenticators."""

# What the API adds to a route when it tells of it, and whoever posts that means nothing by it; and the other word for
# the target, which would stay behind when the target is changed.
_NOT_KEPT = frozenset({"last_activity", "static", "upstream"})
_NOT_KEPT_VERBATIM = frozenset({"last_activity"})

OptionsReader = Callable[[Mapping[str, Any]], RouteOptions]
"""Reads the options in a posted object, leaving what is none; raises `OptionError`."""

_encode = json.JSONEncoder(allow_nan=False).encode


def without_secrets(members: str, options: RouteOptions) -> str:
    """The JSON object `members` of a route without what its `options` say is secret: the API shows the rest."""
    if options is INHERITED:
        return members
    return json.dumps(_without_secrets(json.loads(members), options))


def _without_secrets(members: Any, options: Any) -> Any:
    if not attrs.has(type(options)) or not isinstance(members, dict):
        return members
    secret = _secrets_of(type(options))  # type: ignore[arg-type]  # a class is hashable
    return {
        name: _without_secrets(value, getattr(options, name, None))
        for name, value in members.items()
        if name not in secret
    }


@lru_cache(maxsize=64)
def _secrets_of(cls: type) -> frozenset[str]:
    kinds = get_type_hints(cls)
    return frozenset(name for name, kind in kinds.items() if kind is Secret or Secret in get_args(kind))


@attrs.define
class RouteReader:
    """Reads keys and objects; `read_options` None keeps posted options verbatim, without effect.

    `version` counts how often it has been told to read otherwise.
    """

    host_routing: bool
    read_options: OptionsReader | None
    version: int = attrs.field(default=0, init=False)

    def read_as(self, other: RouteReader) -> None:
        """Read as `other` does, from now on."""
        self.host_routing, self.read_options = other.host_routing, other.read_options
        self.version += 1

    def key_of(self, path: str) -> str:
        """The key of the route that a decoded `path` names: one slash in front, none behind, the host in lower case."""
        key = "/" + path.strip("/")
        if self.host_routing:
            host, slash, path = key[1:].partition("/")
            key = "/" + host.lower().removesuffix(".") + slash + path
        return key

    def read(self, key: str, posted: Mapping[str, Any]) -> Route:
        """The route that a posted object describes.

        Raises `RequestError` 400 with a reason.
        """
        target = posted.get("target", posted.get("upstream") if self.read_options is not None else None)
        if not isinstance(target, str):
            raise RequestError(400, "Must specify 'target' as a string")
        host = posted.get("host")
        if self.read_options is None or self.host_routing or host is None:
            host = ""
        elif not isinstance(host, str):
            raise RequestError(400, "host: expected text")
        try:
            Upstream.parse(target)
            options = self.read_options(posted) if self.read_options is not None else INHERITED
        except OptionError as error:
            raise RequestError(400, f"{'.'.join(map(str, error.path)) or 'target'}: {error}") from None
        if self.read_options is not None and RESERVED in place_of(key)[1]:
            raise RequestError(400, f"{RESERVED} in a path is reserved for logins")
        not_kept = _NOT_KEPT if self.read_options is not None else _NOT_KEPT_VERBATIM
        members = {name: value for name, value in posted.items() if name not in not_kept}
        members["target"] = target
        skipped = 0
        if self.host_routing and (segments := place_of(key)[1]):
            host, skipped = segments[0], 1
            members["host"] = host
        try:
            text = _encode(members)
        except (TypeError, ValueError, RecursionError) as error:
            raise RequestError(400, f"JSON has no form for it: {error}") from None
        refuse_depth(members, text)
        return Route.told(key, text, host.lower().removesuffix("."), options, segments=skipped)

    def read_again(self, route: Route) -> Route:
        """A route that another reader has read.

        Raises `RequestError` if this one would not have taken it.
        """
        if self.key_of(route.key) != route.key:
            raise RequestError(400, f"its key would be {self.key_of(route.key)}")
        posted = json.loads(route.members) if route.members else {"target": route.upstream.url}
        return self.read(route.key, posted)
