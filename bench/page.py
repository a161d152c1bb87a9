"""Makes docs/performance.md, its chart and its figures from the results."""

from __future__ import annotations

import math
from html import escape
from pathlib import Path

from peers import CHECKOUT
from results import Results, Verdict, detail_cells, figure_cells, goal_cells

DOCS = CHECKOUT / "docs"

_PAGE = """# Performance

Made by `make bench PUBLISH=1` from [its figures](performance.json); what is measured, and how, is told in
[bench/README.md](../bench/README.md).

The main figure is CPU time for a unit of work: of all threads of all processes of a proxy, on one core. It is compared
within one run only, round by round; the ratios are medians. A ratio below 1 says that proxyd needs less. All programs
keep an access log, except configurable-http-proxy, which has none.

Machine: {machine}.

Measured: {dates}.{note}

{versions}.

## Goals

![proxyd beside its peers](performance.svg)

{goals}

[Where the time goes](../bench/README.md#where-the-time-goes) tells what is left of it where a goal is missed.

## Figures

CPU time or memory of each program, in the unit of its line. *nginx 64k* is nginx with buffers of 64 KB that collects
no requests.

{figures}

## Throughput, times and memory

p50 and p99 are what the load generator saw; under full load they tell of queues first. Requests are counted, of bodies
MB, of route changes each one.

{details}
"""

_BAR_HEIGHT = 14
_LABEL_WIDTH = 330
_CHART_WIDTH = 460
_MARGIN = 30


def publish(results: Results, docs: Path = DOCS) -> None:
    """Write the figures, and of them, as they are rounded there, the page and the chart."""
    results.save(docs / "performance.json")
    results = Results.load(docs / "performance.json")
    (docs / "performance.svg").write_text(chart(results.verdicts()))
    (docs / "performance.md").write_text(page(results))


def page(results: Results) -> str:
    """The text of the page."""
    days = sorted({date.partition(" ")[0] for date in results.dates.values()})
    return _PAGE.format(
        machine=results.machine,
        dates=", ".join(days),
        versions="; ".join(f"{name} {version}" for name, version in results.versions().items()),
        note=f" {results.note}" if results.note else "",
        goals=_table(goal_cells(results.verdicts())),
        figures=_table(figure_cells(results)),
        details=_table(detail_cells(results)),
    )


def _table(rows: list[list[str]]) -> str:
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in body]
    return "\n".join(line.replace("|  |", "| |") for line in lines)


def chart(verdicts: list[Verdict]) -> str:
    """Ratios to peers as bars on a logarithmic scale, each with a mark at its goal."""
    compared = [verdict for verdict in verdicts if verdict.peer]
    low, high = math.log10(0.01), math.log10(10)
    height = _MARGIN * 2 + len(compared) * (_BAR_HEIGHT + 4)
    width = _LABEL_WIDTH + _CHART_WIDTH + 70

    def place(ratio: float) -> float:
        share = (math.log10(min(max(ratio, 0.01), 10)) - low) / (high - low)
        return _LABEL_WIDTH + share * _CHART_WIDTH

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        '<g font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for tick in (0.01, 0.03, 0.1, 0.3, 1, 3, 10):
        x = place(tick)
        color = "#666666" if tick == 1 else "#dddddd"
        parts.append(f'<line x1="{x:.1f}" y1="22" x2="{x:.1f}" y2="{height - 8}" stroke="{color}"/>')
        parts.append(f'<text x="{x:.1f}" y="16" text-anchor="middle" fill="#444444">x{tick:g}</text>')
    for index, verdict in enumerate(compared):
        y = _MARGIN + index * (_BAR_HEIGHT + 4)
        color = "#2f7d4f" if verdict.is_met else "#c2571a"
        start, end, goal = place(0.01), place(verdict.seen), place(verdict.goal)
        label = escape(f"{verdict.row.title} / {verdict.peer}")
        parts += [
            f'<text x="{_LABEL_WIDTH - 6}" y="{y + 11}" text-anchor="end" fill="#222222">{label}</text>',
            f'<rect x="{start:.1f}" y="{y}" width="{end - start:.1f}" height="{_BAR_HEIGHT}" fill="{color}"/>',
            f'<path d="M{goal:.1f} {y - 1}v{_BAR_HEIGHT + 2}" stroke="#000000" stroke-width="2"/>',
            f'<text x="{max(end, goal) + 5:.1f}" y="{y + 11}" fill="#222222">{verdict.seen:.2f}</text>',
        ]
    parts.append("</g></svg>")
    return "\n".join(parts) + "\n"
