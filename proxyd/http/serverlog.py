"""What managed servers print, followed as it comes: for the page of a server that starts, and for the API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from proxyd.core.launcher import best_state
from proxyd.errors import ServerError
from proxyd.http.eventstreams import EventStream, EventStreams
from proxyd.http.request import Request
from proxyd.interfaces import IServerSupervisor

MAX_LINES = 2000
"""So many lines are told at most of what has been printed before: a page shows no more."""


class ServerLogs:
    """Streams of lines and states of the servers of `supervisor`; `clock` has `callLater` and `seconds`.

    Events are `line`, whose data is the line, and `state`, whose data has the `state` of the server, and the `reason`
    when it has crashed and is started again.
    """

    def __init__(self, supervisor: IServerSupervisor, clock: Any) -> None:
        self._supervisor = supervisor
        self.streams = EventStreams(clock)

    def lines(self, name: str, count: int) -> list[str]:
        """The last lines of a server; if it has several instances, each line tells which one printed it.

        Raises `UnknownServerError`.
        """
        logs = self._supervisor.lines(name, count)
        return [_labelled(number, line, len(logs)) for number, log in enumerate(logs) for line in log]

    def follow(self, request: Request, name: str, count: int, *, shows_lines: bool = True) -> None:
        """Answer with a stream that begins with the last lines and the state; without `shows_lines`, states are all.

        Raises `UnknownServerError`, and `RequestError` if too many follow.
        """
        supervisor = self._supervisor
        instances = len(supervisor.status(name))
        last = _state(supervisor, name)
        first = [event("line", line) for line in self.lines(name, count)] if shows_lines else []
        stops: list[Callable[[], None]] = []
        stream: EventStream | None = None

        def ended() -> None:
            for stop in stops:
                stop()

        def printed(number: int, line: str) -> None:
            if stream is not None:
                stream.send(event("line", _labelled(number, line, instances)))

        def changed(server: str) -> None:
            nonlocal last
            if stream is not None and server == name and (state := _state(supervisor, name)) != last:
                last = state
                told = {"state": state}
                if state == "backing_off" and shows_lines:
                    told["reason"] = next(s.exit_reason for s in supervisor.status(name) if s.state == state)
                stream.send(event("state", told))

        stops.append(supervisor.watch(changed))
        if shows_lines:
            stops.append(supervisor.subscribe(name, printed))
        try:
            stream = self.streams.open(request, b"".join([*first, event("state", {"state": last})]), ended)
        except BaseException:
            ended()
            raise


class ServerStates:
    """Streams of the states of all servers of `supervisor`: events `state`, with `server` and `state`."""

    def __init__(self, supervisor: IServerSupervisor, clock: Any) -> None:
        self._supervisor = supervisor
        self.streams = EventStreams(clock)
        supervisor.watch(self._changed)

    def follow(self, request: Request) -> None:
        """Answer with a stream that begins with all states as they are.

        Raises `RequestError` if too many follow.
        """
        self.streams.open(request, b"".join(self._states()))

    def _states(self) -> Iterator[bytes]:
        for name, spec in self._supervisor.specs().items():
            if spec.is_managed:
                yield event("state", {"server": name, "state": _state(self._supervisor, name)})

    def _changed(self, name: str) -> None:
        if self.streams:
            self.streams.send(event("state", {"server": name, "state": _state(self._supervisor, name)}))


def event(name: str, data: str | Mapping[str, object]) -> bytes:
    """An event of a stream."""
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def _state(supervisor: IServerSupervisor, name: str) -> str:
    """The state of a server as a whole; of one that has been removed meanwhile, `stopped`."""
    try:
        return best_state(supervisor.status(name)) or "stopped"
    except ServerError:
        return "stopped"


def _labelled(number: int, line: str, instances: int) -> str:
    return line if instances == 1 else f"#{number} {line}"
