"""Tests of `proxyd.api.reload`."""

from __future__ import annotations

import json

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from proxyd.api.reload import ReloadApi
from proxyd.api.resource import ApiResource
from proxyd.core.reload import Report
from proxyd.errors import Problem
from proxyd.testing.harness import Harness


class ReloadTests(SynchronousTestCase):
    """POST /api/reload."""

    def reload(self, report: Report) -> tuple[int, dict[str, object]]:
        """The answer, when the reload comes to this."""
        done: Deferred[Report] = Deferred()
        proxy = Harness(root=ApiResource(ReloadApi.router, ReloadApi(lambda: done), ()))
        client = proxy.client()
        client.send(b"POST /api/reload HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertEqual(b"", client.received)
        done.callback(report)
        head, _, body = client.pop().partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)

    def test_what_is_in_force(self) -> None:
        """And what waits for a restart."""
        status, body = self.reload(Report(applied=("routes./a",), needs_restart=("listeners",)))
        self.assertEqual(
            (200, {"applied": ["routes./a"], "needs_restart": ["listeners"], "problems": []}), (status, body)
        )

    def test_what_is_wrong(self) -> None:
        """Each problem with its place; it is 422."""
        status, body = self.reload(Report(problems=(Problem("expected a port", "api.port", "p.yaml", 3, 7),)))
        problem = {"file": "p.yaml", "line": 3, "column": 7, "path": "api.port", "message": "expected a port"}
        self.assertEqual((422, 422, [problem], []), (status, body["status"], body["problems"], body["applied"]))
        self.assertIn("nothing has changed", str(body["message"]))
