"""The reference manual of the configuration, in Markdown: made from the declarations of the options."""

from __future__ import annotations

import re
from collections import abc
from collections.abc import Iterable, Iterator
from typing import Any, Literal, get_args, get_origin

from proxyd.config.notation import (
    NOTATIONS,
    Declared,
    description_of,
    is_single,
    members_of,
    options_of,
    shown,
)
from proxyd.config.types import SHORT_FORMS, SWITCHABLE
from proxyd.kinds import Kinds
from proxyd.model.settings import Config

_INTRODUCTION = """\
# The configuration file

<!-- Made by `proxyd docs` from the declarations of the options; a change here is lost. -->

proxyd reads one YAML file, and every option in it may be left out. `proxyd check FILE` reports everything that is
wrong with a file, each problem with its line; with such a file nothing starts, and the exit status is 78. It tries the
certificates and keys that the file names, too.

```yaml
# yaml-language-server: $schema=proxyd.schema.json
listeners:
  - {kind: http, port: 8000}
routes:
  /wiki: http://127.0.0.1:9000
```

The first line is for editors: [proxyd.schema.json](../etc/proxyd.schema.json) tells them all options.
[proxyd.yaml](../etc/proxyd.yaml) is an example with comments.

The file is the one that `--config` names, else `$PROXYD_CONFIG`, else the first one of `./etc/proxyd.yaml`,
`./proxyd.yaml`, `$XDG_CONFIG_HOME/proxyd/proxyd.yaml` (by default in `~/.config`) and `/etc/proxyd/proxyd.yaml`.

- Files in `conf.d/*.yaml` beside it are added to it in the order of their names. An option that is set twice is an
  error.
- A value may be `${NAME}` or `${NAME:-default}` from the environment, or hold it; `$${` is a literal `${`. A variable
  that is not set is an error, unless there is a default, which counts for an empty variable as well.
- `on`, `off`, `yes` and `no` are text, as YAML 1.2 has it; the truth values are `true` and `false`.
- An option without a value, as in `limits:` with nothing below, counts as left out.
- Anchors, aliases and merge keys (`<<`) may be used, tags may not, but for `!python`.

## How values are written

"""


def make_reference(kinds: Kinds) -> str:
    """The manual for a file that uses `kinds`."""
    body = "\n".join(_Manual(kinds).lines())
    return _INTRODUCTION + re.sub(r"\n{3,}", "\n\n", body)


class _Manual:
    """Writes sections, the options of each class once: whoever has the same ones refers to them."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._places: dict[type, str] = {}

    def lines(self) -> Iterator[str]:
        notations = [notation for notation in NOTATIONS.values() if notation.meaning]
        yield from _table(("Type", "Written"), ((notation.words, notation.meaning) for notation in notations))
        yield from ("## Top level", "")
        yield from self._options(options_of(Config), "")

    def _options(self, options: Iterable[Declared], path: str) -> Iterator[str]:
        """A table of options, and the sections among them below it."""
        options = list(options)
        rows = [(f"`{option.name}`", self._words(option, path), _default(option), option.help) for option in options]
        yield from _table(("Option", "Type", "Default", "Meaning"), rows)
        for option in options:
            classes = self._classes(option.kind)
            if classes:
                yield from self._section(option, f"{path}{option.name}", classes)

    def _section(self, option: Declared, path: str, classes: list[type]) -> Iterator[str]:
        yield from (f"{'###' if '.' in path else '##'} {path}", "")
        kinds = {kind.config: kind for kind in self._kinds.kinds}
        by_name = any(get_origin(member) is abc.Mapping for member in members_of(option.kind))
        is_plain = not by_name and kinds.keys().isdisjoint(classes)
        yield " ".join([option.help, *(description_of(cls) for cls in classes if is_plain)])
        for cls in classes:
            if cls in kinds:
                yield from ("", f"### {path}: kind {kinds[cls].name}", "", description_of(cls))
            if cls in SHORT_FORMS:
                yield from ("", f"Short form: what `{SHORT_FORMS[cls]}` would be, in place of the section.")
            yield ""
            if cls in kinds:  # whole, even where kinds inherit from each other: each is looked up for itself
                yield from self._options(options_of(cls), f"{path}.")
            else:
                yield from self._own_options(cls, f"{path}.*." if by_name else f"{path}.")

    def _own_options(self, cls: Any, path: str) -> Iterator[str]:
        options = options_of(cls)
        known = next((known for known in self._places if issubclass(cls, known)), None)
        if known is not None:
            place = self._places[known]
            options = [option for option in options if not option.is_inherited and cls is not known]
            yield from (f"All options of [{place}](#{slug(place)}){', and:' if options else '.'}", "")
        self._places.setdefault(cls, path.rstrip(".*"))
        if options:
            yield from self._options(options, path)

    def _classes(self, kind: Any) -> list[type]:
        """The classes that declare the options of a value, if it is a section or holds some."""
        classes: list[type] = []
        for member in members_of(kind):
            origin, arguments = get_origin(member), get_args(member)
            if origin in (tuple, abc.Mapping):
                classes += self._classes(arguments[origin is abc.Mapping])
            elif not is_single(member):
                of_kinds = self._kinds.of_seam(member).values()
                classes += [kind.config for kind in of_kinds] or [member]
        return classes

    def _words(self, option: Declared, path: str) -> str:
        section = f"[section](#{slug(path + option.name)})"
        return _words(option.kind, section)


def _words(kind: Any, section: str) -> str:
    """What a type is called; `section` stands for one with options."""
    words = []
    for member in members_of(kind):
        origin, arguments = get_origin(member), get_args(member)
        if member in NOTATIONS:
            words.append(NOTATIONS[member].words)
        elif origin is Literal:
            words += [f"`{choice}`" for choice in arguments]
        elif origin is tuple:
            words.append(f"list of {_words(arguments[0], section)}")
        elif origin is abc.Mapping:
            name = "name" if arguments[0] is str else _words(arguments[0], section)
            words.append(f"{_words(arguments[1], section)} for each {name}")
        else:
            words.append(section)
    if kind in SWITCHABLE:
        words.append("`off`")
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _default(option: Declared) -> str:
    if option.is_required:
        return "required"
    return "" if option.default is None else f"`{shown(option.default)}`"


def slug(heading: str) -> str:
    """The name that GitHub gives to a heading, for links."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield _row(head)
    yield _row(("---",) * len(head))
    yield from map(_row, rows)
    yield ""


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
