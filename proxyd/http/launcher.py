"""What there is to open: the page at `base_url`, and what it, Jupyter's launcher and the pages of servers ask for.

Which cards there are is `core.launcher`.
"""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from proxyd.core.launcher import route_cards, server_cards, servers_info
from proxyd.core.pages import NOT_SNIFFED
from proxyd.core.serverpages import start_page
from proxyd.core.target import decode_path, key_of
from proxyd.errors import RequestError, UnknownServerError
from proxyd.http.serverlog import MAX_LINES, ServerLogs, ServerStates
from proxyd.http.serverpages import may_read_lines
from proxyd.http.streaming import StreamingResource

if TYPE_CHECKING:
    from proxyd.http.request import Request
    from proxyd.interfaces import IServerSupervisor
    from proxyd.model.routes import Route

_NOT_CACHED = b"Cache-Control: no-store"
# A picture may be SVG, which is a document that can do things when it is opened by itself.
_ICON = (
    NOT_SNIFFED,
    b"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; sandbox",
    b"Cache-Control: private, max-age=300",
)


class LauncherResource(StreamingResource):
    """`server-proxy/` below `base_url`; `states` and `logs` are its streams, and go on when this one is replaced.

    Nothing of it is activity.
    """

    decides_activity = True

    def __init__(
        self,
        supervisor: IServerSupervisor,
        states: ServerStates,
        logs: ServerLogs,
        *,
        base_url: str,
        has_ports: bool,
    ) -> None:
        super().__init__()
        self._supervisor = supervisor
        self._states = states
        self._logs = logs
        self._base_url = base_url
        self._has_ports = has_ports
        self._depth = len(key_of(decode_path(base_url.encode()))) + 1

    def render_streaming(self, request: Request) -> None:
        """Answer a request whose head has come."""
        what, *rest = key_of(decode_path(request.path))[self._depth :] or ("",)
        name = "/".join(rest)
        answer: Callable[[], None] | None = None
        if what == "icon" and name:
            answer = lambda: self._answer_icon(request, name)  # noqa: E731
        elif what == "log" and name:
            answer = lambda: self._follow_log(request, name)  # noqa: E731
        elif not rest:
            own: dict[str, Callable[[Request], None]] = {
                "servers-info": self._answer_info,
                "events": self._states.follow,
                "port": self._open_port,
            }
            function = own.get(what)
            if function is not None:
                answer = lambda: function(request)  # noqa: E731
        if answer is None:
            raise RequestError(404, "the launcher has no such path")
        only_reading(request)
        answer()

    def _answer_info(self, request: Request) -> None:
        body = json.dumps(servers_info(self._supervisor.specs(), self._base_url)).encode()
        request.answer(200, [b"Content-Type: application/json", _NOT_CACHED, NOT_SNIFFED], body)

    def _answer_icon(self, request: Request, name: str) -> None:
        spec = self._supervisor.specs().get(name)
        path = Path(spec.launcher_entry.icon_path) if spec is not None and spec.launcher_entry.icon_path else None
        try:
            body = path.read_bytes() if path is not None and path.is_file() else None
        except OSError:
            body = None
        if path is None or body is None:
            raise RequestError(404, "the server has no icon, or its file is not there")
        media = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        request.answer(200, [b"Content-Type: " + media.encode(), *_ICON], body)

    def _open_port(self, request: Request) -> None:
        """Lead from the form of the page to a port."""
        if not self._has_ports:
            raise RequestError(404, "ports.enabled is false")
        port = parse_qs(request.query[1:].decode("latin-1")).get("port", [""])[-1]
        if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65536):
            raise RequestError(400, "that is no port")
        request.answer(302, [b"Location: " + f"{self._base_url}proxy/{int(port)}/".encode(), _NOT_CACHED])

    def _follow_log(self, request: Request, name: str) -> None:
        try:
            self._logs.follow(request, name, MAX_LINES, shows_lines=may_read_lines(request))
        except UnknownServerError as error:
            raise RequestError(404, str(error)) from None


class StartPage(StreamingResource):
    """The page at `base_url`. `routes` are those that may be on it.

    `is_last` tells that there is nothing but routes: then it is only for those who may see them.
    """

    def __init__(
        self,
        supervisor: IServerSupervisor,
        routes: Callable[[], Iterable[Route]],
        *,
        base_url: str,
        has_ports: bool,
        is_last: bool,
    ) -> None:
        super().__init__()
        self._supervisor = supervisor
        self._routes = routes
        self._base_url = base_url
        self._base = key_of(decode_path(base_url.encode()))
        self._has_ports = has_ports
        self._is_last = is_last

    def render_streaming(self, request: Request) -> None:
        """Answer a request whose head has come."""
        shows_routes = may_read_lines(request)
        if self._is_last and not shows_routes:
            raise RequestError(404, "no route; the start page is for those who are known, or sit at this machine")
        only_reading(request)
        supervisor = self._supervisor
        specs = supervisor.specs()
        statuses: dict[str, Any] = {name: supervisor.status(name) for name in specs}
        cards = server_cards(specs, statuses, self._base_url)
        if shows_routes:
            cards += route_cards(self._routes(), self._base)
        page = start_page(cards, base_url=self._base_url, has_ports=self._has_ports)
        request.answer(200, page.fields, page.body)


def only_reading(request: Request) -> None:
    """Refuse whatever else than reading is asked for.

    Raises `RequestError`.
    """
    if request.method not in (b"GET", b"HEAD"):
        raise RequestError(405, "this can only be read", (b"Allow: GET, HEAD",))
