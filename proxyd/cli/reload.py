"""`proxyd reload`: asks the API of the proxy that runs, or sends it SIGHUP when that cannot be done."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import click

from proxyd.api.tokens import known_token, state_directory
from proxyd.builtins import KINDS
from proxyd.config.startup import EX_CONFIG, load_or_exit
from proxyd.core.reload import Report
from proxyd.errors import ProxydError, TlsError
from proxyd.model.settings import ApiSettings, Config
from proxyd.model.tls import ServerTlsSettings
from proxyd.net.certificates import ServerTls

# 100,000 routes take 20 seconds to be read.
_ANSWER_SECONDS = 300.0
_CONNECT_SECONDS = 10.0
_LOOPBACK = {"": "127.0.0.1", "*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}


class UnreachableError(ProxydError):
    """Nobody can be asked, for the reason in the message."""


def run(path: str, environ: Mapping[str, str] = os.environ) -> None:
    """Reload the proxy that runs with the file at `path`, or with the one that would be found.

    Raises `SystemExit` 78 if the file cannot be used, and 1 if no proxy can be told.
    """
    _, config = load_or_exit(path, KINDS, environ)
    try:
        report = ask(config, environ)
    except UnreachableError as error:
        signal_instead(config, str(error))
        return
    for problem in report.problems:
        click.echo(str(problem), err=True)
    if not report.is_good:
        sys.exit(EX_CONFIG)
    if report.applied:
        click.echo(f"applied: {', '.join(report.applied)}")
    if report.needs_restart:
        click.echo(f"changed, but needs a restart: {', '.join(report.needs_restart)}")
    if not report.applied and not report.needs_restart:
        click.echo("the configuration says the same as before")


def ask(config: Config, environ: Mapping[str, str]) -> Report:
    """The report of the API.

    Raises `UnreachableError`.
    """
    api = config.api
    if api is None:
        raise UnreachableError("the API is off")
    token = known_token(api, state_directory(config.state_directory, environ), environ)
    fields = {"Authorization": f"token {token}"} if token else {}
    try:
        connection = connect(api)
        connection.request("POST", "/api/reload", headers={"Host": "localhost", "Content-Length": "0", **fields})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
    except (OSError, HTTPException, TlsError) as error:
        raise UnreachableError(f"the API cannot be reached: {error}") from None
    if answer.status not in (200, 422):
        raise UnreachableError(f"the API answers {answer.status} {answer.reason}")
    try:
        return Report.from_json(body)
    except (ValueError, TypeError, KeyError):
        raise UnreachableError("the API answers something else than a report") from None


def connect(api: ApiSettings) -> HTTPConnection:
    """A connection to the API, over TLS with nobody but the owner of one of its certificates.

    Raises `OSError` and `TlsError`.
    """
    address = _LOOPBACK.get(api.address, api.address)
    connection = HTTPConnection(address, api.port)
    if api.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(_CONNECT_SECONDS)
        sock.connect(api.socket)
    else:
        sock = socket.create_connection((address, api.port), _CONNECT_SECONDS)
    connection.sock = secured(sock, api.tls) if api.tls is not None else sock
    connection.sock.settimeout(_ANSWER_SECONDS)
    return connection


def secured(sock: socket.socket, tls: ServerTlsSettings) -> ssl.SSLSocket:
    """TLS with the owner of one of the certificates of `tls`.

    They are in our hands, and compared as a whole: whom they are for, and who has issued them, tells nothing more.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    secure = context.wrap_socket(sock)
    if secure.getpeercert(binary_form=True) not in ServerTls(tls).leaves():
        secure.close()
        raise TlsError("the API", "shows another certificate than the configuration has")
    return secure


def signal_instead(config: Config, reason: str) -> None:
    """Send SIGHUP to the process of the pid file; its log has the answer.

    Raises `SystemExit` 1 if there is none.
    """
    try:
        pid = process_in(config.pid_file)
        os.kill(pid, signal.SIGHUP)
    except (OSError, UnreachableError) as error:
        click.echo(f"proxyd: nothing was reloaded: {reason}; {error}", err=True)
        sys.exit(1)
    click.echo(f"{reason}; SIGHUP was sent to process {pid}, and its log tells what came of it")


def process_in(pid_file: str) -> int:
    """The number of the process of proxyd that a pid file has.

    Raises `OSError` and `UnreachableError`.
    """
    if not pid_file:
        raise UnreachableError("there is no pid_file")
    text = Path(pid_file).read_text().strip()
    if not text.isascii() or not text.isdigit():
        raise UnreachableError(f"there is no number in {pid_file}")
    # Elsewhere, SIGHUP ends a process: it has to be one of ours, and not one that got the number since.
    if b"proxyd" not in Path(f"/proc/{text}/cmdline").read_bytes():
        raise UnreachableError(f"process {text} of {pid_file} is not proxyd")
    return int(text)
