"""TLS on the transports of the data path: a non-blocking TLS object on the socket itself.

Twisted's own TLS copies everything through a memory BIO, at twice the price. Three things differ from plain TCP:
bytes wait until the handshake is over; `shutdown` of a TLS socket would go on in plain text, so it is never called
while the connection is used; and what OpenSSL has read but not handed out makes no event, so reads are at least one
record long.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet import tcp
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger

from proxyd.errors import TlsError
from proxyd.net.tcp import (
    SMALL_READ,
    DataPathClient,
    DataPathPort,
    DataPathServer,
    DataPathTransport,
    DataPathUnixServer,
)

if TYPE_CHECKING:
    from proxyd.net.reactor import DataPathReactor

# RFC 8446 §5.1: what one record carries, and so what one call of OpenSSL gives or takes.
_RECORD = 16 * 1024
_PLAIN_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 37\r\nConnection: close\r\n\r\n"
    b"This port speaks HTTPS: use https://\n"
)
# Of a request in plain text this much is read before it is answered, so that no reset overtakes the answer.
_PLAIN_HTTP_BYTES = 64 * 1024

Reason = ConnectionDone | ConnectionLost | None


class Wrapper(Protocol):
    """Makes the TLS side of a connection."""

    def wrap(self, sock: socket.socket) -> ssl.SSLSocket:
        """Take `sock` over; the handshake is still to come.

        Raises `OSError`, `ValueError` and `TlsError`.
        """


class _TlsTransport(DataPathTransport):
    """Reads and writes through a TLS object, once its handshake is over."""

    _log = Logger()

    socket: ssl.SSLSocket  # plain until the first event
    _tls: Wrapper
    _is_wrapped = False
    _is_handshaking = True
    _sends_at_once = False
    _splices = False
    _read_waits_for_room = False
    _peer_said_goodbye = False
    _is_deaf = False  # TLS is over, and what still comes is dropped as it is on the wire

    # The handshake.

    def _handshake(self) -> Reason:
        """Get as far as the peer lets us."""
        try:
            if not self._is_wrapped:
                self.socket = self._tls.wrap(self.socket)
                self.fileno = self.socket.fileno
                self._is_wrapped = True
            self.socket.do_handshake()
        except ssl.SSLWantReadError:
            self.stopWriting()
            return None
        except ssl.SSLWantWriteError:
            self.startWriting()
            return None
        except (OSError, ValueError, TlsError) as error:
            return self._handshake_failed(error)
        self._is_handshaking = False
        if self.dataBuffer or self._tempDataBuffer or self._writeDisconnecting:
            self.startWriting()
        else:
            self.stopWriting()
        self._handshake_done()
        return None

    def _handshake_done(self) -> None:
        self._sends_at_once = self._may_send_at_once()

    def _handshake_failed(self, error: Exception) -> Reason:
        raise NotImplementedError

    def _may_send_at_once(self) -> bool:
        return not self._is_handshaking and super()._may_send_at_once()

    # Reading and writing.

    def doRead(self) -> Reason:  # type: ignore[override]  # a mix-in says None
        """Read the records that have come, at most `read_size`, and hand them to the protocol as one."""
        if self._is_handshaking:
            return self._handshake()
        if self._is_deaf:
            return self._drop()
        if self._peer_said_goodbye:
            return CONNECTION_DONE
        read = self.socket.recv
        wanted = self.read_size
        try:
            data = read(_RECORD)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLWantWriteError:
            self._wait_for_room()
            return None
        except OSError:
            return CONNECTION_LOST  # also an end without a goodbye: whatever it was, it may be cut
        if not data:
            return CONNECTION_DONE
        reason: Reason = None
        if len(data) == _RECORD:  # there is probably more
            records = [data]
            size = _RECORD
            try:
                while size < wanted:
                    data = read(_RECORD)
                    if not data:
                        reason = CONNECTION_DONE
                        break
                    records.append(data)
                    size += len(data)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLWantWriteError:
                self._wait_for_room()
            except OSError:
                reason = CONNECTION_LOST
            data = b"".join(records)
        self.protocol.dataReceived(data)
        return reason

    def _drop(self) -> Reason:
        try:
            data = socket.socket.recv(self.socket, SMALL_READ)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return CONNECTION_LOST
        return None if data else CONNECTION_DONE

    def _wait_for_room(self) -> None:
        """A key update of the peer has to be answered before anything can be read (RFC 8446 §4.6.3)."""
        self._read_waits_for_room = True
        self.stopReading()
        self.startWriting()

    def _send(self, data: bytes) -> None:
        sent = self.writeSomeData(data)
        if sent < len(data):
            self._write_later(data[sent:])

    def writeSomeData(self, data: bytes) -> int:
        """Send as much as the kernel takes, record by record.

        OpenSSL wants to see the same bytes again after it could not send them: a record's length at a time, that
        holds whatever is appended behind them.
        """
        send = self.socket.send
        size = len(data)
        sent = 0
        try:
            if size <= _RECORD:
                return send(data)
            view = memoryview(data)
            while sent < size:
                sent += send(view[sent : sent + _RECORD])
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except OSError as error:
            self._break(error.errno)
            return size
        return sent

    def doWrite(self) -> Any:
        """There is room: go on with what waited for it."""
        if self._is_handshaking:
            return CONNECTION_DONE if self.disconnecting else self._handshake()
        if self._read_waits_for_room:
            self._read_waits_for_room = False
            self.startReading()
        return super().doWrite()

    def is_quiet(self) -> bool:
        """Whether there is nothing to read but what concerns TLS itself, such as session tickets."""
        if self._peer_said_goodbye:
            return False
        try:
            self.socket.recv(1)
        except ssl.SSLWantReadError:
            return True
        except OSError:
            return False
        return False

    # The end.

    def _say_goodbye(self) -> None:
        """Send a close_notify (RFC 8446 §6.1), and do not wait for the peer's."""
        if self._is_handshaking or self._is_broken or self._peer_said_goodbye:
            return
        try:
            self.socket.unwrap()
        except ssl.SSLWantReadError:
            return
        except (OSError, ValueError):
            self._is_deaf = True  # `unwrap` reads as well, and what it does not expect ends TLS
            return
        self._peer_said_goodbye = True

    def _closeWriteConnection(self) -> None:
        self._say_goodbye()
        # That of SSLSocket would drop the TLS object and leave the rest to be read as it is on the wire.
        with suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_WR)

    def _closeSocket(self, orderly: bool) -> None:  # Twisted's signature
        if orderly:
            self._say_goodbye()
        super()._closeSocket(orderly)


