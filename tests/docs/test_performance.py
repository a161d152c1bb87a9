"""The page of measurements is made from its figures, and from nothing else."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from twisted.trial.unittest import SynchronousTestCase

from tests.support import CHECKOUT

_DOCS = CHECKOUT / "docs"


class PerformanceTests(SynchronousTestCase):
    """docs/performance.md and its chart."""

    def setUp(self) -> None:
        """Import what makes them; bench/ is no package."""
        self.patch(sys, "path", [str(CHECKOUT / "bench"), *sys.path])
        for name in ("page", "results", "goals", "peers"):
            self.addCleanup(sys.modules.pop, name, None)
        self.page = importlib.import_module("page")
        self.results_module: ModuleType = importlib.import_module("results")
        self.results = self.results_module.Results.load(_DOCS / "performance.json")

    def test_page_and_chart_are_those_of_the_figures(self) -> None:
        """What is shown is what was measured."""
        self.assertEqual((_DOCS / "performance.md").read_text(), self.page.page(self.results))
        self.assertEqual((_DOCS / "performance.svg").read_text(), self.page.chart(self.results.verdicts()))

    def test_every_axis_has_its_goals_on_the_page(self) -> None:
        """For each row that a goal is about there is a line of the table."""
        wanted = {goal.row for goal in importlib.import_module("goals").GOALS} & self.results.rows.keys()
        self.assertEqual(wanted, {verdict.row.key for verdict in self.results.verdicts()})
        self.assertGreater(len(wanted), 10)

    def test_missed_goals_are_told(self) -> None:
        """A ratio above its goal is shown as missed, one at its goal as met."""
        module = self.results_module
        row = module.Row("k", "t", "µs", {"proxyd": module.Figure(3.0), "CHP": module.Figure(2.0)}, {"CHP": 1.5}, {})
        missed, met = (module.goal_cells([module.Verdict(row, "CHP", goal, 1.5)])[1] for goal in (1.2, 1.5))
        self.assertEqual((missed[-1], met[-1]), ("missed by 25%", "met"))
        self.assertIn("x1.50", met)
