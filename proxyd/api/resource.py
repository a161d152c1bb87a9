"""The root of the API: who may ask, and which function answers.

Paths, methods and the token are looked at when the head has come; nobody without the token makes us read a body.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from zope.interface import implementer

from proxyd.api.router import MethodError, PathError, Router
from proxyd.core.pages import NOT_SNIFFED, reason_phrase
from proxyd.core.target import split_target
from proxyd.errors import RequestError, StoreError
from proxyd.http.request import Request
from proxyd.interfaces import IStreamingResource

_TEXT = b"Content-Type: text/plain; charset=utf-8"
_JSON = b"Content-Type: application/json"
_AUTHORIZATION = re.compile(rb"token +(\S+)")


class ExplainedError(RequestError):
    """A request that cannot be served, with `members` that programs read besides the message."""

    def __init__(self, status: int, detail: str, members: Mapping[str, object]) -> None:
        super().__init__(status, detail)
        self.members = members


@attrs.frozen
class Answer:
    """What a function of the API answers: `text`, of `content_type`, explains, `json` is the result.

    `fields` are lines of the head.
    """

    status: int
    text: str = ""
    json: str = ""
    content_type: str = "text/plain; charset=utf-8"
    fields: tuple[bytes, ...] = ()


@attrs.frozen
class Call:
    """One call of a function: the raw `arguments` of its pattern, the raw `query` without its `?`."""

    request: Request
    arguments: dict[str, str]
    query: str


Function = Callable[[Any, Call], "Answer | Awaitable[Answer] | None"]
"""Answers a call, or takes its request over, and answers None."""


@implementer(IStreamingResource)
class ApiResource(Resource):
    """Serves the functions of `router`, methods of `owner`, to whoever knows one of `tokens`; empty: to everybody.

    `add` brings more of them. Errors are JSON, and OPTIONS tells the methods of a path, unless it `is_chp`: then
    errors are text or nothing, and OPTIONS is a method like any other.
    """

    isLeaf = True
    _log = Logger()

    def __init__(
        self, router: Router[Function], owner: object, tokens: tuple[str, ...], *, is_chp: bool = False
    ) -> None:
        super().__init__()
        self._parts = [(router, owner)]
        self.accept(tokens)
        self._is_chp = is_chp

    def accept(self, tokens: tuple[str, ...]) -> None:
        """Serve whoever knows one of `tokens`, from now on; empty: everybody."""
        self._tokens = tuple(token.encode() for token in tokens)

    def add(self, router: Router[Function], owner: object) -> None:
        """Serve the functions of `router`, methods of `owner`, as well."""
        self._parts.append((router, owner))

    def serve(self, parts: list[tuple[Router[Function], object]], *, is_chp: bool) -> None:
        """Serve the functions of these routers, methods of their owners, in place of what was served."""
        self._parts = parts
        self._is_chp = is_chp

    def render_streaming(self, request: Request) -> None:
        """Answer a call whose head has come."""
        request.kind = "api"
        try:
            path, query = split_target(request.head.target)
            owner, function, arguments = self._find(request.method.decode(), path.decode("utf-8", "surrogateescape"))
            if not self._is_authorized(request):
                raise RequestError(403, "the token is missing, or is another one")
            request.operation = function.__name__
            call = Call(request, arguments, query[1:].decode("latin-1"))
            answer = function(owner, call)
        except RequestError as error:
            self._refuse(request, error)
            return
        if isinstance(answer, Answer):
            self._answer(answer, request)
        elif answer is not None:
            done: Deferred[Answer] = Deferred.fromCoroutine(answer)  # type: ignore[arg-type]  # functions are `async`
            done.addCallbacks(self._answer, self._failed, (request,), callbackKeywords={}, errbackArgs=(request,))
            done.addErrback(lambda failure: self._log.failure("unexpected error in the API", failure=failure))

    def _find(self, method: str, path: str) -> tuple[object, Function, dict[str, str]]:
        for router, owner in self._parts:
            with suppress(PathError):
                return owner, *router.find(method, path)
        raise PathError

    def _is_authorized(self, request: Request) -> bool:
        if not self._tokens:
            return True
        match = _AUTHORIZATION.fullmatch(request.head.get(b"authorization") or b"")
        given = match[1] if match else b""
        # Each comparison takes the same time, however close the guess was.
        return any(hmac.compare_digest(given, token) for token in self._tokens)

    def _answer(self, answer: Answer, request: Request) -> None:
        if answer.json:
            request.answer(answer.status, [_JSON, NOT_SNIFFED, *answer.fields], answer.json.encode())
        elif answer.text:
            fields = [b"Content-Type: " + answer.content_type.encode(), NOT_SNIFFED, *answer.fields]
            request.answer(answer.status, fields, answer.text.encode())
        else:
            request.answer(answer.status, list(answer.fields))

    def _refuse(self, request: Request, error: RequestError) -> None:
        fields = []
        if isinstance(error, MethodError):
            allowed = error.allowed if self._is_chp else sorted([*error.allowed, "OPTIONS"])
            fields.append(b"Allow: " + ", ".join(allowed).encode())
            if request.method == b"OPTIONS" and not self._is_chp:
                request.answer(204, fields)
                return
        if not self._is_chp:
            members = error.members if isinstance(error, ExplainedError) else {}
            text = json.dumps({"status": error.status, "message": str(error), **members})
            request.answer(error.status, [_JSON, NOT_SNIFFED, *fields], text.encode())
        elif error.status == 403:
            request.answer(403, [])
        else:
            request.answer(error.status, [_TEXT, NOT_SNIFFED, *fields], str(error).encode())

    def _failed(self, failure: Failure, request: Request) -> None:
        error = failure.value
        if isinstance(error, RequestError):
            self._refuse(request, error)
        elif isinstance(error, StoreError):
            self._log.error("{error}", error=str(error))
            words = f"the route store: {error.told}" if error.told else "the route store failed; the log says why"
            self._refuse(request, RequestError(500, reason_phrase(500).decode() if self._is_chp else words))
        elif not isinstance(error, ConnectionClosed):
            self._log.failure("unexpected error in the API", failure=failure)
            self._refuse(request, RequestError(500, reason_phrase(500).decode()))


class ApiLog:
    """The access log of the API: `STATUS METHOD PATH REASON`, without the query."""

    _log = Logger()

    def write(self, request: Request) -> None:
        """Log a call that has been answered."""
        status = request.status
        log = self._log.info if status < 400 else self._log.warn if status < 500 else self._log.error
        log(
            "{status} {method} {path} {reason}",
            status=status,
            method=request.method.decode("latin-1"),
            path=request.head.target.partition(b"?")[0][:1024].decode("latin-1"),
            reason=reason_phrase(status).decode(),
        )
