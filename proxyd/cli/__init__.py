"""The `proxyd` command."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from proxyd import __version__

_CHP_NAMES = ("configurable-http-proxy", "proxyd-chp")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", message="%(version)s")
def proxyd() -> None:
    """One proxy for data-science platforms: routes that change while it runs, over a REST API."""


@proxyd.command()
@click.option("-c", "--config", default="", metavar="FILE", help="The configuration; default: the first one found.")
def serve(config: str) -> None:
    """Run the proxy until SIGTERM or SIGINT; the same as `twistd -n proxyd --config FILE`."""
    from proxyd.cli.serve import run  # noqa: PLC0415  # loads Twisted, which the other commands do not need

    run(config)


@proxyd.command()
@click.argument("file", required=False, default="")
def check(file: str) -> None:
    """Read a configuration and report every problem in it; exit 78 if there is one."""
    from proxyd.cli.check import run  # noqa: PLC0415

    run(file)


@proxyd.command(
    "chp",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    short_help="Run as configurable-http-proxy, with its options.",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def chp_command(words: tuple[str, ...]) -> None:
    """Run as configurable-http-proxy, with its options."""
    from proxyd.cli.chp import run  # noqa: PLC0415

    run(list(words))


def main() -> None:
    """Run the command that the arguments, or the name of the program, ask for."""
    if Path(sys.argv[0]).name in _CHP_NAMES:
        chp()
    elif sys.argv[1:2] == ["chp"]:
        from proxyd.cli.chp import run  # noqa: PLC0415

        run(sys.argv[2:])
    else:
        proxyd()


def chp() -> None:
    """Run as configurable-http-proxy: the entry point `proxyd-chp`."""
    from proxyd.cli.chp import run  # noqa: PLC0415

    run(sys.argv[1:])
