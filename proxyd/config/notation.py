"""How options are written: the forms of each type, and values as a user would put them into the file.

The JSON Schema and the reference manual are made from this; `proxyd.config.types` reads what is written so.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs
import yaml

from proxyd.config.functions import PYTHON_NAME
from proxyd.config.loader import DEFAULT_LISTENERS, Yaml12Loader
from proxyd.config.types import (
    BYTES,
    DURATION,
    MODE,
    NUMBER_RANGES,
    PORT_RANGE,
    RATE,
    RATE_UNITS,
    ROUTE_KEY,
    SERVER_NAME,
    SIZE,
    URL_PATH,
)
from proxyd.model.relay import DEFAULT_RELAY
from proxyd.model.routes import DEFAULT_OPTIONS
from proxyd.model.settings import Config
from proxyd.option import (
    EXAMPLE,
    HELP,
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


def _same(value: Any) -> Any:
    return value


def _write_number(number: float) -> float:
    return int(number) if number.is_integer() else number


def _write_seconds(seconds: Seconds) -> str:
    return f"{seconds:.15g}s"


def _write_size(count: ByteCount) -> int | str:
    unit, size = next((unit, size) for unit, size in reversed(BYTES.items()) if count % size == 0)
    return f"{count // size} {unit}" if count and size > 1 else int(count)


def _write_rate(rate: Rate) -> str:
    return f"{rate.amount}/{next(unit for unit, seconds in RATE_UNITS.items() if seconds == rate.seconds)}"


def _write_mode(mode: FileMode) -> str:
    return f"{mode:04o}"


def _whole(pattern: re.Pattern[str], *, or_empty: bool = False) -> Mapping[str, Any]:
    """The JSON Schema of text that matches `pattern` as a whole."""
    return {"type": "string", "pattern": f"^(?:{pattern.pattern}){'?' if or_empty else ''}$"}


@attrs.frozen
class Notation:
    """How values of one type are written.

    `words` name the type in a table; `meaning` tells what the words cannot, if there is anything to tell. `schemas`
    are the JSON Schemas of its forms, and `sample` is something that they take; `write` turns a value into what a user
    would write.
    """

    words: str
    meaning: str
    schemas: tuple[Mapping[str, Any], ...]
    write: Callable[[Any], Any] = _same
    sample: Any = "text"


TEXT: Mapping[str, Any] = {"type": "string"}

NOTATIONS: Mapping[Any, Notation] = {
    bool: Notation("true or false", "", ({"type": "boolean"},), sample=True),
    int: Notation("number", "", ({"type": "integer", "minimum": 0},), sample=1),
    float: Notation("number", "", ({"type": "number", "minimum": 0},), _write_number, sample=1),
    str: Notation("text", "", (TEXT,)),
    Seconds: Notation(
        "duration",
        "`5s`, `100ms`, `2m`, `1h` or `1d`; `0s` and `0` mean that there is no limit.",
        ({"const": 0}, {"const": "0"}, _whole(DURATION)),
        _write_seconds,
        sample="5s",
    ),
    ByteCount: Notation(
        "size",
        "A number of bytes, or `8 KiB`, `10 MiB`, `1 GiB` or `1 TiB`.",
        ({"type": "integer", "minimum": 0}, _whole(SIZE)),
        _write_size,
        sample="1 MiB",
    ),
    Port: Notation(
        "port",
        "0 to 65535; 0 lets the system choose one.",
        ({"type": "integer", "minimum": 0, "maximum": 65535},),
        sample=9090,
    ),
    Rate: Notation(
        "rate",
        "`10/s`, `600/m` or `1000/h`: as many at once, and from then on spread evenly; `0/s` means that there is no "
        "limit.",
        (_whole(RATE),),
        _write_rate,
        sample="10/s",
    ),
    FileMode: Notation(
        "permissions",
        "Three octal digits, as in `0660`.",
        ({"type": "integer", "minimum": 0, "maximum": 777}, _whole(MODE)),
        _write_mode,
        sample="0660",
    ),
    FilePath: Notation(
        "path",
        "A file or a directory; a relative path counts from the directory of the configuration file, in `conf.d`, too.",
        (TEXT,),
        sample="path/of/it",
    ),
    Secret: Notation(
        "secret",
        "Text that is never shown; `file:PATH` reads it from a file, without the blanks around it.",
        (TEXT,),
        sample="file:path/of/it",
    ),
    UpstreamUrl: Notation(
        "upstream",
        "`http://HOST:PORT`, `https://HOST:PORT` or `http+unix://%2Fpath%2Fto%2Fsocket`, each with a path if need be.",
        (_whole(re.compile(r"[A-Za-z+]+://\S+"), or_empty=True),),
        sample="http://127.0.0.1:9000",
    ),
    UrlPath: Notation(
        "URL path", "A path on the public side; it begins with `/`.", (_whole(URL_PATH, or_empty=True),), sample="/path"
    ),
    NumberRanges: Notation(
        "numbers",
        "Numbers and ranges, as in `8888` or `1024-2047,8000-8999`.",
        ({"type": "integer", "minimum": 0}, _whole(NUMBER_RANGES)),
        sample="1024-65535",
    ),
    HostName: Notation("host", "A host name or an IP address.", (TEXT,), sample="db.example.org"),
    UpstreamTemplate: Notation(
        "upstream with captures",
        "An upstream in whose host, port or path `{name}` stands for what the group `name` of the pattern captured; "
        "`ws://` and `wss://` mean `http://` and `https://`.",
        (_whole(re.compile(r"[A-Za-z+]+://\S+")),),
        sample="http://127.0.0.1:9000",
    ),
    RouteKey: Notation(
        "route",
        "`/prefix`, `host/prefix` or `*.domain/prefix`; a host alone ends with `/`. A prefix is written decoded, a "
        "host without a port.",
        (_whole(ROUTE_KEY),),
        sample="/name",
    ),
    Network: Notation(
        "network",
        "An address, a network such as `10.0.0.0/8`, or `unix` for clients on unix sockets.",
        (TEXT,),
        sample="127.0.0.0/8",
    ),
    ServerName: Notation(
        "server",
        "One segment of a path, or several with `/` between them, without blanks and escapes.",
        (_whole(SERVER_NAME),),
        sample="name",
    ),
    PortRange: Notation(
        "ports",
        "The first and the last of them, as in `20000-20999`.",
        (_whole(PORT_RANGE, or_empty=True),),
        sample="20000-20999",
    ),
    Pattern: Notation("pattern", "A regular expression of Python.", (TEXT,), sample="/path/.*"),
    Function: Notation(
        "callable",
        "`!python module:attribute`, a function or anything else that can be called; the module is looked for in "
        "`python_path`, too.",
        (_whole(PYTHON_NAME),),
        sample="module:attribute",
    ),
    Workers: Notation(
        "number of processes",
        "A number, or `auto` for one for each core.",
        ({"type": "integer", "minimum": 1, "maximum": MAX_WORKERS}, {"const": "auto"}),
        sample="auto",
    ),
}
"""The types of single values."""


@attrs.frozen
class Declared:
    """One option of a section, as it was declared.

    `default` is what a user would write to get it; None if there is none to write. `has_section`: it is a section that
    is there unless it is taken away. `example` is something that could be written if there is no default.
    """

    name: str
    kind: Any
    help: str
    default: Any
    is_required: bool
    is_inherited: bool
    has_section: bool
    example: Any = None


# Defaults that are sections of a kind.
_BY_KIND: Mapping[str, Any] = {
    "listeners": list(DEFAULT_LISTENERS),
    "store": {"kind": "memory"},
    "auth": {"kind": "anonymous"},
}


def options_of(cls: Any) -> list[Declared]:
    """The options of an attrs class; those that are required come first."""
    kinds = get_type_hints(cls)
    effective = _effective(cls)
    options = []
    for field in attrs.fields(cls):
        kind = kinds[field.name]
        is_required = field.default is attrs.NOTHING
        if effective is not None:
            value = getattr(effective, field.name)
        else:
            make = getattr(field.default, "factory", None)
            value = None if is_required else make() if make else field.default
        default = _BY_KIND[field.name] if cls is Config and field.name in _BY_KIND else write(value, kind)
        options.append(
            Declared(
                field.name,
                kind,
                field.metadata[HELP],
                default,
                is_required=is_required,
                is_inherited=field.inherited,
                has_section=attrs.has(type(value)),
                example=field.metadata.get(EXAMPLE),
            )
        )
    return sorted(options, key=lambda option: not option.is_required)


def _effective(cls: Any) -> Any:
    """What holds for a section whose own defaults are None, because each of them is looked up elsewhere."""
    fields = attrs.fields(type(DEFAULT_OPTIONS))
    parts = [DEFAULT_RELAY, DEFAULT_OPTIONS, *(getattr(DEFAULT_OPTIONS, field.name) for field in fields)]
    return next((part for part in parts if type(part) is cls), None)


def description_of(cls: Any) -> str:
    """What an attrs class says about itself, on one line."""
    return inspect.cleandoc(cls.__doc__).partition("\n\n")[0].replace("\n", " ")


def is_single(kind: Any) -> bool:
    """Whether values of the type are single ones: no sections, lists or mappings."""
    return kind in NOTATIONS or get_origin(kind) is Literal


def members_of(kind: Any) -> tuple[Any, ...]:
    """The types of which `kind` is one or another, without None."""
    if get_origin(kind) in (Union, UnionType):
        return tuple(member for member in get_args(kind) if member is not type(None))
    return (kind,)


def write(value: Any, kind: Any) -> Any:
    """`value` of the type `kind` as plain YAML; None for a section, whose options have defaults of their own."""
    kind = members_of(kind)[0]
    if value is None or attrs.has(type(value)):
        return None
    if kind in NOTATIONS:
        return NOTATIONS[kind].write(value)
    if get_origin(kind) is Literal:
        return value
    if isinstance(value, Mapping):
        key_kind, item_kind = get_args(kind)
        return {write(key, key_kind): write(item, item_kind) for key, item in value.items()}
    return [write(item, get_args(kind)[0]) for item in value]


def shown(value: Any) -> str:
    """Plain YAML on one line, with quotes where they are needed."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{shown(key)}: {shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        is_plain = yaml.load(f"[{value}]", Yaml12Loader) == [value]  # noqa: S506  # a SafeLoader
    except yaml.YAMLError:
        is_plain = False
    return value if is_plain else json.dumps(value, ensure_ascii=False)
