"""Tests of `proxyd.core.client`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.client import client_of, is_local, key_of_address
from proxyd.core.forward import Peer
from proxyd.core.head import HeadLimits, RequestReader


def client(address: bytes, forwarded: bytes | None, trusted: tuple[str, ...] = ("127.0.0.1", "10.0.0.1")) -> bytes:
    """The key of a client at `address` with this X-Forwarded-For."""
    block = b"GET / HTTP/1.1\r\nHost: a"
    if forwarded is not None:
        block += b"\r\nX-Forwarded-For: " + forwarded
    peer = Peer(address, secure=False, trusted=address.decode() in trusted or not address)
    return client_of(peer, RequestReader(HeadLimits()).read(block), lambda address: address in trusted)


class ClientTests(SynchronousTestCase):
    """Whom a limit counts."""

    def test_strangers_count_by_their_own_address(self) -> None:
        """Whatever they say about others: else everybody had as many names as they like."""
        expected = key_of_address(b"192.0.2.1")
        for value in (None, b"192.0.2.9", b"127.0.0.1", b"10.0.0.1, 192.0.2.9"):
            self.assertEqual(client(b"192.0.2.1", value), expected, value)

    def test_trusted_proxies_name_their_clients(self) -> None:
        """The last address that is no proxy counts; those in front of it could be forged."""
        expected = key_of_address(b"192.0.2.9")
        for value in (
            b"192.0.2.9",
            b"192.0.2.77, 192.0.2.9",
            b"192.0.2.77,192.0.2.9, 10.0.0.1",
            b"192.0.2.9:5512",
            b"::ffff:192.0.2.9",
            b"[::ffff:192.0.2.9]:80",
            b"junk, 192.0.2.9",
        ):
            self.assertEqual(client(b"127.0.0.1", value), expected, value)

    def test_a_proxy_that_says_nothing_usable_counts_itself(self) -> None:
        """Nobody gets a name of their own by writing junk."""
        for value in (None, b"", b"unknown", b"192.0.2.9, unknown", b"10.0.0.1", b"10.0.0.1, 10.0.0.1", b"a:b"):
            self.assertEqual(client(b"127.0.0.1", value), key_of_address(b"127.0.0.1"), value)

    def test_a_long_list_is_not_read_to_its_end(self) -> None:
        """A head is short, and so is the way."""
        self.assertEqual(client(b"127.0.0.1", b"192.0.2.9" + b",10.0.0.1" * 500), key_of_address(b"127.0.0.1"))

    def test_neighbours_in_ipv6_are_one_client(self) -> None:
        """A /64 is what one machine gets; the next one is somebody else. IPv4 is taken whole."""
        same = {key_of_address(address) for address in (b"2001:db8::1", b"2001:db8::ffff:1", b"2001:db8:0:0:5::%eth0")}
        self.assertEqual(len(same), 1)
        self.assertNotIn(key_of_address(b"2001:db8:0:1::1"), same)
        self.assertNotEqual(key_of_address(b"192.0.2.1"), key_of_address(b"192.0.2.2"))

    def test_a_unix_socket_is_one_client(self) -> None:
        """There is no address; but the proxy behind it may name its clients."""
        self.assertEqual(client(b"", None), b"unix")
        self.assertEqual(client(b"", b"192.0.2.9"), key_of_address(b"192.0.2.9"))


class LocalTests(SynchronousTestCase):
    """Who sits at this machine."""

    def test_loopback_and_sockets_are_local(self) -> None:
        """Unless they speak for somebody elsewhere, or for nobody knows whom."""
        for address, fields, expected in (
            (b"", b"", True),
            (b"127.0.0.1", b"", True),
            (b"::1", b"", True),
            (b"::ffff:127.0.0.1", b"", True),
            (b"::ffff:192.0.2.1", b"", False),
            (b"192.0.2.1", b"", False),
            (b"nonsense", b"", False),
            (b"127.0.0.1", b"\r\nX-Forwarded-For: 127.0.0.1, ::1", True),
            (b"127.0.0.1", b"\r\nX-Forwarded-For: 192.0.2.1", False),
            (b"127.0.0.1", b"\r\nX-Forwarded-For: 127.0.0.1, unknown", False),
            (b"", b"\r\nForwarded: for=192.0.2.1", False),
        ):
            head = RequestReader(HeadLimits()).read(b"GET / HTTP/1.1\r\nHost: a" + fields)
            self.assertEqual(expected, is_local(Peer(address, secure=False, trusted=True), head), (address, fields))
