"""`/api` and `/api/openapi.json`: what the API is, for people and for programs."""

from __future__ import annotations

import json

from proxyd import __version__
from proxyd.api.resource import Answer, Call, Function
from proxyd.api.router import Router
from proxyd.kinds import Kinds

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
        from proxyd.api.openapi import describe  # noqa: PLC0415  # few ask for it, and it loads what makes the schema

        return Answer(200, json=json.dumps(describe(self._kinds)))
