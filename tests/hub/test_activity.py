"""Tests of `proxyd.hub.activity` and `proxyd.auth.reporting`."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from proxyd.auth.hubsettings import HubAuthConfig
from proxyd.auth.reporting import activity_reports, is_reported_alike
from proxyd.errors import HubError, OptionError
from proxyd.hub.activity import Activity, ActivityReports
from proxyd.model.activity import ActivitySettings
from proxyd.model.ports import PortsSettings
from proxyd.model.servers import ServerSpec
from proxyd.model.settings import Config
from proxyd.option import Pattern, Port, Seconds, Secret, ServerName

START = 1_800_000_000.0


class ActivityTests(SynchronousTestCase):
    """When something last happened."""

    def test_what_counts(self) -> None:
        """Whatever is touched, but for paths that do not; in the beginning, the beginning."""
        now = START
        activity = Activity(lambda: now, ["/user/a/api/(status|metrics)", ".*/poll"])
        self.assertEqual(activity.last, START)
        now += 5
        touch = activity.touch_of(b"/user/a/lab")
        assert touch is not None
        touch()
        self.assertEqual(activity.last, START + 5)
        for path in (b"/user/a/api/status", b"/x/y/poll"):
            self.assertIsNone(activity.touch_of(path), path)
        for path in (b"/user/a/api/status/x", b"/x/poll/", b"/\xff"):
            self.assertIsNotNone(activity.touch_of(path), path)


class ReportTests(SynchronousTestCase):
    """Telling the Hub."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.last = START
        self.posted: list[tuple[float, Any]] = []
        self.answers: list[Any] = []

    def post(self, body: bytes) -> Deferred[None]:
        self.posted.append((self.clock.seconds(), json.loads(body)))
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Deferred):
            return answer
        return succeed(None) if answer is None else fail(answer)

    def start(self, interval: float = 300, server_name: str = "", random: float = 0.5, **more: bool) -> ActivityReports:
        """Begin to report."""
        reports = ActivityReports(
            self.post,
            lambda: self.last,
            server_name=server_name,
            interval=interval,
            force_alive=more.get("force_alive", False),
            clock=self.clock,
            wall_clock=lambda: START + self.clock.seconds(),
            random=lambda: random,
        )
        reports.start()
        self.addCleanup(reports.stop)
        return reports

    def times(self) -> list[float]:
        """When there was a report."""
        return [seconds for seconds, _ in self.posted]

    def test_what_is_told(self) -> None:
        """The default server has the empty name."""
        for name in ("", "second"):
            self.start(server_name=name)
            self.clock.advance(300)
            stamp = "2027-01-15T08:00:00.000Z"
            expected = {"servers": {name: {"last_activity": stamp}}, "last_activity": stamp}
            self.assertEqual(self.posted.pop()[1], expected)

    def test_how_often(self) -> None:
        """At first after an interval; each up to a tenth shorter or longer."""
        for random, first in ((0.0, 270), (0.5, 300), (1.0, 330)):
            self.clock, self.posted = Clock(), []
            self.start(random=random, force_alive=True)
            self.clock.pump([1] * (first - 1))
            self.assertEqual(self.times(), [])
            self.clock.pump([1] * (first + 1))
            self.assertEqual(self.times(), [first, 2 * first])

    def test_never(self) -> None:
        """With an interval of 0."""
        self.start(interval=0)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_an_idle_server_says_nothing(self) -> None:
        """Once it has said when it was busy."""
        self.start()
        self.clock.pump([300] * 3)
        self.assertEqual(self.times(), [300])
        self.last = START + 1000
        self.clock.pump([300] * 2)
        self.assertEqual(self.times(), [300, 1200])

    def test_it_can_be_kept_alive(self) -> None:
        """Then it is always busy."""
        self.start(force_alive=True)
        self.clock.pump([300] * 3)
        self.assertEqual(self.times(), [300, 600, 900])
        self.assertEqual(self.posted[-1][1]["last_activity"], "2027-01-15T08:15:00.000Z")

    def test_faults_are_tried_again(self) -> None:
        """For a minute; and with the next report."""
        self.answers = [HubError(503, "is down")] * 8
        self.start(force_alive=True)
        self.clock.pump([1] * 400)
        self.assertEqual(self.times(), [300, 301, 303, 307, 315, 330, 345, 360])
        self.clock.pump([1] * 300)
        self.assertEqual(self.times()[8:], [660])

    def test_what_is_refused_is_not(self) -> None:
        """It would be refused again."""
        self.answers = [HubError(500, "refuses"), RuntimeError("odd")]
        self.start(force_alive=True)
        self.clock.pump([1] * 910)
        self.assertEqual(self.times(), [300, 600, 900])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_the_end(self) -> None:
        """Whatever goes on then."""
        answer: Deferred[None] = Deferred()
        self.answers = [answer]
        reports = self.start(force_alive=True)
        self.clock.advance(300)
        reports.stop()
        self.assertTrue(answer.called)
        self.start().stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class WiringTests(SynchronousTestCase):
    """Who wants reports."""

    ENVIRON = {  # noqa: RUF012  # nobody changes it
        "JUPYTERHUB_ACTIVITY_URL": "http://127.0.0.1:1/hub/api/users/alice/activity",
        "JUPYTERHUB_API_URL": "http://127.0.0.1:1/hub/api",
        "JUPYTERHUB_API_TOKEN": "token",
        "JUPYTERHUB_SERVER_NAME": "",
    }

    def make(self, config: Config, **environ: str) -> ActivityReports | None:
        """What reports."""
        return activity_reports(config, {**self.ENVIRON, **environ}, Clock(), lambda: START)

    def test_who_does(self) -> None:
        """Where a Hub has started us, whoever asks who it is, or where it is said."""
        self.assertIsNone(self.make(Config()))
        prefix = {"JUPYTERHUB_SERVICE_PREFIX": "/user/alice/"}
        self.assertIsNone(self.make(Config(), **prefix))  # of routes alone nobody knows what happens
        for config in (
            Config(ports=PortsSettings(enabled=True)),
            Config(servers={ServerName("app"): ServerSpec(port=Port(1))}),
        ):
            self.assertIsNone(self.make(config))
            self.assertIsNotNone(self.make(config, **prefix))
            self.assertIsNone(self.make(config, **prefix, JUPYTERHUB_API_TOKEN=""))
        self.assertIsNotNone(self.make(Config(auth=HubAuthConfig())))
        self.assertIsNone(self.make(Config(auth=HubAuthConfig()), JUPYTERHUB_ACTIVITY_URL=""))
        self.assertIsNotNone(self.make(Config(activity=ActivitySettings(url="http://a.test/"))))

    def test_what_a_reload_changes(self) -> None:
        """The section, who asks, and whether there is anything to tell of; not how much of that there is."""
        servers = {ServerName("app"): ServerSpec(port=Port(1))}
        more = {**servers, ServerName("other"): ServerSpec(port=Port(2))}
        self.assertTrue(is_reported_alike(Config(), Config()))
        self.assertTrue(is_reported_alike(Config(servers=servers), Config(servers=more)))
        for other in (
            Config(servers=servers),
            Config(ports=PortsSettings(enabled=True)),
            Config(auth=HubAuthConfig()),
            Config(activity=ActivitySettings(force_alive=True)),
        ):
            self.assertFalse(is_reported_alike(Config(), other))

    def test_the_interval(self) -> None:
        """The option, else the variable, else five minutes."""
        for option, variable, expected in (
            (None, "", 300),
            (None, "20", 20),
            (7, "20", 7),
            (None, "soon", 300),
            (0, "20", None),
            (None, "0", None),
        ):
            settings = ActivitySettings(interval=None if option is None else Seconds(option))
            made = self.make(Config(auth=HubAuthConfig(), activity=settings), JUPYTERHUB_ACTIVITY_INTERVAL=variable)
            self.assertEqual(None if made is None else made._interval, expected, (option, variable))

    def test_the_name(self) -> None:
        """The option, else the variable, which may be empty."""
        for option, variable, expected in ((None, "", ""), (None, "b", "b"), ("", "b", ""), ("c", "b", "c")):
            config = Config(auth=HubAuthConfig(), activity=ActivitySettings(server_name=option))
            made = self.make(config, JUPYTERHUB_SERVER_NAME=variable)
            assert made is not None
            self.assertEqual(made._server_name, expected)

    def test_mistakes(self) -> None:
        """Are told."""
        with_url = ActivitySettings(url="http://a.test/")
        for config, environ in (
            (Config(activity=with_url), {"JUPYTERHUB_API_TOKEN": ""}),
            (
                Config(auth=HubAuthConfig(), activity=ActivitySettings(token=Secret("t"))),
                {"JUPYTERHUB_ACTIVITY_URL": "x"},
            ),
        ):
            self.assertRaises(OptionError, self.make, config, **environ)
        self.assertRaises(OptionError, ActivitySettings, url="x", token=Secret("t"))
        self.assertEqual(ActivitySettings(ignore=(Pattern("x"),)).ignore, ("x",))
