"""How many of the scripted WebSocket exchanges of the tests come out of a proxy otherwise than they should.

Each exchange runs directly, and through each proxy; what the client sees has to be the same, byte by byte, and through
a relay correct by RFC 6455.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from datetime import datetime
from unittest import TestCase

from peers import Bench, Server
from results import machine

from tests.websocket.echo import echo_server
from tests.websocket.exchanges import EXCHANGES, GROUPS, Exchange
from tests.websocket.transcripts import Transcript, problem, transcript

# With a server that resets: the groups in which clients break rules.
_FAULTY = (3, 4, 5, 7)
# CHP leaves a connection open when it has lost the first frame: that takes so long each time.
_HUNG_SECONDS = {"CHP": 2.0}


def verdict(exchange: Exchange, direct: Transcript, seen: Transcript, *, relays: bool) -> str:
    """What is wrong with what came through a proxy; empty if nothing is."""
    wrong = problem(exchange, seen, in_order=not relays)
    return wrong or ("" if relays or seen == direct else "it is not what came directly")


def main() -> None:
    """Run."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    case = TestCase()
    polite, rude = (echo_server(case, resets=resets) for resets in (False, True))
    counts, groups = Counter[str](), dict[str, Counter[str]]()
    http, hung = Counter[str](), Counter[str]()
    versions: dict[str, str] = {}
    for upstream in (polite, rude):
        as_server = Server("upstream", "", upstream.port, 0)
        with Bench() as bench:
            proxies = {
                "proxyd, tunnel": bench.start_proxyd(as_server, name="tunnel"),
                "proxyd, relay": bench.start_proxyd(as_server, name="relay", websocket="relay"),
                "CHP": bench.start_chp(as_server),
                "nginx": bench.start_nginx(as_server),
                "haproxy": bench.start_haproxy(as_server),
            }
            present = {name: proxy for name, proxy in proxies.items() if proxy is not None}
            versions |= {name: proxy.version for name, proxy in present.items()}
            for exchange, glued in (*((e, False) for e in EXCHANGES), *((e, True) for e in EXCHANGES)):
                row = f"{exchange.group} {GROUPS[exchange.group]}"
                row = "the first frame comes with the handshake" if glued else row
                row = row if upstream is polite else "the server resets the connection behind its Close"
                if upstream is rude and (glued or exchange.group not in _FAULTY or not exchange.is_short):
                    continue
                counts[row] += 1
                direct = transcript(upstream.port, "/", exchange, glued=glued)
                if said := problem(exchange, direct):
                    raise SystemExit(f"directly, {exchange.title}: {said}")
                for name, proxy in present.items():
                    seen = transcript(proxy.port, "/", exchange, glued=glued, seconds=_HUNG_SECONDS.get(name, 20.0))
                    if said := verdict(exchange, direct, seen, relays=name == "proxyd, relay"):
                        groups.setdefault(name, Counter())[row] += 1
                        http[name] += seen.is_open and b"HTTP/1." in seen.said
                        hung[name] += seen.is_hung
                        print(f"{name}, {row}, {exchange.title}: {said}", file=sys.stderr)
    case.doCleanups()
    rows = [["", "exchanges", *versions], ["---", *("---:" for _ in range(len(versions) + 1))]]
    wrong = {name: groups.get(name, Counter()) for name in versions}
    rows += [[row, str(count), *(str(of[row]) for of in wrong.values())] for row, count in counts.items()]
    rows.append(["all", str(counts.total()), *(str(of.total()) for of in wrong.values())])
    rows.append(["... of these, HTTP in the open stream", "", *(str(http[name]) for name in versions)])
    rows.append(["... of these, no end of the connection", "", *(str(hung[name]) for name in versions)])
    print(f"{datetime.now().astimezone():%Y-%m-%d}; {machine()};")
    print(f"{'; '.join(f'{name} {version}' for name, version in versions.items())}\n")
    for row in rows:
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
