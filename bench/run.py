"""Measures proxyd beside its peers, and prints how it stands to the goals. See README.md."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axes import AXES, QUICK, Plan
from page import publish
from peers import CACHE, CHECKOUT, Bench, install_jupyter
from results import Results, aligned, detail_cells, figure_cells, goal_cells


@contextmanager
def checkout_of(commit: str) -> Iterator[Path]:
    """The files of another commit, with what it compiles, for as long as they are compared with."""
    path = CACHE / "base"
    git = ("git", "-C", str(CHECKOUT), "worktree")
    subprocess.run((*git, "remove", "--force", str(path)), capture_output=True, check=False)
    subprocess.run((*git, "prune"), check=True)
    subprocess.run((*git, "add", "--quiet", "--detach", str(path), commit), check=True)
    try:
        if b"ext_modules" in (path / "setup.py").read_bytes():
            words = (sys.executable, "setup.py", "--quiet", "build_ext", "--inplace")
            subprocess.run(words, cwd=path, check=True)
        yield path
    finally:
        subprocess.run((*git, "remove", "--force", str(path)), check=True)


def measure(
    axes: list[str], plan: Plan, results: Results, output: Path, peers: frozenset[str], base: Path | None = None
) -> set[str]:
    """Add the rows of these axes to the results; gives back which peers are not installed."""
    missing: set[str] = set()
    for axis in axes:
        with Bench(base=base, peers=peers) as bench:
            for row in AXES[axis](bench, plan):
                results.add(row)
                results.save(output)  # a run that is ended early has measured something
            missing |= bench.missing
    return missing


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(AXES), help=f"some of {','.join(AXES)}")
    parser.add_argument("--peers", default="", help="some of CHP,nginx,haproxy,jupyter-server-proxy  [all]")
    parser.add_argument("--base", default="", help="a commit of proxyd to compare with")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that everything runs, and little else")
    parser.add_argument("--rounds", type=int, help="after one that does not count; 0: it does")
    parser.add_argument("--seconds", type=float, help="of each measurement")
    parser.add_argument("--output", type=Path, default=CACHE / "results.json", help="[%(default)s]")
    parser.add_argument("--merge", action="store_true", help="keep what the output has of other measurements")
    parser.add_argument("--publish", action="store_true", help="write docs/performance.* from the output")
    parser.add_argument("--note", default="", help="what a reader of the page has to know of the run")
    parser.add_argument("--install", action="store_true", help="install jupyter-server-proxy, if it is not there")
    options = parser.parse_args()
    axes = [axis for axis in options.only.split(",") if axis]
    if unknown := set(axes) - AXES.keys():
        parser.error(f"--only: there is no {', '.join(sorted(unknown))}")
    if axes and shutil.which("wrk") is None:
        parser.error("wrk makes the load, and is not installed")
    plan = QUICK if options.quick else Plan()
    plan = Plan(**{**_fields(plan), **{name: value for name, value in _given(options) if value is not None}})
    if options.install:
        install_jupyter()
    peers = frozenset(filter(None, options.peers.split(",")))
    results = Results.load(options.output) if options.merge and options.output.exists() else Results()
    if options.base:
        with checkout_of(options.base) as base:
            missing = measure(axes, plan, results, options.output, peers, base)
    else:
        missing = measure(axes, plan, results, options.output, peers)
    results.note = options.note or results.note
    results.save(options.output)
    show(results, missing)
    if options.publish:
        publish(results)


def _fields(plan: Plan) -> dict[str, object]:
    return {name: getattr(plan, name) for name in Plan.__annotations__}


def _given(options: argparse.Namespace) -> list[tuple[str, object]]:
    return [("rounds", options.rounds), ("seconds", options.seconds)]


def show(results: Results, missing: set[str]) -> None:
    """Print the tables."""
    print(f"\n{results.machine}")
    print("; ".join(f"{name} {version}" for name, version in results.versions().items()))
    for cells in (figure_cells(results), detail_cells(results), goal_cells(results.verdicts())):
        print(f"\n{aligned(cells)}")
    for name in sorted(missing):
        print(f"missing: {name} is not installed, and was not measured")


if __name__ == "__main__":
    main()
