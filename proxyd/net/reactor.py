"""An epoll set of its own for the data path, in which the process waits.

The main reactor pays for every event with logging contexts and look-ups that a proxy feels. Here an event costs one
dictionary look-up and one call. Where the main reactor is that of epoll, its set is one descriptor of this one, and is
asked when it is readable; with any other main reactor it is the other way round. Every method that a Twisted transport
asks for is spelled out: delegating by `__getattr__` would quietly put transports back on the main reactor.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReadDescriptor, IWriteDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from proxyd.net.splicing import SplicePipe
from proxyd.net.tcp import PLAIN_KINDS

try:
    from proxyd.net import _round
except ImportError:
    _round = None  # type: ignore[assignment]  # there was no compiler

_IN = select.EPOLLIN
_OUT = select.EPOLLOUT
_PEER_CLOSED = select.EPOLLRDHUP
# EPOLLHUP and EPOLLERR come whether they were asked for or not.
_READABLE = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR
_WRITABLE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR

# So many events are dealt with before what they have to say leaves, and before timers and descriptors of the main
# reactor have their turn.
_EVENTS = 32

# Making a Failure costs more than serving a small request.
_FAILURES: dict[type[BaseException], Failure] = {
    ConnectionDone: Failure(CONNECTION_DONE),
    ConnectionLost: Failure(CONNECTION_LOST),
}


@implementer(IReactorFDSet, IReadDescriptor)
class DataPathReactor:
    """Watches the descriptors of the data path, and what happens in the main reactor `main`, while that runs."""

    _log = Logger()

    def __init__(self, main: Any, *, compiled: bool = True) -> None:
        self._main = main
        self._is_compiled = compiled and _round is not None
        self._epoll = select.epoll()
        self._masks: dict[int, int] = {}
        self._selectables: dict[int, Any] = {}
        self._descriptors: dict[Any, int] = {}
        self.splice_pipe = SplicePipe()
        # Not the clock of the main reactor, which may jump.
        self.seconds: Callable[[], float] = time.monotonic
        self.wall_clock: Callable[[], float] = time.time
        # Transports that hold back what they are to send until the round of events is over; None between rounds. To
        # read and send in turns is dearer: after each send, nothing of ours is in the processor's caches.
        self.outbox: list[Any] | None = None
        # The event of the main reactor's set, while it is a descriptor of ours.
        self._main_event: tuple[int, int] | None = None
        self.resume()

    def pause(self) -> None:
        """Let nothing happen for now: clients wait in the kernel."""
        if self._main_event is not None:
            del self._main.doIteration
            self._epoll.unregister(self._main_event[0])
            self._main_event = None
        else:
            self._main.removeReader(self)

    def resume(self) -> None:
        """Go on after `pause`, unless this was closed meanwhile."""
        if self._epoll.closed or self._main_event is not None:
            return
        main = self._main
        if isinstance(main, EPollReactor) and main.doIteration == main.doPoll:
            self._main_event = (main._poller.fileno(), _IN)
            self._epoll.register(*self._main_event)
            main.doIteration = self._iterate  # type: ignore[method-assign]
        else:  # also when another one has taken that place
            main.addReader(self)

    def _iterate(self, seconds: float | None) -> None:
        """Wait up to `seconds`, without a limit if None, for what happens here or in the main reactor."""
        events = self._epoll.poll(seconds, _EVENTS)
        self._deal_with(events)
        if self._main_event in events:
            self._main.doPoll(0)

    # What transports ask of a reactor.

    def callLater(self, delay: float, function: Callable[..., object], *args: object, **kwargs: object) -> IDelayedCall:
        """Call `function` in `delay` seconds, from the main reactor."""
        return self._main.callLater(delay, function, *args, **kwargs)  # type: ignore[no-any-return]

    def addReader(self, reader: IReadDescriptor) -> None:
        """Watch for bytes to read."""
        self._change(reader, _IN, 0)

    def addWriter(self, writer: IWriteDescriptor) -> None:
        """Watch for room to write."""
        self._change(writer, _OUT, 0)

    def removeReader(self, reader: IReadDescriptor) -> None:
        """Stop watching for bytes to read."""
        self._change(reader, 0, _IN)

    def removeWriter(self, writer: IWriteDescriptor) -> None:
        """Stop watching for room to write."""
        self._change(writer, 0, _OUT)

    def watch_peer(self, selectable: Any) -> None:
        """Notice that the peer closed its side although nothing is read: `selectable.peer_closed()` is called then."""
        self._change(selectable, _PEER_CLOSED, 0)

    def unwatch_peer(self, selectable: Any) -> None:
        """Undo `watch_peer`."""
        self._change(selectable, 0, _PEER_CLOSED)

    def removeAll(self) -> list[IReadDescriptor | IWriteDescriptor]:
        """Stop watching everything; gives back what was watched."""
        selectables = list(self._descriptors)
        for selectable in selectables:
            self._change(selectable, 0, _IN | _OUT | _PEER_CLOSED)
        return selectables

    def getReaders(self) -> list[IReadDescriptor]:
        """What is watched for bytes to read."""
        return [self._selectables[fd] for fd, mask in self._masks.items() if mask & _IN]

    def getWriters(self) -> list[IWriteDescriptor]:
        """What is watched for room to write."""
        return [self._selectables[fd] for fd, mask in self._masks.items() if mask & _OUT]

    def _change(self, selectable: Any, add: int, remove: int) -> None:
        fd = self._descriptors.get(selectable)
        if fd is None:
            if not add:
                return
            fd = selectable.fileno()
            self._epoll.register(fd, add)
            self._descriptors[selectable] = fd
            self._selectables[fd] = selectable
            self._masks[fd] = add
            return
        before = self._masks[fd]
        mask = (before | add) & ~remove
        if mask == before:
            return
        if mask:
            self._epoll.modify(fd, mask)
            self._masks[fd] = mask
        else:
            # Entirely off, or EPOLLHUP and EPOLLERR would come for ever. The number must leave the maps before it
            # is closed and used again; `fileno()` may be gone by now, so it is the one that was kept.
            del self._descriptors[selectable], self._selectables[fd], self._masks[fd]
            with suppress(OSError):  # `ssl` closes the descriptor of a peer that is gone before its handshake
                self._epoll.unregister(fd)

    # What the main reactor asks of a descriptor.

    def fileno(self) -> int:
        """The epoll set is readable when one of its descriptors has an event."""
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        """How the main reactor calls this in its log."""
        return "data path"

    def doRead(self) -> None:
        """Dispatch what has happened."""
        self._deal_with(self._epoll.poll(0, _EVENTS))

    def _deal_with(self, events: list[tuple[int, int]]) -> None:
        """Deal with a round of events, and send what was held back meanwhile.

        An event only tells which descriptor to look at: the descriptor may have been closed, and its number used
        again, earlier in the same round. What is true comes out of `recv` and `send`.
        """
        outbox = self.outbox = []
        try:
            if self._is_compiled:
                _round.deal_with(
                    events, self._selectables, self._masks, PLAIN_KINDS, self._look_at, self._failed, self._ended
                )
            else:
                for fd, event in events:
                    self._look_at(fd, event)
        finally:
            self.outbox = None
            if outbox:
                self._send_all(outbox)

    def _send_all(self, outbox: list[Any]) -> None:
        if self._is_compiled:
            _round.send_all(outbox, PLAIN_KINDS, self._failed)
            return
        for transport in outbox:
            try:
                transport.flush()
            except Exception as error:  # noqa: BLE001  # one connection's fault must not end the others
                self._failed(transport, error)

    def _look_at(self, fd: int, event: int) -> None:
        """Read, write or look for the end, as is asked for."""
        selectable: Any = self._selectables.get(fd)
        if selectable is None:
            return
        mask = self._masks[fd]
        reads = mask & _IN and event & _READABLE
        try:
            why = selectable.doRead() if reads else None
            if why is None:
                # Reading may have closed it, and somebody else may have its number now.
                if event & _WRITABLE and self._masks.get(fd, 0) & _OUT and self._selectables[fd] is selectable:
                    reads = 0
                    why = selectable.doWrite()
                elif not reads and mask & _PEER_CLOSED:
                    why = selectable.peer_closed()
        except BaseException as error:  # noqa: BLE001  # one connection's fault must not end the others
            self._failed(selectable, error)
            return
        if why is not None:
            self._disconnect(selectable, why, half=bool(reads))

    def _ended(self, transport: Any, is_lost: bool) -> None:
        """There is nothing more to read from it."""
        self._disconnect(transport, CONNECTION_LOST if is_lost else transport.end_of_input, half=True)

    def _failed(self, selectable: Any, error: BaseException) -> None:
        """A mistake of ours, or of a protocol: it ends the one connection."""
        self._log.failure("unexpected error on {peer}", failure=Failure(error), peer=selectable)
        self._disconnect(selectable, error, half=False)

    def _disconnect(self, selectable: Any, why: BaseException, *, half: bool) -> None:
        """End a descriptor; `half` if it was the reading of it that ended."""
        try:
            self._change(selectable, 0, _IN)
            if half and why is CONNECTION_DONE:
                selectable.readConnectionLost(_FAILURES[ConnectionDone])
            else:
                self._change(selectable, 0, _OUT | _PEER_CLOSED)
                selectable.connectionLost(_FAILURES.get(type(why)) or Failure(why))
        except Exception:  # noqa: BLE001  # one connection's fault must not end the others
            self._log.failure("unexpected error when {peer} ended", peer=selectable)

    def connectionLost(self, reason: Failure) -> None:
        """The main reactor is done with this; nothing to do, `close` cleans up."""

    def close(self, aborted: Iterable[Any] = ()) -> None:
        """Disconnect everything that is left, as the end of the main reactor does, and leave it.

        First those that are to be `aborted`: their peers see a reset.
        """
        if self._epoll.closed:
            return
        for selectable in aborted:
            self._disconnect(selectable, ConnectionAborted(), half=False)
        for selectable in self.removeAll():
            self._disconnect(selectable, CONNECTION_LOST, half=False)
        self.pause()
        self._epoll.close()
        self.splice_pipe.close()
