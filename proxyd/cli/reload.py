"""`proxyd reload`: asks the API of the proxy that runs, or sends it SIGHUP when that cannot be done."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path

import click

from proxyd.api.tokens import known_token, state_directory
from proxyd.builtins import KINDS
from proxyd.cli.connection import connect, words_of
from proxyd.config.startup import EX_CONFIG, load_or_exit
from proxyd.core.reload import Report
from proxyd.errors import ProxydError, TlsError
from proxyd.model.settings import Config

# 100,000 routes take 20 seconds to be read.
_ANSWER_SECONDS = 300.0


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
        connection = connect(api, _ANSWER_SECONDS)
        connection.request("POST", "/api/reload", headers={"Host": "localhost", "Content-Length": "0", **fields})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
    except (OSError, HTTPException, TlsError) as error:
        raise UnreachableError(f"the API cannot be reached: {words_of(error, api)}") from None
    if answer.status not in (200, 422):
        raise UnreachableError(f"the API answers {answer.status} {answer.reason}")
    try:
        return Report.from_json(body)
    except (ValueError, TypeError, KeyError):
        raise UnreachableError("the API answers something else than a report") from None


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
