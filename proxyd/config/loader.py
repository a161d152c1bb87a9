"""The YAML file -> `Config`, or every problem in it with its place."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from proxyd.config.environment import lacks
from proxyd.config.exposure import exposures
from proxyd.config.functions import find_function
from proxyd.config.hub import under_hub
from proxyd.config.listening import double_listeners
from proxyd.config.types import EnvironmentText, Path_, dotted, faults_in, make_converter
from proxyd.core.posted import RESERVED
from proxyd.errors import ConfigError, OptionError, Problem
from proxyd.kinds import Kinds
from proxyd.model.routes import place_of
from proxyd.model.settings import Config

_VARIABLE = re.compile(r"\$(\$)?\{(?:([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\}|)")
_Pairs = dict[str, tuple[yaml.ScalarNode, yaml.Node]]
_MAX_DEPTH = 64
_STANDARD_TAG = "tag:yaml.org,2002:"
_FUNCTION_TAG = "!python"
_MERGE_TAG = f"{_STANDARD_TAG}merge"
_TEXT_TAGS = (f"{_STANDARD_TAG}str", _MERGE_TAG)  # a value `<<` merges nothing

DEFAULT_LISTENERS = ({"kind": "http"},)
"""The listeners of a file that names none."""


_SYSTEM_FILE = Path("/etc/proxyd/proxyd.yaml")


def find(environ: Mapping[str, str], system: Path = _SYSTEM_FILE) -> Path | None:
    """The configuration file that is used when none is named; None if there is none at all."""
    if environ.get("PROXYD_CONFIG"):
        return Path(environ["PROXYD_CONFIG"])
    home = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "/")) / ".config")
    for place in (Path("etc/proxyd.yaml"), Path("proxyd.yaml"), home / "proxyd/proxyd.yaml"):
        with suppress(OSError):  # somebody else's directory, as the home of root is in many a container
            if place.is_file():
                return place
    try:
        return system if system.is_file() else None
    except OSError:
        return system  # to read it says what is the matter


def load(path: Path, kinds: Kinds, environ: Mapping[str, str] = os.environ) -> Config:
    """Read the file at `path`, and `conf.d/*.yaml` beside it; in all of them, paths count from where `path` is.

    Raises `ConfigError` with every problem at once.
    """
    document = _Document(environ)
    document.read(path)
    document.read_directory(path.parent / "conf.d")
    return document.structure(kinds, path.parent.absolute())


def parse(text: str, kinds: Kinds, environ: Mapping[str, str] | None = None, *, name: str = "<text>") -> Config:
    """Read a configuration from `text`.

    Raises `ConfigError`.
    """
    document = _Document(environ or {})
    document.read_text(text, name)
    return document.structure(kinds, Path())


class Yaml12Loader(yaml.SafeLoader):
    """YAML 1.2's idea of scalars: `on`, `yes`, `1:30` and `0660` are text."""


Yaml12Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", r"true|false", "tf"),
    ("tag:yaml.org,2002:int", r"-?(?:0|[1-9][0-9]{0,17})", "-0123456789"),
    ("tag:yaml.org,2002:float", r"-?(?:0|[1-9][0-9]*)\.[0-9]+", "-0123456789"),
    ("tag:yaml.org,2002:null", r"~|null|", ["~", "n", ""]),
    ("tag:yaml.org,2002:merge", r"<<", "<"),
):
    Yaml12Loader.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), list(_first))
# What editors and the JSON Schema see of a callable.
Yaml12Loader.add_constructor(_FUNCTION_TAG, lambda _, node: node.value)


