"""WebSocket messages both ways after an upgrade.

Owns how the two sides of a relay part; what is said then is `core.closing`. Frames are Autobahn's, in `ends`, which is
imported with the first relay: it takes 30 MB and a third of a second (2026-11-24).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from proxyd.core.closing import GOING_AWAY, Close, after_fault, after_loss
from proxyd.core.deflate import Deflate
from proxyd.model.relay import DEFAULT_RELAY, RelaySettings
from proxyd.model.routes import over
from proxyd.net.deadlines import Deadlines
from proxyd.websocket.tunnel import keep_alive

if TYPE_CHECKING:
    from proxyd.websocket.ends import RelayEnd


class RelayPlan:
    """How the WebSockets of one route are relayed."""

    def __init__(self, settings: RelaySettings) -> None:
        from proxyd.websocket import ends  # noqa: PLC0415  # not before it is needed: see above

        self.settings = over(settings, DEFAULT_RELAY)
        self._ends = ends
        self._factories = ends.make_factories(self.settings)

    def make_ends(
        self, relay: Relay, client: Any, upstream: Any, deflates: tuple[Deflate | None, Deflate | None]
    ) -> tuple[RelayEnd, RelayEnd]:
        """The protocols of both sides, on their transports, with what each agreed on."""
        server_factory, client_factory = self._factories
        client_end = self._ends.ClientEnd(relay, client, server_factory, deflates[0])
        upstream_end = self._ends.UpstreamEnd(relay, upstream, client_factory, deflates[1])
        client_end.other, upstream_end.other = upstream_end, client_end
        return client_end, upstream_end


class Relay:
    """Carries messages between two transports until both have ended; `ended` is called once then.

    `passed` is called for each message. `to_client` and `to_upstream` count bytes as they are sent, frames included.
    """

    def __init__(
        self, plan: RelayPlan, deadlines: Deadlines, passed: Callable[[], None], ended: Callable[[Relay], None]
    ) -> None:
        self.settings = plan.settings
        self.deadlines = deadlines
        self.passed = passed
        self.to_client = 0
        self.to_upstream = 0
        self.began = deadlines.seconds()
        self.label = ""  # what it is called in a state dump
        self._plan = plan
        self._ended = ended
        self._ends: tuple[RelayEnd, ...] = ()

    def join(
        self,
        client: Any,
        upstream: Any,
        early: bytes,
        late: bytes,
        deflates: tuple[Deflate | None, Deflate | None],
    ) -> None:
        """Take both transports over; `early` came behind the client's handshake, `late` behind the upstream's 101.

        `deflates`: what the client and what the upstream agreed on.
        """
        client_end, upstream_end = self._ends = self._plan.make_ends(self, client, upstream, deflates)
        for end in self._ends:
            transport = end.transport
            transport.protocol = end
            transport.watches_peer = False  # what came before the end has to be taken first
            keep_alive(transport)
        client.registerProducer(upstream_end, True)
        upstream.registerProducer(client_end, True)
        for end, data in ((client_end, early), (upstream_end, late)):
            if data:
                end.dataReceived(data)
        for end in self._ends:
            end.begin()

    def go_away(self) -> None:
        """Tell both sides that the proxy ends; they have `close_timeout` to take leave."""
        for end in self._ends:
            if end.is_talking:
                end.say_close(GOING_AWAY)

    # What happens at the ends.

    def closed(self, end: RelayEnd, close: Close) -> None:
        """A valid Close came from `end`: it goes on to the other side, whose answer comes back."""
        other = end.other
        if end.is_talking and other.is_talking:
            end.await_other(close)
            other.say_close(close)
        elif end.is_talking:  # it came while nobody was listening: the other side is lost
            end.answer_close(close)
        else:
            end.finish()
            if other.asked is not None:
                other.answer_close(close)

    def failed(self, end: RelayEnd, close: Close) -> None:
        """The side at `end` broke a rule: nothing more of it counts."""
        other = end.other
        end.dismiss(close)
        if other.is_talking:
            other.say_close(after_fault(end.side))
        elif other.asked is not None:
            other.answer_close(other.asked)

    def lost(self, end: RelayEnd) -> None:
        """The connection of `end` is over."""
        other = end.other
        if other.is_ended:
            self._ended(self)
            return
        other.resumeProducing()  # nobody is left to be slow
        if other.asked is not None:
            other.answer_close(other.asked)
        elif other.is_talking:
            farewell = after_loss(end.side)
            if farewell is None:
                other.cut()
            else:
                other.say_close(farewell)
