"""The OpenAPI document: openapi.json, and the options of a route as they are declared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from proxyd.config.schema import make_schema
from proxyd.kinds import Kinds

_SCHEMAS = "#/components/schemas/"
_VARIABLE = {"$ref": "#/$defs/variable"}


@cache
def describe(kinds: Kinds) -> dict[str, Any]:
    """The OpenAPI document: what is written in openapi.json, and the options of a route as they are declared."""
    document: dict[str, Any] = json.loads(files("proxyd.api").joinpath("openapi.json").read_text("utf-8"))
    schemas = document["components"]["schemas"]
    declared = _as_posted(make_schema(kinds)["$defs"])
    section = next(form for form in declared["RouteSpec"]["anyOf"] if "properties" in form)
    options = {name: schema for name, schema in section["properties"].items() if name != "upstream"}
    schemas["Route"]["properties"] |= options
    removable = {name: {"anyOf": [schema, {"type": "null"}]} for name, schema in options.items()}
    schemas["RoutePatch"]["properties"] |= {"host": schemas["Route"]["properties"]["host"], **removable}
    while missing := set(_references(schemas)) - schemas.keys():
        schemas |= {name: declared[name] for name in missing}
    return document


def _as_posted(schema: Any) -> Any:
    """A schema of the file as it is for the API: without variables, and with the references of OpenAPI."""
    if isinstance(schema, list):
        return [_as_posted(each) for each in schema if not _is_variable(each)]
    if isinstance(schema, dict):
        return {name: _as_posted(value) for name, value in schema.items()}
    return schema.replace("#/$defs/", _SCHEMAS) if isinstance(schema, str) else schema


def _is_variable(schema: Any) -> bool:
    """Whether a form is for variables: one itself, or a section whose kind is one."""
    if not isinstance(schema, dict):
        return False
    kind = schema.get("properties", {}).get("kind") if schema.get("type") == "object" else None
    return _VARIABLE in (schema, kind)


def _references(schema: Any) -> Iterator[str]:
    """The names of the schemas that are referred to."""
    if isinstance(schema, dict):
        if str(schema.get("$ref")).startswith(_SCHEMAS):
            yield schema["$ref"].removeprefix(_SCHEMAS)
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)
