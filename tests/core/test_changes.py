"""Changes of a route table."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.changes import replacements
from proxyd.testing.contracts import make_route


class ReplacementsTests(SynchronousTestCase):
    """From one set of routes to another."""

    def test_what_goes_before_what_comes(self) -> None:
        """Routes that are not wanted go, new and different ones come, and those that are the same do not change."""
        before = {route.key: route for route in (make_route("/kept"), make_route("/gone"), make_route("/other"))}
        other, new = make_route("/other", "http://new"), make_route("/new")
        before["/same"] = make_route("/same")
        after = {route.key: route for route in (make_route("/kept"), before["/same"], other, new)}
        self.assertEqual(
            [("/gone", None), ("/other", other), ("/new", new)],
            list(replacements(before, after)),
        )

    def test_turns_of_others(self) -> None:
        """Now and then there is a moment for somebody else, whether anything changes or not."""
        before = {f"/{number}": make_route(f"/{number}") for number in range(5000)}
        self.assertEqual([None] * 4, list(replacements(before, dict(before))))
        self.assertEqual((2, 5000), ((told := list(replacements(before, {}))).count(None), len(told) - 2))
