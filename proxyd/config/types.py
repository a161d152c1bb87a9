"""How values are read: strictly, with their units, and with errors that say what would be right."""

from __future__ import annotations

import difflib
import re
from collections import abc
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints
from urllib.parse import unquote

import attrs
from cattrs import Converter
from cattrs.errors import AttributeValidationNote, IterableValidationNote
from cattrs.gen import make_dict_structure_fn

from proxyd.errors import OptionError
from proxyd.kinds import Kinds
from proxyd.model.ports import canonical_host, ranges_of
from proxyd.model.relay import RelaySettings
from proxyd.model.routes import INHERITED, RouteOptions
from proxyd.model.settings import ApiSettings, RouteSpec
from proxyd.model.upstream import Upstream
from proxyd.option import (
    AUTO_WORKERS,
    MAX_WORKERS,
    ByteCount,
    FileMode,
    FilePath,
    Function,
    HostName,
    Network,
    NumberRanges,
    Pattern,
    Port,
    PortRange,
    Rate,
    RouteKey,
    Seconds,
    Secret,
    ServerName,
    UpstreamTemplate,
    UpstreamUrl,
    UrlPath,
    Workers,
)

Path_ = tuple[str | int, ...]

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|s|m|h|d)")
SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(B|KiB|MiB|GiB|TiB)?")
RATE_UNITS = {"s": 1, "m": 60, "h": 3600}
RATE = re.compile(r"([0-9]{1,9})/([smh])")
MODE = re.compile(r"(?:0o?)?[0-7]{3}")
URL_PATH = re.compile(r"/[!-~]*")
NUMBER_RANGES = re.compile(r"[0-9]{1,10}(?:-[0-9]{1,10})?(?:,[0-9]{1,10}(?:-[0-9]{1,10})?)*")
SERVER_NAME = re.compile(r"[^/\s?#%]+(?:/[^/\s?#%]+)*")
PORT_RANGE = re.compile(r"([1-9][0-9]{0,4})-([1-9][0-9]{0,4})")
ROUTE_KEY = re.compile(r"(?:(?:\*\.)?[^/\s*]+)?/(?:\S(?:[\S ]*\S)?)?")
_PORT_BEHIND = re.compile(r"(?:\A[^:]*|\]):[0-9]*\Z")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")

SHORT_FORMS: Mapping[type, str] = {RouteSpec: "upstream", RelaySettings: "kind"}
"""Sections that may be written as the text of one option alone, and which option that is."""

SWITCHABLE = (ApiSettings | None,)
"""Sections that `off` takes away; a section that says nothing stands for its defaults."""

# What is shown of a wrong value: enough to recognize it.
_MAX_SHOWN = 60


class EnvironmentText(str):
    """Text that came out of the environment: it may stand for a number or a truth value."""

    __slots__ = ()


class UnknownKeysError(Exception):
    """Keys that no option has."""

    def __init__(self, keys: Iterable[str], known: Iterable[str]) -> None:
        self.keys = list(keys)
        self.known = list(known)
        super().__init__(self.keys)


