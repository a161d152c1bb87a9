"""Tests of `proxyd.api.description` and of openapi.json."""

from __future__ import annotations

import json
import re

import attrs
from openapi_spec_validator import OpenAPIV31SpecValidator
from twisted.trial.unittest import SynchronousTestCase

from proxyd import __version__
from proxyd.api.description import DescriptionApi
from proxyd.api.events import Events
from proxyd.api.metrics import MetricsApi
from proxyd.api.native import NativeRoutesApi
from proxyd.api.openapi import describe
from proxyd.api.reload import ReloadApi
from proxyd.api.resource import ApiResource
from proxyd.api.servers import ServersApi
from proxyd.builtins import KINDS
from proxyd.model.routes import RouteOptions
from proxyd.testing.harness import Harness

ROUTERS = (
    DescriptionApi.router,
    Events.router,
    MetricsApi.router,
    NativeRoutesApi.router,
    ReloadApi.router,
    ServersApi.router,
)
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}


class OpenApiTests(SynchronousTestCase):
    """What programs read."""

    def setUp(self) -> None:
        self.document = describe(KINDS)

    def test_it_is_openapi(self) -> None:
        """3.1, without a mistake."""
        self.assertTrue(self.document["openapi"].startswith("3.1."))
        OpenAPIV31SpecValidator(self.document).validate()

    def test_it_has_what_is_served(self) -> None:
        """Every path with every method, and no other."""
        served = {
            (re.sub(r"<(?:path:)?(name)?\w*>", lambda match: f"{{{match[1] or 'key'}}}", pattern), method.lower())
            for router in ROUTERS
            for pattern, method in router
        }
        told = {(path, method) for path, item in self.document["paths"].items() for method in METHODS & item.keys()}
        self.assertEqual(served, told)

    def test_it_has_the_options_of_a_route(self) -> None:
        """All of them, with what they mean; a patch may remove each."""
        schemas = self.document["components"]["schemas"]
        options = {field.name for field in attrs.fields(RouteOptions)}
        self.assertEqual(options | {"target", "host"}, set(schemas["Route"]["properties"]))
        self.assertEqual(options | {"target", "host"}, set(schemas["RoutePatch"]["properties"]))
        self.assertNotIn("$defs", json.dumps(self.document))


class IndexTests(SynchronousTestCase):
    """What is there."""

    def test_paths(self) -> None:
        """The index leads to everything else; the description is what `describe` says."""
        proxy = Harness(root=ApiResource(DescriptionApi.router, DescriptionApi(KINDS), ()))
        answers = {}
        for path in ("/api", "/api/", "/api/openapi.json"):
            client = proxy.client()
            client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            head, _, body = client.pop().partition(b"\r\n\r\n")
            self.assertIn(b"application/json", head)
            answers[path] = json.loads(body)
        self.assertEqual(answers["/api"], answers["/api/"])
        self.assertEqual(("proxyd", __version__), (answers["/api"]["name"], answers["/api"]["version"]))
        self.assertLessEqual(set(answers["/api"]["links"].values()), set(describe(KINDS)["paths"]))
        self.assertEqual(describe(KINDS), answers["/api/openapi.json"])
