"""JSON as the API reads it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.jsontext import merge, read_members, read_object
from proxyd.errors import RequestError

NO_OBJECTS = (b"", b" ", b"null", b"[]", b"3", b'"x"', b"\xff", b"\xef\xbb\xbf{}", b"[" * 100_000)
BROKEN = (
    b"{", b"{,}", b'{"a"}', b'{"a":}', b'{"a" 1}', b'{"a":1', b'{"a":1,}', b'{"a":1 "b":2}', b'{"a":1}x', b"{'a':1}",
    b'{"a":NaN}', b'{"a":-Infinity}', b'{"a:1}', b'{"a":1,3:4}', b'{"a":' + b"[" * 100_000, b'{"a":1]',
)  # fmt: skip

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.text(max_size=5), VALUES, max_size=4)


class ReadTests(SynchronousTestCase):
    """Bodies."""

    def test_what_is_no_object_is_refused(self) -> None:
        """In both ways, with 400 and a reason."""
        for body in (*NO_OBJECTS, *BROKEN):
            for read in (read_object, lambda body: list(read_members(body))):
                with self.assertRaises(RequestError) as caught:
                    read(body)
                self.assertEqual(400, caught.exception.status)
                self.assertIn("JSON", str(caught.exception), body[:50])

    def test_the_place_is_told(self) -> None:
        """Of a mistake in the middle of a large body."""
        with self.assertRaises(RequestError) as caught:
            list(read_members(b'{\n "a": 1,\n "b" 2}'))
        self.assertIn("line 3 column 6", str(caught.exception))

    @given(OBJECTS, st.sampled_from([None, 0, 3, "\t"]))
    def test_both_ways_read_the_same(self, members: dict[str, Any], indent: Any) -> None:
        """Member by member, or at once; however it is laid out."""
        body = f" {json.dumps(members, indent=indent)}\r\n".encode()
        self.assertEqual(members, read_object(body))
        self.assertEqual(list(members.items()), list(read_members(body)))

    def test_depth(self) -> None:
        """Two hundred levels are taken, however many members there are, and not one more."""

        def nested(levels: int, inner: str) -> bytes:
            return ('{"a":' * (levels - 1) + inner + "}" * (levels - 1)).encode()

        for inner in ("{}", "[]", '{"a": 1}', "[1, 2]"):
            self.assertEqual(["a"], list(read_object(nested(200, inner))))
            with self.assertRaisesRegex(RequestError, "200 levels") as caught:
                read_object(nested(201, inner))
            self.assertEqual(400, caught.exception.status)
        many = {"a": [{}] * 1000, "b": "{[" * 1000}
        self.assertEqual(many, read_object(json.dumps(many).encode()))

    def test_names_may_come_twice(self) -> None:
        """Whoever reads the members sees that."""
        self.assertEqual([("a", 1), ("a", 2)], list(read_members(b'{"a":1,"a":2}')))


class MergeTests(SynchronousTestCase):
    """JSON merge patch."""

    def test_examples_of_the_standard(self) -> None:
        """All those of RFC 7396, appendix A."""
        cases: tuple[tuple[Any, Any, Any], ...] = (
            ({"a": "b"}, {"a": "c"}, {"a": "c"}),
            ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
            ({"a": "b"}, {"a": None}, {}),
            ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
            ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
            ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
            ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
            ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
            (["a", "b"], ["c", "d"], ["c", "d"]),
            ({"a": "b"}, ["c"], ["c"]),
            ({"a": "foo"}, None, None),
            ({"a": "foo"}, "bar", "bar"),
            ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
            ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
            ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        )
        for target, patch, expected in cases:
            before = json.dumps(target)
            self.assertEqual(expected, merge(target, patch))
            self.assertEqual(before, json.dumps(target))
