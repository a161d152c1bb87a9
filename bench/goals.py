"""What proxyd has to reach: at most so many times the figure of a peer, or so much by itself.

All with an access log, time-outs, activity and metrics, as everybody has them.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Goal:
    """`limit` is a ratio to `peer` in a row, or, without a peer, a figure in the unit of the row."""

    row: str
    peer: str
    limit: float


def _goals(rows: str, **limits: float) -> list[Goal]:
    names = {"chp": "CHP", "nginx64": "nginx 64k", "jupyter": "jupyter-server-proxy", "autobahn": "Autobahn"}
    return [Goal(row, names.get(peer, peer), limit) for row in rows.split() for peer, limit in limits.items()]


GOALS: list[Goal] = [
    *_goals("small-32 small-256", chp=0.33, nginx=1.6),
    Goal("small-32", "jupyter-server-proxy", 0.03),
    Goal("workers", "proxyd", 1.05),
    *_goals("bulk-down", chp=0.3, nginx64=1.0, haproxy=1.0),
    *_goals("bulk-up", chp=0.35, nginx64=0.8, haproxy=0.7),
    *_goals("websocket-16 websocket-1024", chp=0.95, nginx=1.15),
    *_goals("websocket-65536 websocket-1048576", chp=0.4, nginx=0.3, haproxy=1.0),
    *_goals("relay-16 relay-1024 relay-65536 relay-1048576", autobahn=1.0),
    *_goals("tls-small", chp=0.33, nginx=1.4),
    *_goals("tls-bulk", chp=0.35, nginx=0.7),
    *_goals("idle-websocket", chp=0.25, nginx=0.25),
    Goal("idle-websocket", "", 4.0),
    *_goals("idle-keep-alive", chp=0.25),
    Goal("idle-keep-alive", "", 2.5),
    Goal("routes-request", "10 routes", 1.05),
    Goal("route-memory", "", 1024),
    Goal("route-list", "", 0.3),
    Goal("start", "", 0.6),
    Goal("base-memory", "", 70),
]
