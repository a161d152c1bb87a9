"""Tests of `proxyd.listeners.sockets`."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile

from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import ListenError
from proxyd.listeners.sockets import identity, is_at, open_tcp, open_unix, remove_unix


class TcpTests(SynchronousTestCase):
    """`open_tcp`."""

    def open(self, address: str, port: int = 0) -> list[socket.socket]:
        """Open, and close at the end of the test."""
        sockets = open_tcp(address, port, 16)
        for sock in sockets:
            self.addCleanup(sock.close)
        return sockets

    def test_one_address(self) -> None:
        """A literal is one socket, on just that address."""
        for address in ("127.0.0.1", "::1", "127.0.0.2"):
            (sock,) = self.open(address)
            self.assertEqual(address, sock.getsockname()[0])
            socket.create_connection(sock.getsockname()[:2]).close()
            self.assertFalse(sock.getblocking())

    def test_all_addresses(self) -> None:
        """`*` and nothing mean IPv4 and IPv6; 0.0.0.0 means IPv4 only."""
        for address in ("", "*"):
            (sock,) = self.open(address)
            for one in ("127.0.0.1", "::1", "127.0.0.9"):
                socket.create_connection((one, sock.getsockname()[1])).close()
        (sock,) = self.open("0.0.0.0")
        self.assertRaises(ConnectionRefusedError, socket.create_connection, ("::1", sock.getsockname()[1]))

    def test_names(self) -> None:
        """A name is all of its addresses, on one port."""
        sockets = self.open("localhost")
        self.assertIn("127.0.0.1", {sock.getsockname()[0] for sock in sockets})
        self.assertEqual(1, len({sock.getsockname()[1] for sock in sockets}))

    def test_errors_say_where_and_why(self) -> None:
        """A port that is taken, an address that is not ours, a name that does not exist: one line each."""
        (taken,) = self.open("127.0.0.1")
        port = taken.getsockname()[1]
        (taken6,) = self.open("::1")
        port6 = taken6.getsockname()[1]
        for address, number, words in (
            ("127.0.0.1", port, f"cannot listen on 127.0.0.1:{port}: address already in use"),
            ("::1", port6, f"cannot listen on [::1]:{port6}: address already in use"),
            ("*", port, f"cannot listen on *:{port}: address already in use"),
            ("localhost", port, f"cannot listen on localhost:{port}: address already in use"),
            ("192.0.2.1", 0, "cannot listen on 192.0.2.1:0: cannot assign requested address"),
        ):
            error = self.assertRaises(ListenError, open_tcp, address, number, 16)
            self.assertEqual(words, str(error))
        for address in ("no-such-host.invalid", "a" * 70):
            self.assertRaises(ListenError, open_tcp, address, 0, 16)


class UnixTests(SynchronousTestCase):
    """`open_unix` and `remove_unix`."""

    def setUp(self) -> None:
        self.directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.directory)
        self.path = f"{self.directory}/s"

    def open(self, mode: int | None = None) -> socket.socket:
        """Open, and close at the end of the test."""
        sock = open_unix(self.path, 16, mode)
        self.addCleanup(sock.close)
        return sock

    def connect(self) -> None:
        """Connect once."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.path)

    def test_permissions(self) -> None:
        """The umask decides, or the mode if one is given."""
        for umask, mode, expected in ((0o007, None, 0o770), (0o077, 0o666, 0o666)):
            before = os.umask(umask)
            try:
                self.open(mode)
            finally:
                os.umask(before)
            self.assertEqual(expected, stat.S_IMODE(os.stat(self.path).st_mode))
            self.connect()
            os.unlink(self.path)

    def test_stale_ones_are_replaced(self) -> None:
        """A socket on which nobody accepts any more is no obstacle."""
        self.open().close()
        self.assertTrue(os.path.exists(self.path))
        self.open()
        self.connect()

    def test_others_are_left_alone(self) -> None:
        """A socket that is in use, and a file that is none, stay."""
        self.open()
        error = self.assertRaises(ListenError, open_unix, self.path, 16)
        self.assertEqual(f"cannot listen on {self.path}: address already in use", str(error))
        self.connect()
        self.path += "file"
        with open(self.path, "w") as file:
            file.write("precious")
        error = self.assertRaises(ListenError, open_unix, self.path, 16)
        self.assertIn("no socket", str(error))
        with open(self.path) as file:
            self.assertEqual("precious", file.read())
        self.assertRaises(ListenError, open_unix, f"{self.directory}/no/such/directory", 16)

    def test_removed_if_it_is_still_ours(self) -> None:
        """At the end it goes, unless it is gone already or somebody has put another one in its place."""
        self.open()
        own = identity(self.path)
        remove_unix(self.path, own)
        self.assertFalse(os.path.exists(self.path))
        remove_unix(self.path, own)
        self.open()
        remove_unix(self.path, (own[0], own[1] + 1000000))
        self.assertTrue(os.path.exists(self.path))


class IsAtTests(SynchronousTestCase):
    """`is_at`."""

    def test_tcp(self) -> None:
        """The address that is meant, however it is written, and the port."""
        for address, same, others in (
            ("127.0.0.1", ["127.0.0.1", "localhost"], ["127.0.0.2", "", "0.0.0.0", "::1", "no such name"]),
            ("::1", ["::1", "0:0:0:0:0:0:0:1"], ["127.0.0.1", "*"]),
            ("", ["", "*", "::"], ["0.0.0.0", "127.0.0.1"]),
            ("0.0.0.0", ["0.0.0.0", "", "*"], ["127.0.0.1", "::"]),
        ):
            (sock,) = open_tcp(address, 0, 16)
            self.addCleanup(sock.close)
            port = sock.getsockname()[1]
            for name in same:
                self.assertTrue(is_at(sock, name, port, ""), (address, name))
                self.assertFalse(is_at(sock, name, port - 1, ""), (address, name))
                self.assertFalse(is_at(sock, name, port, "/run/s"), (address, name))
            for name in others:
                self.assertFalse(is_at(sock, name, port, ""), (address, name))

    def test_unix(self) -> None:
        """The path, however it is written."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        path = os.path.join(directory, "s")
        sock = open_unix(path, 16)
        self.addCleanup(sock.close)
        self.assertTrue(is_at(sock, "127.0.0.1", 8000, path))
        self.assertTrue(is_at(sock, "127.0.0.1", 8000, os.path.relpath(path)))
        self.assertFalse(is_at(sock, "127.0.0.1", 8000, path + "2"))
        self.assertFalse(is_at(sock, "127.0.0.1", 8000, ""))
