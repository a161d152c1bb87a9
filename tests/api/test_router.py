"""Tests of `proxyd.api.router`."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from proxyd.api.router import MethodError, Router
from proxyd.errors import RequestError


class RouterTests(SynchronousTestCase):
    """Functions under patterns."""

    def setUp(self) -> None:
        self.router: Router[Callable[[], str]] = Router()
        for pattern, methods in (
            ("/a", ("GET", "POST")),
            ("/a/<one>", ("GET",)),
            ("/a/<path:rest>", ("DELETE",)),
            ("/b.c/<x>/d", ("GET",)),
        ):
            self.router.route(pattern, *methods)(lambda pattern=pattern: pattern)  # type: ignore[misc]
        self.router.route("/a", "PUT")(lambda: "put")

    def test_patterns(self) -> None:
        """A placeholder takes one raw segment, one with `path:` the rest; everything else is literal."""
        cases = {
            ("GET", "/a"): ("/a", {}),
            ("PUT", "/a"): ("put", {}),
            ("GET", "/a/x%2Fy"): ("/a/<one>", {"one": "x%2Fy"}),
            ("GET", "/b.c/1/d"): ("/b.c/<x>/d", {"x": "1"}),
        }
        for (method, path), (pattern, arguments) in cases.items():
            function, found = self.router.find(method, path)
            self.assertEqual((pattern, arguments), (function(), found))

    def test_unknown_paths(self) -> None:
        """No pattern: 404."""
        for path in ("/", "/A", "/a/", "/aa", "/bxc/1/d", "/b.c//d", "/b.c/1/2/d"):
            error = self.assertRaises(RequestError, self.router.find, "GET", path)
            self.assertIn(error.status, (404, 405), path)

    def test_other_methods(self) -> None:
        """A pattern for other methods only: 405, with those that there are."""
        error = self.assertRaises(MethodError, self.router.find, "PATCH", "/a")
        self.assertEqual((405, ["GET", "POST", "PUT"]), (error.status, error.allowed))
