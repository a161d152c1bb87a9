"""The pages of the proxy's own errors: built in, from a directory, or from an error target.

Which page and which words is `core.pages`.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from twisted.logger import Logger

from proxyd.core.pages import (
    NOT_SNIFFED,
    PAGE_FIELDS,
    Fault,
    fault_of,
    html_page,
    json_page,
    prefers_json,
    reason_phrase,
)
from proxyd.core.upgrade import is_handshake
from proxyd.errors import RequestError, UpstreamError

if TYPE_CHECKING:
    from proxyd.http.request import Request

_HTML = b"Content-Type: text/html; charset=utf-8"
_JSON = b"Content-Type: application/json"
_TEXT = b"Content-Type: text/plain; charset=utf-8"
_NOT_CACHED = b"Cache-Control: no-store"


class PageSource(Protocol):
    """Asks somebody else for the page."""

    def answer(self, request: Request, fault: Fault, fields: list[bytes]) -> None:
        """Answer `request` with the status of `fault` and the page of the target."""


class ErrorPages:
    """Answers requests that failed.

    `directory` holds STATUS.html and error.html, read anew for each error. `statuses` is that of `core.pages`.
    """

    _log = Logger()

    def __init__(self, *, directory: str = "", statuses: str = "rfc") -> None:
        self.target: PageSource | None = None
        self._directory = Path(directory) if directory else None
        self._statuses = statuses

    def answer(self, request: Request, error: RequestError | UpstreamError) -> None:
        """Answer `request` with the page of `error`, from the error target if there is one."""
        fault = self._log_fault(request, error)
        meters = request.channel.site.meters
        if meters is not None:
            meters.request_failed(fault.status)
        if _wants_no_page(request):
            request.answer(fault.status, list(fault.fields), close=True)
        elif self.target is not None:
            self.target.answer(request, fault, self._fields(request, fault))
        else:
            self._answer(request, fault)

    def answer_plainly(self, request: Request, error: RequestError) -> None:
        """Answer what could not even be read, and close."""
        self._answer(request, self._log_fault(request, error), close=True)

    def answer_without_target(self, request: Request, fault: Fault) -> None:
        """Answer `request` although the error target has no page for it."""
        if self._directory is None and self._statuses == "chp":
            fields = [_TEXT, NOT_SNIFFED, *self._fields(request, fault)]
            request.answer(fault.status, fields, reason_phrase(fault.status))
        else:
            self._answer(request, fault)

    def _log_fault(self, request: Request, error: RequestError | UpstreamError) -> Fault:
        fault = fault_of(error, self._statuses)
        self.log_fault(request, fault)
        return fault

    def log_fault(self, request: Request, fault: Fault) -> None:
        """Log what went wrong with `request`, and give it the id under which the log has it."""
        request.request_id = secrets.token_hex(8)
        request.detail = fault.detail
        path = request.head.target.partition(b"?")[0][:1024].decode("utf-8", "backslashreplace")
        is_error = fault.status >= 500 or self._statuses == "chp"
        log = self._log.error if is_error else self._log.info
        log(
            "{status} {method} {path} {detail} (request {request_id})",
            status=fault.status,
            method=request.head.method.decode("latin-1"),
            path=path,
            detail=fault.detail,
            request_id=request.request_id,
        )

    def _fields(self, request: Request, fault: Fault) -> list[bytes]:
        own = [_NOT_CACHED, b"X-Request-Id: " + request.request_id.encode()]
        if fault.retry_seconds:
            own.append(b"Retry-After: %d" % fault.retry_seconds)
        return [*own, *(field for field in fault.fields if field != _NOT_CACHED)]

    def _answer(self, request: Request, fault: Fault, *, close: bool = False) -> None:
        fields, page = self._page(request, fault)
        request.answer(fault.status, [*fields, *self._fields(request, fault)], page, close=close)

    def _page(self, request: Request, fault: Fault) -> tuple[tuple[bytes, ...], bytes]:
        if prefers_json(request.head.get(b"accept")):
            return (_JSON, NOT_SNIFFED), json_page(fault, request.request_id)
        if self._directory is None:
            return PAGE_FIELDS, html_page(fault, request.request_id)
        for name in (f"{fault.status}.html", "error.html"):
            try:
                return (_HTML, NOT_SNIFFED), (self._directory / name).read_bytes()
            except OSError:
                continue
        return (_TEXT, NOT_SNIFFED), reason_phrase(fault.status)


def _wants_no_page(request: Request) -> bool:
    """A WebSocket client reads nothing but the status."""
    try:
        return is_handshake(request.head)
    except RequestError:
        return True
