"""What a small GET costs: CPU time of proxyd beside that of configurable-http-proxy and nginx.

The proxies take turns, round by round, so that a busy minute of the machine hits all of them; what counts is the
ratio within a round. See README.md.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

from peers import CHP_VARIABLE, Bench, Server, print_table, report

_SCRIPT = Path(__file__).with_name("vary.lua")


def measure(bench: Bench, server: Server, connections: int, seconds: int) -> float:
    """CPU microseconds per request under load; ends the program when a request fails."""
    load = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"]
    load += ["--timeout", "30s"]  # a busy machine is no error
    before = server.cpu_seconds()
    ended = subprocess.run(
        bench.on_load_core(*load, "--script", str(_SCRIPT), f"{bench.scheme}://127.0.0.1:{server.port}/"),
        capture_output=True,
        text=True,
        check=True,
    )
    spent = server.cpu_seconds() - before
    requests = re.search(r"(\d+) requests in", ended.stdout)
    trouble = re.search(r"Non-2xx.*|Socket errors.*", ended.stdout)
    if requests is None or trouble is not None:
        raise SystemExit(f"{server.name} did not answer everything: {trouble[0] if trouble else ended.stdout}")
    return spent / int(requests[1]) * 1e6


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", default="32", help="how many at once, separated by commas  [32]")
    parser.add_argument("--rounds", type=int, default=5, help="[5], after one that does not count")
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement  [3]")
    parser.add_argument("--tls", action="store_true", help="clients speak TLS with the proxies")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk makes the load, and is not installed")
    with Bench(tls=options.tls) as bench:
        upstream = bench.start_small_upstream()
        proxyd = bench.start_proxyd(upstream)
        candidates = {
            f"configurable-http-proxy (node_modules/.bin, PATH or ${CHP_VARIABLE})": bench.start_chp(upstream),
            "nginx": bench.start_nginx(upstream),
        }
        peers = [server for server in candidates.values() if server is not None]
        missing = [name for name, server in candidates.items() if server is None]
        spoken = " over TLS" if options.tls else ""
        title = f"small GET{spoken}, CPU µs per request, medians of {options.rounds} rounds of {options.seconds} s"
        rows = [["connections", "proxyd", *(peer.name for peer in peers), *(f"proxyd/{peer.name}" for peer in peers)]]
        for connections in map(int, options.connections.split(",")):
            costs: dict[str, list[float]] = {server.name: [] for server in (proxyd, *peers)}
            for number in range(options.rounds + 1):
                for server in (proxyd, *peers):
                    cost = measure(bench, server, connections, options.seconds)
                    print(f"c={connections} round {number} {server.name}: {cost:.1f}", file=sys.stderr)
                    if number:  # the first one warms up
                        costs[server.name].append(cost)
            own = costs[proxyd.name]
            ratios = [median(a / b for a, b in zip(own, costs[peer.name], strict=True)) for peer in peers]
            cells = [f"{median(cost):.1f}" for cost in costs.values()]
            rows.append([str(connections), *cells, *(f"x{ratio:.2f}" for ratio in ratios)])
        with report(title, [proxyd, *peers], missing, bench):
            print_table(rows)


if __name__ == "__main__":
    main()
