"""Submissions: reports and recalls that wait for intake, are taken in batch by batch, stored, and answered one by one.

Nothing that comes in ends it. An error that nobody foresaw is logged by its type alone, because its text could hold
what was sent.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import structlog
from nacl.signing import SigningKey
from nats.aio.client import Client
from nats.aio.msg import Msg

from kengele_schemas import subjects
from kengele_schemas.errors import KengeleError
from kengele_schemas.receipt import accepted, refused
from kengele_schemas.report import Header

from . import jetstream
from .errors import Conflict, StorageFull, Unavailable
from .intake import ACCEPTED, Examined, Quota, Standing, examine, recall_leaf
from .ledger import Entry, Ledger
from .recalls import Recalls, Stood
from .recent import Recent
from .senders import Senders
from .shares import Shares
from .storing import Storing

MAX_WAITING: Final = 2000
"""Reports in memory that wait for intake; more are told to come later."""
MAX_EACH: Final = 64
"""Of those, one sender's: four times as many as a node has under way. More get no answer at all, because to refuse them
would cost the hub more than to send them costs whoever floods it; a node sends again what was not answered."""
MAX_BATCH: Final = 250
_BATCH_BYTES: Final = 8 * 1024 * 1024
_NOT_KEPT: Final = frozenset(
    {"unknown-monitor", "over-quota", "policy-unknown", "list-expired", "storage-full", "hub-unavailable"}
)
"""Refusals of what comes again by itself, and of what is nobody's report."""
_TOO_MUCH: Final = frozenset({"over-quota", "unknown-monitor"})
"""Refusals of which a node that does as it is told gets few."""
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Counts:
    """What was answered, by code; no label says who or where."""

    receipts: dict[str, int]

    def count(self, code: str) -> None:
        self.receipts[code] = self.receipts.get(code, 0) + 1


