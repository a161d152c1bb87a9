"""Ports by number: which one a path asks for, whether it may be asked for, and whether its host is what it seems."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import attrs

from proxyd.core.target import decode_path, key_of
from proxyd.errors import OptionError, RequestError
from proxyd.model.ports import PortsSettings, canonical_host, ranges_of
from proxyd.model.upstream import Parts, Upstream
from proxyd.option import Function

_PLACE = re.compile(r"(?:([^/:@]+):)?([0-9]+)")
_LOCALHOST = "localhost"
# "This network", and metadata services of clouds (Alibaba, Oracle, Amazon) outside of 169.254.0.0/16 and fe80::/10.
_FORBIDDEN = tuple(map(ip_network, ("0.0.0.0/8", "100.100.100.200", "192.0.0.192", "fd00:ec2::254")))
# RFC 6052 §2.1, RFC 3056: IPv6 addresses that lead to an IPv4 address, and where in them it is.
_EMBEDDED = re.compile(r"0064:ff9b:0000:0000:0000:0000:(....):(....)|2002:(....):(....):.*")


@attrs.frozen
class PortPlace:
    """Where a path of the form `proxy/PORT`, `proxy/HOST:PORT` or `proxy/absolute/...` leads.

    `depth` counts the segments up to the port; `names_host` tells whether there is a host in it.
    """

    host: str
    port: int
    is_absolute: bool
    depth: int
    names_host: bool = attrs.field(default=False, eq=False)

    @property
    def upstream(self) -> Upstream:
        """Who answers there."""
        return Upstream(f"http://{self.host}:{self.port}", Parts(False, self.host, self.port))


class PortRules:
    """What `settings` allow below `base_url`."""

    def __init__(self, settings: PortsSettings, base_url: str) -> None:
        self._base_url = base_url
        self._allow = ranges_of(settings.allow)
        hosts = settings.hosts
        self._decides = hosts.call if isinstance(hosts, Function) else None
        self._hosts = frozenset() if isinstance(hosts, Function) else frozenset(map(canonical_host, hosts))
        self.prefix = (*key_of(decode_path(base_url.encode())), "proxy")

    def place(self, segments: tuple[str, ...]) -> PortPlace:
        """Where a path leads whose decoded segments begin with `prefix`; see `asks`.

        Raises `RequestError`: 404 for another form, 400 for a port that cannot be, 403 for what is not allowed.
        """
        depth = len(self.prefix)
        is_absolute = segments[depth : depth + 1] == ("absolute",)
        depth += is_absolute
        match = _PLACE.fullmatch(segments[depth]) if depth < len(segments) else None
        if match is None:
            raise RequestError(404, "neither a port nor a host with a port")
        digits = match[2].lstrip("0")
        if not digits or len(digits) > 5 or int(digits) > 65535:
            raise RequestError(400, "there is no such port")
        port = int(digits)
        host = _LOCALHOST if match[1] is None else self._checked(match[1])
        if not any(port in numbers for numbers in self._allow):
            raise RequestError(403, "ports.allow does not have this port")
        return PortPlace(host, port, is_absolute, depth + 1, match[1] is not None)

    def asks(self, place: PortPlace) -> bool:
        """Whether a function of the user has to `decide` on the place first."""
        return self._decides is not None and place.names_host

    def decide(self, place: PortPlace, handler: object) -> PortPlace:
        """The place, if the user's function says that its host is allowed; it may block.

        Raises `RequestError` 403.
        """
        try:
            is_allowed = self._decides is None or self._decides(handler, place.host) is True
        except Exception as error:  # code of the user's own, whatever it does
            raise RequestError(403, f"ports.hosts raised {type(error).__name__}") from error
        if not is_allowed:
            raise RequestError(403, "ports.hosts does not have this host")
        return place

    def _checked(self, host: str) -> str:
        try:
            host = canonical_host(host)
        except OptionError:
            raise RequestError(403, "this is no host name") from None
        if self._decides is None and host not in self._hosts:
            raise RequestError(403, "ports.hosts does not have this host")
        return host

    def context(self, place: PortPlace) -> str:
        """The prefix of `place`, in its usual spelling, without a final slash."""
        host = "" if place.host == _LOCALHOST else f"{place.host}:"
        return f"{self._base_url}proxy/{host}{place.port}"

    def permits(self, address: str) -> bool:
        """Whether a name of the list may mean this address.

        A name server, or whoever plays one, must not lead to this machine, to what is on its own link (such as the
        metadata service of a cloud), or to nobody in particular, unless the list has the address itself.
        """
        ip = ip_address(address.partition("%")[0])
        inner = _embedded(ip)
        if {str(ip), str(inner)} & self._hosts:
            return True
        ip = inner or ip
        is_special = ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast or ip.is_reserved
        return not is_special and not any(ip in network for network in _FORBIDDEN)


def _embedded(ip: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to."""
    if isinstance(ip, IPv4Address):
        return None
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    match = _EMBEDDED.fullmatch(ip.exploded)
    return IPv4Address(int("".join(match.groups("")), 16)) if match else None


def is_localhost(host: str) -> bool:
    """Whether a name means this machine by definition (RFC 6761 §6.3)."""
    host = host.removesuffix(".")
    return host == _LOCALHOST or host.endswith("." + _LOCALHOST)
