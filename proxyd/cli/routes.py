"""`proxyd routes`: what a running proxyd routes, over its API, and copies of the file that keeps it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from proxyd.cli.client import ApiClient

config_option = click.option(
    "-c", "--config", default="", metavar="FILE", help="The configuration; default: the first one found."
)


@click.group()
def routes() -> None:
    """Show and change the routes of a running proxyd; back up and restore their store."""


@routes.command("list")
@config_option
def list_command(config: str) -> None:
    """Print all routes, one in a line: key and target."""
    with api_client(config) as client:
        found = client.all()
    for key in sorted(found):
        click.echo(f"{key} {found[key]['target']}")


@routes.command("get")
@config_option
@click.argument("key")
def get_command(config: str, key: str) -> None:
    """Print the route KEY as JSON."""
    import json  # noqa: PLC0415  # each command loads what it needs

    with api_client(config) as client:
        click.echo(json.dumps(client.get(key), indent=2, ensure_ascii=False))


@routes.command("add")
@config_option
@click.argument("key")
@click.argument("target")
@click.option("-o", "--option", "options", multiple=True, metavar="NAME=JSON", help="An option; repeatable.")
def add_command(config: str, key: str, target: str, options: tuple[str, ...]) -> None:
    """Lead KEY, such as /app, to TARGET, such as http://127.0.0.1:9000; replaces a route that is there."""
    import json  # noqa: PLC0415

    members: dict[str, object] = {}
    for option in options:
        name, _, text = option.partition("=")
        try:
            members[name] = json.loads(text)
        except ValueError:
            members[name] = text
    with api_client(config) as client:
        client.add(key, {**members, "target": target})


@routes.command("delete")
@config_option
@click.argument("key")
def delete_command(config: str, key: str) -> None:
    """Delete the route KEY; requests that are under way go on."""
    with api_client(config) as client:
        client.delete(key)


@routes.command("backup")
@config_option
@click.argument("file", type=click.Path(path_type=Path))
def backup_command(config: str, file: Path) -> None:
    """Copy the SQLite store to FILE, also while proxyd runs; never overwrites anything."""
    from proxyd.errors import StoreError  # noqa: PLC0415
    from proxyd.stores.backup import back_up  # noqa: PLC0415

    try:
        count = back_up(_store(config), file)
    except StoreError as error:
        fail(str(error))
    click.echo(f"{file}: {count} routes")


@routes.command("restore")
@config_option
@click.argument("file", type=click.Path(path_type=Path))
def restore_command(config: str, file: Path) -> None:
    """Put a copy of FILE in the place of the SQLite store, while proxyd does not run; the former one is kept."""
    from proxyd.errors import StoreError  # noqa: PLC0415
    from proxyd.stores.backup import restore  # noqa: PLC0415

    path = _store(config)
    try:
        count, former = restore(path, file)
    except StoreError as error:
        fail(str(error))
    if former is not None:
        click.echo(f"the former store is {former}")
    click.echo(f"{path}: {count} routes")


def _store(config: str) -> Path:
    """Where the store of the configuration is."""
    import os  # noqa: PLC0415

    from proxyd.api.tokens import state_directory  # noqa: PLC0415
    from proxyd.builtins import KINDS  # noqa: PLC0415
    from proxyd.config.startup import load_or_exit  # noqa: PLC0415
    from proxyd.stores.sqlite import SqliteStoreConfig, path_of  # noqa: PLC0415

    _, loaded = load_or_exit(config, KINDS)
    if not isinstance(loaded.store, SqliteStoreConfig):
        fail("the configuration has no SQLite store")
    return path_of(loaded.store, state_directory(loaded.state_directory, os.environ))


@contextmanager
def api_client(config: str) -> Iterator[ApiClient]:
    """Who asks the API of the configuration; what goes wrong in the block ends the command."""
    from proxyd.cli.client import ApiClient, ApiClientError  # noqa: PLC0415

    try:
        yield ApiClient.from_config(config)
    except ApiClientError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """End the command with a message, and status 1."""
    sys.stderr.write(f"proxyd: {message}\n")
    raise SystemExit(1)
