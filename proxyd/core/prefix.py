"""Longest prefix by whole segments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

V = TypeVar("V")

# A node is a dict: segment -> node, and None -> the value that ends here; where nothing follows, the value stands in
# place of the node. Dicts alone, because a class for nodes doubles the memory of a table of 100,000 routes, and none
# for leaves, because they are most of it.
_Node = dict[str | None, object]


class PrefixTree(Generic[V]):
    """Sequences of segments, each with a value that is no dict; a look-up finds the longest one that begins a path."""

    def __init__(self) -> None:
        self._root: _Node = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def set(self, segments: Sequence[str], value: V) -> None:
        """Put `value` at `segments`, in place of what was there."""
        node = self._root
        last = len(segments) - 1
        for index, segment in enumerate(segments):
            child = node.get(segment)
            if child.__class__ is not dict:
                if index == last:
                    self._size += child is None
                    node[segment] = value
                    return
                child = node[segment] = {} if child is None else {None: child}
            node = child  # type: ignore[assignment]
        self._size += None not in node
        node[None] = value

    def delete(self, segments: Sequence[str]) -> None:
        """Take the value at `segments` away, and with it the branches that lead nowhere now.

        Raises `KeyError` if there is none.
        """
        node = self._root
        trail: list[tuple[_Node, str | None]] = []
        for segment in segments:
            if node.__class__ is not dict:
                raise KeyError(segment)
            trail.append((node, segment))
            node = node[segment]  # type: ignore[assignment]
        if node.__class__ is dict:
            trail.append((node, None))
        while trail:
            parent, last = trail.pop()
            del parent[last]
            if parent:
                break
        self._size -= 1

    def get(self, segments: Sequence[str]) -> V | None:
        """The value at exactly `segments`, or None."""
        node: object = self._root
        for segment in segments:
            if node.__class__ is not dict:
                return None
            node = node.get(segment)
        return node.get(None) if node.__class__ is dict else node  # type: ignore[return-value]

    def longest(self, segments: Sequence[str]) -> V | None:
        """The value of the longest sequence that `segments` begin with, or None."""
        node = self._root
        found = node.get(None)
        for segment in segments:
            child = node.get(segment)
            if child.__class__ is dict:
                node = child
                found = node.get(None, found)
            else:
                return found if child is None else child  # type: ignore[return-value]
        return found  # type: ignore[return-value]

    def __iter__(self) -> Iterator[V]:
        nodes = [self._root]
        while nodes:
            for child in nodes.pop().values():
                if child.__class__ is dict:
                    nodes.append(child)
                else:
                    yield child  # type: ignore[misc]

    def drain(self) -> Iterator[None]:
        """Let go of one value after the other; nothing else may be done with the tree then."""
        nodes = [self._root]
        while nodes:
            if not nodes[-1]:
                nodes.pop()
                continue
            _, child = nodes[-1].popitem()
            if child.__class__ is dict:
                nodes.append(child)
            else:
                del child
                yield
