"""What a user may say about ports that are reached by their number: `BASE_URL proxy/PORT`."""

from __future__ import annotations

import ipaddress

import attrs

from proxyd.errors import OptionError
from proxyd.model.upstream import host_name
from proxyd.option import Function, HostName, NumberRanges, option


@attrs.frozen(kw_only=True)
class PortsSettings:
    """`BASE_URL proxy/PORT` leads to that port of this machine, `BASE_URL proxy/HOST:PORT` to that of another one."""

    enabled: bool = option(False, help="Serve them. Whoever gets through the proxy reaches whatever listens there.")
    allow: NumberRanges = option(NumberRanges("1-65535"), help="The ports that may be asked for: else 403.")
    hosts: tuple[HostName, ...] | Function = option(
        (HostName("localhost"), HostName("127.0.0.1")),
        help="The hosts that `proxy/HOST:PORT` may name: else 403. A name counts as it is written; it may not resolve "
        "to an address of this machine or of a link, unless that is in the list. A function is called with "
        "`(handler, host)` for each request, in a thread; `handler` has `log` and `request`.",
    )
    rewrite_response: tuple[Function, ...] | Function = option(
        (), help="Functions that change a response, from left to right."
    )
    allow_origin: tuple[str, ...] = option((), help="Origins of WebSockets besides our own; `*` for all.")

    @property
    def rewriters(self) -> tuple[Function, ...]:
        """The functions of `rewrite_response`."""
        return (self.rewrite_response,) if isinstance(self.rewrite_response, Function) else self.rewrite_response

    def __attrs_post_init__(self) -> None:
        """Refuse ports that there are not.

        Raises `OptionError`.
        """
        if any(numbers[-1] > 65535 for numbers in ranges_of(self.allow)):
            raise OptionError("ports end at 65535", "allow")


def ranges_of(text: str) -> tuple[range, ...]:
    """The numbers that `1024-2047,8000` means.

    Raises `OptionError` for a range that ends before it begins.
    """
    ranges = []
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        numbers = range(int(first), int(last or first) + 1)
        if not numbers:
            raise OptionError(f"{piece} ends before it begins")
        ranges.append(numbers)
    return tuple(ranges)


def canonical_host(text: str) -> str:
    """The one spelling of a host: an address in its usual form, or a name in lower case and IDNA.

    Raises `OptionError`. A final dot stays, and so do `127.1` and the like: such a spelling is a host of its own.
    """
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return host_name(text)
