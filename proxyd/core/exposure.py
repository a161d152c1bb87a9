"""Listeners that anybody may reach."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from proxyd.model.auth import AnonymousAuthConfig, AuthConfig


def exposed(addresses: Iterable[str], auth: AuthConfig) -> list[str]:
    """Those of the listeners' `addresses` at which everybody would be served under `auth`.

    `addresses` are what `address` says of each listener that is not on a socket; "" and "*" are all addresses.
    Whoever builds servers and ports refuses to start them if this is not empty, unless `allow_anonymous` is true: in
    Jupyter such things live behind a login. Call it with the `auth` that holds for them, `Config.auth` or their own.
    """
    if not isinstance(auth, AnonymousAuthConfig):
        return []
    return [address or "*" for address in addresses if not _is_loopback(address)]


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return address == "localhost"
