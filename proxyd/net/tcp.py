"""The transports of the data path: Twisted's own, with writes that leave at once.

Stock transports wait for the next wake-up before they send. Here `send()` is called while the buffer is empty; only
what the kernel does not take is buffered. Little is held back until the events of the moment have been dealt with, see
`DataPathReactor.outbox`. Reads are larger while a body streams. Everything else is inherited.
"""

from __future__ import annotations

import errno
import select
import socket
from typing import TYPE_CHECKING, Any

from twisted.internet import abstract, address, tcp, unix
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.logger import ILogObserver, LogEvent, Logger
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from proxyd.net.reactor import DataPathReactor

# The most that is read at once: enough for every head and most small bodies; a connection that streams asks for more.
SMALL_READ = 64 * 1024
# Measured: 1 MiB is 10 % cheaper still, and costs memory with every stalled reader.
LARGE_READ = 256 * 1024
# Where reads begin, and grow from as long as they come back full. Room for 64 KiB is several microseconds dearer, room
# for 256 KiB many times that, for it goes back to the system after each read (2026-11-30).
_FIRST_READ = 16 * 1024
_GROWTH = 4
# More than that is sent at once: so much from each of many senders would be much memory.
_MAX_HELD_BACK = 16 * 1024
# How much is spliced at once, as long as the target takes all of it. What it does not take has to be copied, and held:
# 1 MiB is 8 % cheaper, and too much memory with many clients that stop reading; 256 KiB is a third dearer (2026-11-30).
_FIRST_SPLICE = 256 * 1024
_MOST_SPLICE = 512 * 1024
_LEAST_SPLICE = 64 * 1024
# What says that there is no splicing, and nothing of the connection: a kernel or a filter of system calls that does
# not know it, or no descriptors left for the pipe.
_NO_SPLICING = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EMFILE, errno.ENFILE})
# How often a port says that it turns clients away: out of descriptors, that happens thousands of times a second.
_TURNED_AWAY_SECONDS = 60.0


class SplicingProtocol(Protocol):
    """A protocol some of whose bytes go to another connection as they are, and need not be read for that."""

    def splice_target(self) -> tuple[DataPathTransport, int] | None:
        """Where the next bytes go as they are, and how many of them at most; None if they have to be looked at."""
        raise NotImplementedError

    def data_spliced(self, count: int, rest: bytes) -> None:
        """`count` bytes have gone to the target; the `rest` behind them is for the protocol to send."""
        raise NotImplementedError


