"""What happens to the servers: for whoever watches them, and in numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxyd.model.servers import ServerState
    from proxyd.supervisor.process import Exit


class News:
    """Tells all that `watch`, and counts.

    `starts` are processes that were started; `failures` are those of them that came to nothing or crashed, and starts
    that did not even get that far. `exit_watchers` are called with the name of a server whose process ended by itself.
    """

    def __init__(self) -> None:
        self.starts = 0
        self.failures = 0
        self._watchers: list[Callable[[str], None]] = []
        self.exit_watchers: list[Callable[[str, Exit], None]] = []

    def watch(self, changed: Callable[[str], None]) -> Callable[[], None]:
        """Call `changed` with the name of each server that gets into another state; what is returned stops that."""
        self._watchers.append(changed)

        def stop() -> None:
            if changed in self._watchers:
                self._watchers.remove(changed)

        return stop

    def exited(self, server: str, ended: Exit) -> None:
        """A process of a server has ended by itself."""
        for watcher in tuple(self.exit_watchers):
            watcher(server, ended)

    def state_changed(self, server: str, before: ServerState, after: ServerState) -> None:
        """An instance of a server has got into another state."""
        is_end = before in ("starting", "ready") and after == "failed"
        self.failures += is_end or after in ("backing_off", "aborting")
        for changed in tuple(self._watchers):
            changed(server)