def make_converter(kinds: Kinds, directory: Path | None) -> Converter:
    """A converter from plain YAML values to the classes of the configuration.

    Relative paths count from `directory`; None: the values come from outside, and no file is read for them. Raises
    what `cattrs` raises, with an `OptionError` or an `UnknownKeysError` at each place that is wrong.
    """
    converter = Converter(detailed_validation=True)

    def hook(kind: Any, function: Callable[[Any], Any]) -> None:
        if kind in (bool, int, float, str):  # cattrs looks these up before all predicates
            converter.register_structure_hook(kind, lambda value, _: function(value))
        converter.register_structure_hook_func(lambda wanted: bool(wanted == kind), lambda value, _: function(value))

    hook(bool, read_bool)
    hook(int, read_int)
    hook(float, read_float)
    hook(str, read_text)
    hook(Seconds, read_seconds)
    hook(ByteCount, read_size)
    hook(Port, read_port)
    hook(Rate, read_rate)
    hook(FileMode, read_mode)
    hook(FilePath, lambda value: read_path(value, directory or Path()))
    hook(Secret, lambda value: read_secret(value, directory))
    hook(UpstreamUrl, read_upstream_url)
    hook(UrlPath, read_url_path)
    hook(NumberRanges, read_number_ranges)
    hook(HostName, read_host_name)
    hook(UpstreamTemplate, lambda value: UpstreamTemplate(read_text(value)))
    hook(RouteKey, read_route_key)
    hook(Network, read_network)
    hook(Workers, read_workers)
    hook(ServerName, read_server_name)
    hook(PortRange, read_port_range)
    hook(Pattern, read_pattern)
    converter.register_structure_hook_func(
        _has_origin(Literal), lambda value, wanted: read_choice(value, get_args(wanted))
    )

    def read_section(cls: Any) -> Callable[[Any, Any], Any]:
        # Made for the first section that is there: compiling it takes longer than reading many.
        structure = cache(lambda: make_dict_structure_fn(cls, converter))
        fields = [field.name for field in attrs.fields(cls)]
        required = {field.name for field in attrs.fields(cls) if field.default is attrs.NOTHING}
        short = SHORT_FORMS.get(cls)
        off = "`off` or " if cls | None in SWITCHABLE else ""

        def read(value: Any, _: Any) -> Any:
            if short and isinstance(value, str):
                value = {short: value}
            if not isinstance(value, Mapping):
                raise OptionError(
                    f"expected {off}a section with options such as `{short or fields[0]}`, got {_shown(value)}"
                )
            given = {
                key: item
                for key, item in value.items()
                if key in fields and item is not None and not (item == "" and key in required)
            }
            unknown = [key for key in value if key not in fields]
            if unknown:
                try:
                    structure()(given, cls)
                except Exception as error:  # noqa: BLE001  # whatever it is, it is one more problem
                    raise ExceptionGroup("", [UnknownKeysError(unknown, fields), error]) from None
                raise UnknownKeysError(unknown, fields)
            return structure()(given, cls)

        return read

    def read_switchable(wanted: Any) -> Callable[[Any, Any], Any]:
        cls = get_args(wanted)[0]
        return lambda value, _: None if value == "off" else converter.structure(value, cls)

    def read_words_or_section(wanted: Any) -> Callable[[Any, Any], Any]:
        words, cls = _words_and_section(wanted)
        all_words = (*words, *short_words(cls))

        def read(value: Any, _: Any) -> Any:
            if value is None or isinstance(value, Mapping):
                return None if value is None else converter.structure(value, cls)
            if value in all_words:
                return value if value in words else converter.structure(value, cls)
            raise OptionError(
                f"expected one of {', '.join(all_words)}, or a section; got {_shown(value)}{meant(value, all_words)}"
            )

        return read

    def read_list(wanted: Any) -> Callable[[Any, Any], Any]:
        kind = get_args(wanted)[0]

        def read(value: Any, _: Any) -> Any:
            if not isinstance(value, list):
                raise OptionError("expected a list" if kind is Secret else f"expected a list, got {_shown(value)}")
            return tuple(read_items(enumerate(value), lambda _, item: converter.structure(item, kind)))

        return read

    def read_mapping(wanted: Any) -> Callable[[Any, Any], Any]:
        key_kind, kind = get_args(wanted)

        def read(value: Any, _: Any) -> Any:
            if not isinstance(value, Mapping):
                raise OptionError(f"expected a section, got {_shown(value)}")

            def read_pair(key: str, item: Any) -> tuple[Any, Any]:
                return converter.structure(key, key_kind), converter.structure(item, kind)

            return dict(read_items(value.items(), read_pair))

        return read

    def read_union(wanted: Any) -> Callable[[Any, Any], Any]:
        members = [member for member in get_args(wanted) if member is not type(None)]
        lists, sections, others = _sorted_members(members)

        def read(value: Any, _: Any) -> Any:
            if value is None and len(members) < len(get_args(wanted)):
                return None
            if isinstance(value, Function) and Function in members:
                return value
            if isinstance(value, list) and lists:
                return converter.structure(value, lists[0])
            if isinstance(value, Mapping) and sections:
                return converter.structure(value, sections[0])
            if isinstance(value, bool) and bool in members:
                return value
            if others and lists and get_origin(others[-1]) is Literal and value not in get_args(others[-1]):
                raise OptionError(f"expected a list, or {', '.join(get_args(others[-1]))}; got {_shown(value)}")
            if others:
                return converter.structure(value, others[-1])
            words = ["a list" if lists else "a section", *(["!python module:attribute"] if Function in members else [])]
            raise OptionError(f"expected {' or '.join(words)}, got {_shown(value)}")

        return read

    converter.register_structure_hook_factory(attrs.has, read_section)
    hook(Function, read_function)
    converter.register_structure_hook_factory(_is_mixed, read_union)
    converter.register_structure_hook_factory(lambda wanted: wanted in SWITCHABLE, read_switchable)
    converter.register_structure_hook_factory(lambda wanted: bool(_words_and_section(wanted)), read_words_or_section)
    converter.register_structure_hook_factory(_has_origin(tuple), read_list)
    converter.register_structure_hook_factory(_has_origin(abc.Mapping), read_mapping)

    for seam in kinds.seams:

        def read_kind(value: Any, seam: type = seam) -> Any:
            names = kinds.names(seam)
            if not isinstance(value, Mapping) or "kind" not in value:
                raise OptionError(f"expected a section with a `kind`: {', '.join(names)}")
            name = read_choice(value["kind"], names, "kind")
            options = {key: item for key, item in value.items() if key != "kind"}
            return converter.structure(options, kinds.of_name(seam, name).config)

        hook(seam, read_kind)
    return converter


