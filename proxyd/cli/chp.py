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
@click.option("--socket", metavar="PATH", help="Public unix socket, instead of address and port.")
@click.option("--api-ip", metavar="ADDR", help="Address of the REST API.  [localhost]")
@click.option("--api-port", type=int, metavar="N", help="Port of the REST API.  [public port + 1]")
@click.option("--api-socket", metavar="PATH", help="Unix socket of the REST API, instead of address and port.")
@click.option("--ssl-key", metavar="FILE", help="Key of the public side; makes it HTTPS.")
@click.option("--ssl-cert", metavar="FILE", help="Certificate of the public side, with its chain; makes it HTTPS.")
@click.option("--ssl-ca", metavar="FILE", help="Authorities of client certificates.")
@click.option("--ssl-request-cert", is_flag=True, help="Demand a certificate of every client.")
@click.option("--ssl-reject-unauthorized", is_flag=True, help="Goes without saying with --ssl-request-cert.")
@click.option("--ssl-protocol", metavar="NAME", help="TLSv1_2, TLSv1_3 or TLS; of the public side and the REST API.")
@click.option("--ssl-ciphers", metavar="LIST", help="OpenSSL's list; of the public side and the REST API.")
@click.option("--ssl-allow-rc4", is_flag=True, help="Has no effect: no OpenSSL of today has it.")
@click.option("--ssl-dhparam", metavar="FILE", help="Diffie-Hellman parameters; of the public side and the REST API.")
@click.option("--api-ssl-key", metavar="FILE", help="Key of the REST API; makes it HTTPS.")
@click.option("--api-ssl-cert", metavar="FILE", help="Certificate of the REST API; makes it HTTPS.")
@click.option("--api-ssl-ca", metavar="FILE", help="Authorities of client certificates for the REST API.")
@click.option("--api-ssl-request-cert", is_flag=True, help="Demand a certificate of every client of the REST API.")
@click.option("--api-ssl-reject-unauthorized", is_flag=True, help="Goes without saying with --api-ssl-request-cert.")
@click.option("--client-ssl-key", metavar="FILE", help="Key to show to https targets.")
@click.option("--client-ssl-cert", metavar="FILE", help="Certificate to show to https targets.")
@click.option("--client-ssl-ca", metavar="FILE", help="Authorities of https targets.  [those of the system]")
@click.option("--client-ssl-request-cert", is_flag=True, help="Has no effect: https targets are always verified.")
@click.option("--client-ssl-reject-unauthorized", is_flag=True, help="Has no effect: they are always verified.")
@click.option("--insecure", is_flag=True, help="Do not verify the certificates of https targets.")
@click.option("--redirect-port", type=int, metavar="N", help="Port that redirects HTTP to HTTPS.")
@click.option("--redirect-to", type=int, metavar="N", help="Port that it redirects to.  [public port]")
@click.option("--metrics-ip", metavar="ADDR", help="Address of the metrics; default: all interfaces.")
@click.option("--metrics-port", type=int, metavar="N", help="Port of the metrics; without one there are none.")
@click.option("--metrics-socket", metavar="PATH", help="Unix socket of the metrics instead.")
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
    from proxyd.errors import ListenError, StoreError, TlsError  # noqa: PLC0415
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
    except (ListenError, StoreError, TlsError, OSError) as error:
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
