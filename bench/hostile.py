"""The cases of `tests/hostile` side by side: how many of each family hold for proxyd, and for its peers.

Prints the table of docs/security.md. `--failures` names what does not hold, and why. proxyd is judged by its own rules,
the others by what is safe: they may refuse with another status, pass another form of a target, and take what is wrong
if they make something of it that nobody can misunderstand. Those cases are counted by themselves.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from unittest import TestCase

import attrs
from peers import Bench, Server

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from proxyd import __version__
from tests.hostile.cases import Case
from tests.hostile.families import ANSWERS, REQUESTS
from tests.hostile.proxies import PROBE, HostileProxy
from tests.hostile.stage import Stage
from tests.hostile.verdict import is_tolerable, problems_of


class Peer:
    """A proxy in front of a recording upstream; started again when it has ended."""

    def __init__(self, stage: Stage, start: Callable[[], Server | None]) -> None:
        self._stage = stage
        self._start = start
        self.server = start()

    def problems(self, case: Case) -> tuple[list[str], bool]:
        """What does not hold, for any proxy; and whether that can be tolerated."""
        found, is_tolerable = self._play(case)
        if case.script and (not found or is_tolerable):
            after, _ = self._play(PROBE)
            if after:
                return [f"afterwards: {problem}" for problem in after], False
        return found, is_tolerable

    def _play(self, case: Case) -> tuple[list[str], bool]:
        assert self.server is not None
        try:
            outcome = self._stage.play(case, self.server.port)
        except OSError as error:
            self.server = self._start()
            return [f"it has ended: {error!r}"], False
        found = problems_of(case, outcome, ours=False)
        return found, bool(found) and is_tolerable(case, outcome)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patience", type=float, default=3.0, help="seconds that a case of a peer may take  [3]")
    parser.add_argument("--failures", action="store_true", help="name what does not hold")
    parser.add_argument("--only", default="", help="families, separated by commas")
    options = parser.parse_args()
    families = [each for each in REQUESTS + ANSWERS if not options.only or each[0].family in options.only.split(",")]
    owner = TestCase()
    columns: dict[str, list[Result]] = {}
    try:
        ours = HostileProxy(owner)
        with Bench() as bench:
            peers = {}
            missing = []
            starters: dict[str, Callable[[Server], Server | None]] = {
                "CHP": bench.start_chp,
                "nginx": bench.start_nginx,
                "HAProxy": bench.start_haproxy,
            }
            for name, start in starters.items():
                stage = Stage(options.patience, 0.5)
                owner.addCleanup(stage.close)
                upstream = Server("upstream", "", stage.upstream_port, 0)
                peer = Peer(stage, lambda start=start, upstream=upstream: start(upstream))
                if peer.server is None:
                    missing.append(name)
                else:
                    peers[name] = peer
            servers = [peer.server for peer in peers.values() if peer.server is not None]
            print(f"{datetime.now().astimezone():%Y-%m-%d %H:%M}, Python {platform.python_version()}")
            print(f"proxyd {__version__}")
            print(*(f"{server.name} {server.version}" for server in servers), sep="; ")
            print(*(f"missing: {name} is not installed" for name in missing), sep="\n")
            runs = {"proxyd": lambda family: _by_our_rules(ours, family)}
            runs |= {name: partial(_by_rules_for_all, peer) for name, peer in peers.items()}
            with ThreadPoolExecutor(len(runs)) as pool:
                columns = dict(zip(runs, pool.map(partial(_run, families), runs.items()), strict=True))
    finally:
        owner.doCleanups()
    if options.failures:
        for name, results in columns.items():
            print(*(f"{name}: {problem}" for result in results for problem in result.problems), sep="\n")
    _print_table(families, columns)


@attrs.frozen
class Result:
    """What one family came to."""

    cases: int
    held: int
    problems: list[str]
    tolerated: int = 0

    @property
    def cell(self) -> str:
        """As it stands in the table."""
        more = f" + {self.tolerated}" if self.tolerated else ""
        return f"{self.held}{more} of {self.cases}" if self.cases else "-"


def _run(families: list[tuple[Case, ...]], item: tuple[str, Callable[[tuple[Case, ...]], Result]]) -> list[Result]:
    """Play families with one proxy."""
    name, play = item
    results = []
    for family in families:
        results.append(play(family))
        print(f"{name}: {family[0].family}: {results[-1].cell}", file=sys.stderr, flush=True)
    return results


def _by_our_rules(ours: HostileProxy, family: tuple[Case, ...]) -> Result:
    problems = ours.problems(family)
    return Result(len(family), len(family) - len({problem.partition(":")[0] for problem in problems}), problems)


def _by_rules_for_all(peer: Peer, family: tuple[Case, ...]) -> Result:
    cases = [case for case in family if case.for_peers]
    found = {f"{case.family}/{case.name}": peer.problems(case) for case in cases}
    problems = [f"{name}: {each[0]}" for name, (each, is_tolerable) in found.items() if each and not is_tolerable]
    tolerated = sum(is_tolerable for _, is_tolerable in found.values())
    return Result(len(cases), len(cases) - len(problems) - tolerated, problems, tolerated)


def _print_table(families: list[tuple[Case, ...]], columns: dict[str, list[Result]]) -> None:
    """The table, in Markdown."""
    print("| family | cases | " + " | ".join(columns) + " |")
    print("| --- | ---: | " + " | ".join("---:" for _ in columns) + " |")
    for index, family in enumerate(families):
        cells = [column[index].cell for column in columns.values()]
        print(f"| {family[0].family} | {len(family)} | " + " | ".join(cells) + " |")
    sums = [
        Result(sum(r.cases for r in column), sum(r.held for r in column), [], sum(r.tolerated for r in column)).cell
        for column in columns.values()
    ]
    print(f"| all | {sum(map(len, families))} | " + " | ".join(sums) + " |")


if __name__ == "__main__":
    main()
