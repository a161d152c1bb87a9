"""`proxyd chp`: runs as configurable-http-proxy, in the process that was started, until a signal ends it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

import click

from proxyd import __version__
from proxyd.compat.chp import ChpOptions, ChpSetup, ChpUsageError, set_up


@click.command(
    "configurable-http-proxy",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="The token of the REST API comes from $CONFIGPROXY_AUTH_TOKEN.",
)
@click.version_option(__version__, "-V", "--version", message="%(version)s")
@click.option("--ip", metavar="ADDR", help="Public address; default: all interfaces.")
@click.option("--port", type=int, metavar="N", help="Public port.  [8000]")
@click.option("--api-ip", metavar="ADDR", help="Address of the REST API.  [localhost]")
@click.option("--api-port", type=int, metavar="N", help="Port of the REST API.  [public port + 1]")
@click.option("--default-target", metavar="URL", help="Target of the route / at the start.")
@click.option("--error-target", metavar="URL", help="Server that is asked for error pages.")
@click.option("--error-path", metavar="DIR", help="Directory of error pages.")
@click.option("--host-routing", is_flag=True, help="The first segment of a route is its host.")
@click.option("--no-include-prefix", "include_prefix", flag_value=False, default=True, help="Strip the route's prefix.")
@click.option("--no-prepend-path", "prepend_path", flag_value=False, default=True, help="Ignore the target's path.")
@click.option("--no-x-forward", "x_forward", flag_value=False, default=True, help="Leave X-Forwarded-* alone.")
@click.option("--change-origin", is_flag=True, help="Send the target's own Host.")
@click.option("--auto-rewrite", is_flag=True, help="Rewrite host and port of redirects.")
@click.option("--protocol-rewrite", metavar="PROTO", help="Rewrite the scheme of redirects.")
@click.option("--custom-header", multiple=True, metavar="'NAME: VALUE'", help="Add a field to requests; repeatable.")
@click.option("--timeout", type=int, metavar="MS", help="Drop a client that is silent for so long.")
@click.option("--proxy-timeout", type=int, metavar="MS", help="Give up a target that is silent for so long.")
@click.option("--keep-alive-timeout", type=int, metavar="MS", help="Close an idle client's connection.  [5000]")
@click.option("--storage-backend", metavar="NAME", help="Keep routes in this class, package.module:Class.  [in memory]")
@click.option("--pid-file", metavar="FILE", help="Write the process id there.")
@click.option("--log-level", default="info", metavar="LEVEL", help="debug, info, warn or error.  [info]")
def command(**given: Any) -> ChpOptions:
    """Route HTTP and WebSockets by a table that a REST API changes."""
    return ChpOptions(**given)


def run(words: list[str]) -> NoReturn:
    """Run with the given arguments; raises `SystemExit`."""
    serve(read(words, os.environ))


def read(words: list[str], environ: Mapping[str, str]) -> ChpSetup:
    """What the arguments and the environment come down to.

    Raises `SystemExit`: every misuse is status 1 and one line; after `--help` and `--version` it is status 0.
    """
    try:
        options = command.main(words, prog_name="proxyd chp", standalone_mode=False)
        if not isinstance(options, ChpOptions):  # the status of --help and --version
            sys.exit(options)
        return set_up(options, environ)
    except click.ClickException as error:
        fail(error.format_message())
    except ChpUsageError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """Print one line and end with status 1."""
    sys.stderr.write(f"proxyd chp: {message}\n".replace("\n", " ").strip() + "\n")
    sys.exit(1)


def serve(setup: ChpSetup) -> NoReturn:
    """Run the proxy until SIGTERM or SIGINT, then end at once, with status 2."""
    from twisted.internet import reactor as installed  # noqa: PLC0415, TID251
    from twisted.logger import Logger, globalLogBeginner  # noqa: PLC0415

    from proxyd.builtins import KINDS  # noqa: PLC0415
    from proxyd.errors import ListenError, StoreError  # noqa: PLC0415
    from proxyd.service import ProxyService  # noqa: PLC0415

    reactor: Any = installed
    log = Logger(namespace="proxyd")
    service = ProxyService(setup.config, KINDS, reactor, initial_routes=setup.routes)
    globalLogBeginner.beginLoggingTo([service.observer()], redirectStandardIO=False)
    for note in setup.notes:
        log.info("{note}", note=note)
    for warning in setup.warnings:
        log.warn("{warning}", warning=warning)
    try:
        service.open()
    except (ListenError, StoreError, OSError) as error:
        service.close()
        fail(str(error))

    def end(word: str) -> None:
        log.warn("{word}", word=word)
        service.close()
        reactor.stop()

    for number, word in ((signal.SIGTERM, "Terminated"), (signal.SIGINT, "Interrupted")):
        signal.signal(number, lambda *_, word=word: reactor.callFromThread(end, word))
    reactor.run(installSignalHandlers=False)
    sys.exit(2)
