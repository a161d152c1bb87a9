"""The routes on their way from the store of the controller to the tables of the workers.

Changes go to everybody in the order of the store. Who changes something waits until all workers have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from zope.interface import implementer

from proxyd.core.changes import Change
from proxyd.core.table import RouteTable
from proxyd.garbage import exempt_many
from proxyd.interfaces import IRouteStore
from proxyd.model.routes import Route
from proxyd.stores.feed import TableFeed

if TYPE_CHECKING:
    from proxyd.workers.link import Link

T = TypeVar("T")


class Followers(Protocol):
    """The workers, all together."""

    def tell(self, name: str, content: Any = None) -> object:
        """Send a message to everybody who has a table."""

    def settled(self) -> Deferred[None]:
        """Fires when everybody has done what was told before; who does not is replaced. Does not fail."""


class ReplicatedFeed(TableFeed):
    """Brings the changes of a store into the table of the controller, and to its followers."""

    def __init__(self, table: RouteTable, clock: Any, seconds: Callable[[], float]) -> None:
        super().__init__(table, clock, seconds)
        self.followers: Followers | None = None
        self._is_held = False
        self._joining: list[tuple[Link, Callable[[], None]]] = []

    def take(self, change: Change) -> None:
        """Bring a change into the table, and tell everybody; also those that come while changes are held."""
        if self.followers is not None:
            self.followers.tell("change", change)
        super().take(change)

    def hold(self) -> None:
        """Keep what comes until `release`, here and everywhere."""
        self._is_held = True
        if self.followers is not None:
            self.followers.tell("hold")
        super().hold()

    async def release(self) -> None:
        """Bring what was held into all tables, in each of them at one moment; waits for all of them."""
        if self.followers is not None:
            self.followers.tell("release")
        try:
            await super().release()
        finally:
            self._is_held = False
            joining, self._joining = self._joining, []
            for link, joined in joining:
                self.join(link, joined)
        if self.followers is not None:
            await self.followers.settled()

    def join(self, link: Link, joined: Callable[[], None]) -> None:
        """Send all routes to a worker that has none, and call `joined`: from then on it is a follower.

        That waits for the end of a replacement that is going on.
        """
        if self._is_held:
            self._joining.append((link, joined))
            return
        table = self.table
        link.tell("hold")
        for route in table.posted_routes:
            link.tell("change", Change(table.revision, route.key, route))
        link.tell("release")
        joined()


@implementer(IRouteStore)
class ReplicatedStore:
    """`store`, whose changes are done when all `followers` have them, too."""

    def __init__(self, store: IRouteStore, followers: Followers) -> None:
        self._store = store
        self._followers = followers

    def open(self) -> Deferred[None]:
        """Get ready."""
        return self._store.open()

    def close(self) -> None:
        """End what goes on by itself."""
        self._store.close()

    def snapshot(self) -> Deferred[tuple[int, list[Route]]]:
        """All routes."""
        return self._store.snapshot()

    def watch(self, revision: int, changed: Callable[[Change], None]) -> Callable[[], None]:
        """Call `changed` for every change."""
        return self._store.watch(revision, changed)

    def put(self, route: Route) -> Deferred[Change]:
        """Create or replace a route, everywhere."""
        return self._store.put(route).addCallback(self._everywhere)

    def delete(self, key: str) -> Deferred[Change | None]:
        """Delete a route, everywhere."""
        return self._store.delete(key).addCallback(self._everywhere)

    def replace(self, routes: Iterable[Route]) -> Deferred[list[Change]]:
        """Have exactly these routes; who holds the feed waits for the others when it is released."""
        return self._store.replace(routes)

    def _everywhere(self, result: Any) -> Any:
        return self._followers.settled().addCallback(lambda _: result) if result is not None else None


class RouteReplica:
    """The routes of a worker: what the controller tells it comes into `table`; `clock` has `callLater`.

    Its entries are made at time 0: what comes later is activity of this worker.
    """

    _log = Logger()

    def __init__(self, table: RouteTable, clock: Any) -> None:
        self.feed = TableFeed(table, clock, lambda: 0.0)
        self._table = table
        self._releasing: Deferred[None] | None = None
        self._later: list[Callable[[], None]] = []

    def change(self, change: Change) -> None:
        """Take a change."""
        self._in_turn(partial(self.feed.take, change._replace(last_activity=None)))

    def hold(self) -> None:
        """Changes are held until `release`; what is being brought in comes first, and what was told until then."""
        if self._releasing is None:
            self._in_turn(self.feed.hold)
        else:
            self._later.append(self.hold)

    def release(self) -> None:
        """Begin to bring them in."""
        self._in_turn(self._release)

    def _in_turn(self, step: Callable[[], None]) -> None:
        if self._later:
            self._later.append(step)
        else:
            step()

    def _release(self) -> None:
        releasing = self._releasing = Deferred.fromCoroutine(self.feed.release())
        releasing.addBoth(self._released)
        releasing.addErrback(lambda failure: self._log.failure("unexpected error in the routes", failure=failure))

    def _released(self, result: T) -> T:
        self._releasing = None
        exempt_many(len(self._table))
        later, self._later = self._later, []
        for index, step in enumerate(later):
            if self._releasing is not None and step == self.hold:
                self._later = later[index:]
                break
            step()
        return result

    def settled(self) -> Deferred[None]:
        """Fires when everything that was told so far is in the table."""
        done: Deferred[None] = Deferred()

        def look(_: object = None) -> None:
            if self._releasing is None:
                done.callback(None)
            else:
                self._releasing.addBoth(look)

        look()
        return done
