"""`proxyd wrap`: runs one application in place of jupyterhub-singleuser, until a signal ends it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import attrs
import click

from proxyd import __version__
from proxyd.compat.native import STANDALONE, WrapOptions, WrapSetup, WrapUsageError, set_up, split_foreign
from proxyd.compat.standalone import (
    SECTION,
    Sections,
    Traits,
    describe,
    find_config,
    read_files,
    sample,
    split_traits,
    trait_of,
    traits_of,
)
from proxyd.config.definitions import IMPORTED_SECONDS
from proxyd.errors import ConfigError

_EPILOG = """\
In the words of the command, {port}, {unix_socket}, {base_url}, {presentation_path}, {presentation_dirname},
{presentation_basename}, {origin_host}, {username} and {servername} stand for their values, {-} and {--} for dashes;
a brace that is meant is doubled."""


@attrs.define
class _Files:
    """What is said elsewhere than in options.

    `typed` are traits among the words, `found` the files to read, `base` other defaults of options than our own;
    `reads` is false if none is wanted. The rest is what came of them.
    """

    typed: Sections
    found: list[Path]
    base: Mapping[str, Any]
    reads: bool
    named: str = ""
    read: Sections = attrs.Factory(dict)
    traits: Traits = Traits()


def _read_traits(context: click.Context, _: click.Parameter, file: str) -> None:
    """Take what files and traits say for the defaults of the options; comes before all of them."""
    files: _Files = context.obj
    if file:
        files.named, files.found = file, [Path(file)]
    if files.reads:
        files.read = read_files(files.found)
        files.traits = traits_of(files.read, files.typed)
    context.default_map = {**files.base, **files.traits.options}


@click.command(
    "wrap",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
@click.version_option(__version__, "-V", "--version", message="%(version)s")
@click.option("--port", type=int, metavar="N", help="Port to listen on.  [that of $JUPYTERHUB_SERVICE_URL, or 8888]")
@click.option(
    "--ip", "--address", "ip", metavar="ADDR", help='Address to listen on; "", 0.0.0.0 or * for all.  [see above]'
)
@click.option("--base-url", metavar="PATH", help="Path that is served.  [$JUPYTERHUB_SERVICE_PREFIX, or /]")
@click.option("--destport", "--server-port", "destport", type=int, default=0, metavar="N", help="Port of the command.")
@click.option(
    "--destsocket",
    "--unix-socket",
    "destsocket",
    default="",
    metavar="auto|PATH",
    help="The command listens on a unix socket; auto: one in a private directory.",
)
@click.option(
    "--presentation-path",
    "--presentation_path",
    "presentation_path",
    default="",
    metavar="PATH",
    help="For {presentation_path} and its like.",
)
@click.option(
    "--authtype",
    type=click.Choice(["oauth", "none"], case_sensitive=True),
    default="oauth",
    help="oauth: whom the Hub lets in; none: everybody.  [oauth]",
)
@click.option("--no-authentication", is_flag=True, help="The same as --authtype none.")
@click.option(
    "--request-timeout",
    type=float,
    default=300.0,
    metavar="SEC",
    help="Silence of the command before a response, or in the middle of it: else 504.  [300]",
)
@click.option(
    "--last-activity-interval",
    "--activity-interval",
    "last_activity_interval",
    type=float,
    metavar="SEC",
    help="How often the Hub is told of activity; 0: never.  [300]",
)
@click.option(
    "--force-alive/--no-force-alive",
    "force_alive",
    default=True,
    help="Tell the Hub of activity even if there was none.  [on]",
)
@click.option("--force-keep-alive", "force_alive", flag_value=True, help="The same.")
@click.option("--no-force-keep-alive", "force_alive", flag_value=False, help="The same.")
@click.option(
    "--activity-ignore",
    "--exclude-last-activity-patterns",
    "activity_ignore",
    multiple=True,
    metavar="REGEX",
    help="Requests whose path begins so are no activity; repeatable.",
)
@click.option(
    "--ready-check-path", default="/", metavar="PATH", help="Path that the command answers when it is ready.  [/]"
)
@click.option(
    "--ready-timeout",
    "--timeout",
    "ready_timeout",
    type=float,
    default=10.0,
    metavar="SEC",
    help="How long it may take to be ready.  [10]",
)
@click.option("--repo", default="", metavar="URL", help="Check out this git repository first, and run there.")
@click.option("--repobranch", default="", metavar="NAME", help="Its branch.  [the remote's own]")
@click.option("--repofolder", default="", metavar="DIR", help="Where to.  [a folder of the repository's name]")
@click.option("--conda-env", default="", metavar="NAME", help="Run the command in this environment of conda.")
@click.option(
    "--forward-user-info/--no-forward-user-info",
    default=False,
    help="Tell the command who visits, in the field X-CDSDASHBOARDS-JH-USER.",
)
@click.option(
    "--query-user-info/--no-query-user-info",
    default=False,
    help="Tell it in the argument CDSDASHBOARDS_JH_USER of the query.",
)
@click.option(
    "--websocket-max-message-size",
    type=int,
    default=0,
    metavar="BYTES",
    help="The largest message of either side; 0: any.",
)
@click.option("--environment", multiple=True, metavar="NAME=VALUE", help="A variable for the command; repeatable.")
@click.option("--mappath", multiple=True, metavar="PATH=PATH", help="A path that is another one there; repeatable.")
@click.option(
    "--request-headers-override", multiple=True, metavar="NAME=VALUE", help="A field of all requests; repeatable."
)
@click.option(
    "--drop-header", multiple=True, metavar="NAME", help="A field of requests that it does not get; repeatable."
)
@click.option(
    "--frame-ancestors",
    type=click.Choice(["any", "self", "none"]),
    default="any",
    help="What pages may have its pages in a frame of theirs.  [any]",
)
@click.option("--absolute-url", is_flag=True, help="The command sees the whole path, with the prefix.")
@click.option("--raw-socket-proxy", is_flag=True, help="WebSockets lead to a bare stream of the command.")
@click.option("--rewrite-location", is_flag=True, help="Put the prefix in front of redirects to a path without it.")
@click.option("--pass-hub-token", is_flag=True, help="Leave the Hub's token in the environment of the command.")
@click.option("--exit-with-app", is_flag=True, help="End with the command, and with its status.")
@click.option("--use-default-url", is_flag=True, help="Redirect the prefix itself to $JUPYTERHUB_DEFAULT_URL.")
@click.option(
    "--generate-config",
    is_flag=True,
    help="Write a file for --config, with every trait, to where --config says, and end.",
)
@click.option(
    "--config",
    default="",
    metavar="FILE",
    is_eager=True,
    expose_value=False,
    callback=_read_traits,
    help="Read what a file for jupyter standaloneproxy sets on c.StandaloneProxyServer; options win.",
)
@click.option("--show-config", is_flag=True, help="Print what was configured, and where, and end.")
@click.option("--show-config-json", is_flag=True, help="The same as JSON.")
@click.option("--debug/--no-debug", default=False, help="Log more.")
@click.option("--logs/--no-logs", default=True, help="Log what the command prints, and each request.  [on]")
@click.option("--log-level", default="", metavar="LEVEL", help="debug, info, warn or error.  [info]")
@click.option(
    "--progressive/--no-progressive",
    default=False,
    expose_value=False,
    help="Has no effect: responses are always passed on.",
)
@click.option("--allow-root/--no-allow-root", default=True, expose_value=False, help="Has no effect.")
@click.option(
    "--NotebookApp.allow_origin/--no-NotebookApp.allow_origin",
    "allow_origin",
    default=True,
    expose_value=False,
    help="Has no effect.",
)
@click.option(
    "--aiohttp-no-ssl-connector", is_flag=True, expose_value=False, help="Has no effect: nothing is asked over TLS."
)
@click.option("--aiohttp-request-timeout", type=float, metavar="SEC", expose_value=False, help="Has no effect.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(
    context: click.Context,
    /,
    no_authentication: bool,
    generate_config: bool,
    show_config: bool,
    show_config_json: bool,
    **given: Any,
) -> WrapOptions:
    """Run COMMAND, and let those use it whom a JupyterHub lets in.

    It takes the place of jupyterhub-singleuser: c.Spawner.cmd = ["proxyd", "wrap", "--", "COMMAND", "WORD", ...].
    The options are those of jhsingle-native-proxy and of jupyter standaloneproxy.
    """
    files: _Files = context.obj
    if generate_config:
        _write_sample(files.named)
    if show_config or show_config_json:
        said = {trait_of(name): value for name, value in given.items() if _is_typed(context, name)}
        sys.stdout.write(describe(files.found, files.read, files.typed, {SECTION: said}, as_json=show_config_json))
        context.exit(0)
    if no_authentication:
        given["authtype"] = "none"
    given["command"] = given["command"] or files.traits.command
    return WrapOptions(**given, traits=files.traits)


def _is_typed(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _write_sample(file: str) -> NoReturn:
    """Write a file with nothing but comments; never over another one."""
    path, text = sample(os.environ, file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as written:
            written.write(text)
    except OSError as error:
        sys.stderr.write(f"proxyd wrap: {path} cannot be written: {error.strerror}\n")
        sys.exit(1)
    sys.stdout.write(f"{path} is written\n")
    sys.exit(0)


def run(words: list[str], name: str = "proxyd wrap") -> NoReturn:
    """Run with the given arguments, for a program called `name`; raises `SystemExit`."""
    serve(read(words, os.environ, os.getcwd(), name))


def read(words: list[str], environ: Mapping[str, str], cwd: str, name: str = "proxyd wrap") -> WrapSetup:
    """What the arguments, files and the environment come down to.

    As `jupyter-standaloneproxy`, it has a few other defaults, and files that are read unasked. Raises `SystemExit`:
    every misuse is status 2, and a file that cannot be used 78; after `--help` and its like it is status 0.
    """
    words, typed = split_traits(words)
    words, foreign = split_foreign(words)
    is_jupyter = name == STANDALONE
    base = {"ready_timeout": IMPORTED_SECONDS, "rewrite_location": True} if is_jupyter else {}
    is_sample = "--generate-config" in words[: words.index("--") if "--" in words else None]
    files = _Files(typed, find_config(environ) if is_jupyter else [], base, not is_sample)
    try:
        options = command.main(words, prog_name=name, standalone_mode=False, obj=files)
        if not isinstance(options, WrapOptions):  # the status of --help and its like
            sys.exit(options)
        return set_up(options, environ, cwd, [*foreign, *(f"--{trait}" for trait in files.traits.ignored)])
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except WrapUsageError as error:
        sys.stderr.write(f"{name}: {error}\n")
        sys.exit(2)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(78)


def serve(setup: WrapSetup) -> NoReturn:
    """Run the application and its proxy until SIGTERM or SIGINT, then end with status 0."""
    from twisted.internet import reactor as installed  # noqa: PLC0415, TID251
    from twisted.logger import Logger, globalLogBeginner  # noqa: PLC0415

    from proxyd.builtins import KINDS  # noqa: PLC0415
    from proxyd.errors import ListenError, StoreError, TlsError  # noqa: PLC0415
    from proxyd.wrapping import WrapService  # noqa: PLC0415

    reactor: Any = installed
    log = Logger(namespace="proxyd")
    service = WrapService(setup, KINDS, reactor)
    globalLogBeginner.beginLoggingTo([service.observer()], redirectStandardIO=False)
    for line in setup.prints:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
    for warning in setup.warnings:
        log.warn("{warning}", warning=warning)
    try:
        service.open()
    except (ListenError, StoreError, TlsError, OSError) as error:
        service.close()
        sys.stderr.write(f"proxyd wrap: {error}\n")
        sys.exit(1)

    def answer_signals() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: reactor.callFromThread(service.end))

    # The reactor has to install its own, for SIGCHLD: else the end of a process that has closed its output is missed.
    reactor.callWhenRunning(answer_signals)
    reactor.run()
    sys.exit(service.status)
