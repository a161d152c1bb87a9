"""The tree of exceptions: whose fault, and the facts."""

from __future__ import annotations

import pickle

from twisted.trial.unittest import SynchronousTestCase

from proxyd.errors import (
    ConfigError,
    ConnectError,
    ConnectionCutError,
    ConnectTimeoutError,
    ListenError,
    MalformedResponseError,
    OptionError,
    Problem,
    ProxydError,
    RequestError,
    ResponseTimeoutError,
    StoreError,
    UpstreamError,
)


class ErrorTests(SynchronousTestCase):
    """What errors say."""

    def test_there_is_one_tree(self) -> None:
        """Everything that proxyd raises on purpose is a `ProxydError`."""
        for kind in (ConfigError, OptionError, ListenError, RequestError, StoreError, UpstreamError):
            self.assertTrue(issubclass(kind, ProxydError), kind.__name__)

    def test_problem_tells_its_place(self) -> None:
        """File, line and column, path and message, as far as they are known."""
        for problem, text in (
            (Problem("wrong"), "wrong"),
            (Problem("wrong", "a.b"), "a.b: wrong"),
            (Problem("wrong", "a.b", "f.yaml"), "f.yaml: a.b: wrong"),
            (Problem("wrong", "a.b", "f.yaml", 3, 5), "f.yaml:3:5: a.b: wrong"),
            (Problem("wrong", file="f.yaml", line=3, column=5), "f.yaml:3:5: wrong"),
        ):
            self.assertEqual(str(problem), text)

    def test_all_problems_are_told_at_once(self) -> None:
        """A `ConfigError` has a line for each problem, in order."""
        problems = [Problem("one"), Problem("two", "b")]
        error = ConfigError(iter(problems))
        self.assertEqual(error.problems, tuple(problems))
        self.assertEqual(str(error), "one\nb: two")

    def test_option_error_knows_its_path(self) -> None:
        """An `OptionError` is a `ValueError` with the keys and indices that lead to the option."""
        error = OptionError("wrong", "set", 3)
        self.assertEqual((error.message, error.path, str(error)), ("wrong", ("set", 3), "wrong"))
        self.assertEqual(OptionError("wrong").path, ())

    def test_listen_error_tells_where_and_why(self) -> None:
        """Both facts are in the text."""
        error = ListenError("127.0.0.1:80", "in use")
        self.assertEqual((error.where, error.reason), ("127.0.0.1:80", "in use"))
        self.assertEqual(str(error), "cannot listen on 127.0.0.1:80: in use")

    def test_store_error_is_one_line(self) -> None:
        """Whatever the code that it comes from had to say."""
        error = StoreError("m:C", "broken\n  disk")
        self.assertEqual((error.store, error.detail), ("m:C", "broken\n  disk"))
        self.assertEqual(str(error), "store m:C: broken disk")

    def test_request_error_has_a_status(self) -> None:
        """The status is the answer, the detail is the text."""
        error = RequestError(404, "no route")
        self.assertEqual((error.status, error.detail, str(error)), (404, "no route", "no route"))

    def test_upstream_errors_tell_what_went_wrong(self) -> None:
        """Each kind has its gateway status and its words, with the detail behind them if there is one."""
        for kind, status, text in (
            (UpstreamError, 502, "upstream up:80 failed"),
            (ConnectError, 502, "upstream up:80 cannot be reached"),
            (ConnectTimeoutError, 504, "upstream up:80 did not accept a connection in time"),
            (ResponseTimeoutError, 504, "upstream up:80 did not answer in time"),
            (ConnectionCutError, 502, "upstream up:80 closed the connection too early"),
            (MalformedResponseError, 502, "upstream up:80 sent a malformed response"),
        ):
            error = kind("up:80")
            self.assertIsInstance(error, UpstreamError)
            self.assertEqual((error.status, str(error)), (status, text), kind.__name__)
            self.assertEqual(str(kind("up:80", "why")), text + ": why", kind.__name__)

    def test_errors_can_be_copied(self) -> None:
        """Facts survive pickling, as they have to when an error crosses processes."""
        for error in (
            ConnectError("up", "why"),
            RequestError(404, "x"),
            ListenError("a", "b"),
            StoreError("a", "b"),
        ):
            copy = pickle.loads(pickle.dumps(error))
            self.assertEqual((type(copy), vars(copy), str(copy)), (type(error), vars(error), str(error)))
