"""The ledger: what was received, in order, each entry with its leaf of the audit log; message ``n`` is leaf ``n - 1``.

A leaf is stored in the same atomic batch as what it speaks of, so neither exists without the other. A batch names the
last sequence that its writer saw: a second writer is refused by the broker, reads on and tries again, and two never
number the same place.

Who has written tells the others what, so that a refused writer is at the new end at once; and who was refused tells so,
and the others let it go first. What was not heard is read from the stream (docs/adr/0022-several-workers.md).

The tree is kept in memory. A file beside the hub's keys remembers identifiers and leaf hashes, so that a start reads
only what came since; it is a cache and nothing else, and where it does not fit the stream it is made anew.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import nats.errors
from nacl.signing import SigningKey
from nats.aio.client import Client

from kengele_schemas import disk, merkle, subjects
from kengele_schemas.checkpoint import sign_checkpoint, write_proof
from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import Damaged, KengeleError, Malformed
from kengele_schemas.tiles import Tile, hashes

from . import consumers, jetstream
from .errors import Conflict, Unavailable

_RECORD: Final = struct.Struct(">16s16s32sI")
_ROW: Final = struct.Struct(">16s16s32s")
_HEAD: Final = struct.Struct(">8sQ")
"""Who says it, and from which place on."""
_LENGTH: Final = 4
_ATTEMPTS: Final = 10
_HEARSAY: Final = 0.25
"""Seconds in which a refused writer hopes to hear what was written before it reads the stream."""
_TURN: Final = 0.25
"""Seconds for which a writer lets those go first who were refused before it."""
_PATIENCE: Final = 1.0
"""Seconds after which nobody waits any more for a writer that was refused and then not heard of: it may have died."""
_MAX_HEARD: Final = 1000
"""Batches told of that may wait for what lies before them; then they are read from the stream."""
_REPORT: Final = "ledger.report."
_NONE: Final = bytes(16)
_UNUSABLE: Final = (OSError, KengeleError)


class Entry(NamedTuple):
    """One thing to be written: subject, leaf, and the body that the leaf speaks of (empty where there is none)."""

    subject: str
    leaf: bytes
    body: bytes = b""


class _Row(NamedTuple):
    """What is remembered of an entry: what it recalls, its id (zeros for none), the hash of its leaf."""

    recalled: bytes
    id: bytes
    leaf: bytes


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


def _not_said() -> Malformed:
    return Malformed("malformed", "What another worker says of the ledger cannot be read.")


def _row(subject: str, leaf: bytes) -> _Row:
    return _Row(*_named(subject), merkle.leaf_hash(leaf))


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
        self._reading = False
        self._heard: dict[int, list[_Row]] = {}
        self._grown = asyncio.Event()
        self._id = secrets.token_bytes(8)
        self._refused: dict[bytes, tuple[int, float]] = {}

    @property
    def size(self) -> int:
        """Entries; the next one's index."""
        return self._tree.size

    async def load(self) -> None:
        """Reads the cache and then what the stream has beyond it. Raises Unavailable."""
        async with self._writing:
            if not await self._load_cache():
                self._tree, self._reports, self._recalls = merkle.Tree(), {}, {}
                with suppress(*_UNUSABLE):
                    disk.remove(self._cache)
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
        rows = [_row(entry.subject, entry.leaf) for entry in entries]
        async with self._writing:
            turn: tuple[int, bytes] | None = None
            for _ in range(_ATTEMPTS):
                await self._give_way(turn)
                if not still():
                    raise Conflict("conflict", "Something else was written meanwhile.")
                first = self._tree.size
                fence = {"Nats-Expected-Last-Sequence": str(first)}
                batch: list[jetstream.Message] = [
                    (entry.subject, join(entry), {**jetstream.ONCE, **(fence if not number else {})})
                    for number, entry in enumerate(entries)
                ]
                self._grown.clear()
                try:
                    await jetstream.publish_batch(self._nc, batch)
                except Conflict:
                    await self._learn(first)
                    if self._tree.size == first or self._taken(entries):
                        raise
                    turn = turn or (first, self._id)
                    await self._tell(subjects.LEDGER_WAITED, _HEAD.pack(self._id, turn[0]))
                    continue
                self._remember(rows)
                self._absorb()
                told = _HEAD.pack(self._id, first) + b"".join(_ROW.pack(*row) for row in rows)
                await self._tell(subjects.LEDGER_GROWN, told)
                return list(range(first, first + len(rows)))
            raise Unavailable("ledger-busy", "Others write to the ledger all the time.", "Try again.")

    def heard(self, told: bytes) -> None:
        """Takes in what another process says it has written. Raises Malformed."""
        if len(told) < _HEAD.size or (len(told) - _HEAD.size) % _ROW.size:
            raise _not_said()
        writer, first = _HEAD.unpack_from(told)
        if writer == self._id:
            return
        self._refused.pop(writer, None)
        if len(self._heard) < _MAX_HEARD:
            self._heard[first] = [_Row(*found) for found in _ROW.iter_unpack(told[_HEAD.size :])]
        self._absorb()

    def heard_waiting(self, told: bytes) -> None:
        """Takes note of another process that came too late and waits for its turn. Raises Malformed."""
        if len(told) != _HEAD.size:
            raise _not_said()
        writer, first = _HEAD.unpack(told)
        if writer != self._id:
            self._refused[writer] = (first, time.monotonic() + _PATIENCE)

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
        reading = consumers.read_all(self._nc, subjects.LEDGER, start + 1, limit=end - start)
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

    async def _learn(self, first: int) -> None:
        """Goes beyond ``first`` by what others tell, or by reading the stream."""
        if self._tree.size == first:
            with suppress(TimeoutError):
                async with asyncio.timeout(_HEARSAY):
                    await self._grown.wait()
        if self._tree.size == first:
            await self._catch_up()

    async def _give_way(self, turn: tuple[int, bytes] | None) -> None:
        """Waits while others were refused before; ``turn`` is since where this one waits itself."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_TURN):
                while self._before(turn):
                    self._grown.clear()
                    await self._grown.wait()

    def _before(self, turn: tuple[int, bytes] | None) -> bool:
        now = time.monotonic()
        self._refused = {writer: found for writer, found in self._refused.items() if found[1] > now}
        return any(turn is None or (first, writer) < turn for writer, (first, _) in self._refused.items())

    async def _tell(self, subject: str, told: bytes) -> None:
        with suppress(nats.errors.Error):
            await self._nc.publish(subject, told)

    def _absorb(self) -> None:
        """Remembers what was told of and follows upon what is known."""
        while not self._reading and (rows := self._heard.pop(self._tree.size, None)):
            self._remember(rows)
            self._grown.set()
        if self._heard:
            self._heard = {first: rows for first, rows in self._heard.items() if first > self._tree.size}

    def _remember(self, rows: Sequence[_Row]) -> None:
        records = bytearray()
        for row in rows:
            self._place(*row)
            records += _RECORD.pack(*row, zlib.crc32(b"".join(row)))
        # Entries without a row in the cache are missed at the next start, because its last row then stands elsewhere.
        with suppress(*_UNUSABLE), os.fdopen(disk.kept(self._cache, append=True), "ab") as file:
            file.write(records)

    def _place(self, recalled: bytes, id_: bytes, leaf: bytes) -> None:
        if id_ != _NONE:
            self._reports[id_] = self._tree.size
        if recalled != _NONE:
            self._recalls.setdefault(recalled, []).append(self._tree.size)
        self._tree.append(leaf)

    async def _catch_up(self) -> None:
        rows: list[_Row] = []
        self._reading = True
        try:
            async for stored in consumers.read_all(self._nc, subjects.LEDGER, self._tree.size + 1):
                if stored.sequence != self._tree.size + len(rows) + 1:
                    raise Damaged("damaged", "The ledger has a gap.", "Restore the broker's store.")
                rows.append(_row(stored.subject, split(stored.data)[0]))
                if len(rows) == 1000:
                    self._remember(rows)
                    rows = []
            self._remember(rows)
        finally:
            self._reading = False
        self._absorb()

    async def _load_cache(self) -> bool:
        """Whether the cache fits the stream: its last row must be what stands there."""
        try:
            with disk.opened(self._cache) as file:
                data = file.read()
        except _UNUSABLE:
            return True
        whole = len(data) - len(data) % _RECORD.size
        for recalled, id_, leaf, check in _RECORD.iter_unpack(data[:whole]):
            if zlib.crc32(recalled + id_ + leaf) != check:
                return False
            self._place(recalled, id_, leaf)
        with suppress(*_UNUSABLE), os.fdopen(disk.kept(self._cache), "r+b") as file:
            file.truncate(whole)
        if not self._tree.size:
            return True
        stored = await jetstream.at(self._nc, subjects.LEDGER, self._tree.size)
        try:
            return stored is not None and merkle.leaf_hash(split(stored.data)[0]) == leaf
        except (Damaged, Malformed):
            return False