def read_items(items: Iterable[tuple[Any, Any]], read: Callable[[Any, Any], Any]) -> list[Any]:
    """Read every item by `read(key, item)`; the errors of all of them come together, each with its key."""
    results = []
    errors = []
    for key, item in items:
        try:
            results.append(read(key, item))
        except Exception as error:  # noqa: BLE001  # whatever it is, the other items are read as well
            error.__notes__ = [*getattr(error, "__notes__", []), IterableValidationNote("", key, None)]
            errors.append(error)
    if errors:
        raise ExceptionGroup("", errors)
    return results


@attrs.frozen
class ValueFault:
    """What is wrong with one value, or with a key if `of_key`."""

    path: Path_
    message: str
    of_key: bool = False


def faults_in(error: BaseException, path: Path_ = ()) -> Iterator[ValueFault]:
    """Everything that a converter found wrong."""
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            path = (*path, note.name)
        elif isinstance(note, IterableValidationNote):
            path = (*path, note.index)
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from faults_in(inner, path)
    elif isinstance(error, UnknownKeysError):
        for key in error.keys:
            yield ValueFault((*path, key), f"unknown option{meant(key, error.known)}", of_key=True)
    elif isinstance(error, OptionError):
        yield ValueFault((*path, *error.path), str(error))
    elif isinstance(error, KeyError):
        yield ValueFault(path, "is required")
    else:
        yield ValueFault(path, str(error) or type(error).__name__)


def dotted(path: Path_) -> str:
    """A path as a user writes it."""
    words = ""
    for part in path:
        words += f"[{part}]" if isinstance(part, int) else f".{part}" if words else part
    return words


def _is_mixed(wanted: Any) -> bool:
    """Whether there are several types to choose from, apart from None."""
    members = [member for member in get_args(wanted) if member is not type(None)]
    return get_origin(wanted) in (Union, UnionType) and len(members) > 1


