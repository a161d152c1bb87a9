"""What the connections of a listener share: the resource tree, limits, pages and logs."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, Protocol

import attrs
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger
from twisted.web import server
from twisted.web.resource import IResource

from proxyd.core.forward import Peer
from proxyd.core.head import HeadLimits, RequestHead, RequestReader
from proxyd.errors import RequestError
from proxyd.http.channel import HTTPChannel
from proxyd.interfaces import IStreamingResource
from proxyd.model.settings import Limits, Timeouts

if TYPE_CHECKING:
    from proxyd.core.table import Entry
    from proxyd.http.errorpages import ErrorPages
    from proxyd.http.gate import ConnectionGate
    from proxyd.http.request import Request
    from proxyd.net.deadlines import Deadlines
    from proxyd.websocket.relay import Relay
    from proxyd.websocket.tunnel import Tunnel

    LookUp = Callable[[str, tuple[str, ...]], Entry | None]


class Meters(Protocol):
    """Counts exchanges, and times what they ask of the route table."""

    counts_answers: bool
    """Whether it is to be told of requests that come, and of answers of upstreams."""

    def request_came(self, head: RequestHead) -> None:
        """A request, other than a health check, has come."""

    def timed_look_up(self, look_up: LookUp) -> LookUp:
        """`look_up`, observed if that is wanted."""

    def timed_touch(self, touch: Callable[[Entry], None]) -> Callable[[Entry], None]:
        """`touch`, observed if that is wanted."""

    def upstream_answered(self, status: int) -> None:
        """The head of a response came from an upstream, and answers no handshake."""

    def request_failed(self, status: int) -> None:
        """The proxy itself answers a request, because there is no route or no usable upstream."""

    def exchange_done(self, request: Request) -> None:
        """A response is complete, or has been cut."""


class ExchangeLog(Protocol):
    """Writes exchanges down."""

    def write(self, request: Request) -> None:
        """A response is complete, or has been cut."""


class TrustedProxies:
    """The peers whose X-Forwarded-* are believed: addresses, networks and `unix`."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._unix = "unix" in names
        self._networks = [ip_network(name, strict=False) for name in names if name != "unix"]

    def trusts(self, address: str) -> bool:
        """Whether a peer is trusted; `address` is empty for a unix socket."""
        if not address:
            return self._unix
        ip = ip_address(address)
        return any(ip in network for network in self._networks)


@attrs.frozen
class SiteSettings:
    """What a reload may change; a request goes on with those that it began with."""

    timeouts: Timeouts
    limits: Limits
    reader: RequestReader
    trusted: TrustedProxies
    error_pages: ErrorPages
    progress_seconds: float
    """A client that is to send or to take a body has so long to do some of it; 0: for ever."""

    @classmethod
    def make(
        cls,
        timeouts: Timeouts,
        limits: Limits,
        *,
        long_line_status: int = 414,
        trusted: TrustedProxies,
        error_pages: ErrorPages,
    ) -> SiteSettings:
        """The settings, with a reader for heads within the limits."""
        head_limits = HeadLimits(
            request_line=limits.request_line,
            header_line=limits.header_line,
            headers=limits.headers,
            header_count=limits.header_count,
            long_line_status=long_line_status,
        )
        progress = min(filter(None, (timeouts.body_idle, timeouts.client_idle)), default=0.0)
        return cls(timeouts, limits, RequestReader(head_limits), trusted, error_pages, progress)


