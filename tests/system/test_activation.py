"""Tests of `proxyd.system.activation`."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from proxyd.system.activation import InheritedSockets

PID = 4711


class InheritedSocketsTests(SynchronousTestCase):
    """`InheritedSockets`."""

    def setUp(self) -> None:
        self.environ: dict[str, str] = {}

    def inherit(self, *sockets: socket.socket, names: str = "web:admin", pid: str = str(PID)) -> InheritedSockets:
        """Sockets at descriptors of a row, as a service manager leaves them."""
        first = 200  # nothing else is there
        for index, sock in enumerate(sockets):
            os.dup2(sock.fileno(), first + index)
            sock.close()
        self.environ.update(LISTEN_FDS=str(len(sockets)), LISTEN_PID=pid, LISTEN_FDNAMES=names, OTHER="x")
        self.addCleanup(os.closerange, first, first + len(sockets))
        with capturedLogs() as events:
            inherited = InheritedSockets.of(self.environ, PID, first)
        self.said = [formatEvent(event) for event in events]
        return inherited

    def listening(self) -> socket.socket:
        """A socket that listens."""
        return socket.create_server(("127.0.0.1", 0))

    def test_they_are_taken_once(self) -> None:
        """By whoever wants them; they never wait, and children do not get them."""
        inherited = self.inherit(self.listening(), self.listening())
        (first,) = inherited.take(lambda sock: sock.fileno() == 200)
        self.addCleanup(first.close)
        self.assertEqual((first.getblocking(), first.get_inheritable()), (False, False))
        self.assertTrue(first.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        self.assertEqual([sock.fileno() for sock in inherited.take(lambda sock: True)], [201])
        self.assertEqual(inherited.take(lambda sock: True), [])
        self.assertEqual(self.said, [])

    def test_children_are_not_told_of_them(self) -> None:
        """Whosever they are."""
        for pid in (str(PID), "1"):
            self.inherit(pid=pid)
            self.assertEqual(self.environ, {"OTHER": "x"})

    def test_those_of_another_process_are_left_alone(self) -> None:
        """So are the descriptors if nobody says anything of them, or nonsense."""
        sock = self.listening()
        self.assertEqual(self.inherit(sock, pid="1").take(lambda sock: True), [])
        os.fstat(200)
        for count in ("", "-1", "x"):
            inherited = InheritedSockets.of({"LISTEN_FDS": count, "LISTEN_PID": str(PID)}, PID, 200)
            self.assertEqual(inherited.take(lambda sock: True), [])
        self.assertEqual(InheritedSockets.of({}).take(lambda sock: True), [])

    def test_what_is_no_listening_socket(self) -> None:
        """Is named, and stays open; the others are there all the same."""
        inherited = self.inherit(socket.socket(), self.listening(), socket.socket(type=socket.SOCK_DGRAM), names="a:b")
        os.fstat(200)
        self.assertEqual([sock.fileno() for sock in inherited.take(lambda sock: True)], [201])
        self.assertEqual(
            self.said,
            [
                "inherited socket a cannot be used: it is no listening stream socket",
                "inherited socket unknown cannot be used: it is no listening stream socket",
            ],
        )
        InheritedSockets.of({"LISTEN_FDS": "1", "LISTEN_PID": str(PID)}, PID, 300)  # nothing is open there

    def test_those_of_no_listener_are_named(self) -> None:
        """By name and place, and closed."""
        directory = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, directory)
        unix = socket.socket(socket.AF_UNIX)
        unix.bind(directory + "/s")
        unix.listen()
        tcp = self.listening()
        port = tcp.getsockname()[1]
        inherited = self.inherit(tcp, unix)
        with capturedLogs() as events:
            inherited.close()
            inherited.close()
        self.assertEqual(
            [formatEvent(event) for event in events],
            [
                f"inherited socket web at 127.0.0.1:{port} is that of no listener",
                f"inherited socket admin at {directory}/s is that of no listener",
            ],
        )
        self.assertRaises(OSError, os.fstat, 200)
