"""`/api/routes` beyond configurable-http-proxy: conditions, prefixes, patches, and all routes at once.

Writes that depend on what is there run alone, so that nothing comes between the look and the deed.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import attrs
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import deferLater
from twisted.logger import Logger

from proxyd.api.bulk import read_routes
from proxyd.api.resource import Answer, Call, Function
from proxyd.api.router import Router
from proxyd.api.routes import RoutesApi, described, inactive_since
from proxyd.api.tags import Tags, conditions_of, tag_field, tag_of
from proxyd.api.turns import Turns
from proxyd.core.conditions import Conditions
from proxyd.core.jsontext import merge, read_object
from proxyd.core.posted import RouteReader
from proxyd.errors import RequestError
from proxyd.garbage import collecting_later, exempt_many
from proxyd.interfaces import IRouteStore
from proxyd.model.routes import Route
from proxyd.model.settings import Limits
from proxyd.stores.feed import TableFeed

# So many changes are counted before the exchanges get their turn.
_CHANGES_A_TURN = 5000

_NO_ROUTE = "there is no route of exactly this key"


class NativeRoutesApi(RoutesApi):
    """The whole of it, for the table that `feed` fills."""

    _log = Logger()
    router: Router[Function] = Router(RoutesApi.router)

    def __init__(
        self,
        feed: TableFeed,
        store: IRouteStore,
        clock: Any,
        *,
        reader: RouteReader,
        tags: Tags,
        limits: Limits,
        turns: Turns | None = None,
    ) -> None:
        super().__init__(
            feed.table,
            store,
            clock,
            reader=reader,
            max_body=limits.api_body,
            max_path=limits.route_path,
            turns=turns,
        )
        self._feed = feed
        self._tags = tags
        self.max_bulk_body = limits.api_bulk_body
        self._bulk = DeferredLock()

    @router.route("/api/routes", "GET", "HEAD")
    @router.route("/api/routes/", "GET", "HEAD")
    async def list_routes(self, call: Call) -> Answer:
        """Answer with the routes at or below a prefix, or with those that have been inactive since a time, or all."""
        since, prefix, conditions = inactive_since(call.query), _prefix(call.query), conditions_of(call.request)
        tag = tag_field(self._tags.of_table) if since is None else ()  # activity is not in the tag
        if since is None and conditions.is_known(self._tags.of_table):
            return Answer(304, fields=tag)
        entries = [
            entry
            for entry in self._table
            if (since is None or entry.last_activity < since) and (prefix is None or _is_below(entry.route.key, prefix))
        ]
        return Answer(200, json=await self._listed(entries), fields=tag)

    @router.route("/api/routes/<path:spec>", "GET", "HEAD")
    def get_route(self, call: Call) -> Answer:
        """Answer with the route of exactly this key."""
        entry = self._table.get(self._key(call))
        conditions = conditions_of(call.request)
        if entry is None:
            raise RequestError(404, _NO_ROUTE)
        tag = tag_of(entry.route)
        if conditions.is_known(tag):
            return Answer(304, fields=tag_field(tag))
        return Answer(200, json=described(entry), fields=tag_field(tag))

    @router.route("/api/routes", "POST")
    @router.route("/api/routes/", "POST")
    @router.route("/api/routes/<path:spec>", "POST")
    async def add_route(self, call: Call) -> Answer:
        """Create or replace a route."""
        path, conditions = self._path(call), conditions_of(call.request)
        posted = read_object(await call.request.read_body(self.max_body))

        async def add() -> Route:
            key = self._reader.key_of(path)
            route = self._reader.read(key, posted)
            self._require(conditions, self._tag_at(key))
            await self._store.put(route)
            return route

        route = await self._turns.run(add, alone=bool(conditions))
        self._log.info("Route added {prefix} -> {upstream}", prefix=route.key, upstream=route.upstream.url)
        return Answer(201, fields=tag_field(tag_of(route)))

    @router.route("/api/routes", "PATCH")
    @router.route("/api/routes/", "PATCH")
    @router.route("/api/routes/<path:spec>", "PATCH")
    async def patch_route(self, call: Call) -> Answer:
        """Change members of a route (RFC 7396); when it was last active stays."""
        path, conditions = self._path(call), conditions_of(call.request)
        patch = read_object(await call.request.read_body(self.max_body))

        async def change() -> Answer:
            key = self._reader.key_of(path)
            before = self._table.get(key)
            self._require(conditions, self._tag_at(key))
            known = self._table.posted(key)
            if before is None or known is None:
                raise RequestError(404, _NO_ROUTE if before is None else "a route of the configuration stays as it is")
            members = json.loads(known.members) if known.members else {"target": known.upstream.url}
            merged = merge(members, patch)
            if "target" not in patch and "upstream" in patch:
                merged["target"] = patch["upstream"]
            route = self._reader.read(key, merged)
            if route != known:
                await self._store.put(route)
                self._log.info("Route changed {prefix} -> {upstream}", prefix=key, upstream=route.upstream.url)
            entry = self._table.get(key)
            if entry is None or entry.route != route:  # somebody else has changed the store just now
                raise RequestError(409, "the route has been changed by somebody else")
            entry.last_activity = before.last_activity
            return Answer(200, json=described(entry), fields=tag_field(tag_of(route)))

        return await self._turns.run(change, alone=True)

    @router.route("/api/routes", "DELETE")
    @router.route("/api/routes/", "DELETE")
    @router.route("/api/routes/<path:spec>", "DELETE")
    async def delete_route(self, call: Call) -> Answer:
        """Delete the route of exactly this key."""
        path, conditions = self._path(call), conditions_of(call.request)

        async def delete() -> str:
            key = self._reader.key_of(path)
            self._require(conditions, self._tag_at(key))
            if await self._store.delete(key) is None:
                is_static = self._table.get(key) is not None
                raise RequestError(404, "a route of the configuration stays as it is" if is_static else _NO_ROUTE)
            return key

        key = await self._turns.run(delete, alone=bool(conditions))
        self._log.info("Route deleted {prefix}", prefix=key)
        return Answer(204)

    @router.route("/api/routes", "PUT")
    @router.route("/api/routes/", "PUT")
    async def replace_routes(self, call: Call) -> Answer:
        """Have exactly the routes of an object, key -> route, all of them or none."""
        conditions = conditions_of(call.request)
        body = await call.request.read_body(self.max_bulk_body)
        counts: Counts = await self._bulk.run(lambda: Deferred.fromCoroutine(self._replace(body, conditions)))
        self._log.info(
            "Routes replaced: {routes} in all, {added} added, {changed} changed, {deleted} deleted",
            **attrs.asdict(counts),
        )
        return Answer(200, json=json.dumps(attrs.asdict(counts)), fields=tag_field(self._tags.of_table))

    async def _replace(self, body: bytes, conditions: Conditions) -> Counts:
        with collecting_later():
            version = self._reader.version
            routes = await read_routes(body, self._reader, self._table, self._clock, max_path=self.max_path)

            async def replace() -> Counts:
                if self._reader.version != version:
                    raise RequestError(409, "the configuration has changed meanwhile what routes mean; send them again")
                self._require(conditions, self._tags.of_table)
                return await self._replace_all(routes)

            counts = await self._turns.run(replace, alone=True)
            exempt_many(counts.added + counts.changed)
            return counts

    async def _replace_all(self, routes: dict[str, Route]) -> Counts:
        feed = self._feed
        added = changed = deleted = 0
        feed.hold()
        try:
            for index, change in enumerate(await self._store.replace(routes.values()), 1):
                if index % _CHANGES_A_TURN == 0:
                    await deferLater(self._clock, 0)
                if change.route is None:
                    deleted += 1
                elif self._table.posted(change.key) is None:
                    added += 1
                else:
                    changed += 1
        finally:
            await feed.release()
        return Counts(len(routes), added, changed, deleted)

    def _tag_at(self, key: str) -> bytes | None:
        entry = self._table.get(key)
        return None if entry is None else tag_of(entry.route)

    def _require(self, conditions: Conditions, tag: bytes | None) -> None:
        if not conditions.allow(tag):
            raise RequestError(412, "what is there is not what If-Match or If-None-Match asks for")


@attrs.frozen
class Counts:
    """What a replacement of all `routes` has done."""

    routes: int
    added: int
    changed: int
    deleted: int


def _prefix(query: str) -> str | None:
    """The prefix that a query asks for, without a slash at its end."""
    text = parse_qs(query).get("prefix", [""])[-1]
    return text.rstrip("/") if text else None


def _is_below(key: str, prefix: str) -> bool:
    return key.startswith(prefix) and (len(key) == len(prefix) or key[len(prefix)] == "/")
