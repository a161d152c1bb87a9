"""The YAML file -> `Config`, or every problem in it with its place."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from proxyd.config.types import EnvironmentText, Path_, dotted, faults_in, make_converter
from proxyd.errors import ConfigError, Problem
from proxyd.kinds import Kinds
from proxyd.model.settings import Config

_VARIABLE = re.compile(r"\$(\$)?\{(?:([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\}|)")
_MAX_DEPTH = 64


def find(environ: Mapping[str, str]) -> Path | None:
    """The configuration file that is used when none is named; None if there is none at all."""
    if environ.get("PROXYD_CONFIG"):
        return Path(environ["PROXYD_CONFIG"])
    home = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/")) / ".config")
    places = (
        Path("etc/proxyd.yaml"),
        Path("proxyd.yaml"),
        home / "proxyd/proxyd.yaml",
        Path("/etc/proxyd/proxyd.yaml"),
    )
    return next((place for place in places if place.is_file()), None)


def load(path: Path, kinds: Kinds, environ: Mapping[str, str] = os.environ) -> Config:
    """Read the file at `path`, and `conf.d/*.yaml` beside it.

    Raises `ConfigError` with every problem at once.
    """
    document = _Document(environ)
    document.read(path)
    for piece in sorted((path.parent / "conf.d").glob("*.yaml")):
        document.read(piece)
    return document.structure(kinds, path.parent)


def parse(text: str, kinds: Kinds, environ: Mapping[str, str] | None = None, *, name: str = "<text>") -> Config:
    """Read a configuration from `text`.

    Raises `ConfigError`.
    """
    document = _Document(environ or {})
    document.read_text(text, name)
    return document.structure(kinds, Path())


class _Loader(yaml.SafeLoader):
    """YAML 1.2's idea of scalars: `on`, `yes`, `1:30` and `0660` are text."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"true|false", "tf"),
    ("tag:yaml.org,2002:int", r"-?(?:0|[1-9][0-9]*)", "-0123456789"),
    ("tag:yaml.org,2002:float", r"-?(?:0|[1-9][0-9]*)\.[0-9]+", "-0123456789"),
    ("tag:yaml.org,2002:null", r"~|null|", ["~", "n", ""]),
    ("tag:yaml.org,2002:merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), list(_first))


class _Document:
    """Everything that was read, with the place of each key and value."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._problems: list[Problem] = []
        self._data: dict[str, Any] = {}
        self._keys: dict[Path_, yaml.Mark] = {}
        self._values: dict[Path_, yaml.Mark] = {}

    def read(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise ConfigError([Problem(f"cannot be read: {error.strerror}", file=str(path))]) from None
        except UnicodeDecodeError:
            raise ConfigError([Problem("is not UTF-8", file=str(path))]) from None
        self.read_text(text, str(path))

    def read_text(self, text: str, name: str) -> None:
        loader = _Loader(text)
        loader.name = name
        try:
            node = loader.get_single_node()
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            words = " ".join(part for part in (error.problem, error.context) if part)
            self._problems.append(_problem(words or "is not YAML", (), mark, name))
            return
        except yaml.YAMLError as error:
            self._problems.append(Problem(f"is not YAML: {error}".splitlines()[0], file=name))
            return
        if node is None:
            return
        if not isinstance(node, yaml.MappingNode):
            self._problems.append(_problem("expected options at the top", (), node.start_mark, name))
            return
        self._merge(loader, self._data, node, ())

    def _merge(self, loader: _Loader, target: dict[str, Any], node: yaml.MappingNode, path: Path_) -> None:
        """Add the pairs of `node` to `target`; a key that is there already is an error unless both are sections."""
        if len(path) > _MAX_DEPTH:
            self._problems.append(_problem("is nested too deeply", path[:3], node.start_mark))
            return
        own = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        for name in {name for name in own if own.count(name) > 1}:
            marks = [key.start_mark for key, _ in node.value if key.value == name]
            self._problems.append(_problem(_twice(marks[0]), (*path, name), marks[1]))
        loader.flatten_mapping(node)
        pairs: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._problems.append(_problem("a key has to be text", path, key.start_mark))
            else:
                pairs[key.value] = key, value  # of a merged and an own key, the own one comes last and wins
        for name, (key, value) in pairs.items():
            place = (*path, name)
            if name in target:
                if isinstance(target[name], dict) and isinstance(value, yaml.MappingNode):
                    self._merge(loader, target[name], value, place)
                elif self._keys[place].name != key.start_mark.name:
                    self._problems.append(_problem(_twice(self._keys[place]), place, key.start_mark))
                continue
            self._keys[place] = key.start_mark
            plain = self._plain(loader, value, place)
            if plain is not None:
                target[name] = plain

    def _plain(self, loader: _Loader, node: yaml.Node, path: Path_) -> Any:
        self._values[path] = node.start_mark
        if isinstance(node, yaml.MappingNode):
            mapping: dict[str, Any] = {}
            self._merge(loader, mapping, node, path)
            return mapping
        if isinstance(node, yaml.SequenceNode):
            if len(path) > _MAX_DEPTH:
                self._problems.append(_problem("is nested too deeply", path[:3], node.start_mark))
                return []
            return [self._plain(loader, item, (*path, index)) for index, item in enumerate(node.value)]
        if not node.tag.startswith("tag:yaml.org,2002:"):
            self._problems.append(_problem(f"the tag {node.tag} is not known", path, node.start_mark))
            return None
        if node.tag == "tag:yaml.org,2002:str":
            return self._expand(node, path)
        return loader.construct_object(node)

    def _expand(self, node: yaml.Node, path: Path_) -> str:
        """Put the environment into a scalar."""
        found = False

        def replace(match: re.Match[str]) -> str:
            nonlocal found
            if match[1]:
                return match[0][1:]
            name, default = match[2], match[3]
            if name is None:
                self._problems.append(
                    _problem("${ begins no variable; write $${ for a literal ${", path, node.start_mark)
                )
                return ""
            found = True
            value = self._environ.get(name)
            if value is None and default is None:
                self._problems.append(_problem(f"${{{name}}} is not set", path, node.start_mark))
            return value if value is not None else (default or ":-")[2:]

        text = _VARIABLE.sub(replace, node.value)
        return EnvironmentText(text) if found else text

    def structure(self, kinds: Kinds, directory: Path) -> Config:
        converter = make_converter(kinds, directory)
        self._data.setdefault("listeners", [{"kind": "http"}])
        config = None
        try:
            config = converter.structure(self._data, Config)
        except Exception as error:  # noqa: BLE001  # cattrs wraps whatever went wrong, each with its path
            broken = {(problem.line, problem.column, problem.file) for problem in self._problems}
            for fault in faults_in(error):
                marks = self._keys if fault.of_key else self._values
                problem = _problem(fault.message, fault.path, self._mark(marks, fault.path))
                if (problem.line, problem.column, problem.file) not in broken:
                    self._problems.append(problem)
        if self._problems or config is None:
            raise ConfigError(sorted(self._problems, key=lambda p: (p.file, p.line, p.column)))
        return config

    def _mark(self, marks: dict[Path_, yaml.Mark], path: Path_) -> yaml.Mark | None:
        while path:
            if path in marks:
                return marks[path]
            path = path[:-1]
        return None


def _twice(mark: yaml.Mark) -> str:
    return f"is set twice, before at {mark.name}:{mark.line + 1}:{mark.column + 1}"


def _problem(message: str, path: Path_, mark: Any, file: str = "") -> Problem:
    words = dotted(path)
    if mark is None:
        return Problem(message, words, file)
    return Problem(message, words, mark.name, mark.line + 1, mark.column + 1)
