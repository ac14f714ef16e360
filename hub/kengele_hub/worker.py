"""The hub's worker: takes requests from the bus, in batches where it pays, and answers each of them.

Nothing that comes in ends it. A request that cannot be understood gets an answer that says so; an error that nobody
foresaw is logged by its type alone, because its text could hold what was sent.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from kengele_schemas import subjects
from kengele_schemas.encoding import dumps
from kengele_schemas.errors import KengeleError
from kengele_schemas.packing import pack
from kengele_schemas.receipt import accepted, refused
from kengele_schemas.report import Header

from . import jetstream
from .audit import Audit
from .authority import Authority
from .errors import Conflict, StorageFull, Unavailable
from .headers import Headers
from .home import HubKeys
from .intake import ACCEPTED, Examined, Quota, Standing, examine, recall_leaf
from .ledger import Entry, Ledger
from .pauses import Pauses, Tally
from .recalls import Recalls, Stood
from .recent import Recent
from .reception import Reception
from .shares import Shares
from .storing import Storing

MAX_WAITING: Final = 2000
"""Reports in memory that wait for intake; more are told to come later."""
MAX_EACH: Final = 64
"""Of those, one sender's: four times as many as a node has under way. More get no answer at all, because to refuse them
would cost the hub more than to send them costs whoever floods it; a node sends again what was not answered."""
MAX_REQUESTS: Final = 4
"""Other requests that one sender may have under way; likewise."""
MAX_ASKED: Final = 1000
"""Trust files that one sender is given within a window of :mod:`~kengele_hub.pauses`; a long one counts for several."""
MAX_DOOR: Final = 100
"""Requests a second of each kind from those who are not in yet. They share the network card's key, so that nobody can
be paused without all; of what is more, the broker hands on nothing."""
_WEIGHT: Final = 8192
"""Bytes that count for one message more, where it is counted what a sender sends too much."""
MAX_BATCH: Final = 250
_BATCH_BYTES: Final = 8 * 1024 * 1024
_QUEUE: Final = "hub"
_DOOR: Final = "join."
_PATIENCE: Final = 5.0
_NOT_KEPT: Final = frozenset(
    {"unknown-monitor", "over-quota", "policy-unknown", "list-expired", "storage-full", "hub-unavailable"}
)
"""Refusals of what comes again by itself, and of what is nobody's report."""
_TOO_MUCH: Final = frozenset({"over-quota", "unknown-monitor"})
"""Refusals of which a node that does as it is told gets few."""
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Counts:
    """What the worker did, by code; no label says who or where."""

    receipts: dict[str, int]

    def count(self, code: str) -> None:
        self.receipts[code] = self.receipts.get(code, 0) + 1


