"""The commented configuration file: every option with its default, made from the declarations of the options."""

from __future__ import annotations

from collections import abc
from collections.abc import Iterable, Iterator, Mapping
from textwrap import wrap
from typing import Any, Literal, get_args, get_origin

import attrs

from proxyd.config.notation import NOTATIONS, Declared, description_of, is_single, members_of, options_of, shown
from proxyd.config.types import short_words
from proxyd.kinds import Kinds
from proxyd.model.settings import Config

_INTRODUCTION = """\
# yaml-language-server: $schema=proxyd.schema.json
#
# The configuration of proxyd, section by section, with its defaults; made by `proxyd docs` from the declarations of
# the options.
#
# Every option may be left out. A value may be ${NAME} or ${NAME:-default} from the environment ($${ for a literal
# ${), a secret may be file:/path/to/it. Relative paths count from the directory of this file. Files in conf.d/*.yaml
# beside this one are added to it in the order of their names.
#
# `proxyd check FILE` reports everything that is wrong, each with its line.
"""

# What is there to be looked at when nothing has been changed yet, by the section where it stands.
_DEMONSTRATION: Mapping[str, str] = {
    "listeners": """\
# A small application on a port of its own, so that there is something to look at: http://127.0.0.1:8000/demo/
# Remove it, and its route below, when there is something of yours.
- {kind: demo, address: 127.0.0.1, port: 8010}
""",
    "routes": """\
/demo:
  upstream: http://127.0.0.1:8010
  strip_prefix: true                  # the upstream sees / where the client said /demo/
# /wiki: http://127.0.0.1:9000        # short form
# grafana.example.org/: http://127.0.0.1:3000
""",
}

_COLUMN = 38
_WIDTH = 120
_MAX_LINES_BESIDE = 3


def make_sample(kinds: Kinds) -> str:
    """The file for those who may use `kinds`."""
    return _INTRODUCTION + "".join(f"{line}\n" for line in _Sample(kinds).lines())


@attrs.frozen
class _Line:
    """A line of YAML, and what is to be said about it."""

    text: str
    help: str = ""

    def written(self) -> Iterator[str]:
        """The help behind the text, or in front of it if there is not enough room."""
        beside = wrap(self.help, _WIDTH - _COLUMN - 2, break_on_hyphens=False)
        margin = self.text[: len(self.text) - len(self.text.lstrip(" #"))]
        if len(self.text) < _COLUMN and len(beside) <= _MAX_LINES_BESIDE:
            yield f"{self.text:<{_COLUMN}}# {beside[0]}" if beside else self.text
            yield from (f"{'':<{_COLUMN}}# {line}" for line in beside[1:])
        else:
            yield from (f"{margin}# {line}" for line in wrap(self.help, _WIDTH - len(margin) - 2))
            yield self.text


_Lines = list[_Line]


def _indented(lines: Iterable[_Line]) -> _Lines:
    return [_Line(f"  {line.text}", line.help) for line in lines]


def _hidden(lines: Iterable[_Line]) -> _Lines:
    return [_Line(f"# {line.text}", line.help) for line in lines]


def _item(lines: _Lines) -> _Lines:
    """The lines of a section as an item of a list."""
    return [_Line(f"{'  ' if number else '- '}{line.text}", line.help) for number, line in enumerate(lines)]


