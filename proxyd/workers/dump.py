"""How things are, for the log: what an operator asks for with SIGUSR2 when something seems to hang.

Nothing that somebody could log in with: of a request the method and the path, of an upstream the place.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from twisted.logger import Logger, LogLevel

from proxyd.http.accesslog import printable
from proxyd.system.stalls import stack_of

if TYPE_CHECKING:
    from proxyd.http.request import Request
    from proxyd.workers.datapath import DataPath

# So many of each are told, the oldest first. Measured with 5000 clients and 1000 tunnels: 40 ms (2026-11).
_MOST = 100
_MOST_THREADS = 20

_log = Logger()


def dump_state(data_path: DataPath, facts: Iterable[str], level: str) -> None:
    """Log `facts`, and how the data path and the process are, at `info`, or at `level` if less is not logged."""
    least = LogLevel.lookupByName("info" if level == "debug" else level)
    for line in (*facts, *process_lines(), *data_path_lines(data_path), *stack_lines()):
        _log.emit(least, "state: {line}", line=line)


def data_path_lines(data_path: DataPath) -> Iterator[str]:
    """What the data path does: exchanges, tunnels, connections to upstreams."""
    now = data_path.deadlines.seconds()
    channels = [channel for site in data_path.sites for channel in site.channels]
    states = Counter(channel.doing for channel in channels)
    requests = [channel.request for channel in channels if channel.request is not None]
    tunnels = [tunnel for site in data_path.sites for tunnel in site.tunnels]
    counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    yield f"connections: {len(channels)} ({counted or 'none'}), tunnels: {len(tunnels)}"
    yield f"routes: {len(data_path.table)}, deadlines: {len(data_path.deadlines)}"
    requests.sort(key=lambda request: request.started)
    yield from _bounded((_request_line(request, now) for request in requests), len(requests), "exchanges")
    tunnels.sort(key=lambda tunnel: tunnel.began)
    yield from _bounded(
        (
            f"tunnel {tunnel.label}: {now - tunnel.began:.1f} s, {tunnel.to_upstream} bytes up, {tunnel.to_client} down"
            for tunnel in tunnels
        ),
        len(tunnels),
        "tunnels",
    )
    pools = data_path.pools.idle_by_upstream()
    yield from _bounded((f"upstream {url}: {idle} idle connections" for url, idle in pools), len(pools), "upstreams")


def _request_line(request: Request, now: float) -> str:
    route = f" by {request.entry.route.key}" if request.entry is not None else ""
    return (
        f"exchange {printable(request.method)} {printable(request.head.target.partition(b'?')[0])}{route}: "
        f"{now - request.started:.1f} s, {request.channel.doing}, status {request.status or '-'}, "
        f"{request.body_received} bytes received, {request.body_sent} sent, "
        f"from {request.peer.address.decode() or 'unix'}"
    )


def _bounded(lines: Iterable[str], count: int, what: str) -> Iterator[str]:
    yield from islice(lines, _MOST)
    if count > _MOST:
        yield f"... and {count - _MOST} more {what}"


def process_lines() -> Iterator[str]:
    """What the process needs: memory, descriptors, threads."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd")) - 1
    yield (
        f"process {os.getpid()}: {pages * resource.getpagesize() // 1024} KiB resident, "
        f"{used} of {soft} descriptors, {threading.active_count()} threads"
    )


def stack_lines() -> Iterator[str]:
    """Where every thread is, the asking one first: it runs the event loop. Each text has several lines."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    this = threading.get_ident()
    # The interpreter has the youngest first; the loop's is the oldest, and must not be the one that is left out.
    others = [ident for ident in sys._current_frames() if ident != this]
    for ident in (this, *others[: _MOST_THREADS - 1]):
        yield f"thread {names.get(ident, ident)}\n{stack_of(ident)}"
    if len(others) >= _MOST_THREADS:
        yield f"... and {len(others) + 1 - _MOST_THREADS} more threads"
