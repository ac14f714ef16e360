"""A Merkle tree over leaves in order, and proofs about it (RFC 9162 §2.1).

>>> tree = Tree()
>>> index = tree.append(leaf_hash(b"a"))
>>> verify_inclusion(leaf_hash(b"a"), index, tree.size, tree.inclusion(index), tree.root())
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from .errors import Untrusted

HASH: Final = 32
"""Bytes of a hash (SHA-256)."""
MAX_PROOF: Final = 63
"""Hashes in a proof of any tree that there can be."""
EMPTY: Final = hashlib.sha256().digest()
"""The root of a tree without leaves."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf (RFC 9162 §2.1.1)."""
    return hashlib.sha256(b"\0" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


class Tree:
    """A growing tree, 64 bytes a leaf in memory: the hashes of every complete subtree, level by level."""

    def __init__(self) -> None:
        self._levels: list[bytearray] = [bytearray()]

    @property
    def size(self) -> int:
        """Leaves."""
        return len(self._levels[0]) // HASH

    def append(self, leaf: bytes) -> int:
        """Adds a leaf's hash; gives its index."""
        index = self.size
        self._levels[0] += leaf
        level, count = 0, index + 1
        while not count & 1:
            row = self._levels[level]
            if level + 1 == len(self._levels):
                self._levels.append(bytearray())
            self._levels[level + 1] += _node(bytes(row[-2 * HASH : -HASH]), bytes(row[-HASH:]))
            level, count = level + 1, count >> 1
        return index

    def root(self, size: int | None = None) -> bytes:
        """The root of the first ``size`` leaves; of all if None."""
        size = self._bounded(size)
        return self._range(0, size) if size else EMPTY

    def hashes(self, level: int, start: int, end: int) -> bytes:
        """The hashes ``start`` to ``end`` of complete subtrees of 2**``level`` leaves, joined. Raises ValueError."""
        row = self._levels[level] if level < len(self._levels) else b""
        if not 0 <= start < end <= len(row) // HASH:
            raise ValueError("the tree is not that large")
        return bytes(row[start * HASH : end * HASH])

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """The audit path of the leaf at ``index`` in the first ``size`` leaves (RFC 9162 §2.1.3.1), lowest first."""
        size = self._bounded(size)
        if not 0 <= index < size:
            raise ValueError("there is no such leaf")
        path: list[bytes] = []
        start, end = 0, size
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                path.append(self._range(middle, end))
                end = middle
            else:
                path.append(self._range(start, middle))
                start = middle
        return path[::-1]

    def consistency(self, old: int, new: int | None = None) -> list[bytes]:
        """The proof that the first ``old`` leaves begin the first ``new`` ones (RFC 9162 §2.1.4.1)."""
        new = self._bounded(new)
        if not 0 <= old <= new:
            raise ValueError("the older tree is the larger")
        if old in (0, new):
            return []
        path: list[bytes] = []
        start, end, whole = 0, new, True
        while old - start != end - start:
            middle = start + _split(end - start)
            if old <= middle:
                path.append(self._range(middle, end))
                end = middle
            else:
                path.append(self._range(start, middle))
                start, whole = middle, False
        if not whole:
            path.append(self._range(start, end))
        return path[::-1]

    def _bounded(self, size: int | None) -> int:
        if size is None:
            return self.size
        if not 0 <= size <= self.size:
            raise ValueError("the tree is not that large")
        return size

    def _range(self, start: int, end: int) -> bytes:
        """The hash over leaves ``start`` to ``end``; ``start`` is a multiple of the largest power of two within."""
        count = end - start
        if count & (count - 1) == 0:
            level = count.bit_length() - 1
            at = (start >> level) * HASH
            return bytes(self._levels[level][at : at + HASH])
        middle = start + _split(count)
        return _node(self._range(start, middle), self._range(middle, end))


def _split(count: int) -> int:
    """The largest power of two below ``count``."""
    return 1 << (count - 1).bit_length() - 1


def _bad() -> Untrusted:
    return Untrusted("bad-proof", "A proof from the hub's log does not hold.", "Keep it, and tell the coordinators.")


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Checks that ``leaf`` (a hash) is at ``index`` of the tree of ``size`` under ``root`` (RFC 9162 §2.1.3.2).

    Raises:
        Untrusted: ``bad-proof``.
    """
    if not 0 <= index < size or len(path) > MAX_PROOF:
        raise _bad()
    at, last, found = index, size - 1, leaf
    for step in path:
        if not last:
            raise _bad()
        if at & 1 or at == last:
            found = _node(step, found)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            found = _node(found, step)
        at, last = at >> 1, last >> 1
    if last or found != root:
        raise _bad()


def verify_consistency(old: int, new: int, path: Sequence[bytes], old_root: bytes, new_root: bytes) -> None:
    """Checks that the tree of ``old`` leaves begins the one of ``new`` leaves (RFC 9162 §2.1.4.2).

    Raises:
        Untrusted: ``bad-proof``.
    """
    if not 0 <= old <= new or len(path) > MAX_PROOF:
        raise _bad()
    if old in (0, new):
        if path or (old == new and old_root != new_root) or (old == 0 and old_root != EMPTY):
            raise _bad()
        return
    steps = list(path)
    if old & (old - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        raise _bad()
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = steps[0]
    for step in steps[1:]:
        if not last:
            raise _bad()
        if at & 1 or at == last:
            first, second = _node(step, first), _node(step, second)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            second = _node(second, step)
        at, last = at >> 1, last >> 1
    if last or first != old_root or second != new_root:
        raise _bad()
