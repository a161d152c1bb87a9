"""The header of the PROXY protocol, in which a proxy in front of us tells whom a connection comes from.

The specification is that of HAProxy: version 1 (section 2.1) is a line of text, version 2 (section 2.2) is binary.
Reading stops at the last byte of the header: what follows belongs to the connection, and may be TLS.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address

# Section 2.1: the longest line that there can be, with its end.
_MAX_LINE = 107
# Section 2.2 allows 64 KiB of extensions behind the addresses. What is really sent, certificates' names among it, is
# some hundred bytes.
_MAX_BINARY = 4096
_TEXT = b"PROXY "
_BINARY = b"\r\n\r\n\0\r\nQUIT\n"
_LINE_END = b"\r\n"
_FIXED = 16

_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")
_PORT = rb"(0|[1-9][0-9]{0,4})"
_LINE = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) " + _PORT + b" " + _PORT + rb"\r\n")

_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6, _UNIX = 0x11, 0x21, 0x31
_ADDRESSES = {_TCP4: 12, _TCP6: 36, _UNIX: 216}
_UNSPECIFIED = 0x00


class ProxyLineError(Exception):
    """What comes is no such header; the text tells why."""


class ProxyLine:
    """A header, piece by piece.

    Once it `is_complete`, `source` is the client's address and port, None if the header leaves it to the connection
    itself, and empty for a client on a unix socket.
    """

    is_complete = False
    source: tuple[str, int] | tuple[()] | None = None

    def __init__(self) -> None:
        self._header = b""

    def feed(self, data: bytes) -> int:
        """Read on; gives back how many bytes of `data` belong to the header.

        Raises `ProxyLineError`, as soon as it cannot become a header any more.
        """
        before = len(self._header)
        header = self._header = self._header + data
        if _is_begun(header, _BINARY):
            size = self._read_binary(header)
        elif _is_begun(header, _TEXT):
            size = self._read_text(header)
        else:
            raise ProxyLineError("it does not begin with a PROXY header")
        if not self.is_complete:
            return len(data)
        return size - before

    def _read_text(self, header: bytes) -> int:
        end = header.find(_LINE_END, 0, _MAX_LINE)
        if end < 0:
            if len(header) >= _MAX_LINE:
                raise ProxyLineError("the PROXY line is too long")
            return 0
        size = end + len(_LINE_END)
        line = header[:size]
        if not _UNKNOWN.fullmatch(line):
            self.source = _source_in(line)
        self.is_complete = True
        return size

    def _read_binary(self, header: bytes) -> int:
        if len(header) < _FIXED:
            return 0
        command, family = header[12], header[13]
        size = _FIXED + int.from_bytes(header[14:_FIXED], "big")
        if command not in {_LOCAL, _PROXY}:
            raise ProxyLineError(f"version or command 0x{command:02x} of the PROXY header is unknown")
        if size > _MAX_BINARY:
            raise ProxyLineError("the PROXY header is too long")
        if command == _PROXY and family != _UNSPECIFIED:
            if family not in _ADDRESSES:
                raise ProxyLineError(f"family 0x{family:02x} of the PROXY header is unknown")
            if size < _FIXED + _ADDRESSES[family]:
                raise ProxyLineError("the PROXY header is too short for its addresses")
        if len(header) < size:
            return 0
        if command == _PROXY:
            self.source = _binary_source(family, header[_FIXED:size])
        self.is_complete = True
        return size


def _is_begun(header: bytes, beginning: bytes) -> bool:
    """Whether `header` begins so, as far as it has come."""
    return header[: len(beginning)] == beginning[: len(header)]


def _source_in(line: bytes) -> tuple[str, int]:
    """The client in a line of text; what it connected to has to be right, and is of no use."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise ProxyLineError("the PROXY line is malformed")
    version, source, destination, *ports = (group.decode("ascii") for group in found.groups())
    kind = IPv4Address if version == "4" else IPv6Address
    try:
        address, _ = kind(source), kind(destination)
    except ValueError:
        raise ProxyLineError("there is no such address as in the PROXY line") from None
    port, other = map(int, ports)
    if max(port, other) > 0xFFFF:
        raise ProxyLineError("there is no such port as in the PROXY line")
    return _text(address), port


def _text(address: IPv4Address | IPv6Address) -> str:
    """As it is compared with networks: an IPv4 address as one, however it was written (RFC 4291 §2.5.5.2)."""
    return str(getattr(address, "ipv4_mapped", None) or address)


def _binary_source(family: int, block: bytes) -> tuple[str, int] | tuple[()] | None:
    if family == _TCP4:
        return str(IPv4Address(block[:4])), int.from_bytes(block[8:10], "big")
    if family == _TCP6:
        return _text(IPv6Address(block[:16])), int.from_bytes(block[32:34], "big")
    return () if family == _UNIX else None
