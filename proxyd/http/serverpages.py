"""The pages that stand in for a managed server: while it starts, and when it did not."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.core.client import is_local
from proxyd.core.head import RequestHead
from proxyd.core.launcher import best_state
from proxyd.core.pages import NOT_SNIFFED, Fault, prefers_json, reason_phrase
from proxyd.core.serverpages import failed_page, waiting_page
from proxyd.errors import ServerStartError, UnknownServerError
from proxyd.http.request import Request
from proxyd.http.serverlog import MAX_LINES, ServerLogs
from proxyd.interfaces import ILease, IServerSupervisor

# The page of a server that starts comes back on its own when the start has failed: at once with scripts, within 3 s
# without. It has to find the failure then, and not start the server once more, and so on for ever.
FAILURE_SECONDS = 10.0

_JSON = (b"Content-Type: application/json", b"Cache-Control: no-store", NOT_SNIFFED)


class ServerPages:
    """Shows how the servers of `supervisor` are; `wall_clock` is that of `ServerStatus`."""

    _log = Logger()

    def __init__(
        self,
        supervisor: IServerSupervisor,
        logs: ServerLogs,
        *,
        wall_clock: Callable[[], float],
    ) -> None:
        self._supervisor = supervisor
        self._logs = logs
        self._wall_clock = wall_clock
        self.configure(base_url="/", is_enabled=True)
        self._starting: set[str] = set()
        self._failures: dict[str, _Failure] = {}
        self.told_failure: Callable[[ServerStartError], object] | None = None
        """Is told of each start that fails, in case that the page comes back to another process."""

    def configure(self, *, base_url: str, is_enabled: bool) -> None:
        """Ask for news below `base_url`; if it is not enabled, nobody gets the page of a server that starts."""
        self._base_url = base_url
        self._is_enabled = is_enabled

    def waiting(self, request: Request, name: str) -> bool:
        """Answer a navigation with the page of a server that starts, and start it; False: it may go on to the server.

        A navigation that comes back after a failure gets that.
        """
        if not self._is_enabled or not is_navigation(request.head):
            return False
        try:
            statuses = self._supervisor.status(name)
            if not self._supervisor.specs()[name].is_managed or best_state(statuses) == "ready":
                return False
        except UnknownServerError:
            return False
        former = self._failures.pop(name, None)
        if best_state(statuses) in ("failed", "stopped") and former is not None and self._is_for(former, request):
            self._failures[name] = former
            self.failed(request, former.error)
            return True
        self._start(name)
        failure = self._failures.get(name)
        if failure is not None:
            self.failed(request, failure.error)
            return True
        statuses = self._supervisor.status(name)
        if best_state(statuses) == "ready":
            return False
        now = self._wall_clock()
        began = min((status.since for status in statuses if status.state not in ("failed", "stopped")), default=now)
        lines = self._logs.lines(name, MAX_LINES) if may_read_lines(request) else None
        events = f"{self._base_url}server-proxy/log/{quote(name, safe='/')}"
        limit = self._supervisor.specs()[name].ready_seconds
        page = waiting_page(name, max(0.0, now - began), limit, events, lines)
        request.kind = "resource"
        request.answer(202, page.fields, page.body)
        return True

    def failed(self, request: Request, error: ServerStartError) -> None:
        """Answer a request whose server did not start."""
        fault = Fault(error.status, reason_phrase(error.status).decode(), str(error))
        is_trusted = may_read_lines(request)
        lines = error.lines if is_trusted else None
        reason = error.reason if is_trusted else error.summary
        request.channel.settings.error_pages.log_fault(request, fault)
        fields = [b"X-Request-Id: " + request.request_id.encode()]
        fields.append(b"Retry-After: %d" % max(1, math.ceil(error.retry_seconds)))
        if request.head.upgrade:
            request.answer(fault.status, fields, close=True)
        elif prefers_json(request.head.get(b"accept")):
            members: dict[str, object] = {
                "status": fault.status,
                "error": fault.title,
                "message": f"server {error.server} {reason}",
                "server": error.server,
            }
            if lines is not None:
                members["lines"] = lines
            body = json.dumps({**members, "request_id": request.request_id}).encode() + b"\n"
            request.answer(fault.status, [*_JSON, *fields], body)
        else:
            page = failed_page(error.server, reason, lines, request.request_id)
            request.answer(fault.status, [*page.fields, *fields], page.body)

    def _start(self, name: str) -> None:
        """Hold a lease of our own until the server is ready: the client does not wait here."""
        if name in self._starting:
            return
        self._starting.add(name)
        lease: Deferred[ILease] = self._supervisor.lease(name)
        lease.addBoth(partial(self._settled, name))
        lease.addErrback(self._failed, name)

    def _settled(self, name: str, result: ILease | Failure) -> ILease | Failure:
        self._starting.discard(name)
        if not isinstance(result, Failure):
            self._failures.pop(name, None)
            result.release()
        return result

    def _failed(self, failure: Failure, name: str) -> None:
        if isinstance(failure.value, ServerStartError):
            self.note_failure(failure.value)
            if self.told_failure is not None:
                self.told_failure(failure.value)
        elif not failure.check(UnknownServerError):
            self._log.failure("unexpected error in the start of server {server}", failure, server=name)

    def note_failure(self, error: ServerStartError) -> None:
        """A start for a page has failed."""
        self._failures[error.server] = _Failure(self._wall_clock(), error)

    def _is_for(self, former: _Failure, request: Request) -> bool:
        """Whether a navigation is the page that has come back for the failure; old browsers do not tell of clicks."""
        is_recent = 0 <= self._wall_clock() - former.moment < FAILURE_SECONDS
        return is_recent and request.head.get(b"sec-fetch-user") != b"?1"


@attrs.frozen
class _Failure:
    """When a start has failed, and how."""

    moment: float
    error: ServerStartError


def may_read_lines(request: Request) -> bool:
    """Whether the client may see what a server prints, and what there is: it is known, or sits at this machine."""
    admission = request.admission
    is_known = admission is not None and admission.identity.kind != "anonymous"
    return is_known or is_local(request.peer, request.head)


def is_navigation(head: RequestHead) -> bool:
    """Whether somebody looks at a page, and not a script at data."""
    if head.method != b"GET" or head.upgrade:
        return False
    if head.get(b"sec-fetch-mode") not in (None, b"navigate"):
        return False
    accept = head.get(b"accept") or b""
    return b"text/html" in accept.lower() and not prefers_json(accept)
