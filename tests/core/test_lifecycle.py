"""The life of a managed server, without one."""

from __future__ import annotations

from automat import NoTransition
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.lifecycle import (
    INITIAL,
    TRANSITIONS,
    WINDOW_STARTS,
    Events,
    Verdict,
    after_exit,
    begin_life,
    count_failure,
    draw,
    hold_seconds,
    pause_seconds,
)
from proxyd.model.servers import RestartSettings, ServerState
from proxyd.option import Seconds


class Written:
    """Writes down what the machine wants."""

    def __init__(self) -> None:
        self.state: ServerState = INITIAL
        self.done: list[str] = []
        self.life: Events = begin_life(self)

    def entered(self, state: ServerState) -> None:
        self.state = state

    def __getattr__(self, name: str) -> object:
        return lambda: self.done.append(name)

    def after(self, *events: str) -> tuple[str, list[str]]:
        """Let the events happen; the state, and what was done."""
        for event in events:
            getattr(self.life, event)()
        done, self.done = self.done, []
        return self.state, done


class MachineTests(SynchronousTestCase):
    """Stories."""

    def test_a_good_life(self) -> None:
        """It is started once, serves, and is stopped."""
        server = Written()
        self.assertEqual(server.after("want", "want"), ("starting", ["begin"]))
        self.assertEqual(server.after("answered", "want"), ("ready", ["admit"]))
        self.assertEqual(server.after("stop"), ("stopping", ["end"]))
        self.assertEqual(server.after("gone"), ("stopped", []))

    def test_a_crash_is_followed_by_a_pause(self) -> None:
        """And who comes meanwhile waits for its end."""
        server = Written()
        server.after("want", "answered")
        self.assertEqual(server.after("crashed", "want"), ("backing_off", ["pause"]))
        self.assertEqual(server.after("pause_over"), ("starting", ["again"]))

    def test_an_end_in_order_is_rest(self) -> None:
        """Until it is wanted."""
        server = Written()
        self.assertEqual(server.after("want", "answered", "ended")[0], "stopped")
        self.assertEqual(server.after("want"), ("starting", ["begin"]))

    def test_who_waits_for_what_is_too_late_is_sent_away(self) -> None:
        """The process is killed, and who comes then waits for a new one."""
        server = Written()
        self.assertEqual(server.after("want", "too_late"), ("aborting", ["begin", "refuse", "kill"]))
        self.assertEqual(server.after("want"), ("renewing", []))
        self.assertEqual(server.after("gone"), ("starting", ["begin"]))

    def test_a_stop_is_stronger_than_a_wish(self) -> None:
        """In every state; whoever waits is sent away."""
        for events, state, done in (
            (("stop",), "stopped", []),
            (("want", "stop"), "stopping", ["begin", "refuse", "end"]),
            (("want", "crashed", "stop"), "stopped", ["begin", "pause", "refuse"]),
            (("want", "give_up", "stop"), "stopped", ["begin", "refuse"]),
            (("want", "too_late", "stop"), "stopping", ["begin", "refuse", "kill"]),
            (("want", "stop", "stop"), "stopping", ["begin", "refuse", "end"]),
            (("want", "stop", "want", "stop"), "stopping", ["begin", "refuse", "end", "refuse"]),
        ):
            self.assertEqual(Written().after(*events), (state, done), events)

    def test_every_transition_is_as_it_is_written(self) -> None:
        """And what is not in the table cannot happen."""
        paths: dict[str, tuple[str, ...]] = {INITIAL: ()}
        while len(paths) < len({before for before, _, _, _ in TRANSITIONS}):
            for before, event, after, _ in TRANSITIONS:
                if before in paths:
                    paths.setdefault(after, (*paths[before], event))
        events = {event for _, event, _, _ in TRANSITIONS}
        for state, path in paths.items():
            possible = {event: (after, actions) for before, event, after, actions in TRANSITIONS if before == state}
            for event in events:
                server = Written()
                server.after(*path)
                if event in possible:
                    after, actions = possible[event]
                    self.assertEqual(server.after(event), (after, list(actions)), (state, event))
                else:
                    self.assertRaises(NoTransition, server.after, event)

    def test_every_state_can_be_wanted_and_stopped(self) -> None:
        """Whenever that comes."""
        for state in {before for before, _, _, _ in TRANSITIONS}:
            events = {event for before, event, _, _ in TRANSITIONS if before == state}
            self.assertLessEqual({"want", "stop"}, events, state)

    def test_it_can_be_drawn(self) -> None:
        """Every way from one state to another."""
        text = draw()
        self.assertIn("    [*] --> stopped\n", text)
        self.assertIn("    stopped --> starting: want / begin\n", text)
        self.assertIn("    ready --> stopped: ended\n", text)
        self.assertNotIn("ready --> ready", text)
        self.assertEqual(text.count("-->"), 1 + sum(before != after for before, _, after, _ in TRANSITIONS))


class DecisionTests(SynchronousTestCase):
    """Whether and when it is started again."""

    def test_what_an_end_means(self) -> None:
        """Exit status 0 is rest for what was ready; too many failures in a row are enough."""
        for in_order, was_ready, failures, limit, verdict in (
            (True, True, 1, 8, Verdict.REST),
            (True, False, 1, 8, Verdict.GIVE_UP),
            (False, True, 1, 8, Verdict.AGAIN),
            (False, False, 7, 8, Verdict.AGAIN),
            (False, False, 8, 8, Verdict.GIVE_UP),
            (False, True, 9, 8, Verdict.GIVE_UP),
            (False, True, 999, 0, Verdict.AGAIN),
        ):
            restart = RestartSettings(give_up_after=limit)
            found = after_exit(in_order=in_order, was_ready=was_ready, failures=failures, restart=restart)
            self.assertIs(found, verdict)

    def test_a_long_life_is_a_new_beginning(self) -> None:
        """Ten seconds are long."""
        self.assertEqual([count_failure(5, seconds) for seconds in (0, 9.9, 10, 1000)], [6, 6, 1, 1])

    def test_pauses_double_up_to_the_longest(self) -> None:
        """However many failures there were."""
        pauses = [pause_seconds(failures, RestartSettings()) for failures in (1, 2, 3, 8, 9, 10, 10**6)]
        self.assertEqual(pauses, [0.1, 0.2, 0.4, 12.8, 25.6, 30, 30])
        self.assertEqual(pause_seconds(5, RestartSettings(backoff=Seconds(0))), 0)

    @given(st.lists(st.floats(0, 3), max_size=100))
    def test_there_are_never_more_than_eight_starts_in_two_seconds(self, gaps: list[float]) -> None:
        """However they are wanted, when each waits as it is told."""
        starts: list[float] = []
        now = 0.0
        for gap in gaps:
            now += gap
            now += hold_seconds(starts, now)
            starts.append(now)
        for index in range(len(starts) - WINDOW_STARTS):
            self.assertGreaterEqual(starts[index + WINDOW_STARTS] - starts[index], 2 - 1e-9)
