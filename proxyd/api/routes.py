"""`/api/routes`: the route table, read and changed (contract of configurable-http-proxy, section 2)."""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii as json_string
from typing import Any
from urllib.parse import parse_qs

from twisted.internet.task import deferLater
from twisted.logger import Logger

from proxyd.api.resource import Answer, Call, Function
from proxyd.api.router import Router
from proxyd.api.turns import Turns
from proxyd.core.activity import parse_timestamp, timestamp
from proxyd.core.changes import Change
from proxyd.core.jsontext import read_object
from proxyd.core.posted import RouteReader, without_secrets
from proxyd.core.table import Entry, RouteTable
from proxyd.core.target import decode_path
from proxyd.errors import RequestError
from proxyd.interfaces import IRouteStore
from proxyd.model.routes import Route

# So many routes are written into an answer before the exchanges get their turn.
_ROUTES_A_TURN = 2000


class RoutesApi:
    """Reads `table`, changes `store`; whoever watches the store brings the changes into the table.

    `reader` makes routes of what is posted. `clock` has `callLater`. Writes take their `turns`, so that nothing is read
    before and written after a reload that changes what routes mean.
    """

    _log = Logger()
    router: Router[Function] = Router()

    def __init__(
        self,
        table: RouteTable,
        store: IRouteStore,
        clock: Any,
        *,
        reader: RouteReader,
        max_body: int,
        max_path: int,
        turns: Turns | None = None,
    ) -> None:
        self._table = table
        self._store = store
        self._clock = clock
        self._reader = reader
        self._turns = turns or Turns()
        self.max_body = max_body
        self.max_path = max_path

    @router.route("/api/routes", "GET")
    @router.route("/api/routes/", "GET")
    async def list_routes(self, call: Call) -> Answer:
        """Answer with all routes, or with those that have been inactive since a time."""
        since = inactive_since(call.query)
        entries = [entry for entry in self._table if since is None or entry.last_activity < since]
        return Answer(200, json=await self._listed(entries))

    async def _listed(self, entries: list[Entry]) -> str:
        """The JSON object of routes, by key."""
        pieces: list[str] = []
        for start in range(0, len(entries), _ROUTES_A_TURN):
            if start:
                await deferLater(self._clock, 0)
            pieces += [
                f"{json_string(entry.route.key)}: {described(entry)}"
                for entry in entries[start : start + _ROUTES_A_TURN]
            ]
        return "{" + ", ".join(pieces) + "}"

    @router.route("/api/routes/<path:spec>", "GET")
    def get_route(self, call: Call) -> Answer:
        """Answer with the route of exactly this key."""
        entry = self._table.get(self._key(call))
        return Answer(404) if entry is None else Answer(200, json=described(entry))

    @router.route("/api/routes", "POST")
    @router.route("/api/routes/", "POST")
    @router.route("/api/routes/<path:spec>", "POST")
    async def add_route(self, call: Call) -> Answer:
        """Create or replace a route."""
        path = self._path(call)
        posted = read_object(await call.request.read_body(self.max_body))

        async def add() -> Route:
            route = self._reader.read(self._reader.key_of(path), posted)
            self._log.info("Adding route {prefix} -> {upstream}", prefix=route.key, upstream=route.upstream.url)
            await self._store.put(route)
            return route

        route = await self._turns.run(add, alone=False)
        self._log.info("Route added {prefix} -> {upstream}", prefix=route.key, upstream=route.upstream.url)
        return Answer(201)

    @router.route("/api/routes", "DELETE")
    @router.route("/api/routes/", "DELETE")
    @router.route("/api/routes/<path:spec>", "DELETE")
    async def delete_route(self, call: Call) -> Answer:
        """Delete the route of exactly this key."""
        path = self._path(call)

        async def delete() -> Change | None:
            return await self._store.delete(self._reader.key_of(path))

        change = await self._turns.run(delete, alone=False)
        if change is None:
            return Answer(404)
        self._log.info("Removing route {prefix}", prefix=change.key)
        return Answer(204)

    def _key(self, call: Call) -> str:
        return self._reader.key_of(self._path(call))

    def _path(self, call: Call) -> str:
        """The path that is a key as it is read now; whoever writes reads it in their turn."""
        raw = call.arguments.get("spec", "").encode("utf-8", "surrogateescape")
        if len(raw) > self.max_path:
            raise RequestError(414, "the path of the route is longer than limits.route_path")
        return decode_path(raw)


def described(entry: Entry) -> str:
    """The JSON object of a route, as the API answers it."""
    members = without_secrets(entry.route.members, entry.route.options) if entry.route.members else ""
    members = members or json.dumps({"target": entry.route.upstream.url})
    return f'{members[:-1]}, "last_activity": "{timestamp(entry.last_activity)}"}}'


def inactive_since(query: str) -> float | None:
    """The time that a query asks for, in seconds since the epoch; None if it asks for none.

    Raises `RequestError` 400.
    """
    values = parse_qs(query)
    for name in ("inactive_since", "inactiveSince"):
        if name in values:
            text = values[name][-1]
            if "T" in text:
                text = text.replace(" ", "+")  # an offset that nobody escaped
            try:
                return parse_timestamp(text)
            except (ValueError, OverflowError):
                raise RequestError(400, f"{name} is not an ISO 8601 time: {text[:100]}") from None
    return None