class DataPathTransport(tcp.Connection):
    """What client side and upstream side have in common."""

    read_size = SMALL_READ
    _next_read = _FIRST_READ
    _splices = True  # off where the kernel, or TLS, does not let us
    _splice_size = _FIRST_SPLICE
    reactor: DataPathReactor
    # Off once nothing can be sent any more, while closing, and for a pull producer, which is asked for more only
    # when the buffer has run empty.
    _sends_at_once = True
    _is_broken = False
    _was_reset = False
    # What leaves at the end of the round of events. Nobody sees a difference to what has been sent: whatever is done
    # with the transport meanwhile, this comes first.
    held_back = b""

    def doRead(self) -> ConnectionDone | ConnectionLost | None:  # type: ignore[override]  # a mix-in says None
        """Read once, at most `read_size`, and hand it to the protocol."""
        wanted = self._next_read
        if wanted > _FIRST_READ and self._splices:
            protocol: object = self.protocol
            if isinstance(protocol, SplicingProtocol):
                found = protocol.splice_target()
                if found is not None and found[1] and found[0].is_ready_for_splices:
                    return self._splice(protocol, *found)
        if wanted > self.read_size:  # noqa: PLR1730  # `min` takes ten times as long
            wanted = self.read_size
        try:
            data = self.socket.recv(wanted)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return self.end_of_input
        size = len(data)
        if size == wanted:
            self._next_read = min(wanted * _GROWTH, LARGE_READ)
        elif wanted > _FIRST_READ > size:
            self._next_read = _FIRST_READ
        self.protocol.dataReceived(data)
        return None

    @property
    def is_ready_for_splices(self) -> bool:
        """Whether what another connection gives goes to the kernel at once, and nothing is in front of it."""
        if self.held_back:
            self.flush()
        return self._splices and self._sends_at_once and not self.dataBuffer and not self._tempDataBuffer

    def _splice(
        self, protocol: SplicingProtocol, target: DataPathTransport, most: int
    ) -> ConnectionDone | ConnectionLost | None:
        """Let up to `most` of the next bytes go to `target` without reading them."""
        pipe = self.reactor.splice_pipe
        size = min(most, target._splice_size)
        try:
            count = pipe.fill(self.fileno(), size)
        except BlockingIOError:
            self._next_read = _FIRST_READ  # splicing does not get past urgent data of TCP; a read does
            return None
        except OSError as error:
            return self._not_spliced(error)
        if not count:
            return self.end_of_input
        if count < _FIRST_READ:
            self._next_read = _FIRST_READ
        passed = 0
        try:
            while passed < count:
                passed += pipe.pour(target.fileno(), count - passed)
        except BlockingIOError:
            target._splice_size = max(_LEAST_SPLICE, passed)
        except OSError as error:
            target._not_spliced(error)  # if it is broken, that shows when the rest is sent
        if passed == size == target._splice_size:
            target._splice_size = min(2 * size, _MOST_SPLICE)
        protocol.data_spliced(passed, pipe.empty(count - passed) if passed < count else b"")
        return None

    def _not_spliced(self, error: OSError) -> ConnectionLost | None:
        """Read, or send, from now on, if that may still work."""
        if error.errno not in _NO_SPLICING:
            self._notice(error.errno)
            return CONNECTION_LOST
        self._splices = False
        return None

    def write(self, data: bytes) -> None:
        """Send `data` now, or at the end of the round, as far as the kernel takes it; the rest when it can."""
        outbox = self.reactor.outbox
        if self.held_back:
            self.held_back += data
            if outbox is None or len(self.held_back) > _MAX_HELD_BACK:
                self.flush()
        elif not self._sends_at_once or self.dataBuffer or self._tempDataBuffer:
            self._write_later(data)
        elif outbox is None or len(data) > _MAX_HELD_BACK:
            self._send(data)
        else:
            self.held_back = data
            outbox.append(self)

    def flush(self) -> None:
        """Send what was held back."""
        data = self.held_back
        if data:
            self.held_back = b""
            self._send(data)

    def _send(self, data: bytes) -> None:
        """Send `data`, for which nothing waits to be sent before."""
        try:
            sent = self.socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            sent = -(error.errno or errno.EIO)
        if sent < len(data):
            self.sent(data, sent)

    # What a compiled round asks for.

    def received(self, data: bytes) -> None:
        """A first read has come back full: there is probably more."""
        self._next_read = _FIRST_READ * _GROWTH
        self.protocol.dataReceived(data)

    def sent(self, data: bytes, count: int) -> None:
        """No more than `count` bytes of `data` have left; below 0 it is the error, negated, that keeps it from that."""
        if count < 0:
            self._break(-count)
        else:
            self._write_later(data[count:])

    def writeSequence(self, iovec: Any) -> None:
        """Write the pieces as one."""
        self.write(b"".join(iovec))

    def writeSomeData(self, data: bytes) -> int:
        """Send as much of the buffer as the kernel takes."""
        try:
            return self.socket.send(memoryview(data)[: self.SEND_LIMIT])
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            self._break(error.errno)
            return len(data)

    def _notice(self, number: int | None) -> None:
        """The kernel tells of a reset once: whoever reads afterwards sees an end like any other."""
        if number == errno.ECONNRESET:
            self._was_reset = True

    @property
    def end_of_input(self) -> ConnectionDone | ConnectionLost:
        """What it means that there is nothing more to read."""
        return CONNECTION_LOST if self._was_reset else CONNECTION_DONE

    def _write_later(self, data: bytes) -> None:
        if not self._is_broken:
            abstract.FileDescriptor.write(self, data)

    def _break(self, number: int | None) -> None:
        """Nothing can be sent any more, for the error of this number.

        What the peer sent before it closed its side may still be unread, a final answer among it: the end comes
        from reading. Never from here, because the caller is in the middle of something.
        """
        self._notice(number)
        self._is_broken = True
        self._sends_at_once = False
        if self not in self.reactor.getReaders():
            self.reactor.callLater(0, self.connectionLost, Failure(CONNECTION_LOST))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let `producer` be paused and resumed by the state of the buffer."""
        self.flush()
        self._sends_at_once = streaming and self._may_send_at_once()
        super().registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """Pause and resume the producer no more."""
        self.flush()
        self._sends_at_once = self._may_send_at_once()
        super().unregisterProducer()

    def _may_send_at_once(self) -> bool:
        closing = self.disconnecting or self._writeDisconnecting
        return bool(self.connected and not self._is_broken and not closing)

    def loseConnection(self) -> None:
        """Close once everything has been sent."""
        self.flush()
        self._sends_at_once = False
        super().loseConnection()

    def loseWriteConnection(self) -> None:
        """Close our side once everything has been sent."""
        self.flush()
        self._sends_at_once = False
        super().loseWriteConnection()

    def abortConnection(self) -> None:
        """Close now."""
        self.flush()
        self._sends_at_once = False
        self._next_read = 0  # in a compiled round, too, nothing comes any more, not even if it is resumed
        super().abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        """Let go of everything."""
        self.flush()
        self._sends_at_once = False
        super().connectionLost(reason)

    def is_quiet(self) -> bool:
        """Whether there is nothing to read, not even the end."""
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @property
    def unsent(self) -> int:
        """How many bytes wait to be sent, because the kernel did not take them."""
        if self.held_back:
            self.flush()
        return len(self.dataBuffer) - self.offset + self._tempDataLen


class DataPathServer(DataPathTransport, tcp.Server):
    """A client's connection over TCP.

    While nothing is read from it, it still notices that the client closed its side, unless `watches_peer` is
    off because what is unread has to be delivered first.
    """

    watches_peer = True

    def __init__(
        self, sock: socket.socket, protocol: Any, client: Any, server: Any, sessionno: int, reactor: DataPathReactor
    ) -> None:
        # Not that of tcp.Server, which formats strings for the log that nobody reads.
        tcp.Connection.__init__(self, sock, protocol, reactor)
        if len(client) != 2:
            self._addressType = address.IPv6Address
        self.server = server
        self.client = client
        self.sessionno = sessionno
        self.startReading()
        self.connected = 1

    logstr = "data path"

    def __repr__(self) -> str:
        return f"<{type(self.protocol).__name__} with {self.client!r}>" if self.connected else "<ended connection>"

    def getPeer(self) -> Any:
        """The address of the client; nothing is known of one on a unix socket."""
        return super().getPeer() if self.client else address.UNIXAddress(None)

    def pauseProducing(self) -> None:
        """Stop reading."""
        self.stopReading()
        if self.watches_peer and self.connected:
            self.reactor.watch_peer(self)

    def resumeProducing(self) -> None:
        """Read again."""
        if self.connected and not self.disconnecting:
            self.reactor.unwatch_peer(self)
            self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        """Let go of everything."""
        self.reactor.unwatch_peer(self)
        super().connectionLost(reason)

    def peer_closed(self) -> ConnectionDone | None:
        """Check an event that says that the client closed its side: the number may be another socket's by now."""
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP)
        return CONNECTION_DONE if poll.poll(0) else None