class Worker:
    """Intake and the small services, over one connection."""

    def __init__(self, keys: HubKeys, nc: Client, ledger: Ledger, authority: Authority) -> None:
        self._keys, self._nc, self._ledger, self._authority = keys, nc, ledger, authority
        self._waiting: asyncio.Queue[Msg] = asyncio.Queue(MAX_WAITING)
        self._each: dict[str, int] = {}
        self._quota: Quota | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.reception = Reception(authority)
        self.audit = Audit(nc, ledger, lambda: authority.standing)
        self.recalls = Recalls(nc, ledger, authority.orders, lambda: authority.standing)
        self.shares = Shares(nc, ledger, self.recalls, lambda: authority.standing)
        self.headers = Headers(nc, ledger, lambda: authority.standing)
        self.recent = Recent()
        self.pauses = Pauses(authority.access, lambda: authority.revoked)
        self._asked = Tally()
        self.counts = Counts({})
        self.storing = Storing()

    async def listen(self) -> None:
        """Subscribes to all requests. Call :meth:`run` besides."""
        await self._nc.subscribe(subjects.SUBMISSIONS, queue=_QUEUE, cb=self._submitted)
        await self._nc.subscribe(subjects.TRUST_REQUESTS, queue=_QUEUE, cb=self._trust_asked)
        await self._nc.subscribe(subjects.NEWS, cb=self._heard)
        await self._nc.subscribe(subjects.LEDGER_GROWN, cb=self._grown)
        await self._nc.subscribe(subjects.LEDGER_WAITED, cb=self._waited)
        await self._nc.subscribe(subjects.TRUST_STORED, cb=self._stored)
        for subject, answer in (
            (subjects.METADATA_REQUESTS, self.reception.answer_publish),
            (subjects.BOARD_REQUESTS, self.reception.answer_board),
            (subjects.LOBBY_REQUESTS, self.reception.answer_lobby),
            (subjects.LETTER_REQUESTS, self.reception.answer_letters),
            (subjects.AUDIT_REQUESTS, self.audit.answer_get),
            (subjects.COSIGN_REQUESTS, self.audit.answer_cosign),
            (subjects.CONFIRMATIONS, self.recalls.answer_confirm),
            (subjects.STATUS_REQUESTS, self.recalls.answer_status),
            (subjects.SHARE_REQUESTS, self.shares.answer),
            (subjects.HEADER_REQUESTS, self.headers.answer),
        ):
            await self._nc.subscribe(subject, queue=_QUEUE, cb=self._service(answer))
        for subject, answer in (
            (subjects.CREDENTIAL_REQUESTS, self.reception.answer_join),
            (subjects.ENTRY_REQUESTS, self.reception.answer_enter),
        ):
            self._doing(self._door(subject, self._service(answer), await self._opened(subject)))

    async def run(self) -> None:
        """Takes in reports, for ever."""
        while True:
            batch = [await self._waiting.get()]
            size = len(batch[0].data)
            while len(batch) < MAX_BATCH and size < _BATCH_BYTES and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
                size += len(batch[-1].data)
            for message in batch:
                self._leave(message.subject)
            try:
                await self.take(batch)
            except Exception as error:
                _log.error("intake-failed", error=type(error).__name__, code=getattr(error, "code", ""))
                for message in batch:
                    await self._refuse(message, Examined("hub-unavailable", _digest(message.data)))

    async def take(self, batch: list[Msg]) -> None:
        """Examines, stores and answers ``batch``."""
        standing = self._authority.standing
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
            recalled = await self.recalls.stood(found.header.recalls or "") if found.header else None
            shared = {one.share.office for one in await self.shares.of(recalled.header.id)} if recalled else set()
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
        await self._respond(message, receipt)

    async def _refuse(self, message: Msg, found: Examined) -> None:
        if found.code not in _NOT_KEPT:
            await self._set_aside([(message, found.code)])
        await self._answer(message, found)

    async def _answer(self, message: Msg, found: Examined) -> None:
        self.counts.count(found.code)
        if found.code in _TOO_MUCH:
            self._too_much(message)
        report_id = found.header.id if found.header else None
        digest = found.envelope.digest if found.envelope else None
        receipt = refused(
            found.code, report_id, digest, found.bytes_digest, retry_after=found.retry_after, key=self._keys.hub_key
        )
        await self._respond(message, receipt)

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

    async def _respond(self, message: Msg, data: bytes) -> None:
        if message.reply:
            with suppress(nats.errors.Error):
                await self._nc.publish(message.reply, data)

    async def _submitted(self, message: Msg) -> None:
        if self._each.get(message.subject, 0) >= MAX_EACH:
            self._too_much(message)
            return
        try:
            self._waiting.put_nowait(message)
            self._enter(message.subject)
        except asyncio.QueueFull:
            await self._refuse(message, Examined("hub-unavailable", _digest(message.data)))

    def _too_much(self, message: Msg) -> None:
        # Whom a request at the door is about is not who sent it.
        with suppress(KengeleError):
            if not message.subject.startswith(_DOOR):
                self.pauses.note(subjects.sender(message.subject), 1 + len(message.data) // _WEIGHT)

    def _enter(self, subject: str) -> None:
        self._each[subject] = self._each.get(subject, 0) + 1

    def _leave(self, subject: str) -> None:
        left = self._each.get(subject, 1) - 1
        if left:
            self._each[subject] = left
        else:
            self._each.pop(subject, None)

    async def _heard(self, message: Msg) -> None:
        try:
            await self._authority.heard(message.data)
        except KengeleError as error:
            _log.warning("trust-not-taken-over", code=error.code)

    async def _stored(self, _: Msg) -> None:
        try:
            await self._authority.look_again()
        except KengeleError as error:
            _log.warning("trust-not-taken-over", code=error.code)

    async def _grown(self, message: Msg) -> None:
        with suppress(KengeleError):
            self._ledger.heard(message.data)

    async def _waited(self, message: Msg) -> None:
        with suppress(KengeleError):
            self._ledger.heard_waiting(message.data)

    async def _trust_asked(self, message: Msg) -> None:
        try:
            sender = subjects.sender(message.subject)
            if self._asked.add(sender, 1, time.monotonic()) > MAX_ASKED:
                self._too_much(message)
                return
            answer = self.reception.serve(sender, message.data)
            self._asked.add(sender, len(answer) // _WEIGHT, time.monotonic())
            await self._respond(message, answer)
        except KengeleError:
            await self._respond(message, b"")

    def _service(
        self, answer: Callable[[str, bytes], Coroutine[Any, Any, dict[str, Any]]]
    ) -> Callable[[Msg], Awaitable[None]]:
        """A handler that lets a long request not hold up the others."""

        async def handle(message: Msg) -> None:
            try:
                reply = await answer(subjects.sender(message.subject), message.data)
            except KengeleError as error:
                reply = {"code": error.code, "sentence": error.sentence, "mend": error.mend}
            except Exception as error:
                _log.error("request-failed", error=type(error).__name__)
                reply = {"code": "hub-unavailable", "sentence": "The hub could not do this.", "mend": "Try again."}
            await self._respond(message, pack(dumps(reply)))

        async def start(message: Msg) -> None:
            if self._each.get(message.subject, 0) >= MAX_REQUESTS:
                self._too_much(message)
                return
            self._enter(message.subject)
            self._doing(handle(message)).add_done_callback(lambda _: self._leave(message.subject))

        return start

    def _doing(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _opened(self, subject: str) -> Subscription:
        """A subscription that the broker ends after :data:`MAX_DOOR` messages: what is more never gets here."""
        subscription = await self._nc.subscribe(subject, queue=_QUEUE)
        await subscription.unsubscribe(MAX_DOOR)
        return subscription

    async def _door(self, subject: str, start: Callable[[Msg], Awaitable[None]], open_: Subscription) -> None:
        """Hands on what comes under ``subject``, until the line is closed.

        Without a callback, as nats-py would throw away what came in together with the last message that is due.
        """
        loop = asyncio.get_running_loop()
        with suppress(nats.errors.ConnectionClosedError, nats.errors.ConnectionDrainingError):
            while True:
                opened, left = loop.time(), MAX_DOOR
                while left:
                    try:
                        message = await open_.next_msg(_PATIENCE)
                    except nats.errors.TimeoutError:
                        continue
                    left -= 1
                    await start(message)
                await asyncio.sleep(max(0.0, opened + 1 - loop.time()))
                open_ = await self._opened(subject)


def _place(header: Header) -> str:
    return subjects.ledger_recall(header.recalls, header.id) if header.recalls else subjects.ledger_report(header.id)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
