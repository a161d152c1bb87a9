"""Names whose addresses are looked at before anybody connects to them. Which ones may be is `core.ports`."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed

from proxyd.core.ports import is_localhost
from proxyd.errors import ForbiddenAddressError
from proxyd.net.resolver import Addresses
from proxyd.upstream.dialing import Names

# What `localhost` means, whatever name servers say. Most applications listen on the first one only, many on both.
_LOOPBACK: Addresses = ("127.0.0.1", "::1")


class CheckedNames:
    """Resolves with `names`, and passes on only what `permits`.

    A dial connects to the very addresses that were looked at: what a name server says a moment later does not count.
    """

    def __init__(self, names: Names, permits: Callable[[str], bool]) -> None:
        self._names = names
        self._permits = permits

    def resolve(self, host: str) -> Deferred[Addresses]:
        """The addresses of `host` that are permitted.

        Fails with `OSError` if there are no addresses, with `ForbiddenAddressError` if there are only others.
        """
        if is_localhost(host):
            return succeed(_LOOPBACK)
        return self._names.resolve(host).addCallback(self._check, host)

    def _check(self, addresses: Addresses, host: str) -> Addresses:
        permitted = tuple(filter(self._permits, addresses))
        if not permitted:
            raise ForbiddenAddressError(host, f"it resolves to {', '.join(addresses)}")
        return permitted
