"""`proxyd servers`: the managed servers of a running proxyd, over its API."""

from __future__ import annotations

from typing import Any

import click

from proxyd.cli.routes import api_client, config_option

_name = click.argument("name")


@click.group(invoke_without_command=True)
@config_option
@click.pass_context
def servers(context: click.Context, config: str) -> None:
    """Show, start and stop the managed servers of a running proxyd; alone: list them."""
    if context.invoked_subcommand is None:
        _list(config)


@servers.command("list")
@config_option
def list_command(config: str) -> None:
    """Print all servers, one in a line: name, state, path."""
    _list(config)


@servers.command("show")
@config_option
@_name
def show_command(config: str, name: str) -> None:
    """Print how the server NAME is, as JSON."""
    import json  # noqa: PLC0415  # each command loads what it needs

    with api_client(config) as client:
        click.echo(json.dumps(client.server(name), indent=2, ensure_ascii=False))


@servers.command("start")
@config_option
@_name
def start_command(config: str, name: str) -> None:
    """Start the server NAME, and wait until it is ready."""
    _rule(config, name, "start")


@servers.command("stop")
@config_option
@_name
def stop_command(config: str, name: str) -> None:
    """Stop the server NAME, whoever uses it, and wait until it is gone; the next request starts it again."""
    _rule(config, name, "stop")


@servers.command("restart")
@config_option
@_name
def restart_command(config: str, name: str) -> None:
    """Stop the server NAME, start it, and wait until it is ready."""
    _rule(config, name, "restart")


@servers.command("log")
@config_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what it prints from now on.")
@click.option("-n", "--lines", default=100, type=click.IntRange(1, 2000), help="How many lines; default: 100.")
@_name
def log_command(config: str, name: str, *, follow: bool, lines: int) -> None:
    """Print the last lines that the server NAME has printed."""
    with api_client(config) as client:
        if not follow:
            click.echo(client.log(name, lines), nl=False)
            return
        for line in client.follow_log(name, lines):
            click.echo(line)


def _list(config: str) -> None:
    with api_client(config) as client:
        found = client.servers()
    for name, server in found.items():
        click.echo(f"{name} {_state(server)} {server['path']}")


def _rule(config: str, name: str, verb: str) -> None:
    with api_client(config) as client:
        click.echo(f"{name} {_state(client.rule(name, verb))}")


def _state(server: Any) -> str:
    return server["state"] or "unmanaged"
