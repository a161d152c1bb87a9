"""Where a route leads: scheme, host and port or socket, and the path in front of everything."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

import attrs

from proxyd.errors import OptionError

_SCHEMES = {"http": False, "https": True, "http+unix": False, "unix+http": False}
_DEFAULT_PORTS = {"http": 80, "https": 443}
# RFC 1035 §2.3.4; an underscore is no letter of a host name, but container names have it.
_HOST_NAME = re.compile(r"(?=.{1,254}\Z)(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
MAX_SOCKET_PATH = 107
"""sizeof(sockaddr_un.sun_path) on Linux, less the final NUL."""
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\\ud800-\udfff]")
# A name, or an address in brackets, with an optional port. A zone stands behind `%25` (RFC 6874), or behind a lone
# `%` as people write it. `urlsplit` would ignore what stands before and behind the brackets.
_AUTHORITY = re.compile(r"(?:\[([^%\[\]]*)(?:%(?:25)?([A-Za-z0-9._~-]+))?\]|([^:\[\]]*))(?::[0-9]*)?")


class Parts(NamedTuple):
    """What a URL says."""

    secure: bool
    host: str
    port: int
    socket: str = ""
    path: bytes = b""
    query: bytes = b""


@attrs.frozen(weakref_slot=False)
class Upstream:
    """Who answers. Parse one with `Upstream.parse`; `url` is what the user wrote, and what makes two of them equal.

    What else it says is read when somebody asks for it: most of 100,000 routes lie idle, and are 150 bytes lighter.
    """

    url: str
    _parts: Parts | None = attrs.field(default=None, eq=False, repr=False)

    @classmethod
    def parse(cls, url: str) -> Upstream:
        """Read `http://`, `https://`, or `http+unix://%2Fpath%2Fto%2Fsock` with an optional path and query.

        User information and a fragment are ignored; scheme and host are case-insensitive.
        Raises `OptionError` when nobody could ever be reached there.
        """
        _parse(url)
        return cls(url)

    @property
    def _said(self) -> Parts:
        parts = self._parts
        if parts is None:
            parts = _parse(self.url)
            object.__setattr__(self, "_parts", parts)
        return parts

    @property
    def secure(self) -> bool:
        """Whether TLS is spoken."""
        return self._said.secure

    @property
    def host(self) -> str:
        """The name or address; `localhost` for a socket."""
        return self._said.host

    @property
    def port(self) -> int:
        """The port; 0 for a socket."""
        return self._said.port

    @property
    def socket(self) -> str:
        """The path of the socket; empty if there is none."""
        return self._said.socket

    @property
    def path(self) -> bytes:
        """What stands in front of the path of a request; empty for `/`."""
        return self._said.path

    @property
    def query(self) -> bytes:
        """What is added to the query of a request."""
        return self._said.query

    @property
    def authority(self) -> bytes:
        """Host and port as a Host field has them: no zone, and no port when it is the scheme's default."""
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        if self.socket or self.port == _DEFAULT_PORTS["https" if self.secure else "http"]:
            return host.encode("ascii")
        return f"{host}:{self.port}".encode("ascii")

    def __str__(self) -> str:
        return self.socket or f"{self.host}:{self.port}"


def _parse(url: str) -> Parts:
    if _UNSAFE.search(url):
        raise OptionError("a URL has no spaces, control characters, backslashes or lone surrogates")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise OptionError(f"not a usable URL: {error}") from None
    if parts.scheme not in _SCHEMES:
        raise OptionError(f"the scheme has to be one of {', '.join(_SCHEMES)}")
    if port == 0:
        raise OptionError("port 0 cannot be connected to")
    secure = _SCHEMES[parts.scheme]
    path = b"" if parts.path == "/" else quote(parts.path, safe="/%:@!$&'()*+,;=~").encode("ascii")
    query = quote(parts.query, safe="/?%:@!$&'()*+,;=~").encode("ascii")
    authority = parts.netloc.rpartition("@")[2]
    if "unix" in parts.scheme:
        return Parts(secure, "localhost", 0, _socket_path(authority), path, query)
    host = _host(authority)
    return Parts(secure, host, port or _DEFAULT_PORTS[parts.scheme], "", path, query)


def _socket_path(authority: str) -> str:
    try:
        path = unquote(authority, errors="strict")
    except UnicodeDecodeError:
        raise OptionError("the path of a socket has to be UTF-8") from None
    if not path:
        raise OptionError("the path of the socket is missing: http+unix://%2Fpath%2Fto%2Fsocket")
    if "\0" in path or len(path.encode()) > MAX_SOCKET_PATH:
        raise OptionError(f"the path of a socket has at most {MAX_SOCKET_PATH} bytes")
    return path


def _host(authority: str) -> str:
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise OptionError(f"{authority!r} is not a host with an optional port")
    address, zone, name = match.groups()
    if address is not None:
        try:
            ipaddress.IPv6Address(address)
        except ValueError:
            raise OptionError(f"{address!r} is not an IPv6 address") from None
        address = address.lower()
        return f"{address}%{zone}" if zone else address
    if not name:
        raise OptionError("the host is missing")
    return host_name(name)


def can_be_asked(url: str) -> bool:
    """Whether `url` is one for requests of our own: of a Hub, or of a service that is asked about clients."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https", "http+unix") and bool(parts.netloc) and not parts.fragment


def host_name(name: str) -> str:
    """A host name in lower case and IDNA.

    Raises `OptionError`.
    """
    try:
        host = name.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise OptionError(f"{name!r} is not a host name") from None
    if not _HOST_NAME.fullmatch(host):
        raise OptionError(f"{name!r} is not a host name")
    return host
