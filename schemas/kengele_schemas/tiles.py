"""A log as a finite set of files that never change: hashes and entries, 256 in each (c2sp.org/tlog-tiles).

A tile of level ``l`` holds hashes of complete subtrees of 256**l leaves. A tile that is not full yet has its width in
its name, so that a later, wider one is another file.

    >>> [str(tile) for tile in needed(300)]
    ['tile/0/000', 'tile/0/001.p/44', 'tile/1/000.p/1']
    >>> read_tile("tile/entries/x001/x234/067").number
    1234067
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from .errors import Malformed
from .merkle import HASH, Tree

WIDTH: Final = 256
HEIGHT: Final = 8
"""Levels of the tree in one tile."""
ENTRIES: Final = -1
"""In the place of a level: the entries themselves."""
MAX_ENTRY: Final = 0xFFFF
"""Bytes of one entry; its length stands before it in two bytes."""
_MAX_LEVEL: Final = 7
"""The highest that a log of fewer than 2**64 entries can have."""
_PATH: Final = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?", re.ASCII)
_MAX_PATH: Final = 64


class Tile(NamedTuple):
    """Which tile; ``str(tile)`` is its path."""

    level: int
    number: int
    width: int = WIDTH

    def __str__(self) -> str:
        parts = [f"{self.number % 1000:03}"]
        rest = self.number // 1000
        while rest:
            parts.insert(0, f"x{rest % 1000:03}")
            rest //= 1000
        partial = f".p/{self.width}" if self.width < WIDTH else ""
        return f"tile/{'entries' if self.level == ENTRIES else self.level}/{'/'.join(parts)}{partial}"


def read_tile(path: str) -> Tile:
    """The tile at ``path``. Raises Malformed if that is none, or not in the one spelling there is."""
    found = _PATH.fullmatch(path) if len(path) <= _MAX_PATH else None
    if found is None:
        raise _no_tile()
    level, index, width = found.groups()
    tile = Tile(
        ENTRIES if level == "entries" else int(level),
        int(index.replace("x", "").replace("/", "")),
        WIDTH if width is None else int(width),
    )
    if tile.level > _MAX_LEVEL or str(tile) != path:
        raise _no_tile()
    return tile


def needed(size: int, since: int = 0, *, entries: bool = False) -> Iterator[Tile]:
    """The tiles of a log of ``size`` entries, less those that one of ``since`` entries has already.

    Args:
        entries: the bundles of entries in place of the hashes.
    """
    level = ENTRIES if entries else 0
    while size:
        for index in range(since // WIDTH, -(-size // WIDTH)):
            width = min(WIDTH, size - index * WIDTH)
            if index * WIDTH + width > since:
                yield Tile(level, index, width)
        if level == ENTRIES:
            return
        level, size, since = level + 1, size // WIDTH, since // WIDTH


def hashes(tree: Tree, tile: Tile) -> bytes:
    """The bytes of a tile of hashes. Raises Malformed if ``tree`` has not got so many, or it is one of entries."""
    if tile.level == ENTRIES:
        raise _no_tile()
    start = tile.number * WIDTH
    try:
        return tree.hashes(tile.level * HEIGHT, start, start + tile.width)
    except ValueError:
        raise _no_tile() from None


def split_hashes(data: bytes) -> list[bytes]:
    """The hashes in a tile's bytes. Raises Malformed."""
    if not data or len(data) % HASH or len(data) > WIDTH * HASH:
        raise _no_tile()
    return [data[at : at + HASH] for at in range(0, len(data), HASH)]


def bundle(entries: Iterable[bytes]) -> bytes:
    """Entries as they stand in one file. Raises Malformed if one is too long."""
    parts = []
    for entry in entries:
        if len(entry) > MAX_ENTRY:
            raise Malformed("oversized", "An entry of the log is longer than its file format takes.")
        parts.append(len(entry).to_bytes(2, "big") + entry)
    return b"".join(parts)


def read_bundle(data: bytes) -> list[bytes]:
    """The entries in one file: 1 to 256. Raises Malformed."""
    entries: list[bytes] = []
    at = 0
    while at < len(data) and len(entries) < WIDTH:
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > len(data) or end > len(data):
            raise _no_bundle()
        entries.append(data[at + 2 : end])
        at = end
    if not entries or at != len(data):
        raise _no_bundle()
    return entries


def bundles(entries: Sequence[bytes]) -> Iterator[tuple[Tile, bytes]]:
    """All entries of a log as files."""
    for tile in needed(len(entries), entries=True):
        yield tile, bundle(entries[tile.number * WIDTH : tile.number * WIDTH + tile.width])


def _no_tile() -> Malformed:
    return Malformed("malformed", "This is no tile of the log.")


def _no_bundle() -> Malformed:
    return Malformed("malformed", "This is no bundle of the log's entries.")
