"""Routes as the API takes them and stores keep them: a key and a JSON object -> a route."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from proxyd.errors import OptionError, RequestError
from proxyd.model.routes import INHERITED, Route, RouteOptions, place_of
from proxyd.model.upstream import Upstream

OptionsReader = Callable[[Mapping[str, Any]], RouteOptions]
"""Reads the options in a posted object, leaving what is none; raises `OptionError`."""

_encode = json.JSONEncoder(allow_nan=False).encode


@attrs.define
class RouteReader:
    """Reads keys and objects; `read_options` None keeps posted options verbatim, without effect."""

    host_routing: bool
    read_options: OptionsReader | None

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
            upstream = Upstream.parse(target)
            options = self.read_options(posted) if self.read_options is not None else INHERITED
        except OptionError as error:
            raise RequestError(400, f"{'.'.join(map(str, error.path)) or 'target'}: {error}") from None
        members = {name: value for name, value in posted.items() if name != "last_activity"}
        members["target"] = target
        segments = place_of(key)[1]
        if self.host_routing and segments:
            host, segments = segments[0], segments[1:]
            members["host"] = host
        try:
            text = _encode(members)
        except (TypeError, ValueError, RecursionError) as error:
            raise RequestError(400, f"JSON has no form for it: {error}") from None
        return Route(key, upstream, segments, host.lower().removesuffix("."), options, text)
