"""Tests of `proxyd.core.proxyline`."""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.proxyline import ProxyLine, ProxyLineError
from tests.core.feeding import damaged, pieces, ways_to_come

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
LONGEST = b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535".ljust(105, b"x") + b"\r\n"


def binary(command: int, family: int, block: bytes, *, length: int | None = None) -> bytes:
    """A header of version 2."""
    size = len(block) if length is None else length
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2, "big") + block


TCP4 = IPv4Address("192.0.2.7").packed + IPv4Address("198.51.100.1").packed + b"\xdc\x04\x01\xbb"
TCP6 = IPv6Address("2001:db8::7").packed + IPv6Address("2001:db8::1").packed + b"\xdc\x04\x01\xbb"
UNIX = b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")
TLV = b"\x04\x00\x05hello"
GOOD = {
    V4: ("192.0.2.7", 56324),
    b"PROXY TCP6 2001:DB8::7 2001:db8::1 0 65535\r\n": ("2001:db8::7", 0),
    b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n": ("192.0.2.7", 1),
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN any thing\r\n": None,
    LONGEST: None,
    binary(0x21, 0x11, TCP4): ("192.0.2.7", 56324),
    binary(0x21, 0x11, TCP4 + TLV): ("192.0.2.7", 56324),
    binary(0x21, 0x21, TCP6): ("2001:db8::7", 56324),
    binary(0x21, 0x21, TCP6 + TLV * 500): ("2001:db8::7", 56324),
    binary(0x21, 0x31, UNIX): (),
    binary(0x21, 0x00, b""): None,
    binary(0x21, 0x00, TLV): None,
    binary(0x20, 0x00, b""): None,
    binary(0x20, 0x11, TCP4): None,
    binary(0x20, 0xFF, b"?"): None,
}
BAD = [
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01",
    b"proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n" + b"x" * 100,
    b"PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2 \r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 2\r\n",
    b"PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n",
    b"PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 ::1 1 2\r\n",
    b"PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    b"PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY \r\n",
    b"PROXY " + b"x" * 101,
    LONGEST[:-2] + b"x\r\n",
    SIGNATURE[:-1] + b"\r",
    binary(0x11, 0x11, TCP4),
    binary(0x22, 0x11, TCP4),
    binary(0x21, 0x12, TCP4),
    binary(0x21, 0x41, TCP4),
    binary(0x21, 0x11, TCP4[:-1]),
    binary(0x21, 0x21, TCP6[:-1]),
    binary(0x21, 0x31, UNIX[:-1]),
    binary(0x21, 0x11, TCP4, length=4081),
]
FOLLOWING = b"\x16\x03\x01 more\r\n"


def fed(parts: list[bytes]) -> tuple[ProxyLine, bytes]:
    """What becomes of `parts`, as a socket gives them: what a header does not take stays there."""
    line = ProxyLine()
    while parts and not line.is_complete:
        part = parts.pop(0)
        count = line.feed(part)
        if count < len(part):
            parts.insert(0, part[count:])
            assert line.is_complete
    return line, b"".join(parts)


class ProxyLineTests(SynchronousTestCase):
    """`ProxyLine`."""

    def test_headers_of_both_versions(self) -> None:
        """However they come, they are read to their last byte and no further."""
        for header, source in GOOD.items():
            for parts in ([header + FOLLOWING], *ways_to_come(header)):
                line, rest = fed(list(parts))
                self.assertTrue(line.is_complete, header)
                self.assertEqual(line.source, source, header)
                self.assertEqual(rest, FOLLOWING if len(parts[0]) > len(header) else b"", header)

    def test_a_header_is_waited_for(self) -> None:
        """As long as what came can become one."""
        for header in GOOD:
            line = ProxyLine()
            self.assertEqual(line.feed(header[:-1]), len(header) - 1)
            self.assertEqual((line.is_complete, line.source), (False, None))

    def test_anything_else_is_refused(self) -> None:
        """However it comes."""
        for header in BAD:
            for parts in ([header], [header[index : index + 1] for index in range(len(header))]):
                self.assertRaises(ProxyLineError, fed, parts)

    def test_it_is_refused_at_once(self) -> None:
        """Nobody waits for the rest of what can never be right."""
        for beginning in (b"G", b"PROXX", SIGNATURE[:4] + b"x", binary(0x21, 0x11, b"", length=4081)):
            self.assertRaises(ProxyLineError, ProxyLine().feed, beginning)

    @given(st.data())
    def test_pieces_do_not_matter(self, data: st.DataObject) -> None:
        """A header, damaged or not, comes to the same in pieces as whole."""
        header = data.draw(damaged(data.draw(st.sampled_from([*GOOD, *BAD])))) + FOLLOWING

        def outcome(parts: list[bytes]) -> object:
            try:
                line, rest = fed(parts)
            except ProxyLineError:
                return "refused"
            return line.is_complete, line.source, rest

        self.assertEqual(outcome(data.draw(pieces(header))), outcome([header]))

    @given(st.binary(max_size=300))
    def test_nothing_but_its_own_error(self, data: bytes) -> None:
        """Whatever comes behind either beginning."""
        for beginning in (b"PROXY TCP4 ", SIGNATURE):
            with contextlib.suppress(ProxyLineError):
                fed([beginning + data])
