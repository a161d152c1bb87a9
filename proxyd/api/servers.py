"""`/api/servers`: the managed servers, how they are, and how they are ruled."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import parse_qs, unquote

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from proxyd.api.resource import Answer, Call, ExplainedError, Function
from proxyd.api.router import Router
from proxyd.core.activity import timestamp
from proxyd.core.launcher import best_state, context_of
from proxyd.core.pages import prefers_json
from proxyd.errors import RequestError, ServerStartError, UnknownServerError
from proxyd.http.serverlog import MAX_LINES, ServerLogs
from proxyd.interfaces import IServerSupervisor
from proxyd.model.servers import ServerStatus


class ServersApi:
    """Asks `supervisor`; `logs` is what follows."""

    _log = Logger()
    router: Router[Function] = Router()

    def __init__(self, supervisor: IServerSupervisor, logs: ServerLogs, base_url: str) -> None:
        self._supervisor = supervisor
        self._logs = logs
        self.base_url = base_url

    def close(self) -> None:
        """End all streams; there will be no others."""
        self._logs.streams.close()

    @router.route("/api/servers", "GET", "HEAD")
    @router.route("/api/servers/", "GET", "HEAD")
    def list_servers(self, call: Call) -> Answer:
        """Answer with all servers, by their names."""
        return Answer(200, json=json.dumps({name: self._described(name) for name in self._supervisor.specs()}))

    @router.route("/api/servers/<path:name>/log", "GET", "HEAD")
    def get_log(self, call: Call) -> Answer | None:
        """Answer with the last lines that a server has printed, or take the request over to follow them."""
        name = self._name(call)
        asked = parse_qs(call.query)
        count = _count(asked.get("lines", [str(MAX_LINES)])[-1])
        accept = call.request.head.get(b"accept")
        follows = asked.get("follow", [""])[-1] not in ("", "0") or b"text/event-stream" in (accept or b"").lower()
        if follows and call.request.method == b"GET":
            self._logs.follow(call.request, name, count)
            return None
        lines = self._logs.lines(name, count)
        if prefers_json(accept):
            return Answer(200, json=json.dumps({"lines": lines}))
        return Answer(200, "".join(f"{line}\n" for line in lines))

    @router.route("/api/servers/<path:name>/start", "POST")
    async def start_server(self, call: Call) -> Answer:
        """Start a server, and answer when it is ready."""
        return await self._rule(call, self._supervisor.start)

    @router.route("/api/servers/<path:name>/stop", "POST")
    async def stop_server(self, call: Call) -> Answer:
        """Stop a server, whoever uses it, and answer when it is gone."""
        return await self._rule(call, self._supervisor.stop)

    @router.route("/api/servers/<path:name>/restart", "POST")
    async def restart_server(self, call: Call) -> Answer:
        """Stop a server, start it, and answer when it is ready."""
        return await self._rule(call, self._supervisor.restart)

    @router.route("/api/servers/<path:name>", "GET", "HEAD")
    def get_server(self, call: Call) -> Answer:
        """Answer with one server."""
        return Answer(200, json=json.dumps(self._described(self._name(call))))

    def _name(self, call: Call) -> str:
        try:
            name = unquote(call.arguments["name"], errors="strict").strip("/")
        except UnicodeDecodeError:
            raise RequestError(400, "the name is not UTF-8") from None
        if name not in self._supervisor.specs():
            raise RequestError(404, "there is no such server")
        return name

    async def _rule(self, call: Call, rule: Callable[[str], Deferred[None]]) -> Answer:
        name = self._name(call)
        if not self._supervisor.specs()[name].is_managed:
            raise RequestError(409, "proxyd does not start this server, and cannot stop it")
        self._log.info("{operation} {server}, over the API", operation=call.request.operation, server=name)
        try:
            await rule(name)
            return Answer(200, json=json.dumps(self._described(name)))
        except ServerStartError as error:
            raise ExplainedError(503, str(error), {"lines": error.lines}) from None
        except UnknownServerError:
            raise RequestError(404, "the server has been removed meanwhile") from None

    def _described(self, name: str) -> dict[str, object]:
        spec = self._supervisor.specs()[name]
        statuses = self._supervisor.status(name) if spec.is_managed else ()
        return {
            "path": context_of(name, self.base_url) + "/",
            "managed": spec.is_managed,
            "state": best_state(statuses) or None,
            "instances": [_described(status) for status in statuses],
        }


def _described(status: ServerStatus) -> dict[str, object]:
    place = status.place
    return {
        "state": status.state,
        "since": _moment(status.since),
        "pid": status.pid or None,
        "port": place.port or None if place is not None else None,
        "socket": place.socket or None if place is not None else None,
        "starts": status.starts,
        "exit_reason": status.exit_reason,
        "in_use": status.leases,
        "waiting": status.waiting,
        "last_activity": _moment(status.last_activity),
    }


def _moment(seconds: float) -> str | None:
    return timestamp(seconds) if seconds else None


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 6 and int(text)):
        raise RequestError(400, f"lines: expected a number from 1; more than {MAX_LINES} are not told")
    return min(int(text), MAX_LINES)
