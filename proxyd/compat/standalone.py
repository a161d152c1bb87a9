"""The traits of `jupyter standaloneproxy`, in a file of Python or JSON or on the command line, as options of ours.

They are set on `c.StandaloneProxyServer`, on the class that it inherits from, or are those of every program of Jupyter.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from pprint import pformat
from typing import Any

import attrs

from proxyd.compat.jupyter_config import config_directories, files_called, own_directory, read_sections
from proxyd.config.definitions import read_definition
from proxyd.errors import ConfigError, Problem
from proxyd.model.servers import ServerSpec
from proxyd.option import Function

SECTION = "StandaloneProxyServer"
SECTIONS = ("Application", "JupyterApp", "ServerProcess", SECTION)
"""What the traits can be set on; the last one wins."""

Sections = Mapping[str, Mapping[str, Any]]

_FILE_NAME = "jupyter_standalone_proxy_config"
_NUMBER, _TEXT, _SWITCH, _LEVEL = "a number", "a text", "True or False", "a name or a number"


@attrs.frozen
class _Trait:
    """`option` is ours, `default` as it is written in a file; `kind` is what its value has to be, if we look at it."""

    name: str
    option: str
    default: str
    help: str
    kind: str = ""


_TRAITS = (
    _Trait("address", "ip", "''", "Address to listen on; default: what the Hub says, else 127.0.0.1.", _TEXT),
    _Trait("port", "port", "0", "Port to listen on; default: what the Hub says, else 8888.", _NUMBER),
    _Trait("base_url", "base_url", "''", "Path that is served; default: what the Hub says, else /.", _TEXT),
    _Trait("command", "command", "[]", "The command, if none is given behind --."),
    _Trait("server_port", "destport", "0", "Port of the command; 0: a free one.", _NUMBER),
    _Trait("unix_socket", "destsocket", "None", "True: the command listens on a unix socket; or the path of one."),
    _Trait("timeout", "ready_timeout", "10", "Seconds that the command has to become ready."),
    _Trait("environment", "", "{}", "Variables for the command, or a function that returns them."),
    _Trait("mappath", "", "{}", "Paths that are others there, or a function of the path."),
    _Trait("request_headers_override", "", "{}", "Fields of all requests, or a function that returns them."),
    _Trait("rewrite_response", "", "()", "Functions that change responses."),
    _Trait("update_last_activity", "", "True", "Whether requests count as activity, or a function that decides."),
    _Trait("exclude_last_activity_patterns", "activity_ignore", "[]", "Requests whose path begins so do not count."),
    _Trait("absolute_url", "absolute_url", "False", "The command sees the whole path, with the prefix."),
    _Trait("raw_socket_proxy", "raw_socket_proxy", "False", "WebSockets lead to a bare stream of the command."),
    _Trait("progressive", "", "None", "False: functions see a response as a whole."),
    _Trait("no_authentication", "no_authentication", "False", "Ask nobody for a login.", _SWITCH),
    _Trait("activity_interval", "last_activity_interval", "300", "How often the Hub is told; 0: never.", _NUMBER),
    _Trait(
        "websocket_max_message_size", "websocket_max_message_size", "None", "Bytes of a message; None: any.", _NUMBER
    ),
    _Trait("log_level", "log_level", "30", "DEBUG, INFO, WARN or ERROR, or its number.", _LEVEL),
)
_NAMES = {trait.name: trait for trait in _TRAITS}
_OF_THE_DEFINITION = {field.name for field in attrs.fields(ServerSpec)} & _NAMES.keys() - {"port"}
# Options without a value here, and with one there if somebody gives it.
_SWITCHES = {"--absolute-url": "absolute_url", "--raw-socket-proxy": "raw_socket_proxy"}
_TRUTHS = {"true": True, "false": False}
# One server has no card, and there is nothing to choose.
_MEANINGLESS = frozenset({"name", "launcher_entry", "new_browser_tab"})


@attrs.frozen(kw_only=True)
class Traits:
    """`options` are those of the command line that say the same, and `spec` has the values that only Python can say.

    `command` is the one of the traits, and `ignored` what means nothing here.
    """

    options: Mapping[str, Any] = attrs.Factory(dict)
    spec: ServerSpec = ServerSpec()
    command: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def split_traits(words: list[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """The words without those of the form `--StandaloneProxyServer.name=value`, and what these say.

    The value may be the next word as well, and is an expression of Python, or else text. Only words in front of `--`
    count.
    """
    end = words.index("--") if "--" in words else len(words)
    rest: list[str] = []
    found: dict[str, dict[str, Any]] = {}
    given = iter(words[:end])
    for word in given:
        name, equals, value = word.partition("=")
        section, dot, trait = name.removeprefix("--").partition(".")
        if name in _SWITCHES and equals:
            found.setdefault(SECTION, {})[_SWITCHES[name]] = _value(value)
        elif name.startswith("--") and section in SECTIONS and dot and trait:
            found.setdefault(section, {})[trait] = _value(value if equals else next(given, ""))
        else:
            rest.append(word)
    return rest + words[end:], found


def _value(text: str) -> Any:
    if text.lower() in _TRUTHS:
        return _TRUTHS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def find_config(environ: Mapping[str, str]) -> list[Path]:
    """The files that `jupyter standaloneproxy` reads by itself, the ones that win last."""
    return [file for directory in config_directories(environ) for file in files_called(_FILE_NAME, directory)]


def read_files(files: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """What the files set, by section; what comes later wins.

    Raises `ConfigError`.
    """
    return _merged(map(read_sections, files))


def _merged(given: Iterable[Sections]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for sections in given:
        for section, values in sections.items():
            found.setdefault(section, {}).update(values)
    return found


def traits_of(*given: Sections) -> Traits:
    """What the sections come down to; of those that are `given`, what comes later wins.

    As in Jupyter, what is set on a class wins over what is set on one that it inherits from, wherever. Raises
    `ConfigError` for a value that is not what a trait takes.
    """
    values: dict[str, Any] = {}
    ignored: dict[str, None] = {}
    sections = _merged(given)
    for section in sorted(sections, key=lambda name: SECTIONS.index(name) if name in SECTIONS else -1):
        for name, value in sections[section].items():
            if section in SECTIONS and name in _NAMES:
                values[name] = value
            elif section not in SECTIONS or name not in _MEANINGLESS:
                ignored[f"{section}.{name}"] = None
    values = {name: value for name, value in values.items() if value is not None}
    problems: list[Problem] = []
    spec = _read_spec({name: values[name] for name in values.keys() & _OF_THE_DEFINITION}, problems.append)
    for name in values.keys() - _OF_THE_DEFINITION:
        _check(_NAMES[name], values[name], problems.append)
    if problems:
        raise ConfigError(sorted(problems, key=lambda problem: problem.path))
    options = {_NAMES[name].option: _option_of(name, value, spec) for name, value in values.items()}
    options.pop("", None)
    words = options.pop("command", ())
    return Traits(options=options, spec=spec, command=words, ignored=tuple(ignored))


def _read_spec(definition: Mapping[str, Any], report: Callable[[Problem], None]) -> ServerSpec:
    try:
        # A command may still come, and is not asked for here.
        spec = read_definition("x", {"command": ["x"], **definition}, lambda _: None)
    except ConfigError as error:
        for problem in error.problems:
            report(Problem(problem.message, f"c.{SECTION}.{problem.path.removeprefix('servers.x.')}"))
        return ServerSpec()
    if isinstance(spec.command, Function):
        report(Problem("has to be a list of words", f"c.{SECTION}.command"))
    return spec


def _check(trait: _Trait, value: Any, report: Callable[[Problem], None]) -> None:
    types: dict[str, tuple[type, ...]] = {_NUMBER: (int, float), _TEXT: (str,), _SWITCH: (bool,), _LEVEL: (int, str)}
    is_switch = isinstance(value, bool)
    if not isinstance(value, types[trait.kind]) or is_switch != (trait.kind == _SWITCH):
        report(Problem(f"expected {trait.kind}, got {value!r}", f"c.{SECTION}.{trait.name}"))


def _option_of(name: str, value: Any, spec: ServerSpec) -> Any:
    """A value as our command line would have it."""
    match name:
        case "unix_socket":
            return "auto" if spec.unix_socket is True else spec.unix_socket or "none"
        case "exclude_last_activity_patterns":
            return list(spec.exclude_last_activity_patterns)
        case "command":
            return spec.command
        case "timeout":
            return spec.ready_seconds
        case "log_level":
            return str(value)
    return value


def describe(files: Iterable[Path], *given: Sections, as_json: bool = False) -> str:
    """What was given, and in which files; what comes later wins."""
    merged = _merged(given)
    if as_json:
        return json.dumps(merged, indent=1, sort_keys=True, default=repr) + "\n"
    lines = ["Loaded config files:", *(f"  {file}" for file in files), ""] if files else []
    for section in sorted(filter(merged.get, merged)):
        lines += [section, *(f"  .{name} = {pformat(merged[section][name])}" for name in sorted(merged[section]))]
    return "\n".join(lines or ["nothing is configured"]) + "\n"


def trait_of(option: str) -> str:
    """The trait that says the same as one of our options; that without one goes by its own name."""
    return next((trait.name for trait in _TRAITS if option in (trait.option, trait.name)), option)


def sample(environ: Mapping[str, str], file: str) -> tuple[Path, str]:
    """A file with every trait, none of them set, and where it belongs unless `file` says."""
    lines = ["# What `jupyter standaloneproxy` and `proxyd wrap --config` read.", "c = get_config()  # noqa", ""]
    for trait in _TRAITS:
        lines += [f"# {trait.help}", f"# c.{SECTION}.{trait.name} = {trait.default}", ""]
    return Path(file) if file else own_directory(environ) / f"{_FILE_NAME}.py", "\n".join(lines)
