"""All routes at once: one JSON object, which is taken as a whole or refused with everything that is wrong."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import deferLater

from proxyd.api.resource import ExplainedError
from proxyd.core.jsontext import read_members
from proxyd.core.posted import RouteReader
from proxyd.core.table import RouteTable
from proxyd.errors import RequestError
from proxyd.model.routes import Route

# So many routes are read before the exchanges get their turn: 5 ms on a machine of 2026.
_ROUTES_A_TURN = 250
# Whoever made so many mistakes made one in a program.
_MAX_PROBLEMS = 100


async def read_routes(
    body: bytes, reader: RouteReader, table: RouteTable, clock: Any, *, max_path: int
) -> dict[str, Route]:
    """The routes in a body, by key; one that `table` has already is the same object.

    Static ones are left out, so that what the list says can be put back. Raises `RequestError`.
    """
    routes: dict[str, Route] = {}
    problems: list[dict[str, str]] = []
    for index, (key, posted) in enumerate(read_members(body)):
        if index % _ROUTES_A_TURN == 0:
            await deferLater(clock, 0)
        if isinstance(posted, dict) and posted.get("static") is True:
            continue
        try:
            route = _read_route(key, posted, reader, max_path)
            if key in routes:
                raise RequestError(400, "the key is there twice")
        except RequestError as error:
            problems.append({"key": key[:max_path], "message": str(error)})
            if len(problems) == _MAX_PROBLEMS:
                break
            continue
        known = table.posted(key)
        routes[key] = known if known is not None and known == route else route
    if problems:
        count = len(problems)
        least = "at least " if count == _MAX_PROBLEMS else ""
        message = f"{least}{count} route{'s' * (count > 1)} cannot be used, nothing was changed"
        raise ExplainedError(400, message, {"problems": problems})
    return routes


def _read_route(key: str, posted: object, reader: RouteReader, max_path: int) -> Route:
    if reader.key_of(key) != key:
        raise RequestError(400, "a key begins with one slash, ends with none, and a host in it is in lower case")
    if len(key.encode("utf-8", "surrogatepass")) > max_path:
        raise RequestError(400, "the key is longer than limits.route_path")
    if not isinstance(posted, dict):
        raise RequestError(400, "a route is a JSON object with a target")
    return reader.read(key, posted)
