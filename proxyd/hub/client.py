"""What JupyterHub is asked and told, and what its answers mean (contract of JupyterHub, 2.3, 2.5 and 2.9)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import attrs
from twisted.internet.defer import Deferred

from proxyd.core.visitors import Visitor
from proxyd.errors import HubError
from proxyd.hub.asking import Asker, AskError, AskerTls, Reply


@attrs.frozen(kw_only=True)
class HubPlace:
    """Where the Hub is asked, and with which token of our own; `seconds` is how long an answer may take."""

    url: str
    token: str = attrs.field(repr=False)
    tls: AskerTls = AskerTls()
    seconds: float = 10.0


class HubClient:
    """Asks the Hub at `place`. Everything fails with `HubError`: who asks lets nobody in then.

    Raises `TlsError` for files that cannot be used.
    """

    def __init__(self, reactor: Any, place: HubPlace) -> None:
        self._asker = Asker(reactor, place.url.rstrip("/"), place.seconds, place.tls)
        self._own = _authorization(place.token.encode())

    def user(self, token: bytes) -> Deferred[Visitor | None]:
        """Whose `token` it is; None if it is nobody's, or nobody's any more."""
        return Deferred.fromCoroutine(self._user(token))

    async def _user(self, token: bytes) -> Visitor | None:
        reply = await self._ask("GET", "/user", _authorization(token))
        if reply.status == 403:
            return None
        _expect(200, reply, "to check an authorization")
        try:
            return Visitor.read(reply.body)
        except ValueError:
            raise HubError(502, "describes a user in a way that makes no sense") from None

    def exchange(self, form: Mapping[str, str]) -> Deferred[bytes]:
        """The token for a code that a browser has brought; `form` is that of `core.oauth.Exchange`."""
        return Deferred.fromCoroutine(self._exchange(form))

    async def _exchange(self, form: Mapping[str, str]) -> bytes:
        fields = ((b"Content-Type", b"application/x-www-form-urlencoded"), (b"Accept", b"application/json"))
        reply = await self._ask("POST", "/oauth2/token", *fields, body=urlencode(form).encode())
        if reply.status == 400:
            raise HubError(403, "does not take the code of a login (any more)")
        if reply.status == 401:
            raise HubError(500, "does not know our secret (any more): the server has to be started again")
        _expect(200, reply, "to finish a login")
        try:
            token = json.loads(reply.body)["access_token"].encode("ascii")
        except (ValueError, KeyError, TypeError, AttributeError):
            token = b""
        if not token:
            raise HubError(502, "finishes a login without a token")
        return bytes(token)

    def post_activity(self, body: bytes) -> Deferred[None]:
        """Tell when something last happened; `place.url` is where that is told."""
        return Deferred.fromCoroutine(self._post_activity(body))

    async def _post_activity(self, body: bytes) -> None:
        fields = (self._own, (b"Content-Type", b"application/json"))
        reply = await self._ask("POST", "", *fields, body=body)
        if reply.status // 100 != 2:
            _expect(200, reply, "to take a report of activity")

    def version(self) -> Deferred[str]:
        """The version of the Hub, which tells it to everybody; empty if it does not."""
        return Deferred.fromCoroutine(self._version())

    async def _version(self) -> str:
        reply = await self._ask("GET", "/")
        version = reply.get(b"x-jupyterhub-version") or b""
        return version.decode("latin-1") if version.replace(b".", b"").isalnum() else ""

    async def _ask(self, method: str, path: str, *fields: tuple[bytes, bytes], body: bytes | None = None) -> Reply:
        try:
            return await self._asker.ask(method, path, fields, body)
        except AskError as error:
            raise HubError(503, str(error)) from None

    def close(self) -> Deferred[None]:
        """Close the idle connections."""
        return self._asker.close()


def _authorization(token: bytes) -> tuple[bytes, bytes]:
    return b"Authorization", b"token " + token


def _expect(status: int, reply: Reply, what: str) -> None:
    if reply.status != status:
        raise HubError(502 if reply.status >= 500 else 500, f"refuses {what} with status {reply.status}")
