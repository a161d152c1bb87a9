"""Routes as a JupyterHub has them, and what it takes to look one up among them."""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

from proxyd.core.changes import Change
from proxyd.core.posted import RouteReader
from proxyd.core.table import RouteTable

LOOK_UPS = 100_000


def hub_routes(count: int, port: int = 8888) -> dict[str, dict[str, Any]]:
    """So many routes as a JupyterHub posts them."""
    return {
        f"/user/u{number}@example.org": {
            "target": f"http://10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:{port}",
            "jupyterhub": True,
            "user": f"u{number}@example.org",
            "server_name": "",
        }
        for number in range(count)
    }


def look_up_seconds(count: int) -> float:
    """CPU seconds of one look-up in a table of so many routes, the median of some rounds."""
    table = RouteTable()
    reader = RouteReader(host_routing=False, read_options=None)
    for number, (key, posted) in enumerate(hub_routes(count).items()):
        table.apply(Change(number, key, reader.read(key, posted)), 0)
    chosen = random.Random(1)
    paths = [("user", f"u{chosen.randrange(count)}@example.org", "lab", "tree") for _ in range(LOOK_UPS)]
    rounds = []
    for _ in range(7):
        began = time.process_time()
        for path in paths:
            table.look_up("", path)
        rounds.append((time.process_time() - began) / LOOK_UPS)
    return statistics.median(rounds)
