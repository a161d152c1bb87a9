"""The Resource tree of the public side: prefix dispatch over the route table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum, auto
from operator import itemgetter
from typing import TYPE_CHECKING, Protocol

from twisted.web.resource import IResource

from proxyd.core.prefix import PrefixTree
from proxyd.core.table import Entry, RouteTable
from proxyd.core.target import authority_of, decode_loosely, decode_path, host_of, key_of, plain_target, split_target
from proxyd.errors import RequestError
from proxyd.http.request import Request
from proxyd.http.streaming import StreamingResource
from proxyd.interfaces import IStreamingResource

if TYPE_CHECKING:
    from proxyd.http.gate import RequestGate
    from proxyd.http.site import Meters

_JSON = [b"Content-Type: application/json"]


class Rank(Enum):
    """Which of the things that are no routes comes first; see `RouteTree`."""

    OWN = auto()
    """What the user has named: a managed server."""
    BUILT_IN = auto()
    PAGE = auto()
    """Answers at its own path only, when no pattern does."""
    LAST_PAGE = auto()
    """Answers at its own path only, when nothing else does."""


class PatternSource(Protocol):
    """Routes that are no prefixes."""

    def find(self, request: Request) -> IStreamingResource | None:
        """What serves the request by its `path`, None if none of them does."""


class RouteTree(StreamingResource):
    """The root: finds the resource of the route that answers, by the raw path of the request.

    `table` is the truth; `build` makes the resource of an entry when its first request comes. `live` and `ready`
    are the exact request targets of the health checks, empty for none. `lenient` is that of `split_target`.
    `gate` counts what each client asks for.

    Who answers, in this order:

    1. the longest prefix among routes and what is mounted; of two equal ones the route, then what is not built in;
       a route for the request's own host comes before everything that is for any host;
    2. patterns;
    3. the page at exactly this path;
    4. the route, or what is mounted, at `/`;
    5. the last page at exactly this path.
    """

    def __init__(
        self,
        table: RouteTable,
        build: Callable[[Entry], IResource],
        *,
        live: str = "",
        ready: str = "",
        lenient: bool = False,
        meters: Meters | None = None,
        gate: RequestGate | None = None,
    ) -> None:
        super().__init__()
        self.table = table
        self.gate = gate
        self.readiness = b'{"status":"OK"}'
        """What readiness says while new clients are welcome."""
        self.count_with(meters)
        self._build = build
        self.configure(live=live, ready=ready, lenient=lenient)
        self._mounts: dict[Rank, PrefixTree[tuple[int, IResource]]] = {rank: PrefixTree() for rank in Rank}
        self._patterns: PatternSource | None = None
        self._explanations: PrefixTree[Callable[[], str]] = PrefixTree()
        # Whether there is anything but routes; if not, a request pays nothing for what could be.
        self._has_more = False

    def configure(self, *, live: str, ready: str, lenient: bool) -> None:
        """Take these settings for the requests to come."""
        self._checks = {path.encode(): answer for path, answer in ((live, self._live), (ready, self._ready)) if path}
        self._lenient = lenient

    def count_with(self, meters: Meters | None) -> None:
        """Let these count the requests to come; None: nobody does."""
        self._meters = meters if meters is not None and meters.counts_answers else None
        self._look_up = self.table.look_up if meters is None else meters.timed_look_up(self.table.look_up)

    def mount(self, segments: Iterable[str], resource: IResource, rank: Rank = Rank.OWN) -> None:
        """Let `resource`, and what is below it, answer at a prefix; in place of what has the same rank there."""
        place = tuple(segments)
        self._mounts[rank].set(place, (len(place), resource))
        self._note_more()

    def unmount(self, segments: Iterable[str], rank: Rank = Rank.OWN) -> None:
        """Let nothing of this rank answer at a prefix any more."""
        place = tuple(segments)
        if self._mounts[rank].get(place) is not None:
            self._mounts[rank].delete(place)
        self._note_more()

    def set_patterns(self, patterns: PatternSource | None) -> None:
        """Ask these patterns from now on, None for none."""
        self._patterns = patterns
        self._note_more()

    def explain(self, segments: Iterable[str], why: Callable[[], str] | None) -> None:
        """Let `why` tell, in the log, why nobody answers at a prefix; None lets nobody tell it."""
        place = tuple(segments)
        if why is not None:
            self._explanations.set(place, why)
        elif self._explanations.get(place) is not None:
            self._explanations.delete(place)

    def _note_more(self) -> None:
        ranks = (rank for rank in Rank if rank is not Rank.LAST_PAGE)  # which is for those that would get 404
        self._has_more = self._patterns is not None or any(self._mounts[rank] for rank in ranks)

    def render_streaming(self, request: Request) -> None:
        """Find who answers, and let it."""
        head = request.head
        target = head.target
        check = self._checks.get(target)
        if check is not None:
            request.kind = "health"
            check(request)
            return
        if self._meters is not None:
            self._meters.request_came(head)
        if self.gate is not None:
            self.gate.enter(request)
        plain = plain_target(target)
        if plain is not None and head.method != b"CONNECT":
            request.path, request.query, segments = plain
        else:
            if target[:1] != b"/" or head.method == b"CONNECT":
                if self._answers_itself(request):
                    return
                if not self._lenient:
                    head.host = authority_of(target) or head.host  # RFC 9112 §3.2.2
            try:
                request.path, request.query = split_target(target, lenient=self._lenient)
            except RequestError:
                head.keep_alive = False  # who sends that may mean something else by what follows
                raise
            try:
                segments = key_of(decode_path(request.path))
            except RequestError as error:
                self._serve_undecodable(request, error)
                return
        entry = self._look_up(host_of(head.host) if head.host else "", segments)
        if self._has_more and self._is_answered_beside(request, segments, entry):
            return
        if entry is None:
            last = self._mounts[Rank.LAST_PAGE].get(segments)
            if last is not None:
                self._serve(request, *last)
                return
            why = self._explanations.longest(segments)
            words = why() if why is not None else ""
            raise RequestError(404, f"no route; {words}" if words else "no route")
        request.entry = entry
        resource = entry.resource
        if resource is None:
            resource = entry.resource = self._build(entry)
        resource.render_streaming(request)

    def _is_answered_beside(self, request: Request, segments: tuple[str, ...], entry: Entry | None) -> bool:
        """Let something else than the route of `entry` answer, if it comes first."""
        if entry is not None and entry.route.host:
            return False
        depth = 0 if entry is None else entry.route.depth
        mount = self._longest_mount(segments)
        if mount is not None and mount[0] > depth:
            self._serve(request, *mount)
            return True
        if depth:
            return False
        found = None if self._patterns is None else self._patterns.find(request)
        if found is not None:
            found.render_streaming(request)
            return True
        last = self._mounts[Rank.PAGE].get(segments)
        if last is None and entry is None:
            last = mount
        if last is not None:
            self._serve(request, *last)
        return last is not None

    def _longest_mount(self, segments: tuple[str, ...]) -> tuple[int, IResource] | None:
        longest = (self._mounts[rank].longest(segments) for rank in (Rank.OWN, Rank.BUILT_IN))
        return max(filter(None, longest), key=itemgetter(0), default=None)

    def _serve_undecodable(self, request: Request, error: RequestError) -> None:
        """Serve a path that is not UTF-8, if it is below something that takes it as it is; else it is the `error`."""
        head = request.head
        is_kept, head.keep_alive = head.keep_alive, False  # as for other targets that are refused
        segments = key_of(decode_loosely(request.path))
        entry = self._look_up(host_of(head.host) if head.host else "", segments)
        mount = self._longest_mount(segments)
        if mount is None or (entry is not None and (entry.route.host or entry.route.depth >= mount[0])):
            raise error
        head.keep_alive = is_kept
        self._serve(request, *mount)

    def _serve(self, request: Request, depth: int, resource: IResource) -> None:
        request.kind = "resource"
        if IStreamingResource.providedBy(resource):
            resource.render_streaming(request)
        else:
            request.serve_stock(resource, request.path, depth)

    def _answers_itself(self, request: Request) -> bool:
        """CONNECT and `OPTIONS *` concern the proxy, not a route (RFC 9110 §9.3.6, §9.3.7)."""
        if request.method == b"CONNECT":
            request.head.keep_alive = False  # what follows is meant for whom the client wanted to reach
            raise RequestError(405, "CONNECT is not served")
        if request.head.target == b"*" and request.method == b"OPTIONS":
            request.answer(204, [])
            return True
        return False

    def _live(self, request: Request) -> None:
        request.answer(200, _JSON, b'{"status":"OK"}')

    def _ready(self, request: Request) -> None:
        if request.channel.site.is_draining:
            request.answer(503, _JSON, b'{"status":"draining"}')
        else:
            request.answer(200, _JSON, self.readiness)
