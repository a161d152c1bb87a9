"""Responses that functions of users rewrite (contract of managed servers, section 10.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

import attrs

from proxyd.core.calls import call_by_name, name_of
from proxyd.core.head import ResponseHead
from proxyd.core.pages import reason_phrase
from proxyd.errors import OptionError, RequestError
from proxyd.model.routes import check_field

Rewriter = Callable[..., object]

_BLANKS = b" \t"
# They belong to the connection, or are made anew.
_OWN = frozenset({"Connection", "Content-Length", "Keep-Alive", "Trailer", "Transfer-Encoding", "Upgrade"})


class Headers(MutableMapping[str, str]):
    """Fields in order, found whatever the case of their names; a name may stand there several times."""

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = [(_cased(name), value) for name, value in pairs]

    @classmethod
    def of_lines(cls, lines: Iterable[bytes]) -> Headers:
        """The fields of a head."""
        parts = (line.partition(b":") for line in lines)
        return cls((name.decode("latin-1"), value.strip(_BLANKS).decode("latin-1")) for name, _, value in parts)

    def __getitem__(self, name: str) -> str:
        """All values of that name, with commas between them."""
        values = self.get_list(name)
        if not values:
            raise KeyError(name)
        return ",".join(values)

    def __setitem__(self, name: str, value: str) -> None:
        """Replace all fields of that name by one, in the place of the first."""
        name = _cased(name)
        place = next((index for index, pair in enumerate(self._pairs) if pair[0] == name), len(self._pairs))
        self._pairs = [pair for pair in self._pairs if pair[0] != name]
        self._pairs.insert(place, (name, value))

    def __delitem__(self, name: str) -> None:
        name = _cased(name)
        if name not in self:
            raise KeyError(name)
        self._pairs = [pair for pair in self._pairs if pair[0] != name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(pair[0] == _cased(name) for pair in self._pairs)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _ in self._pairs))

    def __len__(self) -> int:
        return len({name for name, _ in self._pairs})

    def get_all(self) -> Iterator[tuple[str, str]]:
        """Name and value of every field; the fields may change meanwhile."""
        return iter(list(self._pairs))

    def get_list(self, name: str) -> list[str]:
        """All values of that name."""
        name = _cased(name)
        return [value for key, value in self._pairs if key == name]

    def add(self, name: str, value: str) -> None:
        """Add a field behind the others."""
        self._pairs.append((_cased(name), value))

    def copy(self) -> Headers:
        """The same fields in an object of their own."""
        return Headers(self._pairs)


def _cased(name: str) -> str:
    """The name as functions compare it: `Content-Type`."""
    return "-".join(word.capitalize() for word in name.split("-"))


class RewritableResponse:
    """A response that may be changed: `body` is whole, and still encoded as its Content-Encoding says."""

    def __init__(self, code: int, reason: str | None, headers: Headers, body: bytes) -> None:
        self._code = code
        self.reason = reason
        self.headers = headers
        self.body = body

    @property
    def code(self) -> int:
        """The status."""
        return self._code

    @code.setter
    def code(self, code: int) -> None:
        """Change the status, and the reason if it was the usual one."""
        if self.reason is not None and self.reason == _reason(self._code):
            self.reason = _reason(code)
        self._code = code

    def copy(self) -> RewritableResponse:
        """The same in an object of its own."""
        return RewritableResponse(self._code, self.reason, self.headers.copy(), self.body)


def _reason(code: int) -> str:
    try:
        return HTTPStatus(code).phrase
    except ValueError:
        return ""


@attrs.frozen(kw_only=True)
class RewriteRequest:
    """The client's request, as a rewriting function sees it.

    `path` and `uri` are the client's own, with the prefix; `protocol` is `http` or `https`.
    """

    method: str
    uri: str
    host: str
    protocol: str
    headers: Headers
    body: bytes
    remote_ip: str

    @property
    def path(self) -> str:
        """The raw path, without the query."""
        return self.uri.partition("?")[0]

    @property
    def query(self) -> str:
        """The raw query, without its `?`."""
        return self.uri.partition("?")[2]

    @property
    def arguments(self) -> dict[str, list[bytes]]:
        """Those of the query, and those of a form in the body."""
        texts = [self.query]
        if self.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
            texts.append(self.body.decode("latin-1"))
        found: dict[str, list[bytes]] = {}
        for text in texts:
            for name, values in parse_qs(text, keep_blank_values=True).items():
                found.setdefault(name, []).extend(value.encode() for value in values)
        return found

    @property
    def cookies(self) -> Mapping[str, Any]:
        """The cookies by name, each with its `value`, less those whose name is none."""
        found: SimpleCookie = SimpleCookie()
        for pair in ";".join(self.headers.get_list("Cookie")).split(";"):
            with suppress(CookieError):
                found.load(pair.strip())
        return found

    def full_url(self) -> str:
        """The URL that the client asked for."""
        return f"{self.protocol}://{self.host}{self.uri}"


def rewrite(rewriters: Iterable[Rewriter], head: ResponseHead, body: bytes, offered: Mapping[str, object]) -> bytes:
    """Let each function change the response, one after the other; `head` becomes that of the result.

    The functions are offered `response`, `orig_response` and what is in `offered`, by name. Returns the body. Raises
    `RequestError` 500 if a function raises, or leaves something that is no response.
    """
    original = RewritableResponse(
        head.status, head.reason.decode("latin-1") or None, Headers.of_lines(head.fields), body
    )
    response = original
    for rewriter in rewriters:
        response = response.copy()
        try:
            call_by_name(rewriter, {**offered, "response": response, "orig_response": original})
        except Exception as error:
            raise _error(rewriter, f"raised {type(error).__name__}: {error}") from error
        _check(rewriter, response)
    head.status = response.code
    head.reason = reason_phrase(response.code) if response.reason is None else response.reason.encode("latin-1")
    head.fields = [
        f"{name}: {value}".encode("latin-1") for name, value in response.headers.get_all() if name not in _OWN
    ]
    location = response.headers.get_list("Location")
    head.location = location[0].encode("latin-1") if location else None
    head.has_date = "Date" in response.headers
    return response.body


def _check(rewriter: Rewriter, response: RewritableResponse) -> None:
    """Refuse what cannot be sent.

    Raises `RequestError` 500.
    """
    body: object = response.body
    code: object = response.code
    if not isinstance(body, bytes):
        raise _error(rewriter, f"left a {type(body).__name__} in place of a body of bytes")
    if not isinstance(code, int) or not 200 <= code <= 599:
        raise _error(rewriter, f"left {code!r} as the status")
    try:
        check_field("reason", response.reason or "")
        for field, value in response.headers.get_all():
            if field not in _OWN:
                check_field(field, value)
    except (AttributeError, OptionError, TypeError) as error:
        raise _error(rewriter, f"left a field that cannot be sent: {error}") from None


def _error(rewriter: Rewriter, what: str) -> RequestError:
    return RequestError(500, f"rewrite_response: {name_of(rewriter)} {what}")
