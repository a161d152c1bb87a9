"""`/api` and `/api/openapi.json`: what the API is, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

from proxyd import __version__
from proxyd.api.resource import Answer, Call, Function
from proxyd.api.router import Router
from proxyd.config.schema import make_schema
from proxyd.kinds import Kinds

_SCHEMAS = "#/components/schemas/"
_VARIABLE = {"$ref": "#/$defs/variable"}
_LINKS = {
    "routes": "/api/routes",
    "servers": "/api/servers",
    "events": "/api/events",
    "reload": "/api/reload",
    "openapi": "/api/openapi.json",
}


class DescriptionApi:
    """Tells what is there; the options of a route are described from their declarations, with `kinds`."""

    router: Router[Function] = Router()

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds

    @router.route("/api", "GET", "HEAD")
    @router.route("/api/", "GET", "HEAD")
    def show_index(self, call: Call) -> Answer:
        """Answer with the version, and where what is."""
        return Answer(200, json=json.dumps({"name": "proxyd", "version": __version__, "links": _LINKS}))

    @router.route("/api/openapi.json", "GET", "HEAD")
    def show_openapi(self, call: Call) -> Answer:
        """Answer with the description that programs read."""
        return Answer(200, json=json.dumps(describe(self._kinds)))


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
