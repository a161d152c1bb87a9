"""Figures, how they stand to the goals, and what is printed and kept of them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import attrs
from goals import GOALS


@attrs.frozen
class Figure:
    """What one program needed. `value` is what is compared, in the unit of the row: less is better."""

    value: float
    per_second: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    rss_mib: float | None = None


@attrs.frozen
class Row:
    """One measurement: a figure for each program, proxyd first, and the ratios of proxyd to the others."""

    key: str
    title: str
    unit: str
    figures: dict[str, Figure]
    ratios: dict[str, float]
    versions: dict[str, str]


@attrs.frozen
class Verdict:
    """How a row stands to a goal; `peer` is empty for a goal that is a figure of its own."""

    row: Row
    peer: str
    goal: float
    seen: float

    @property
    def is_met(self) -> bool:
        return self.seen <= self.goal


def machine() -> str:
    """The machine, in a line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.machine())
    return f"{model}, {os.cpu_count()} cores; Linux {platform.release()}; Python {platform.python_version()}"


class Results:
    """The last row of each measurement, with the date of each and the machine it was made on."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.dates: dict[str, str] = {}
        self.machine = machine()
        self.note = ""  # what a reader has to know of the run

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what `save` wrote."""
        results = cls()
        saved = json.loads(path.read_text())
        results.machine = saved["machine"]
        results.note = saved.get("note", "")
        for entry in saved["rows"]:
            figures = {name: Figure(**figure) for name, figure in entry["figures"].items()}
            row = Row(entry["key"], entry["title"], entry["unit"], figures, entry["ratios"], entry["versions"])
            results.rows[row.key] = row
            results.dates[row.key] = entry["date"]
        return results

    def save(self, path: Path) -> None:
        """Write everything down as JSON."""
        rows = [
            {
                "key": row.key,
                "title": row.title,
                "unit": row.unit,
                "date": self.dates[row.key],
                "figures": {name: _figure(figure) for name, figure in row.figures.items()},
                "ratios": {name: round(ratio, 3) for name, ratio in row.ratios.items()},
                "versions": row.versions,
            }
            for row in self.rows.values()
        ]
        whole = {"machine": self.machine, "note": self.note, "rows": rows}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")

    def add(self, row: Row) -> None:
        """Take a row, in place of an older one."""
        self.rows[row.key] = row
        self.dates[row.key] = f"{datetime.now().astimezone():%Y-%m-%d %H:%M}"

    def verdicts(self) -> list[Verdict]:
        """How the rows stand to the goals, as far as there are figures for them."""
        found = []
        for goal in GOALS:
            row = self.rows.get(goal.row)
            if row is None:
                continue
            seen = row.ratios.get(goal.peer) if goal.peer else row.figures["proxyd"].value
            if seen is not None:
                found.append(Verdict(row, goal.peer, goal.limit, seen))
        return found

    def versions(self) -> dict[str, str]:
        """Which version of each program was measured."""
        return {name: version for row in self.rows.values() for name, version in row.versions.items() if version}


def _figure(figure: Figure) -> dict[str, float]:
    return {name: round(value, 4) for name, value in attrs.asdict(figure).items() if value is not None}


def number(value: float | None) -> str:
    """A figure with three digits or so."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def figure_cells(results: Results) -> list[list[str]]:
    """A table of all figures; the first row is the head."""
    names = list(dict.fromkeys(name for row in results.rows.values() for name in row.figures))
    cells = [["measurement", "unit", *names]]
    for row in results.rows.values():
        values = [number(row.figures[name].value) if name in row.figures else "" for name in names]
        cells.append([row.title, row.unit, *values])
    return cells


def detail_cells(results: Results) -> list[list[str]]:
    """Throughput, times and memory, where they were measured."""
    cells = [["measurement", "program", "per second", "p50 ms", "p99 ms", "RSS MiB"]]
    for row in results.rows.values():
        for name, figure in row.figures.items():
            if figure.per_second is not None:
                times = (number(figure.p50_ms), number(figure.p99_ms), number(figure.rss_mib))
                cells.append([row.title, name, number(figure.per_second), *times])
    return cells


def goal_cells(verdicts: Iterable[Verdict]) -> list[list[str]]:
    """A table of goals; the first row is the head."""
    cells = [["measurement", "proxyd", "beside", "its figure", "ratio", "goal", ""]]
    for verdict in verdicts:
        row = verdict.row
        own = f"{number(row.figures['proxyd'].value)} {row.unit}"
        met = "met" if verdict.is_met else f"missed by {verdict.seen / verdict.goal - 1:.0%}"
        if verdict.peer:
            its = number(row.figures[verdict.peer].value)
            cells.append([row.title, own, verdict.peer, its, f"x{verdict.seen:.2f}", f"x{verdict.goal:g}", met])
        else:
            cells.append([row.title, own, "", "", "", f"{verdict.goal:g} {row.unit}", met])
    return cells


def aligned(rows: list[list[str]]) -> str:
    """Rows of cells as text, the first column to the left."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for first, *rest in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
