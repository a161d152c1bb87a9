"""Requests of our own to a service nearby, over treq: bounded in time and size, and never following a redirect.

What makes them is imported with the first one: treq takes 0.3 s, and `twisted.internet.endpoints`, which all of it
needs, takes LISTEN_FDS out of the environment, where our own listeners look for their sockets.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import attrs
from OpenSSL import SSL, crypto
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.ssl import (
    Certificate,
    PrivateCertificate,
    TLSVersion,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from proxyd.errors import TlsError

if TYPE_CHECKING:
    from twisted.internet.endpoints import UNIXClientEndpoint
    from twisted.web.client import HTTPConnectionPool

_UNIX = "http+unix://"
# Addresses of IPv6, and names of containers with underscores: treq refuses them in a URL, so that something else stands
# in their place.
_NO_NAME = re.compile("[:_]")
_MAX_BODY = 1024 * 1024
_IDLE_CONNECTIONS = 8
_IDLE_SECONDS = 30


class AskError(Exception):
    """There is no answer that could be used; the text says why, without what was sent."""


@attrs.frozen
class Reply:
    """An answer: `fields` are pairs as they came, `body` is whole."""

    status: int
    fields: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""

    def get(self, name: bytes) -> bytes | None:
        """The value of the first field called `name` (lower-case)."""
        return next((value for own, value in self.fields if own.lower() == name), None)


@attrs.frozen
class AskerTls:
    """Files for https: a certificate that is shown, its key, and the CAs that are believed; empty for the usual."""

    key: str = ""
    certificate: str = ""
    ca: str = ""

    def policy(self) -> Policy:
        """Read the files.

        Raises `TlsError`.
        """
        return Policy(self)


@implementer(IPolicyForHTTPS)
class Policy:
    """Verifies the host of the URL, always; TLS 1.2 is the least."""

    def __init__(self, files: AskerTls) -> None:
        self._own = None
        self._trust: Any = platformTrust()
        subject = files.certificate
        try:
            if files.certificate:
                with open(files.certificate, "rb") as certificate, open(files.key or files.certificate, "rb") as key:
                    self._own = PrivateCertificate.loadPEM(certificate.read() + b"\n" + key.read())
            if files.ca:
                subject = files.ca
                with open(files.ca, "rb") as bundle:
                    pems = bundle.read().split(b"-----BEGIN CERTIFICATE-----")[1:]
                if not pems:
                    raise ValueError("no certificate")
                self._trust = trustRootFromCertificates(
                    [Certificate.loadPEM(b"-----BEGIN CERTIFICATE-----" + pem) for pem in pems]
                )
        except OSError as error:
            raise TlsError(subject, error.strerror or "cannot be read") from None
        except (crypto.Error, SSL.Error, ValueError):
            raise TlsError(subject, "is no certificate with its key, or no list of certificates") from None

    def creatorForNetloc(self, hostname: bytes, port: int) -> Any:
        """What makes the connections to a host."""
        return optionsForClientTLS(
            hostname.decode("ascii"),
            trustRoot=self._trust,
            clientCertificate=self._own,
            extraCertificateOptions={"raiseMinimumTo": TLSVersion.TLSv1_2},
        )


class Asker:
    """Asks the service at `url` (http, https, or http+unix), on `reactor`, and waits `seconds` at most.

    Can be made on any thread. `close` it when nothing will be asked any more; otherwise idle connections close
    themselves a little later. Raises `TlsError` for files that cannot be used.
    """

    def __init__(self, reactor: Any, url: str, seconds: float, tls: AskerTls = AskerTls()) -> None:  # frozen
        self._reactor = reactor
        self._seconds = seconds
        self._policy = tls.policy()
        self._socket = self._host = ""
        # What the service is told in Host; empty for what is in the URL.
        self._host_field = b""
        if url.startswith(_UNIX):
            path, slash, rest = url.removeprefix(_UNIX).partition("/")
            self._socket = unquote(path)
            url = "http://localhost" + slash + rest
        elif _NO_NAME.search(name := (parts := urlsplit(url)).hostname or ""):
            netloc = parts.netloc
            self._host = unquote(name)
            last = netloc.rpartition(":")[2]
            port = f":{last}" if last.isdigit() else ""
            shown = f"[{self._host.partition('%')[0]}]" if ":" in self._host else self._host
            self._host_field = f"{shown}{port}".encode()
            url = url.replace(netloc, f"localhost{port}", 1)
        self.url = url
        self._pool: HTTPConnectionPool | None = None

    def ask(
        self,
        method: str,
        path: str = "",
        fields: Sequence[tuple[bytes, bytes]] = (),
        body: bytes | None = None,
    ) -> Deferred[Reply]:
        """Ask for the URL with `path` behind it; fails with `AskError` if no usable answer came in time.

        Cancel it when nobody waits any more.
        """
        asked: Deferred[Reply] = Deferred.fromCoroutine(self._ask(method, self.url + path, fields, body))
        asked.addTimeout(self._seconds, self._reactor, _too_late)
        return asked.addErrback(self._failed)

    async def _ask(self, method: str, url: str, fields: Sequence[tuple[bytes, bytes]], body: bytes | None) -> Reply:
        from treq.client import HTTPClient  # noqa: PLC0415  # see the top
        from twisted.web.http_headers import Headers  # noqa: PLC0415

        headers = Headers({b"Host": [self._host_field]} if self._host_field else {})
        for name, value in fields:
            headers.addRawHeader(name, value)
        # A client of its own for each request: it keeps cookies, and they are those of different people.
        client = HTTPClient(self._agent(body is None))
        response = await client.request(method, url, headers=headers, data=body, allow_redirects=False, unbuffered=True)
        collector = _Body()
        response.deliverBody(collector)
        whole = await collector.whole
        raw = tuple((name, value) for name, values in response.headers.getAllRawHeaders() for value in values)
        return Reply(response.code, raw, whole)

    def _agent(self, may_reuse: bool) -> Any:
        """What has a body is sent once, on a connection that cannot turn out dead."""
        from twisted.web.client import Agent, HTTPConnectionPool  # noqa: PLC0415

        if self._pool is None:
            self._pool = HTTPConnectionPool(self._reactor)
            self._pool.maxPersistentPerHost = _IDLE_CONNECTIONS
            self._pool.cachedConnectionTimeout = _IDLE_SECONDS
        pool = self._pool if may_reuse else None
        if self._socket:
            return Agent.usingEndpointFactory(self._reactor, _UnixEndpoints(self._reactor, self._socket), pool)
        if self._host:
            endpoints = _HostEndpoints(self._reactor, self._host, self._seconds, self._policy)
            return Agent.usingEndpointFactory(self._reactor, endpoints, pool)
        return Agent(self._reactor, self._policy, connectTimeout=self._seconds, pool=pool)

    def _failed(self, failure: Failure) -> Reply:
        if failure.check(AskError):
            return failure  # type: ignore[return-value]  # it goes on failing
        reason = (getattr(failure.value, "reasons", None) or [failure])[0]
        if reason.check(CancelledError):  # by whoever does not wait any more
            return reason  # type: ignore[no-any-return]
        # Not the text of the error, which may repeat what was sent.
        raise AskError(f"cannot be asked: {type(reason.value).__name__}")

    def close(self) -> Deferred[None]:
        """Close the idle connections."""
        if self._pool is None:
            return succeed(None)
        closed: Deferred[None] = self._pool.closeCachedConnections()
        return closed


def _too_late(result: object, _: float) -> Reply:
    if isinstance(result, Failure):
        raise AskError("did not answer in time")
    return result  # type: ignore[return-value]  # it came in the last moment


@implementer(IAgentEndpointFactory)
class _UnixEndpoints:
    """All URLs lead to one socket."""

    def __init__(self, reactor: Any, path: str) -> None:
        self._reactor = reactor
        self._path = path

    def endpointForURI(self, uri: Any) -> UNIXClientEndpoint:
        """The socket."""
        from twisted.internet.endpoints import UNIXClientEndpoint  # noqa: PLC0415  # see the top

        return UNIXClientEndpoint(self._reactor, self._path)


@implementer(IAgentEndpointFactory)
class _HostEndpoints:
    """All URLs lead to one host, whatever stands in its place in them."""

    def __init__(self, reactor: Any, host: str, seconds: float, policy: Policy) -> None:
        self._reactor = reactor
        self._host = host
        self._seconds = seconds
        self._policy = policy

    def endpointForURI(self, uri: Any) -> Any:
        """The host, with the port and TLS of the URL."""
        from twisted.internet.endpoints import wrapClientTLS  # noqa: PLC0415  # see the top

        endpoint = _HostEndpoint(self._reactor, self._host, uri.port, self._seconds)
        if uri.scheme == b"http":
            return endpoint
        return wrapClientTLS(self._policy.creatorForNetloc(self._host.encode(), uri.port), endpoint)


@implementer(IStreamClientEndpoint)
class _HostEndpoint:
    """A host whose name only has to be known to the system."""

    def __init__(self, reactor: Any, host: str, port: int, seconds: float) -> None:
        self._reactor = reactor
        self._host = host
        self._port = port
        self._seconds = seconds

    def connect(self, factory: Any) -> Deferred[Any]:
        """Connect to its addresses, one after the other."""
        return Deferred.fromCoroutine(self._connect(factory))

    async def _connect(self, factory: Any) -> Any:
        from twisted.internet.endpoints import HostnameEndpoint  # noqa: PLC0415  # see the top

        pool = self._reactor.getThreadPool()
        look_up = partial(socket.getaddrinfo, type=socket.SOCK_STREAM)
        found = await deferToThreadPool(self._reactor, pool, look_up, self._host, self._port)
        *others, last = dict.fromkeys(str(address[0]) for *_, address in found)
        seconds = self._seconds / (len(others) + 1)
        for address in others:
            try:
                return await HostnameEndpoint(self._reactor, address, self._port, timeout=seconds).connect(factory)
            except ConnectError:
                continue
        return await HostnameEndpoint(self._reactor, last, self._port, timeout=seconds).connect(factory)


class _Body(Protocol):
    """Collects a body of bounded size; cancelling `whole` ends the connection."""

    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred(lambda _: self._abort())
        self._pieces = BytesIO()

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """More of it came."""
        self._pieces.write(data)
        if self._pieces.tell() > _MAX_BODY and not self.whole.called:
            self.whole.errback(AskError("answers at too great length"))
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """That was all, or it was cut."""
        from twisted.web.client import ResponseDone  # noqa: PLC0415
        from twisted.web.http import PotentialDataLoss  # noqa: PLC0415

        if self.whole.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(self._pieces.getvalue())
        else:
            self.whole.errback(AskError("cut its answer off"))
