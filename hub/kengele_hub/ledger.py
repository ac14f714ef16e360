"""The ledger: what was received, in order, each entry with its leaf of the audit log; message ``n`` is leaf ``n - 1``.

A leaf is stored in the same atomic batch as what it speaks of, so neither exists without the other. A batch names the
last sequence that its writer saw: a second writer is refused by the broker, reads on and tries again, and two never
number the same place.

The tree is kept in memory. A file beside the hub's keys remembers identifiers and leaf hashes, so that a start reads
only what came since; it is a cache and nothing else, and where it does not fit the stream it is made anew.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from nacl.signing import SigningKey
from nats.aio.client import Client

from kengele_schemas import merkle, subjects
from kengele_schemas.checkpoint import sign_checkpoint, write_proof
from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import Damaged, Malformed
from kengele_schemas.tiles import Tile, hashes

from . import jetstream
from .errors import Conflict, Unavailable

_RECORD: Final = struct.Struct(">16s16s32sI")
_LENGTH: Final = 4
_ATTEMPTS: Final = 5
_REPORT: Final = "ledger.report."
_NONE: Final = bytes(16)


class Entry(NamedTuple):
    """One thing to be written: subject, leaf, and the body that the leaf speaks of (empty where there is none)."""

    subject: str
    leaf: bytes
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Placed:
    """An entry that stands in the ledger: its index in the tree, leaf and body."""

    index: int
    leaf: bytes
    body: bytes


def join(entry: Entry) -> bytes:
    """An entry as it is stored: the leaf's length in four bytes, the leaf, the body."""
    return len(entry.leaf).to_bytes(_LENGTH, "big") + entry.leaf + entry.body


def split(data: bytes) -> tuple[bytes, bytes]:
    """Leaf and body of a stored entry. Raises Damaged."""
    end = _LENGTH + int.from_bytes(data[:_LENGTH], "big")
    if len(data) < max(end, _LENGTH + 1):
        raise Damaged("damaged", "An entry of the ledger cannot be read.", "Restore the broker's store.")
    return data[_LENGTH:end], data[end:]


def _named(subject: str) -> tuple[bytes, bytes]:
    """Of a recall's subject the ids of what it recalls and its own, of a report's its own; zeros for what is none."""
    if subject.startswith(_REPORT):
        return _NONE, unb64u(subject.removeprefix(_REPORT))
    recall = subjects.recall_of(subject)
    return (unb64u(recall[0]), unb64u(recall[1])) if recall else (_NONE, _NONE)