class Site(server.Site):
    """Serves `resource` to the clients of a listener.

    `clock` has `callLater`. `settings` may be replaced at any time. `touch` notes that something happened on the route
    of an entry; default: in the entry.
    """

    _log = Logger()
    noisy = False

    def __init__(
        self,
        resource: IResource,
        *,
        clock: Any,
        deadlines: Deadlines,
        settings: SiteSettings,
        access_log: ExchangeLog | None = None,
        meters: Meters | None = None,
        gate: ConnectionGate | None = None,
        wall_clock: Callable[[], float] = time.time,
        touch: Callable[[Entry], None] | None = None,
    ) -> None:
        super().__init__(resource, reactor=clock)
        self.deadlines = deadlines
        self.seconds = deadlines.seconds
        self.call_later = clock.callLater
        self.settings = settings
        self.access_log = access_log
        self.gate = gate
        self._plain_touch = touch or self._touch
        self.count_with(meters)
        self.wall_clock = wall_clock
        self.channels: set[HTTPChannel] = set()
        self.tunnels: set[Tunnel | Relay] = set()
        self.is_draining = False
        self._is_streaming = IStreamingResource.providedBy(resource)
        self._date = b""
        self._date_second = -1
        self.no_head = RequestHead()
        self.no_head.method = self.no_head.target = b"-"
        self.no_head.keep_alive = False

    def count_with(self, meters: Meters | None) -> None:
        """Let these count from now on, also what is under way; None: nobody does."""
        self.meters = meters
        # Notes that something happened on the route of an entry.
        self.touch = self._plain_touch if meters is None else meters.timed_touch(self._plain_touch)

    def buildProtocol(self, addr: IAddress | None) -> HTTPChannel:  # type: ignore[override]  # stock: a wrapper
        """Talk to a new client."""
        return HTTPChannel(self)

    def startFactory(self) -> None:
        """No clock ticks and no file is opened here."""

    def stopFactory(self) -> None:
        """Nothing was started."""

    def peer_at(self, host: str, *, secure: bool) -> Peer:
        """What is to be known of a client at address `host`, empty for a unix socket."""
        host = host.removeprefix("::ffff:")  # IPv4 on a socket that takes both (RFC 4291 §2.5.5.2)
        return Peer(host.encode("ascii"), secure=secure, trusted=self.settings.trusted.trusts(host.partition("%")[0]))

    def date(self) -> bytes:
        """The value of a Date field, made once a second."""
        now = int(self.wall_clock())
        if now != self._date_second:
            self._date_second = now
            self._date = formatdate(now, usegmt=True).encode("ascii")
        return self._date

    def serve(self, request: Request) -> None:
        """Let the resource tree serve a request whose head has come."""
        try:
            if self._is_streaming:
                self.resource.render_streaming(request)
            else:
                request.query = b""
                path, _, query = request.head.target.partition(b"?")
                request.query = b"?" + query if query else b""
                request.serve_stock(self.resource, path, 0)
        except RequestError as error:
            request.fail(error)
        except Exception:  # noqa: BLE001  # the top of everything that a request runs
            self._log.failure("unexpected error while serving a request")
            request.fail(RequestError(500, "unexpected error, see the log"))

    def refuse(self, request: Request, error: RequestError) -> None:
        """Answer what could not be read as a request."""
        request.channel.settings.error_pages.answer_plainly(request, error)

    def getResourceFor(self, request: Request) -> IResource:
        """Where the walk of `Request.serve_stock` ended."""
        request.prepath, request.postpath = request.place
        request.sitepath = list(request.prepath)
        return request.found

    def log(self, request: Request) -> None:  # type: ignore[override]  # all are ours
        """A stock request is finished."""
        request.status = request.code
        request.body_sent = request.sentLength
        self.exchange_done(request)

    def _touch(self, entry: Entry) -> None:
        entry.last_activity = self.wall_clock()

    def exchange_done(self, request: Request) -> None:
        """Count an exchange, write its line of the access log, and let go of what it has used."""
        if request.admission is not None and request.admission.touch is not None:
            request.admission.touch()
        request.seconds = self.seconds() - request.started
        if self.meters is not None:
            self.meters.exchange_done(request)
        if self.access_log is not None:
            self.access_log.write(request)
        if self.gate is not None and request.channel not in self.channels:  # what it had become is over
            self.gate.leave(request.channel)
        if request.use is not None:
            use, request.use = request.use, None
            use.end()

    def tunnel_began(self, tunnel: Tunnel | Relay) -> None:
        """A client's connection carries `tunnel` from now on."""
        self.tunnels.add(tunnel)

    def tunnel_ended(self, tunnel: Tunnel | Relay) -> None:
        """The tunnel is over."""
        self.tunnels.discard(tunnel)

    def drain(self) -> None:
        """Finish what is being served, and close the rest."""
        self.is_draining = True
        for channel in list(self.channels):
            channel.close_if_idle()
