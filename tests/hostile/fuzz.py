"""Fuzz the readers of heads and chunks, guided by coverage: `python -m tests.hostile.fuzz request -max_total_time=300`.

The first word is `request`, `response` or `chunks`; the rest are options of libFuzzer. It needs `pip install atheris`,
which the tests do without: what it finds becomes a line of `test_parsers`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["proxyd.core"]):
    from tests.hostile.parsers import CHECKS

from tests.hostile.cases import Case
from tests.hostile.families import ANSWERS, REQUESTS


def examples(what: str) -> list[bytes]:
    """What the cases send, to begin with."""
    cases: list[Case] = [case for family in (ANSWERS if what == "response" else REQUESTS) for case in family]
    steps = [step for case in cases for step in (case.script if what == "response" else case.sends)]
    sent = [step for step in steps if isinstance(step, bytes) and len(step) < 500]
    return [data.partition(b"\r\n\r\n")[2] for data in sent] if what == "chunks" else sent


def main() -> None:
    """Run until something is found, or the time is over."""
    what = sys.argv[1]
    with tempfile.TemporaryDirectory(prefix="proxyd-fuzz-") as corpus:
        for number, data in enumerate(examples(what)):
            (Path(corpus) / str(number)).write_bytes(data)
        atheris.Setup([sys.argv[0], *sys.argv[2:], corpus], CHECKS[what])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