class _Document:
    """Everything that was read, with the place of each key and value."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._problems: list[Problem] = []
        self._data: dict[str, Any] = {}
        self._keys: dict[Path_, yaml.Mark] = {}
        self._values: dict[Path_, yaml.Mark] = {}
        self._functions: dict[Path_, str] = {}
        self._merged: dict[yaml.Node, _Pairs] = {}
        self._open: set[yaml.Node] = set()  # those around the one that is being read

    def read(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            self._problems.append(Problem(f"cannot be read: {error.strerror}", file=str(path)))
        except UnicodeDecodeError:
            self._problems.append(Problem("is not UTF-8", file=str(path)))
        else:
            self.read_text(text, str(path))

    def read_directory(self, directory: Path) -> None:
        """Read the pieces in `directory`, if there is one; those that are hidden are an editor's."""
        if not os.path.lexists(directory):
            return
        try:
            names = sorted(os.listdir(directory))
        except OSError as error:  # what cannot be looked at may hold the login
            self._problems.append(Problem(f"cannot be read: {error.strerror}", file=str(directory)))
            return
        for name in names:
            if name.endswith(".yaml") and not name.startswith("."):
                self.read(directory / name)

    def read_text(self, text: str, name: str) -> None:
        try:
            loader = Yaml12Loader(text)
            loader.name = name
            node = loader.get_single_node()
            if node is not None:
                self._add(loader, node)
        except yaml.MarkedYAMLError as error:
            self._problems.append(_yaml_problem(error, (), name))
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            column = error.position - text.rfind("\n", 0, error.position)
            message = f"the character U+{error.character:04X} is not allowed"
            self._problems.append(Problem(message, "", name, line, column))
        except RecursionError:
            self._problems.append(Problem("is nested too deeply", file=name))

    def _add(self, loader: Yaml12Loader, node: yaml.Node) -> None:
        if node.tag == f"{_STANDARD_TAG}null":
            return
        if not isinstance(node, yaml.MappingNode) or not self._is_untagged(loader, node, ()):
            self._problems.append(_problem("expected options at the top", (), node.start_mark))
            return
        self._merge(loader, self._data, node, ())

    def _merge(self, loader: Yaml12Loader, target: dict[str, Any], node: yaml.MappingNode, path: Path_) -> None:
        """Add the pairs of `node` to `target`; a key that is there already is an error unless both are sections."""
        if len(path) > _MAX_DEPTH:
            self._problems.append(_problem("is nested too deeply", path[:3], node.start_mark))
            return
        own: dict[str, yaml.Mark] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in own:
                    self._problems.append(_problem(_twice(own[key.value]), (*path, key.value), key.start_mark))
                own.setdefault(key.value, key.start_mark)
        for name, (key, value) in self._pairs(node, path).items():
            place = (*path, name)
            known = target.get(name)
            if known is None and place not in self._functions:
                self._keys[place] = key.start_mark
                target[name] = self._plain(loader, value, place)
            elif isinstance(known, dict) and isinstance(value, yaml.MappingNode):
                if self._is_untagged(loader, value, place):
                    self._merge(loader, known, value, place)
            else:
                self._problems.append(_problem(_twice(self._keys[place]), place, key.start_mark))

    def _pairs(self, node: yaml.MappingNode, path: Path_) -> _Pairs:
        """The keys and values of `node` by name, with what `<<` brings: own ones win, then those of an earlier section.

        PyYAML's own way depends on its release, and on objects being the same. Each section is looked at once, however
        often it is used; one that merges itself adds nothing.
        """
        known = self._merged.get(node)
        if known is not None:
            return known
        self._merged[node] = {}
        merged: _Pairs = {}
        own: _Pairs = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._problems.append(_problem("a key has to be text", path, key.start_mark))
            elif key.tag == _MERGE_TAG:
                for section in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if isinstance(section, yaml.MappingNode):
                        for name, pair in self._pairs(section, path).items():
                            merged.setdefault(name, pair)
                    else:
                        words = "<< takes a section, or a list of sections"
                        self._problems.append(_problem(words, path, section.start_mark))
            else:
                own[key.value] = key, value
        pairs = self._merged[node] = {**merged, **own}
        return pairs

    def _plain(self, loader: Yaml12Loader, node: yaml.Node, path: Path_) -> Any:
        self._values[path] = node.start_mark
        if node.tag == _FUNCTION_TAG and isinstance(node, yaml.ScalarNode):
            self._functions[path] = node.value
            return None
        if not self._is_untagged(loader, node, path):
            return None
        if not isinstance(node, yaml.CollectionNode):
            return self._expand(node, path) if node.tag in _TEXT_TAGS else loader.construct_object(node)
        if node in self._open:
            self._problems.append(_problem("holds itself", path[:3], node.start_mark))
            return None
        self._open.add(node)
        try:
            return self._plain_collection(loader, node, path)
        finally:
            self._open.remove(node)

    def _plain_collection(self, loader: Yaml12Loader, node: yaml.CollectionNode, path: Path_) -> Any:
        if isinstance(node, yaml.MappingNode):
            mapping: dict[str, Any] = {}
            self._merge(loader, mapping, node, path)
            return mapping
        if len(path) > _MAX_DEPTH:
            self._problems.append(_problem("is nested too deeply", path[:3], node.start_mark))
            return []
        return [self._plain(loader, item, (*path, index)) for index, item in enumerate(node.value)]

    def _is_untagged(self, loader: Yaml12Loader, node: yaml.Node, path: Path_) -> bool:
        """Whether the tag of `node` is the one that it has without being given any; text may be tagged as such."""
        is_plain = isinstance(node, yaml.ScalarNode) and node.style is None
        if node.tag == _TEXT_TAGS[0] or node.tag == loader.resolve(type(node), node.value, (is_plain, True)):
            return True
        tag = node.tag.replace(_STANDARD_TAG, "!!")
        self._problems.append(_problem(f"the tag {tag} is not known", path, node.start_mark))
        return False

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
            if default and "${" in default:
                self._problems.append(
                    _problem(f"the default of ${{{name}}} cannot hold a variable", path, node.start_mark)
                )
            found = True
            value = self._environ.get(name)
            if value is None and default is None:
                self._problems.append(_problem(f"${{{name}}} is not set", path, node.start_mark))
            return value or (default or ":-")[2:]

        text = _VARIABLE.sub(replace, node.value)
        return EnvironmentText(text) if found else text

    def structure(self, kinds: Kinds, directory: Path) -> Config:
        converter = make_converter(kinds, directory)
        self._find_functions(directory)
        try:
            self._data = under_hub(self._data, self._environ)
        except OptionError as error:
            self._problems.append(Problem(str(error), dotted(error.path)))
        if self._data.get("listeners") is None:
            self._data["listeners"] = list(DEFAULT_LISTENERS)
        config = None
        try:
            config = converter.structure(self._data, Config)
            errors = [*exposures(config), *double_listeners(config), *lacks(config, self._environ)]
            if errors:
                raise ExceptionGroup("", errors)
        except Exception as error:  # noqa: BLE001  # cattrs wraps whatever went wrong, each with its path
            broken = {(problem.line, problem.column, problem.file) for problem in self._problems}
            for fault in faults_in(error):
                marks = self._keys if fault.of_key else self._values
                problem = _problem(fault.message, fault.path, self._mark(marks, fault.path))
                if (problem.line, problem.column, problem.file) not in broken:
                    self._problems.append(problem)
        self._check_places()
        if self._problems or config is None:
            raise ConfigError(sorted(self._problems, key=lambda p: (p.file, p.line, p.column)))
        return config

    def _find_functions(self, directory: Path) -> None:
        """Put the callables to where they are named; every other option is known by then."""
        given = self._data.get("python_path")
        listed = given if isinstance(given, list) else []  # else it is told with the rest
        directories = [str(directory / item) for item in listed if isinstance(item, str)]
        for path, name in self._functions.items():
            try:
                function = find_function(name, directories)
            except OptionError as error:
                self._problems.append(_problem(str(error), path, self._values[path]))
                continue
            holder: Any = self._data
            for part in path[:-1]:
                holder = holder[part]
            holder[path[-1]] = function

    def _check_places(self) -> None:
        """Two keys that mean the same place are one route set twice."""
        places: dict[object, str] = {}
        routes = self._data.get("routes")
        for key in routes if isinstance(routes, dict) else ():
            if RESERVED in place_of(key)[1]:
                words = f"{RESERVED} in a path is reserved for logins"
                self._problems.append(_problem(words, ("routes", key), self._keys["routes", key]))
            first = places.setdefault(place_of(key), key)
            if first != key:
                words = f"means the same as {first}, at {_at(self._keys['routes', first])}"
                self._problems.append(_problem(words, ("routes", key), self._keys["routes", key]))

    def _mark(self, marks: dict[Path_, yaml.Mark], path: Path_) -> yaml.Mark | None:
        while path:
            if path in marks:
                return marks[path]
            path = path[:-1]
        return None


def _twice(mark: yaml.Mark) -> str:
    return f"is set twice, before at {_at(mark)}"


def _at(mark: yaml.Mark) -> str:
    return f"{mark.name}:{mark.line + 1}:{mark.column + 1}"


def _yaml_problem(error: yaml.MarkedYAMLError, path: Path_, file: str = "") -> Problem:
    words = [error.problem or "is not YAML", error.context or ""]
    if words[0].startswith("but "):
        words.reverse()
    return _problem(" ".join(words).strip(), path, error.problem_mark or error.context_mark, file)


def _problem(message: str, path: Path_, mark: Any, file: str = "") -> Problem:
    words = dotted(path)
    if mark is None:
        return Problem(message, words, file)
    return Problem(message, words, mark.name, mark.line + 1, mark.column + 1)