class DataPathUnixServer(DataPathServer):
    """A client's connection over a unix socket."""

    def getHost(self) -> address.UNIXAddress:
        """The path of the listener's socket."""
        return address.UNIXAddress(self.socket.getsockname())

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Unix sockets never delay."""


@implementer(ILogObserver)
class _TurnedAway:
    """Observes a port accepting, and says in one line what Twisted says in three for each client."""

    _log = Logger()

    def __init__(self, reactor: DataPathReactor) -> None:
        self._reactor = reactor
        self._quiet_until = 0.0

    def __call__(self, event: LogEvent) -> None:
        now = self._reactor.seconds()
        reason = event.get("acceptError", "EMFILE")
        if now >= self._quiet_until and reason != "ECONNABORTED":  # that client left by itself
            self._quiet_until = now + _TURNED_AWAY_SECONDS
            self._log.warn("clients are turned away: {reason}", reason=reason)


class DataPathPort(tcp.Port):
    """Accepts clients on `sock`, which listens already.

    Whoever opened the socket knows best where and how, and what lies on disk because of it. If it `is_shared`, another
    process listens on it as well, and goes on when this one stops. One that `has_rivals` takes one client at a time: of
    a burst, each of them gets its share.
    """

    transport: Any = DataPathServer
    unix_transport: Any = DataPathUnixServer

    is_shared = False
    has_rivals = False

    def __init__(self, sock: socket.socket, factory: Any, reactor: DataPathReactor) -> None:
        if sock.family == socket.AF_UNIX:
            self.transport = self.unix_transport
        elif sock.family == socket.AF_INET6:
            self._addressType = address.IPv6Address
        self.listening = sock
        self._protocols = factory
        self._logger = Logger(observer=_TurnedAway(reactor))
        super().__init__(0, factory, reactor=reactor)

    def startListening(self) -> None:
        """Begin to accept."""
        tcp._reservedFD.reserve()
        self._protocols.doStart()
        self._shouldShutdown = not self.is_shared
        self.socket = self.listening
        self.fileno = self.socket.fileno  # type: ignore[method-assign]  # as the base class does
        self.connected = True
        self.numberAccepts = 100
        self.startReading()

    def set_backlog(self, backlog: int) -> None:
        """Let so many connections wait to be accepted; of a socket that is shared, others decide."""
        if not self.is_shared:
            self.listening.listen(backlog)

    def hand_on(self) -> socket.socket:
        """Stop, while clients go on being accepted: by another port, with the socket that is given back."""
        sock = self.listening.dup()
        self._shouldShutdown = False
        self.stopListening()
        return sock

    def doRead(self) -> None:
        """Accept clients."""
        if self.has_rivals:
            self.numberAccepts = 1
        super().doRead()

    def adopt(self, sock: socket.socket, client: Any) -> None:
        """Serve a connection that was accepted elsewhere, of a client at the address `client`, empty if unknown."""
        protocol = self._protocols.buildProtocol(None)
        self.sessionno += 1
        protocol.makeConnection(self.transport(sock, protocol, client, self, self.sessionno, self.reactor))

    def _buildAddr(self, address_: Any) -> Any:
        return None if self.socket.family == socket.AF_UNIX else super()._buildAddr(address_)

    def _logConnectionLostMsg(self) -> None:
        """Whoever closes it logs it."""


class DataPathClient(DataPathTransport, tcp.Client):
    """A connection to an upstream over TCP."""

    def createInternetSocket(self) -> socket.socket:
        """A socket that holds nothing back until the upstream has acknowledged what came before."""
        sock: socket.socket = super().createInternetSocket()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock


class DataPathUnixClient(DataPathTransport, unix.Client):
    """A connection to an upstream over a unix socket."""


PLAIN_KINDS = (DataPathServer, DataPathUnixServer, DataPathClient, DataPathUnixClient)
"""Those that may be read from, and sent to, without being asked: their bytes are on the socket as they are."""


class DataPathConnector(tcp.Connector):
    """Connects over TCP, to an address and not a name."""

    def _makeTransport(self) -> DataPathClient:
        return DataPathClient(self.host, self.port, self.bindAddress, self, self.reactor)


class DataPathUnixConnector(unix.Connector):
    """Connects to a unix socket."""

    def _makeTransport(self) -> DataPathUnixClient:  # type: ignore[override]  # the base class says TCP
        return DataPathUnixClient(self.address, self, self.reactor, self.checkPID)