class Submissions:
    """One worker's share of the intake.

    Args:
        nc: a connection in the account ``HUB``.
        ledger: into which they go.
        key: the hub's; signs refusals.
        standing: gives the rules and members in force; None while nothing may be taken.
        senders: who sends them.
        recalls: tells what a recall is of.
        shares: tells with whom that was shared.
    """

    def __init__(
        self,
        nc: Client,
        ledger: Ledger,
        key: SigningKey,
        standing: Callable[[], Standing | None],
        senders: Senders,
        recalls: Recalls,
        shares: Shares,
    ) -> None:
        self._nc, self._ledger, self._key, self._standing = nc, ledger, key, standing
        self._senders, self._recalls, self._shares = senders, recalls, shares
        self._queue: asyncio.Queue[Msg] = asyncio.Queue(MAX_WAITING)
        self._quota: Quota | None = None
        self.recent = Recent()
        self.storing = Storing()
        self.counts = Counts({})

    @property
    def waiting(self) -> int:
        """How many wait for intake."""
        return self._queue.qsize()

    async def come(self, message: Msg) -> None:
        """Has ``message`` wait for its turn, or come again later."""
        if not self._senders.enter(message, MAX_EACH):
            return
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self._senders.leave(message)
            await self._refuse(message, Examined("hub-unavailable", _digest(message.data)))

    async def run(self) -> None:
        """Takes in what waits, for ever."""
        while True:
            batch = [await self._queue.get()]
            size = len(batch[0].data)
            while len(batch) < MAX_BATCH and size < _BATCH_BYTES and not self._queue.empty():
                batch.append(self._queue.get_nowait())
                size += len(batch[-1].data)
            for message in batch:
                self._senders.leave(message)
            try:
                await self.take(batch)
            except Exception as error:
                _log.error("intake-failed", error=type(error).__name__, code=getattr(error, "code", ""))
                for message in batch:
                    await self._refuse(message, Examined("hub-unavailable", _digest(message.data)))

    async def take(self, batch: list[Msg]) -> None:
        """Examines, stores and answers ``batch``."""
        standing = self._standing()
        if standing is None:
            for message in batch:
                await self._refuse(message, Examined("hub-unavailable", _digest(message.data)))
            return
        if self._quota is None or self._quota.per_hour != standing.trusted.network.reports_per_hour:
            self._quota = Quota(standing.trusted.network.reports_per_hour)
        new: list[tuple[Msg, Examined]] = []
        repeats: list[tuple[Msg, Examined]] = []
        refusals: list[tuple[Msg, Examined]] = []
        ids: dict[str, bytes] = {}
        now = datetime.now(UTC)
        for message in batch:
            try:
                found = examine(message.data, subjects.sender(message.subject), standing, self._quota, now)
            except KengeleError:
                found = Examined("malformed", _digest(message.data))
            except Exception as error:
                _log.error("report-not-examined", error=type(error).__name__)
                found = Examined("hub-unavailable", _digest(message.data))
            if found.code != ACCEPTED or found.header is None:
                refusals.append((message, found))
            elif found.header.id in ids or self._ledger.place_of(found.header.id) is not None:
                repeats.append((message, found))
            else:
                recall = found.header.kind == "recall"
                whole = await self._recalling(found, standing, now) if recall else found
                if whole.code != ACCEPTED:
                    refusals.append((message, whole))
                    continue
                ids[found.header.id] = found.bytes_digest
                new.append((message, whole))
        await self._store(new, repeats)
        for message, found in repeats:
            await self._again(message, found)
        # Last, so that nobody's report waits for what is done with another's.
        await self._set_aside([(message, found.code) for message, found in refusals if found.code not in _NOT_KEPT])
        for message, found in refusals:
            await self._answer(message, found)

    async def _recalling(self, found: Examined, standing: Standing, now: datetime) -> Examined:
        """A recall with its leaf, or refused with one code whatever is wrong with what it names."""
        try:
            recalled = await self._recalls.stood(found.header.recalls or "") if found.header else None
            shared = {one.share.office for one in await self._shares.of(recalled.header.id)} if recalled else set()
        except KengeleError as error:
            _log.warning("recall-waits", code=error.code)
            return Examined("hub-unavailable", found.bytes_digest)
        leaf = (
            recall_leaf(found, recalled.header.kid, recalled.leaf, standing.trusted, now, shared) if recalled else None
        )
        return replace(found, code="nothing-to-recall") if leaf is None else replace(found, leaf=leaf)

    async def _store(self, new: list[tuple[Msg, Examined]], repeats: list[tuple[Msg, Examined]]) -> None:
        while new:
            entries = [
                Entry(_place(found.header), found.leaf, message.data)
                for message, found in new
                if found.header is not None
            ]
            try:
                indices = await self._ledger.append(entries)
            except Conflict:
                # Another worker, or a batch whose confirmation was lost, has some of them already.
                known = [
                    item for item in new if item[1].header and self._ledger.place_of(item[1].header.id) is not None
                ]
                if not known:
                    raise
                repeats += known
                new = [item for item in new if item not in known]
                continue
            except KengeleError as error:
                self.storing.note(subjects.LEDGER, error)
                if not isinstance(error, StorageFull | Unavailable):
                    raise
                code = "storage-full" if isinstance(error, StorageFull) else "hub-unavailable"
                for message, found in new:
                    await self._refuse(message, Examined(code, found.bytes_digest))
                return
            self.storing.note(subjects.LEDGER, None)
            proofs = self._ledger.proofs(indices)
            for index, (message, found) in zip(indices, new, strict=True):
                if found.header and found.envelope and found.promised:
                    self.recent.put(index + 1, message.data, Stood(found.header, found.promised, found.envelope))
            for (message, found), proof in zip(new, proofs, strict=True):
                await self._accept(message, found, found.leaf, proof, repeat=False)
            return

    async def _again(self, message: Msg, found: Examined) -> None:
        """The answer to what was stored before: the same receipt for the same bytes, a refusal for any other."""
        index = self._ledger.place_of(found.header.id) if found.header else None
        if index is None:
            await self._refuse(message, Examined("hub-unavailable", found.bytes_digest))
            return
        try:
            placed = await self._ledger.read(index)
        except KengeleError:
            await self._refuse(message, Examined("hub-unavailable", found.bytes_digest))
            return
        if placed.body != message.data:
            await self._refuse(message, Examined("id-conflict", found.bytes_digest, found.envelope, found.header))
            return
        await self._accept(message, found, placed.leaf, self._ledger.proofs([index])[0], repeat=True)

    async def _accept(self, message: Msg, found: Examined, leaf: bytes, proof: str, *, repeat: bool) -> None:
        if found.header is None or found.envelope is None:
            return
        self.counts.count(ACCEPTED)
        receipt = accepted(found.header.id, found.envelope.digest, found.bytes_digest, leaf, proof, repeat=repeat)
        await self._senders.answer(message, receipt)

    async def _refuse(self, message: Msg, found: Examined) -> None:
        if found.code not in _NOT_KEPT:
            await self._set_aside([(message, found.code)])
        await self._answer(message, found)

    async def _answer(self, message: Msg, found: Examined) -> None:
        self.counts.count(found.code)
        if found.code in _TOO_MUCH:
            self._senders.too_much(message)
        report_id = found.header.id if found.header else None
        digest = found.envelope.digest if found.envelope else None
        receipt = refused(
            found.code, report_id, digest, found.bytes_digest, retry_after=found.retry_after, key=self._key
        )
        await self._senders.answer(message, receipt)

    async def _set_aside(self, refusals: Sequence[tuple[Msg, str]]) -> None:
        kept: list[jetstream.Message] = []
        for message, code in refusals:
            with suppress(KengeleError):  # a name that is no key has no place to be kept
                kept.append((subjects.refused(subjects.sender(message.subject)), message.data, {"Kengele-Code": code}))
        if not kept:
            return
        try:
            await jetstream.publish_batch(self._nc, kept)
        except KengeleError as error:
            _log.warning("refused-not-kept", code=error.code)


def _place(header: Header) -> str:
    return subjects.ledger_recall(header.recalls, header.id) if header.recalls else subjects.ledger_report(header.id)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
