"""Which client a limit counts a request or a connection for, and who sits at this machine."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from proxyd.core.forward import Peer
from proxyd.core.head import RequestHead

_FOR = b"x-forwarded-for"
# A trusted proxy has a reason for each address in front of its own; nobody has this many.
_MAX_HOPS = 32


def client_of(peer: Peer, head: RequestHead, trusts: Callable[[str], bool]) -> bytes:
    """The key of the client behind `peer`.

    X-Forwarded-For counts if the peer is a trusted proxy, and then the last address in it that is none: everything in
    front of that could be forged. `trusts` tells for an address.
    """
    if peer.trusted and head.forwarded is not None and (value := head.forwarded.get(_FOR)):
        for part in reversed(value.rsplit(b",", _MAX_HOPS)[-_MAX_HOPS:]):
            address = _address_in(part.strip().decode("latin-1"))
            if not address:
                break
            if not trusts(address):
                return key_of_address(address.encode())
    return key_of_address(peer.address)


def is_local(peer: Peer, head: RequestHead) -> bool:
    """Whether the client is on this machine: on loopback or a unix socket, and speaks for nobody from elsewhere.

    What a proxy on this machine says of its clients counts; if that cannot be understood, they are elsewhere.
    """
    if peer.address and not _is_loopback(peer.address.decode("latin-1")):
        return False
    if head.get(b"forwarded") is not None:
        return False
    named = (head.forwarded or {}).get(_FOR, b"").decode("latin-1")
    return not named or all(_is_loopback(_address_in(part.strip())) for part in named.split(","))


def _is_loopback(address: str) -> bool:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return (mapped or parsed).is_loopback


@lru_cache(maxsize=1024)
def key_of_address(address: bytes) -> bytes:
    """The address itself, but of IPv6 its /64: that much a single client has at least. A unix socket is one client."""
    try:
        parsed = ip_address(address.decode("ascii").partition("%")[0])
    except ValueError:
        return b"unix"
    return parsed.packed[:8] if isinstance(parsed, IPv6Address) else parsed.packed


def _address_in(text: str) -> str:
    """The address in a part of X-Forwarded-For, which may have a port; empty for anything else."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ip_address(text)
    except ValueError:
        return ""
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)
