"""A log in a directory, as the files of c2sp.org/tlog-tiles: any tool that reads such logs can read it.

    checkpoint              over all that is here
    witnessed               the one that offices cosigned last, with their cosignatures
    tile/entries/000…       the entries, 256 in each file
    tile/0/000…             the tree's hashes

Files are written one by one, ``checkpoint`` last: an export that was cut off is taken up where it stopped.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kengele_schemas import disk
from kengele_schemas.checkpoint import MAX_TEXT, verify_checkpoint
from kengele_schemas.errors import Damaged, Malformed, Untrusted
from kengele_schemas.merkle import Tree, leaf_hash
from kengele_schemas.tiles import ENTRIES, MAX_ENTRY, WIDTH, Tile, bundle, hashes, needed, read_bundle
from kengele_schemas.witness import FORKED, ROLLED_BACK

from .sources import Source

_WIDTH: Final = re.compile(r"[1-9][0-9]{0,2}")
_MAX_BUNDLE: Final = WIDTH * (MAX_ENTRY + 2)
_ANEW: Final = "Export into an empty directory: that shows whether this copy is at fault or the hub."


@dataclass(frozen=True, slots=True)
class Archive:
    """The log in ``directory``."""

    directory: Path

    async def witnessed(self) -> str:
        """The cosigned checkpoint; where there is no such file, the one over all. Raises Malformed."""
        return self._text("witnessed" if disk.present(self.directory / "witnessed") else "checkpoint")

    async def checkpoint(self) -> str:
        """The checkpoint over all. Raises Malformed."""
        return self._text("checkpoint")

    async def entries(self, start: int, end: int) -> AsyncIterator[bytes]:
        """The entries from ``start`` up to ``end``, or as many as there are. Raises Damaged."""
        for number, entry in enumerate(self.kept()):
            if start <= number < end:
                yield entry

    def kept(self) -> Iterator[bytes]:
        """All entries that are here without a gap. Raises Damaged."""
        number, whole = 0, True
        while whole:
            tile = self._widest(number)
            if tile is None:
                return
            try:
                found = read_bundle(self._read(str(tile), _MAX_BUNDLE))
            except Malformed:
                found = []
            if len(found) != tile.width:
                raise Damaged("damaged", f"The file {tile} of the exported log cannot be read.", _ANEW)
            yield from found
            number, whole = number + 1, tile.width == WIDTH

    def check_tiles(self, tree: Tree) -> int:
        """Checks that the files with hashes are those of ``tree``; gives their number. Raises Untrusted."""
        count = 0
        for tile in needed(tree.size):
            try:
                same = self._read(str(tile), WIDTH * WIDTH) == hashes(tree, tile)
            except OSError:
                same = False
            if not same:
                raise Untrusted("tile-differs", f"The file {tile} does not hold the hashes of the entries.", _ANEW)
            count += 1
        return count

    async def fill(self, source: Source, log: str, hub_key: bytes, progress: Callable[[int, int], None]) -> Tree:
        """Brings the directory up to ``source``. Gives the tree of all that is here now.

        Args:
            source: the log.
            log, hub_key: its name, and the key that signs it.
            progress: is told how many entries there are, of how many.

        Raises:
            Untrusted: ``log-forked``, ``log-rolled-back``: the log does not continue what is here; ``bad-proof``.
            Damaged: a file here cannot be read, or the disk is full.
        """
        disk.make_directory(self.directory)
        witnessed = await source.witnessed()
        note = await source.checkpoint()
        checkpoint = verify_checkpoint(note, log, hub_key)
        seen = verify_checkpoint(witnessed, log, hub_key)
        tree, pending = Tree(), list[bytes]()
        for entry in self.kept():
            tree.append(leaf_hash(entry))
            pending = [entry] if len(pending) == WIDTH else [*pending, entry]
        if tree.size > checkpoint.size:
            raise Untrusted(
                ROLLED_BACK, f"Here are {tree.size} entries, and the hub's log has {checkpoint.size}.", _ANEW
            )
        pending = [] if len(pending) == WIDTH else pending
        progress(tree.size, checkpoint.size)
        async for entry in source.entries(tree.size, checkpoint.size):
            tree.append(leaf_hash(entry))
            pending.append(entry)
            if len(pending) == WIDTH:
                self._write(Tile(ENTRIES, tree.size // WIDTH - 1), bundle(pending))
                pending = []
                progress(tree.size, checkpoint.size)
        if pending:
            self._write(Tile(ENTRIES, tree.size // WIDTH, len(pending)), bundle(pending))
        whole = tree.size == checkpoint.size and tree.root() == checkpoint.root
        if not whole or seen.size > tree.size or tree.root(seen.size) != seen.root:
            raise Untrusted(
                FORKED, "What is here, and what the hub gave, do not make the tree that the hub signed.", _ANEW
            )
        for tile in needed(tree.size):
            self._write(tile, hashes(tree, tile))
        disk.write_below(self.directory, "witnessed", witnessed.encode("utf-8"))
        disk.write_below(self.directory, "checkpoint", note.encode("utf-8"))
        progress(tree.size, checkpoint.size)
        return tree

    def _widest(self, number: int) -> Tile | None:
        whole = Tile(ENTRIES, number)
        if disk.present(self.directory / str(whole)):
            return whole
        partial = disk.names_below(self.directory, f"{whole}.p", WIDTH)
        widths = [int(name) for name in partial if _WIDTH.fullmatch(name)]
        return Tile(ENTRIES, number, max(widths)) if widths else None

    def _write(self, tile: Tile, data: bytes) -> None:
        """Writes a file, if it is not there as it should be. Narrower ones stay: nobody reads them any more."""
        with suppress(OSError):
            if self._read(str(tile), _MAX_BUNDLE) == data:
                return
        disk.write_below(self.directory, str(tile), data)

    def _text(self, name: str) -> str:
        try:
            return self._read(name, MAX_TEXT * 4).decode("utf-8")
        except (OSError, UnicodeDecodeError):
            raise Malformed(
                "no-log", "There is no exported log in this directory.", "Make one: kengele audit export DIR"
            ) from None

    def _read(self, name: str, most: int) -> bytes:
        return disk.read_below(self.directory, name, most + 1)
