"""The end of what is being served, in the order of docs/decisions/0010-drain.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred

from proxyd.http.site import Site
from proxyd.net.deadlines import Deadlines

# How often is looked whether everything is over.
_LOOK_SECONDS = 0.05
# How long tunnels may take to deliver what is on its way, once they have been told to end.
_GOODBYE_SECONDS = 2.0


class Drain:
    """Waits, first for load balancers and then for the exchanges of `sites`.

    `clock` has `callLater`; time is that of `deadlines`.
    """

    def __init__(self, sites: Iterable[Site], clock: Any, deadlines: Deadlines) -> None:
        self._sites = sites
        self._clock = clock
        self._deadlines = deadlines
        self._is_hurried = False

    def announce(self, seconds: float) -> Deferred[None]:
        """Serve everybody for `seconds` more, but keep no connection, and let readiness say so."""
        for site in self._sites:
            site.is_draining = True
        return self._wait_while(lambda: True, seconds)

    def finish(self, seconds: float, are_others_busy: Callable[[], bool] = lambda: False) -> Deferred[None]:
        """Let exchanges end within `seconds`, then tunnels at once.

        `are_others_busy` is asked when there are no exchanges here any more: tunnels wait for those elsewhere, too.
        """
        for site in self._sites:
            site.drain()
        done = self._wait_while(lambda: any(site.channels for site in self._sites) or are_others_busy(), seconds)
        return done.addCallback(lambda _: self._end_tunnels())

    def hurry(self) -> None:
        """Wait no longer, now or later."""
        self._is_hurried = True

    def _end_tunnels(self) -> Deferred[None]:
        for tunnel in [tunnel for site in self._sites for tunnel in site.tunnels]:
            tunnel.go_away()
        return self._wait_while(lambda: any(site.tunnels for site in self._sites), _GOODBYE_SECONDS)

    def _wait_while(self, is_going_on: Callable[[], bool], seconds: float) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        ends = self._deadlines.seconds() + seconds

        def look() -> None:
            if is_going_on() and self._deadlines.seconds() < ends and not self._is_hurried:
                self._clock.callLater(_LOOK_SECONDS, look)
            else:
                done.callback(None)

        look()
        return done
