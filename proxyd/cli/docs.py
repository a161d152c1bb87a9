"""`proxyd docs`: the files of a checkout that are made from the declarations of the options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import click

from proxyd.builtins import KINDS
from proxyd.config.reference import make_reference
from proxyd.config.sample import make_sample
from proxyd.config.schema import make_schema
from proxyd.core.lifecycle import draw

_LIFECYCLE = """\
# The life of a managed server

<!-- Made by `proxyd docs` from proxyd/core/lifecycle.py; a change here is lost. -->

What each instance of a server goes through. In front of a slash is what happens, behind it is what is done then.
[Managed servers](managed-servers.md) tells what the states mean.

```mermaid
{drawing}```
"""


def generated() -> Mapping[str, str]:
    """The text of each file, by its path in a checkout."""
    return {
        "etc/proxyd.schema.json": json.dumps(make_schema(KINDS), indent=2, ensure_ascii=False) + "\n",
        "etc/proxyd.yaml": make_sample(KINDS),
        "docs/config.md": make_reference(KINDS),
        "docs/server-lifecycle.md": _LIFECYCLE.format(drawing=draw()),
    }


def run(directory: Path) -> None:
    """Write them all into the checkout at `directory`."""
    for name, text in generated().items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        click.echo(path)