class Ledger:
    """The hub's one ledger. Safe for any number of tasks; several processes share a stream, each with its own."""

    def __init__(self, nc: Client, key: SigningKey, origin: str, cache: Path) -> None:
        self._nc, self._key, self._origin, self._cache = nc, key, origin, cache
        self._tree = merkle.Tree()
        self._reports: dict[bytes, int] = {}
        self._recalls: dict[bytes, list[int]] = {}
        self._writing = asyncio.Lock()

    @property
    def size(self) -> int:
        """Entries; the next one's index."""
        return self._tree.size

    async def load(self) -> None:
        """Reads the cache and then what the stream has beyond it. Raises Unavailable."""
        async with self._writing:
            if not await self._load_cache():
                self._tree, self._reports, self._recalls = merkle.Tree(), {}, {}
                with suppress(OSError):
                    self._cache.unlink(missing_ok=True)
            await self._catch_up()

    async def append(self, entries: Sequence[Entry], still: Callable[[], bool] = lambda: True) -> list[int]:
        """Writes ``entries``, all or none, each on disk when this returns; gives their indices.

        Args:
            still: whether they may be written behind all that has been read up to then.

        Raises:
            Conflict: one of the subjects is taken, perhaps by a writer elsewhere; what it wrote has now been read. Or
                ``still`` says no.
            StorageFull: nothing was written.
            Unavailable: it may have been written or may yet be, or others always came first; the next attempt finds
                out.
        """
        async with self._writing:
            for _ in range(_ATTEMPTS):
                if not still():
                    raise Conflict("conflict", "Something else was written meanwhile.")
                first = self._tree.size
                fence = {"Nats-Expected-Last-Sequence": str(first)}
                batch: list[jetstream.Message] = [
                    (entry.subject, join(entry), {**jetstream.ONCE, **(fence if not number else {})})
                    for number, entry in enumerate(entries)
                ]
                try:
                    await jetstream.publish_batch(self._nc, batch)
                except Conflict:
                    await self._catch_up()
                    if self._tree.size == first or self._taken(entries):
                        raise
                    continue
                self._remember([(entry.subject, merkle.leaf_hash(entry.leaf)) for entry in entries])
                return list(range(first, self._tree.size))
            raise Unavailable("ledger-busy", "Others write to the ledger all the time.", "Try again.")

    async def refresh(self) -> None:
        """Reads what others have written meanwhile. Raises Unavailable, Damaged."""
        async with self._writing:
            await self._catch_up()

    def place_of(self, report_id: str) -> int | None:
        """The index of the report or recall with this id, as far as this process has read."""
        return self._reports.get(unb64u(report_id))

    def ids(self) -> list[bytes]:
        """The ids of all reports and recalls, likewise, as 16 bytes each."""
        return list(self._reports)

    def recalls_of(self, report_id: str) -> Sequence[int]:
        """The indices of the recalls of a report, likewise."""
        return tuple(self._recalls.get(unb64u(report_id), ()))

    async def read(self, index: int) -> Placed:
        """The entry at ``index``. Raises Unavailable, Damaged."""
        stored = await jetstream.at(self._nc, subjects.LEDGER, index + 1)
        if stored is None:
            raise Damaged("damaged", "An entry of the ledger is missing.", "Restore the broker's store.")
        leaf, body = split(stored.data)
        return Placed(index, leaf, body)

    def checkpoint(self) -> str:
        """The tree as it stands, signed (C2SP tlog-checkpoint)."""
        return sign_checkpoint(self._origin, self._tree.size, self._tree.root(), self._key)

    def proofs(self, indices: Sequence[int]) -> list[str]:
        """Proofs that the entries at ``indices`` are in the tree (C2SP tlog-proof), all under one checkpoint."""
        checkpoint, size = self.checkpoint(), self._tree.size
        return [write_proof(index, self._tree.inclusion(index, size), checkpoint) for index in indices]

    def consistency(self, old: int, new: int) -> list[bytes]:
        """The proof that the first ``old`` entries begin the first ``new``; ``old`` ≤ ``new`` ≤ :attr:`size`."""
        return self._tree.consistency(old, new)

    def tile(self, tile: Tile) -> bytes:
        """A tile of the tree's hashes. Raises Malformed if there is none."""
        return hashes(self._tree, tile)

    async def leaves(self, start: int, end: int, max_bytes: int) -> list[bytes]:
        """The leaves from ``start`` up to ``end``, or fewer: one, and what else fits into ``max_bytes``.

        Raises:
            Unavailable, Damaged.
        """
        found: list[bytes] = []
        size = 0
        reading = jetstream.read_all(self._nc, subjects.LEDGER, start + 1, limit=end - start)
        async with aclosing(reading):
            async for stored in reading:
                leaf, _ = split(stored.data)
                size += len(leaf)
                if found and size > max_bytes:
                    break
                found.append(leaf)
        return found

    def _taken(self, entries: Sequence[Entry]) -> bool:
        return any(id_ in self._reports for _, id_ in (_named(entry.subject) for entry in entries))

    def _remember(self, rows: Sequence[tuple[str, bytes]]) -> None:
        records = bytearray()
        for subject, leaf in rows:
            recalled, id_ = _named(subject)
            self._place(recalled, id_, leaf)
            records += _RECORD.pack(recalled, id_, leaf, zlib.crc32(recalled + id_ + leaf))
        # Entries without a row in the cache are missed at the next start, because its last row then stands elsewhere.
        with suppress(OSError), self._cache.open("ab") as file:
            file.write(records)

    def _place(self, recalled: bytes, id_: bytes, leaf: bytes) -> None:
        if id_ != _NONE:
            self._reports[id_] = self._tree.size
        if recalled != _NONE:
            self._recalls.setdefault(recalled, []).append(self._tree.size)
        self._tree.append(leaf)

    async def _catch_up(self) -> None:
        rows: list[tuple[str, bytes]] = []
        async for stored in jetstream.read_all(self._nc, subjects.LEDGER, self._tree.size + 1):
            if stored.sequence != self._tree.size + len(rows) + 1:
                raise Damaged("damaged", "The ledger has a gap.", "Restore the broker's store.")
            rows.append((stored.subject, merkle.leaf_hash(split(stored.data)[0])))
            if len(rows) == 1000:
                self._remember(rows)
                rows = []
        self._remember(rows)

    async def _load_cache(self) -> bool:
        """Whether the cache fits the stream: its last row must be what stands there."""
        try:
            data = self._cache.read_bytes()
        except OSError:
            return True
        whole = len(data) - len(data) % _RECORD.size
        for recalled, id_, leaf, check in _RECORD.iter_unpack(data[:whole]):
            if zlib.crc32(recalled + id_ + leaf) != check:
                return False
            self._place(recalled, id_, leaf)
        with suppress(OSError), self._cache.open("r+b") as file:
            file.truncate(whole)
        if not self._tree.size:
            return True
        stored = await jetstream.at(self._nc, subjects.LEDGER, self._tree.size)
        try:
            return stored is not None and merkle.leaf_hash(split(stored.data)[0]) == leaf
        except (Damaged, Malformed):
            return False
