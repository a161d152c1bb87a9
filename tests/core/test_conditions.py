"""Conditions of requests (RFC 9110 §13.1)."""

from __future__ import annotations

import time

from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.conditions import Conditions
from proxyd.errors import RequestError

TAG = b'"a"'


class ConditionsTests(SynchronousTestCase):
    """What If-Match and If-None-Match ask for."""

    def test_without_conditions(self) -> None:
        """Everything may be done, and nothing is known."""
        conditions = Conditions.read([], [])
        self.assertFalse(conditions)
        for tag in (TAG, None):
            self.assertTrue(conditions.allow(tag))
            self.assertFalse(conditions.is_known(tag))

    def test_what_holds(self) -> None:
        """A tag, one of several, or any; a weak one is good for If-None-Match alone."""
        cases = (
            ([b'"a"'], [], True, False),
            ([b'"b"'], [], False, False),
            ([b'"b" , "a"'], [], True, False),
            ([b'"b"', b'"a"'], [], True, False),
            ([b'W/"a"'], [], False, False),
            ([b" * "], [], True, False),
            ([], [b'"a"'], False, True),
            ([], [b'W/"a"'], False, True),
            ([], [b'"b"'], True, True),
            ([], [b"*"], False, True),
            ([b'"a"'], [b'"b"'], True, False),
            ([b'"a"'], [b'"a"'], False, False),
        )
        for match, none_match, for_the_tag, for_nothing in cases:
            conditions = Conditions.read(match, none_match)
            self.assertTrue(conditions)
            self.assertEqual(for_the_tag, conditions.allow(TAG), (match, none_match))
            self.assertEqual(for_nothing, conditions.allow(None), (match, none_match))

    def test_what_is_known(self) -> None:
        """A client that has one of the tags has what it asks for."""
        for value, expected in ((b'"a"', True), (b'W/"a"', True), (b"*", True), (b'"b",,"a"', True), (b'"b"', False)):
            self.assertEqual(expected, Conditions.read([], [value]).is_known(TAG), value)
            self.assertFalse(Conditions.read([], [value]).is_known(None), value)

    def test_what_is_no_list_is_refused(self) -> None:
        """With the name of the field."""
        for value in (b"", b",", b"a", b'"a', b'"a" "b"', b'"a", *', b"w/*", b'w/"a"', b'"a b"', b'"a"x'):
            for name, values in (("If-Match", ([value], [])), ("If-None-Match", ([], [value]))):
                with self.assertRaises(RequestError) as caught:
                    Conditions.read(*values)
                self.assertEqual((400, True), (caught.exception.status, name in str(caught.exception)), value)

    def test_long_values_take_no_time(self) -> None:
        """However many blanks, commas and tags there are."""
        began = time.process_time()
        for value in (b" " * 16000 + b"x", b", " * 8000 + b"x", b'"a" ' * 4000, b'"a" ,' * 3000 + b"x"):
            self.assertRaises(RequestError, Conditions.read, [value], [])
        self.assertLess(time.process_time() - began, 0.5)
