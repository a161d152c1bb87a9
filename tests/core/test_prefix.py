"""Longest prefix by whole segments, against a plain dict."""

from __future__ import annotations

from weakref import ref

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from proxyd.core.prefix import PrefixTree

# Few, so that they meet; among them what is no member of anything here, and no segment at all.
SEGMENTS = st.lists(st.sampled_from(["a", "b", "", "A", "ab", "__proto__", "constructor", "é"]), max_size=4).map(tuple)

Segments = tuple[str, ...]


def tree_of(values: dict[Segments, int]) -> PrefixTree[int]:
    """A tree with these values."""
    tree: PrefixTree[int] = PrefixTree()
    for segments, value in values.items():
        tree.set(segments, value)
    return tree


class PrefixTreeTests(SynchronousTestCase):
    """A tree of segments."""

    def test_longest_chain_of_whole_segments_wins(self) -> None:
        """Equal whole segments match, and the longest chain of them that has a value."""
        tree = tree_of({("a",): 1, ("a", "b", "c"): 3, ("a", "", "b"): 4, ("x",): 5})
        for segments, expected in (
            ((), None),
            (("a",), 1),
            (("a", "b"), 1),
            (("a", "b", "c"), 3),
            (("a", "b", "c", "d"), 3),
            (("a", "b", "d"), 1),
            (("a", ""), 1),
            (("a", "", "b"), 4),
            (("ab",), None),
            (("A",), None),
            (("a;x",), None),
            (("b",), None),
            (("", "a"), None),
            (("constructor",), None),
            (("__class__",), None),
        ):
            self.assertEqual(tree.longest(segments), expected, repr(segments))

    def test_root_matches_everything(self) -> None:
        """A value at no segments at all answers when nothing longer does."""
        tree = tree_of({(): 0, ("a", "b"): 2})
        for segments, expected in (((), 0), (("x",), 0), (("a",), 0), (("a", "b"), 2), (("a", "b", "c"), 2)):
            self.assertEqual(tree.longest(segments), expected, repr(segments))

    def test_letting_go(self) -> None:
        """Is a step for each value, and nothing else holds them."""
        tree: PrefixTree[frozenset[int]] = PrefixTree()
        for number, segments in enumerate(((), ("a",), ("a", "b"), ("c", "d"))):
            tree.set(segments, frozenset({number}))
        held = [ref(value) for value in tree]
        self.assertEqual([3, 2, 1, 0], [sum(value() is not None for value in held) for _ in tree.drain()])

    def test_falsy_values_are_values(self) -> None:
        """What a value is worth does not matter."""
        tree = tree_of({("a",): 0})
        self.assertEqual((tree.get(("a",)), tree.longest(("a", "b")), list(tree), len(tree)), (0, 0, [0], 1))

    def test_get_is_exact(self) -> None:
        """Neither a parent nor a child answers for a place."""
        tree = tree_of({("a", "b"): 1})
        for segments, expected in (
            ((), None),
            (("a",), None),
            (("a", "b"), 1),
            (("a", "b", "c"), None),
            (("x", "y"), None),
        ):
            self.assertEqual(tree.get(segments), expected, repr(segments))

    def test_what_is_not_there_cannot_be_deleted(self) -> None:
        """Deleting raises `KeyError`, and changes nothing."""
        tree = tree_of({("a", "b"): 1})
        for segments in ((), ("a",), ("a", "b", "c"), ("x",), ("x", "y")):
            self.assertRaises(KeyError, tree.delete, segments)
            self.assertEqual((len(tree), tree.get(("a", "b"))), (1, 1), repr(segments))

    def test_deleting_leaves_no_branches(self) -> None:
        """A tree takes no memory for what was deleted, and keeps what others need."""
        tree = tree_of({("a", "b", "c"): 1, ("a", "x"): 2, (): 3})
        tree.delete(("a", "b", "c"))
        self.assertEqual(tree._root, {None: 3, "a": {"x": 2}})
        tree.delete(("a", "x"))
        tree.delete(())
        self.assertEqual(tree._root, {})

    @given(
        st.lists(st.tuples(st.sampled_from(["set", "delete"]), SEGMENTS), max_size=30),
        st.lists(SEGMENTS, min_size=3, max_size=3),
    )
    def test_tree_is_a_dict_with_prefixes(self, steps: list[tuple[str, Segments]], questions: list[Segments]) -> None:
        """After any steps a tree answers as a dict does that is asked for each prefix of a path."""
        tree: PrefixTree[int] = PrefixTree()
        model: dict[Segments, int] = {}
        for number, (step, segments) in enumerate(steps):
            if step == "set":
                tree.set(segments, number)
                model[segments] = number
            elif segments in model:
                tree.delete(segments)
                del model[segments]
            else:
                self.assertRaises(KeyError, tree.delete, segments)
        self.assertEqual(len(tree), len(model))
        self.assertEqual(bool(tree), bool(model))
        self.assertEqual(sorted(tree), sorted(model.values()))
        for segments in [*questions, *model]:
            self.assertEqual(tree.get(segments), model.get(segments), f"{segments} in {model}")
            prefixes = [segments[:size] for size in range(len(segments), -1, -1)]
            longest = next((model[prefix] for prefix in prefixes if prefix in model), None)
            self.assertEqual(tree.longest(segments), longest, f"{segments} in {model}")
        self.assertEqual(tree._root, tree_of(model)._root)
