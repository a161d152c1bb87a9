"""The JSON Schema of the configuration file, for editors: made from the declarations of the options.

It accepts what the loader accepts. What it cannot see, because it is no matter of a single value, is left to
`proxyd check`.
"""

from __future__ import annotations

from collections import abc
from typing import Any, Literal, get_args, get_origin

from proxyd.config.notation import NOTATIONS, TEXT, Declared, description_of, is_single, members_of, options_of
from proxyd.config.types import SHORT_FORMS, SWITCHABLE
from proxyd.kinds import Kind, Kinds
from proxyd.model.settings import Config

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_VARIABLE = "variable"
_DEFINITION_OF_VARIABLE = {
    "description": "Comes from the environment: `${NAME}` or `${NAME:-default}`.",
    "type": "string",
    "pattern": r"\$\{",
}


# It matches no other kind, as none of them is called so.
_KIND_IN_A_VARIABLE = {
    "type": "object",
    "properties": {"kind": {"$ref": f"#/$defs/{_VARIABLE}"}},
    "required": ["kind"],
}


def make_schema(kinds: Kinds) -> dict[str, Any]:
    """The JSON Schema, draft 2020-12, of a file that uses `kinds`."""
    definitions = _Definitions(kinds)
    top = definitions.section(Config)
    return {"$schema": _DIALECT, "title": "proxyd", **top, "$defs": dict(sorted(definitions.found.items()))}


class _Definitions:
    """Schemas of types; those that have a name are put into `found` and referred to."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self.found: dict[str, Any] = {_VARIABLE: _DEFINITION_OF_VARIABLE}

    def section(self, cls: Any, kind: Kind | None = None) -> dict[str, Any]:
        """A section whose options are those of the attrs class `cls`, and the name of its `kind` if it has one."""
        options = options_of(cls)
        properties = {option.name: self._property(option) for option in options}
        required = [option.name for option in options if option.is_required]
        if kind is not None:
            properties = {"kind": {"const": kind.name}, **properties}
            required.insert(0, "kind")
        return {
            "description": description_of(cls),
            "type": "object",
            "properties": properties,
            **({"required": required} if required else {}),
            "additionalProperties": False,
        }

    def _property(self, option: Declared) -> dict[str, Any]:
        schemas = self._all_of(option.kind)
        if not all(map(is_single, members_of(option.kind))):
            schemas.append({"type": "null"})  # a section of which every line is a comment
        described = {"description": option.help, **_any_of(schemas)}
        if option.default is not None:
            described["default"] = option.default
        return described

    def _of(self, wanted: Any) -> dict[str, Any]:
        return _any_of(self._all_of(wanted))

    def _all_of(self, wanted: Any) -> list[dict[str, Any]]:
        schemas = [self._of_member(member) for member in members_of(wanted)]
        return [*schemas, {"const": "off"}] if wanted in SWITCHABLE else schemas

    def _of_member(self, wanted: Any) -> dict[str, Any]:
        if wanted in NOTATIONS:
            return self._define(wanted.__name__, lambda: _of_value(wanted))
        origin, arguments = get_origin(wanted), get_args(wanted)
        if origin is Literal:
            return {"anyOf": [{"enum": list(arguments)}, _reference(_VARIABLE)]}
        if origin is tuple:
            return {"type": "array", "items": self._of(arguments[0])}
        if origin is abc.Mapping:
            keys = {} if arguments[0] is str else {"propertyNames": self._of(arguments[0])}
            return {"type": "object", **keys, "additionalProperties": self._of(arguments[1])}
        by_name = self._kinds.of_seam(wanted)
        if by_name:
            return {"oneOf": [*(self._of_kind(kind) for kind in by_name.values()), _KIND_IN_A_VARIABLE]}
        return self._define(wanted.__name__, lambda: self._of_section(wanted))

    def _of_kind(self, kind: Kind) -> dict[str, Any]:
        return self._define(kind.config.__name__, lambda: self.section(kind.config, kind))

    def _of_section(self, cls: Any) -> dict[str, Any]:
        section = self.section(cls)
        short = SHORT_FORMS.get(cls)
        if short is None:
            return section
        kinds = {option.name: option.kind for option in options_of(cls)}
        return {"anyOf": [self._of(kinds[short]), section]}

    def _define(self, name: str, make: abc.Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if name not in self.found:
            self.found[name] = {}  # holds the place while its parts are made
            self.found[name] = make()
        return _reference(name)


def _any_of(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _of_value(kind: Any) -> dict[str, Any]:
    notation = NOTATIONS[kind]
    described = {"description": notation.meaning} if notation.meaning else {}
    if notation.schemas == (TEXT,):
        return {**described, **TEXT}
    return {**described, "anyOf": [*notation.schemas, _reference(_VARIABLE)]}


def _reference(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}