def _sorted_members(members: list[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    """Which of the types are lists, which are mappings, and which are written as single values."""
    lists = [member for member in members if get_origin(member) is tuple]
    sections = [member for member in members if get_origin(member) is abc.Mapping]
    return lists, sections, [member for member in members if member not in (*lists, *sections, Function)]


def _has_origin(origin: Any) -> Callable[[Any], bool]:
    return lambda wanted: bool(get_origin(wanted) == origin)


def _words_and_section(wanted: Any) -> tuple[Any, ...]:
    """The words of a type that is one of several words or a section, and the class of the section; else nothing."""
    members = [member for member in get_args(wanted) if member is not type(None)]
    if len(members) == 2 and get_origin(members[0]) is Literal and attrs.has(members[1]):
        return get_args(members[0]), members[1]
    return ()


def short_words(cls: Any) -> tuple[Any, ...]:
    """The words that the short form of a section may be."""
    return get_args(get_type_hints(cls)[SHORT_FORMS[cls]]) if cls in SHORT_FORMS else ()


_ROUTE_OPTIONS = frozenset(field.name for field in attrs.fields(RouteOptions))


def read_posted_options(posted: Mapping[str, Any], kinds: Kinds = Kinds(())) -> RouteOptions:  # noqa: B008  # frozen
    """The options of a route among the members of a posted object; the other members do not matter.

    `kinds` are those that a section may be of.

    Raises `OptionError` with the path of the first one that is wrong.
    """
    own = {name: posted[name] for name in _ROUTE_OPTIONS & posted.keys() if posted[name] is not None}
    if not own:
        return INHERITED
    try:
        return make_converter(kinds, None).structure(own, RouteOptions)
    except Exception as error:  # noqa: BLE001  # cattrs wraps whatever went wrong, each with its path
        fault = next(faults_in(error))
        raise OptionError(fault.message, *fault.path) from None


def read_bool(value: Any) -> bool:
    """Read `true` or `false`."""
    if isinstance(value, bool):
        return value
    if isinstance(value, EnvironmentText) and value in ("true", "false"):
        return value == "true"
    raise OptionError(f"expected true or false, got {_shown(value)}")


def read_int(value: Any) -> int:
    """Read a whole number that is not negative."""
    if isinstance(value, EnvironmentText) and value.isascii() and value.isdigit():
        return int(value)
    value = _whole(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise OptionError(f"expected a whole number, got {_shown(value)}")
    if value < 0:
        raise OptionError("a negative number makes no sense here")
    return value


def _whole(value: Any) -> Any:
    """`1.0` as 1: for JSON they are the same number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_float(value: Any) -> float:
    """Read a number that is not negative."""
    if isinstance(value, EnvironmentText):
        with suppress(ValueError):  # the message below is the better one
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise OptionError(f"expected a number, got {_shown(value)}")
    if not 0 <= value < float("inf"):
        raise OptionError("expected a number that is neither negative nor infinite")
    return float(value)


def read_text(value: Any) -> str:
    """Read text."""
    if not isinstance(value, str):
        hint = ": put it in quotes" if isinstance(value, bool | int | float) else ""
        raise OptionError(f"expected text, got {_shown(value)}{hint}")
    return str(value)


def read_seconds(value: Any) -> Seconds:
    """Read a duration such as `5s`."""
    if value in (0, "0") and not isinstance(value, bool):
        return Seconds(0.0)
    match = DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise OptionError(f"expected a duration such as 5s, 100ms, 2m or 1h, got {_shown(value)}")
    return Seconds(float(match[1]) * SECONDS[match[2]])


def read_size(value: Any) -> ByteCount:
    """Read a size such as `8 KiB`."""
    value = _whole(value)
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    match = SIZE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise OptionError(f"expected a size such as 8 KiB, 10 MiB or a number of bytes, got {_shown(value)}")
    return ByteCount(int(float(match[1]) * BYTES[match[2] or "B"]))


def read_port(value: Any) -> Port:
    """Read a port number; 0 lets the system choose."""
    port = read_int(value)
    if port > 65535:
        raise OptionError(f"{port} is not a port: they end at 65535")
    return Port(port)


def read_rate(value: Any) -> Rate:
    """Read a rate such as `10/s`."""
    match = RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise OptionError(f"expected a rate such as 10/s, 600/m or 1000/h, got {_shown(value)}")
    return Rate(int(match[1]), RATE_UNITS[match[2]])


def read_mode(value: Any) -> FileMode:
    """Read permissions, in octal."""
    text = str(value)
    if isinstance(value, bool) or not MODE.fullmatch(text):
        raise OptionError(f"expected permissions in octal such as 0660, got {_shown(value)}")
    return FileMode(int(text[-3:], 8))


def read_path(value: Any, directory: Path) -> FilePath:
    """Read a path; a relative one counts from `directory`, an empty one stays empty."""
    text = read_text(value)
    if "\0" in text:
        raise OptionError("a path has no NUL character")
    try:
        return FilePath(str(directory / Path(text).expanduser()) if text else "")
    except RuntimeError:
        raise OptionError("the home directory that ~ stands for is not known") from None


def read_secret(value: Any, directory: Path | None) -> Secret:
    """Read a secret, from a file if it says `file:`; with no `directory`, that is refused."""
    if isinstance(value, bool | int | float):
        raise OptionError("expected text: put it in quotes")  # what it is stays unsaid
    text = read_text(value)
    if not text.startswith("file:"):
        return Secret(text)
    if directory is None:
        raise OptionError("`file:` is for the configuration file only")
    path = directory / text.removeprefix("file:")
    try:
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise OptionError(f"cannot read {path}: {reason}") from None
    if not secret:
        raise OptionError(f"{path} is empty")
    return Secret(secret)


def read_upstream_url(value: Any) -> UpstreamUrl:
    """Read the URL of an upstream; empty stays empty."""
    text = read_text(value)
    if text:
        Upstream.parse(text)
    return UpstreamUrl(text)


def read_url_path(value: Any) -> UrlPath:
    """Read a path on the public side; empty stays empty."""
    text = read_text(value)
    if text and not URL_PATH.fullmatch(text):
        raise OptionError(f"expected a path that begins with /, got {_shown(value)}")
    return UrlPath(text)


def read_number_ranges(value: Any) -> NumberRanges:
    """Read numbers and ranges, as in `1024-2047,8000`."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    text = str(value) if is_number else read_text(value)
    if not NUMBER_RANGES.fullmatch(text):
        raise OptionError(f"expected numbers or ranges such as 1024-65535, got {_shown(value)}")
    ranges_of(text)
    return NumberRanges(text)


def read_host_name(value: Any) -> HostName:
    """Read a host name or an address."""
    text = read_text(value)
    canonical_host(text)
    return HostName(text)


def read_route_key(value: Any) -> RouteKey:
    """Read `/prefix`, `host/prefix` or `*.domain/prefix`."""
    text = read_text(value)
    if not ROUTE_KEY.fullmatch(text):
        raise OptionError("a route is /prefix or host/prefix; a host alone ends with /")
    if "${" in text:
        raise OptionError("a variable stands in a value only")
    host, slash, path = text.partition("/")
    _check_host_of_route(host.removeprefix("*."))
    _check_path_of_route(slash + path)
    return RouteKey(text)


def _check_host_of_route(host: str) -> None:
    """Refuse what no request has as its host."""
    if host.endswith(":"):
        raise OptionError("a route has no scheme: /prefix or host/prefix")
    if _PORT_BEHIND.search(host):
        raise OptionError("the host of a route has no port: it is the same on each listener")
    bare = host.removesuffix(".").lower()
    if ":" in bare and (bare[0], bare[-1]) != ("[", "]"):
        raise OptionError(f"an IPv6 address has brackets around it: [{bare}]/")
    bare = bare[1:-1] if bare[:1] == "[" else bare
    if bare and bare != (asked := canonical_host(bare)):
        raise OptionError(f"the host {bare} is {asked} in requests, and has to be so here")


def _check_path_of_route(path: str) -> None:
    """Refuse what no request has as its path, decoded and without dot segments."""
    segments = path.split("/")
    if not {"?", "#"}.isdisjoint(path):
        raise OptionError("a prefix is a path: without query and fragment")
    if _ESCAPE.search(path):
        raise OptionError(f"paths are compared decoded: write {unquote(path)}")
    if not {".", ".."}.isdisjoint(segments):
        raise OptionError("requests come without dot segments")
    if segments[-1] in ("*", "**"):
        raise OptionError(f"a prefix leads to all that is below it: write {'/'.join(segments[:-1]) or '/'}")


def read_network(value: Any) -> Network:
    """Read an address, a network or `unix`."""
    text = read_text(value)
    if text != "unix":
        try:
            ip_network(text, strict=False)
        except ValueError:
            raise OptionError(
                f"expected an address, a network such as 10.0.0.0/8, or unix, got {_shown(value)}"
            ) from None
    return Network(text)


def read_workers(value: Any) -> Workers:
    """Read how many processes serve traffic."""
    if value == "auto":
        return AUTO_WORKERS
    try:
        count = read_int(value)
    except OptionError:
        raise OptionError(f"expected a number or auto, got {_shown(value)}") from None
    if not 1 <= count <= MAX_WORKERS:
        raise OptionError(f"expected 1 to {MAX_WORKERS}, or auto, got {_shown(value)}")
    return Workers(count)


def read_server_name(value: Any) -> ServerName:
    """Read the name of a server."""
    text = read_text(value)
    if not SERVER_NAME.fullmatch(text) or not {".", ".."}.isdisjoint(text.split("/")):
        raise OptionError("the name of a server is one path segment or several, without blanks and escapes")
    return ServerName(text)


def read_port_range(value: Any) -> PortRange:
    """Read `20000-20999`; empty stays empty."""
    text = read_text(value)
    match = PORT_RANGE.fullmatch(text)
    if text and (match is None or not int(match[1]) <= int(match[2]) <= 65535):
        raise OptionError(f"expected ports such as 20000-20999, got {_shown(value)}")
    return PortRange(text)


def read_pattern(value: Any) -> Pattern:
    """Read a regular expression."""
    text = read_text(value)
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise OptionError(f"is not a regular expression: {error}") from None
    return Pattern(text)


def read_function(value: Any) -> Function:
    """Read a callable, which is one already."""
    if not isinstance(value, Function):
        raise OptionError(f"expected !python module:attribute, got {_shown(value)}")
    return value


def read_choice(value: Any, choices: tuple[Any, ...], *path: str) -> Any:
    """Read one of several words."""
    if value in choices:
        return value
    raise OptionError(
        f"expected one of {', '.join(map(str, choices))}; got {_shown(value)}{meant(value, choices)}", *path
    )


def meant(word: Any, words: Iterable[str]) -> str:
    """A hint at the one of `words` that somebody who wrote `word` may have meant."""
    close = difflib.get_close_matches(str(word), list(map(str, words)), 1, 0.6)
    return f" (did you mean {close[0]}?)" if close else ""


def _shown(value: Any) -> str:
    if isinstance(value, EnvironmentText):
        return "a value from the environment that is something else"  # it may be a secret in the wrong place
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a section"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, Function):
        return f"!python {value.name}"
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
