"""The `proxyd` command."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from proxyd import __version__
from proxyd.cli.routes import routes
from proxyd.cli.servers import servers
from proxyd.garbage import start_without_looking
from proxyd.system.signals import ignore_requests
from proxyd.system.streams import open_missing_streams

_CHP_NAMES = ("configurable-http-proxy", "proxyd-chp")
_WRAP_NAMES = ("jhsingle-native-proxy", "jupyter-standaloneproxy", "proxyd-wrap")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", message="%(version)s")
def proxyd() -> None:
    """One proxy for data-science platforms: routes that change while it runs, over a REST API."""


@proxyd.command("serve")
@click.option("-c", "--config", default="", metavar="FILE", help="The configuration; default: the first one found.")
def serve_command(config: str) -> None:
    """Run the proxy until SIGTERM or SIGINT; the same as `twistd -n proxyd --config FILE`."""
    from proxyd.cli.serve import run  # noqa: PLC0415  # loads Twisted, which the other commands do not need

    run(config)


@proxyd.command("check")
@click.argument("file", required=False, default="")
def check_command(file: str) -> None:
    """Read a configuration and report every problem in it; exit 78 if there is one."""
    from proxyd.cli.check import run  # noqa: PLC0415

    run(file)


@proxyd.command("reload")
@click.option("-c", "--config", default="", metavar="FILE", help="The configuration; default: the first one found.")
def reload_command(config: str) -> None:
    """Have the proxy that runs with this configuration read it again; exit 78 if there is a problem in it."""
    from proxyd.cli.reload import run  # noqa: PLC0415

    run(config)


@proxyd.command("docs", hidden=True)
@click.argument("directory", default=".")
def docs_command(directory: str) -> None:
    """Write what is made from the declarations of the options: schema, sample and manual."""
    from proxyd.cli.docs import run  # noqa: PLC0415

    run(Path(directory))


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


@proxyd.command(
    "wrap",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
    short_help="Run one application in place of jupyterhub-singleuser.",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def wrap_command(words: tuple[str, ...]) -> None:
    """Run one application in place of jupyterhub-singleuser."""
    from proxyd.cli.wrap import run  # noqa: PLC0415

    run(list(words))


proxyd.add_command(routes)
proxyd.add_command(servers)


def main() -> None:
    """Run the command that the arguments, or the name of the program, ask for."""
    open_missing_streams()
    words = sys.argv[1:]
    name = Path(sys.argv[0]).name
    is_chp, is_wrap = name in _CHP_NAMES, name in _WRAP_NAMES
    if is_chp or is_wrap or words[:1] in (["serve"], ["chp"], ["wrap"]):
        start_without_looking()
        ignore_requests()
    if is_chp or words[:1] == ["chp"]:
        from proxyd.cli.chp import run  # noqa: PLC0415

        run(words if is_chp else words[1:])
    elif is_wrap or words[:1] == ["wrap"]:
        from proxyd.cli.wrap import run as run_wrap  # noqa: PLC0415

        run_wrap(words if is_wrap else words[1:], name if is_wrap else "proxyd wrap")
    else:
        proxyd()