class _Sample:
    """Writes each class of options once: where it comes again, the first place is named."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._places: dict[type, str] = {}

    def lines(self) -> Iterator[str]:
        for option in options_of(Config):
            yield ""
            yield from (f"# {line}" for line in wrap(_help(option), _WIDTH - 2))
            for line in self._option(attrs.evolve(option, help=""), "", is_hidden=False):
                yield from line.written()

    def _options(self, cls: Any, path: str, *, is_hidden: bool, is_whole: bool = False) -> _Lines:
        """The options of a class; in hidden lines nothing needs to be hidden for itself.

        Unless it `is_whole`, those that are told in another place already are left to it.
        """
        options = options_of(cls)
        known = None
        if not is_whole:
            known = next((known for known in self._places if issubclass(cls, known) or issubclass(known, cls)), None)
        if known is not None:
            options = [option for option in options if not (option.is_inherited or issubclass(known, cls))]
        self._places.setdefault(cls, path)
        lines = []
        for option in options:
            told = attrs.evolve(option, help=_help(option))
            lines += self._option(told, f"{path}.{option.name}" if path else option.name, is_hidden=is_hidden)
        if known is not None:
            lines.append(_Line(f"# ... the options of {self._places[known]}"))
        return lines

    def _option(self, option: Declared, path: str, *, is_hidden: bool) -> _Lines:
        path = path or option.name
        lines: _Lines = []
        members = members_of(option.kind)
        # Of several forms of a value one will do, but a section shows what can be in it.
        forms = [members[0], *(member for member in members[1:] if attrs.has(member) and not is_single(member))]
        for number, member in enumerate(forms):
            hides = not is_hidden and (number > 0 or (option.default is None and not option.has_section))
            part = self._member(option, member, path, is_hidden=is_hidden or hides)
            lines += _hidden(part) if hides else part
        return lines

    def _member(self, option: Declared, member: Any, path: str, *, is_hidden: bool) -> _Lines:
        """An option as a value of the type `member`."""
        origin, arguments = get_origin(member), get_args(member)
        name = option.name
        if origin in (tuple, abc.Mapping) and not is_single(arguments[origin is abc.Mapping]):
            return self._collection(option, member, path, is_hidden=is_hidden)
        if is_single(member) or origin in (tuple, abc.Mapping):
            value = option.default
            if value is None:
                value = _sample_of(member) if option.example is None else option.example
            return [_Line(f"{name}: {shown(value)}", option.help)]
        kinds = self._kinds.of_seam(member)
        if not kinds:
            return [_Line(f"{name}:", option.help), *_indented(self._options(member, path, is_hidden=is_hidden))]
        default = (option.default or {}).get("kind") or next(iter(kinds))
        lines: _Lines = []
        for kind in sorted(kinds.values(), key=lambda kind: kind.name != default):
            part = self._kind(kind.name, kind.config, path, is_hidden=is_hidden or kind.name != default)
            lines += part if kind.name == default else _hidden(part)
        return [_Line(f"{name}:", option.help), *_indented(lines)]

    def _kind(self, name: str, config: type, path: str, *, is_hidden: bool) -> _Lines:
        options = self._options(config, f"{path}: kind {name}", is_hidden=is_hidden, is_whole=True)
        return [_Line(f"kind: {name}", description_of(config)), *options]

    def _collection(self, option: Declared, member: Any, path: str, *, is_hidden: bool) -> _Lines:
        """A list or a mapping of sections: what is there, and what an item may have."""
        item = get_args(member)[-1] if get_origin(member) is abc.Mapping else get_args(member)[0]
        defaults = {section["kind"]: section for section in option.default or () if isinstance(section, Mapping)}
        demonstration = [_Line(line) for line in _DEMONSTRATION.get(path, "").splitlines()]
        shown_items: _Lines = []
        possible: _Lines = []
        kinds = self._kinds.of_seam(item)
        for kind in kinds.values():
            if any(f"kind: {kind.name}," in line.text for line in demonstration):
                continue
            is_default = kind.name in defaults
            part = _item(self._kind(kind.name, kind.config, path, is_hidden=is_hidden or not is_default))
            (shown_items if is_default else possible).extend(part)
        if not kinds:
            possible = self._options(item, path, is_hidden=True)
            if get_origin(member) is abc.Mapping:
                key = _sample_of(get_args(member)[0])
                possible = [_Line(f"{key}:"), *_indented(possible)]
            else:
                possible = _item(possible)
        if is_hidden:
            return [_Line(f"{option.name}:", option.help), *_indented([*shown_items, *possible])]
        if not shown_items and not demonstration:
            empty = _Line(f"{option.name}: {shown(option.default)}", option.help)
            return [empty, *_hidden([_Line(f"{option.name}:"), *_indented(possible)])]
        lines = [*shown_items, *_hidden(possible), *demonstration]
        return [_Line(f"{option.name}:", option.help), *_indented(lines)]


def _help(option: Declared) -> str:
    """The help of an option, and between which words one may choose."""
    members = members_of(option.kind)
    words = [word for member in members if get_origin(member) is Literal for word in get_args(member)]
    words += [word for member in members if attrs.has(member) and words for word in short_words(member)]
    return f"{' | '.join(words)}: {option.help}" if len(words) > 1 else option.help


def _sample_of(kind: Any) -> Any:
    """Something that could stand for an option that has no default."""
    member = members_of(kind)[0]
    origin, arguments = get_origin(member), get_args(member)
    if origin is Literal:
        return arguments[0]
    if origin is tuple:
        return [_sample_of(arguments[0])]
    if origin is abc.Mapping:
        return {_sample_of(arguments[0]): _sample_of(arguments[1])}
    return NOTATIONS[member].sample
