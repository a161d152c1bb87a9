"""Longest prefix by whole segments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

V = TypeVar("V")

# A node is a dict: segment -> node, and None -> the value that ends here. Dicts alone, because a class for nodes
# doubles the memory of a table of 100,000 routes.
_Node = dict[str | None, object]


class PrefixTree(Generic[V]):
    """Sequences of segments, each with a value; a look-up finds the longest one that begins a path."""

    def __init__(self) -> None:
        self._root: _Node = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def set(self, segments: Sequence[str], value: V) -> None:
        """Put `value` at `segments`, in place of what was there."""
        node = self._root
        for segment in segments:
            node = node.setdefault(segment, {})  # type: ignore[assignment]  # under a segment there is a node
        self._size += None not in node
        node[None] = value

    def delete(self, segments: Sequence[str]) -> None:
        """Take the value at `segments` away, and with it the branches that lead nowhere now.

        Raises `KeyError` if there is none.
        """
        node = self._root
        trail: list[tuple[_Node, str]] = []
        for segment in segments:
            trail.append((node, segment))
            node = node[segment]  # type: ignore[assignment]
        del node[None]
        self._size -= 1
        for parent, segment in reversed(trail):
            if parent[segment]:
                break
            del parent[segment]

    def get(self, segments: Sequence[str]) -> V | None:
        """The value at exactly `segments`, or None."""
        node: _Node | None = self._root
        for segment in segments:
            node = node.get(segment)  # type: ignore[union-attr, assignment]
            if node is None:
                return None
        return node.get(None)  # type: ignore[union-attr, return-value]

    def longest(self, segments: Sequence[str]) -> V | None:
        """The value of the longest sequence that `segments` begin with, or None."""
        node = self._root
        found = node.get(None)
        for segment in segments:
            node = node.get(segment)  # type: ignore[assignment]
            if node is None:
                break
            found = node.get(None, found)
        return found  # type: ignore[return-value]

    def __iter__(self) -> Iterator[V]:
        nodes = [self._root]
        while nodes:
            node = nodes.pop()
            for segment, child in node.items():
                if segment is None:
                    yield child  # type: ignore[misc]
                else:
                    nodes.append(child)  # type: ignore[arg-type]