class DataPathTlsServer(_TlsTransport, DataPathServer):
    """A client's connection over TLS."""

    is_secure = True

    def __init__(
        self, sock: socket.socket, protocol: Any, client: Any, server: Any, sessionno: int, reactor: DataPathReactor
    ) -> None:
        self._tls = server.tls
        super().__init__(sock, protocol, client, server, sessionno, reactor)

    def _handshake_failed(self, error: Exception) -> Reason:
        reason = getattr(error, "reason", None) or str(error)
        self._log.debug("TLS handshake with {peer} failed: {reason}", peer=str(self.client), reason=reason)
        if reason == "HTTP_REQUEST":
            self._answer_plain_text()
        return CONNECTION_LOST

    def _answer_plain_text(self) -> None:
        """Somebody has written http:// for https://, and gets to know it."""
        with suppress(OSError):
            socket.socket.recv(self.socket, _PLAIN_HTTP_BYTES)
            socket.socket.send(self.socket, _PLAIN_HTTP)


class DataPathTlsUnixServer(DataPathTlsServer, DataPathUnixServer):
    """A client's connection over TLS on a unix socket."""


class DataPathTlsPort(DataPathPort):
    """Accepts clients over TLS on `sock`; `tls` makes the TLS side of each."""

    transport = DataPathTlsServer
    unix_transport = DataPathTlsUnixServer

    def __init__(self, sock: socket.socket, factory: Any, reactor: DataPathReactor, tls: Wrapper) -> None:
        super().__init__(sock, factory, reactor)
        self.tls = tls


class DataPathTlsClient(_TlsTransport, DataPathClient):
    """A connection to an upstream over TLS; its protocol hears of it once the certificate has been verified."""

    def __init__(self, host: str, port: int, connector: DataPathTlsConnector, reactor: DataPathReactor) -> None:
        self._tls = connector.tls
        super().__init__(host, port, None, connector, reactor)

    def _connectDone(self) -> None:
        self.startReading()
        self._handshake()

    def _handshake_done(self) -> None:
        self._sends_at_once = True
        super()._connectDone()

    def _handshake_failed(self, error: Exception) -> Reason:
        if isinstance(error, TlsError):
            words = str(error)
        else:
            words = getattr(error, "verify_message", None) or getattr(error, "reason", None) or str(error)
            words = f"TLS: {words}"
        self.failIfNotConnected(ConnectError(string=words))
        return None

    def connectionLost(self, reason: Any) -> None:
        """Let go of everything, but remember the session for the next connection."""
        if not self._is_handshaking and hasattr(self, "socket"):
            self.connector.tls.remember(self.socket)
        super().connectionLost(reason)


class DataPathTlsConnector(tcp.Connector):
    """Connects over TLS, to an address; `tls` knows the name that the certificate has to be for."""

    def __init__(self, host: str, port: int, factory: Any, seconds: float, tls: Any, reactor: DataPathReactor) -> None:
        super().__init__(host, port, factory, seconds, None, reactor)
        self.tls = tls

    def _makeTransport(self) -> DataPathTlsClient:
        reactor: Any = self.reactor
        return DataPathTlsClient(self.host, self.port, self, reactor)
