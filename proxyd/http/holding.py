"""Requests that are held until something is there that they need: a verdict, a server, or what a function decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from proxyd.errors import RequestError, UpstreamError

if TYPE_CHECKING:
    from proxyd.http.request import Request

T = TypeVar("T")

_log = Logger()


def _knows_none(*_: object) -> bool:
    return False


def hold(
    request: Request,
    awaited: Deferred[T],
    go_on: Callable[[Request, T], None],
    failed: Callable[[Request, BaseException | None], bool] = _knows_none,
) -> None:
    """Hold `request` until `awaited` fires, and then let it `go_on`; of its body nothing is read meanwhile.

    A client that leaves cancels. `failed` answers the errors that it knows, and tells whether it has.
    """
    if not awaited.called:
        _Waiting(request, awaited)

    def fired(result: T) -> None:
        request.sink = None
        go_on(request, result)

    awaited.addCallback(fired)
    answer_failure(request, awaited, failed)


def answer_failure(
    request: Request, done: Deferred[Any], failed: Callable[[Request, BaseException | None], bool] = _knows_none
) -> None:
    """Answer `request` with the error if `done` fails; `failed` as for `hold`."""

    def has_failed(failure: Failure) -> None:
        request.sink = None
        error = failure.value
        if isinstance(error, RequestError | UpstreamError):
            request.fail(error)
        elif not failed(request, error) and not request.is_lost:
            _log.failure("unexpected error while a request was held", failure=failure)
            request.fail(RequestError(500, "unexpected error, see the log"))

    done.addErrback(has_failed)
    done.addErrback(lambda failure: _log.failure("unexpected error in an answer", failure=failure))


class _Waiting:
    """Takes what comes from the client of a `request` that is held."""

    def __init__(self, request: Request, awaited: Deferred[Any]) -> None:
        self._request = request
        self._awaited = awaited
        self._error: RequestError | None = None
        request.sink = self
        request.channel.pause_body()
        awaited.addErrback(self._failed)

    def _failed(self, failure: Failure) -> Failure:
        return failure if self._error is None else Failure(self._error)

    def body_received(self, data: bytes, *, complete: bool) -> None:
        """A piece that was on its way when reading was paused."""
        self._request.body_start += data

    def body_failed(self, error: RequestError) -> None:
        """The body is no body."""
        self._error = error
        self._awaited.cancel()

    def client_lost(self, reason: Failure) -> None:
        """The client is gone."""
        self._awaited.cancel()
