"""The documents of the project, and what stands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import attrs

from tests.support import CHECKOUT

DOCUMENTS = sorted([*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md"), *(CHECKOUT / "bench").glob("*.md")])
GENERATED = CHECKOUT / "docs" / "config.md"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"(?:# |<!-- )([\w./-]+\.\w+)(?: -->)?\n")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


@attrs.frozen
class Block:
    """A fenced block: where it is, in which language, and its text.

    `file` is the name in the comment that it begins with, as in `# proxyd.yaml`; empty if there is none.
    """

    place: str
    language: str
    text: str

    @property
    def file(self) -> str:
        """The name of the file that the block shows."""
        match = _FILE.match(self.text)
        return match[1] if match else ""


def name_of(document: Path) -> str:
    """The path of a document in the checkout."""
    return str(document.relative_to(CHECKOUT))


def blocks_of(document: Path) -> Iterator[Block]:
    """The fenced blocks of a document, in order."""
    text = document.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Block(f"{name_of(document)}:{line}", match[1], match[2])


def prose_of(document: Path) -> str:
    """A document without its fenced blocks."""
    return _FENCE.sub("", document.read_text(encoding="utf-8"))


def links_of(document: Path) -> list[str]:
    """The targets of the links in a document."""
    return _LINK.findall(prose_of(document))


def anchors_of(document: Path) -> set[str]:
    """The names by which the headings of a document can be linked to, as GitHub makes them."""
    headings = _HEADING.findall(prose_of(document))
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
