"""Delivery: from the ledger to the feeds, by a durable consumer that any number of workers share.

An entry is acknowledged only when every feed has it. What a crash interrupts comes again, and a feed takes a report
once: a second writing under the same subject is refused, so nothing is doubled and nothing is lost. An entry that one
feed cannot take comes again by itself; the entries behind it do not wait for it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime
from typing import Final

import nats.errors
import structlog
from nacl.signing import SigningKey
from nats.aio.client import Client
from nats.aio.msg import Msg

from kengele_schemas import subjects
from kengele_schemas.compartments import ALL_BITS, HANDLING_BIT
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import KengeleError
from kengele_schemas.leaves import NarrowedLeaf
from kengele_schemas.marker import sign_marker
from kengele_schemas.receipt import Leaf
from kengele_schemas.report import Header

from . import consumers, jetstream
from .errors import Conflict, StorageFull, Unavailable
from .intake import Standing, reached
from .ledger import Entry, Ledger, split
from .orders import Orders
from .recalls import Ordered, Recalls, Stood, read_entry
from .recent import Recent
from .routing import Outcome, decide, kept, marker_item
from .shares import Shared, Shares
from .storing import Storing
from .tasks import end

CONSUMER: Final = "router"
_ROUTED: Final = tuple(
    pattern[: pattern.index("*")]
    for pattern in (subjects.LEDGER_REPORTS, subjects.LEDGER_RECALLS, subjects.LEDGER_SHARES)
)
ACK_WAIT: Final = 5
"""Seconds until an entry that a dead worker held is given to another."""
BATCH: Final = 200
_BATCH_BYTES: Final = 8 * 1024 * 1024
_AT_ONCE: Final = 2
"""Batches under way."""
_BEHIND: Final = _AT_ONCE * 2 * BATCH
_PAUSE: Final = 1.0
_FULL_WAIT: Final = 15.0
"""Seconds until an entry comes again for which a feed had no room; each time as much longer."""
_FULL_TIMES: Final = 40
"""Times that the wait grows."""
_MAX_HELD: Final = 100_000
"""Entries that may wait for a feed before those behind them wait, too."""
_log = structlog.get_logger(__name__)


class Delivery:
    """One worker's share of the routing.

    Args:
        nc: a connection in the account ``HUB``.
        ledger: for leaves that say that less was given than promised.
        key: the hub's; signs markers.
        standing: gives the rules and members in force.
        recent: what this worker's intake has just read.
        storing: is told which feeds take what they are given.
    """

    def __init__(
        self,
        nc: Client,
        ledger: Ledger,
        key: SigningKey,
        standing: Callable[[], Standing | None],
        recent: Recent | None = None,
        storing: Storing | None = None,
    ) -> None:
        self._nc, self._ledger, self._key, self._standing = nc, ledger, key, standing
        self._recent = recent or Recent()
        self._storing = storing or Storing()
        self._orders = Orders(nc, ledger, key)
        self._recalls = Recalls(nc, ledger, self._orders, standing)
        self._shares = Shares(nc, ledger, self._recalls, standing)
        self.delivered = 0
        """Messages put into feeds since the start."""

    async def run(self) -> None:
        """Delivers for ever; trouble with the broker is waited out."""
        # More than one, so that the broker has work while this process reads, and the reverse.
        lanes = [asyncio.create_task(self._lane()) for _ in range(_AT_ONCE)]
        try:
            await asyncio.gather(*lanes)
        finally:
            await end(lanes)

    async def _lane(self) -> None:
        while True:
            try:
                # All entries, though few of the others are routed: with two filters the broker's work for one entry
                # grows with the ledger's length.
                await consumers.ensure_consumer(
                    self._nc, subjects.LEDGER, CONSUMER, ack_wait=ACK_WAIT, max_pending=_MAX_HELD
                )
                while True:
                    await self._round()
            except (KengeleError, nats.errors.Error, OSError) as error:
                _log.warning("delivery-waits", code=getattr(error, "code", "broker-unavailable"))
                await asyncio.sleep(_PAUSE)

    async def _round(self) -> None:
        if self._standing() is None:
            await asyncio.sleep(_PAUSE)
            return
        messages = await consumers.pull(self._nc, subjects.LEDGER, CONSUMER, BATCH, 5)
        # Only now: the rules may have changed while nothing was there to deliver.
        standing = self._standing()
        if standing is None or not messages:
            return
        self._recent.forget_before((messages[0].metadata.sequence.stream or 0) - _BEHIND)
        done, full = await self.deliver(messages, standing)
        with suppress(nats.errors.Error):
            for message in done:
                await message.ack()
            for message in full:
                await message.nak(delay=_FULL_WAIT * min(message.metadata.num_delivered or 1, _FULL_TIMES))
        if len(done) + len(full) < len(messages):
            await asyncio.sleep(_PAUSE)

    async def deliver(self, messages: Sequence[Msg], standing: Standing) -> tuple[list[Msg], list[Msg]]:
        """Puts what ``messages`` hold into the feeds.

        Returns:
            Those that every feed has now, and those for which one has no room. What is in neither list is to come
            again.
        """
        feeds: dict[str, dict[str, jetstream.Message]] = defaultdict(dict)
        readers: list[tuple[Msg, list[str]]] = []
        waits: set[str] = set()
        today = datetime.now(UTC).date()
        if messages and messages[-1].metadata.sequence.stream > self._ledger.size:
            # Another worker may have taken in a recall of what is delivered here; of one not known the desk takes care.
            with suppress(KengeleError):
                await self._ledger.refresh()
        for message in messages:
            if not message.subject.startswith(_ROUTED):
                readers.append((message, []))
                continue
            try:
                entry = self._read(message)
            except KengeleError as error:
                _log.error("ledger-entry-unreadable", code=error.code, sequence=message.metadata.sequence.stream)
                readers.append((message, []))
                continue
            if entry.leaf.policy > standing.trusted.rules_version:
                waits.add("policy-behind")  # this worker has not got the newest rules yet
                continue
            try:
                if isinstance(entry, Shared):
                    items = await self._shares.parcels(entry, standing, today)
                elif isinstance(entry, Ordered) or entry.recalled:
                    items = await self._recall(message.metadata.sequence.stream - 1, entry, standing, today)
                else:
                    items = await self._report(entry, standing, today)
            except KengeleError as error:
                waits.add(error.code)
                continue
            for nkey, item, data in items:
                # A report and what its recall leaves of it have one subject, and a batch takes a subject once.
                subject = subjects.feed_subject(nkey, item)
                feeds[nkey][subject] = (subject, data, jetstream.ONCE)
            readers.append((message, [nkey for nkey, _, _ in items]))
        newer = self._standing()
        if newer is not None and newer is not standing:
            # To work this out may take long, as where much has to be logged as withheld; by rules that were replaced
            # meanwhile nothing goes out.
            return await self.deliver(messages, newer)
        for code in sorted(waits):
            _log.warning("delivery-waits", code=code)
        outcomes = await asyncio.gather(*(self._fill(nkey, [*items.values()]) for nkey, items in feeds.items()))
        stuck = {nkey: error for nkey, error in zip(feeds, outcomes, strict=True) if error is not None}
        full = {nkey for nkey, error in stuck.items() if isinstance(error, StorageFull)}
        return (
            [message for message, nkeys in readers if stuck.keys().isdisjoint(nkeys)],
            [message for message, nkeys in readers if (held := stuck.keys() & set(nkeys)) and held <= full],
        )

    def _read(self, message: Msg) -> Stood | Ordered | Shared:
        """What an entry holds. Raises Damaged, Malformed."""
        sequence = message.metadata.sequence.stream
        if subjects.is_share(message.subject):
            return Shared.read(sequence - 1, message.data)
        leaf, body = split(message.data)
        stood = self._recent.take(sequence, body)
        return stood if stood is not None else read_entry(leaf, body)

    async def _report(self, report: Stood, standing: Standing, today: date) -> list[tuple[str, str, bytes]]:
        """What a report puts into which feed: nkey, item, data. What was recalled whole is explained by its recall."""
        outcome = decide(report.header, report.leaf, standing.trusted, today)
        if outcome.narrowed:
            await self._log_narrowed(report.header, report.leaf, outcome, standing)
        await self._orders.enter_for(report.id, standing.trusted)
        left = await self._recalls.left(report.id)
        found = []
        for office, bits in outcome.bits.items():
            rest = kept(bits, left.get(office, ALL_BITS))
            if bits and not rest:
                continue
            for nkey in standing.desks.get(office, ()):
                if rest:
                    found.append((nkey, report.id, report.parcel(office, rest)))
                elif not await self._stands(nkey, report.id):  # given before a crash, by the rules of then
                    found.append(self._marker(nkey, office, report, standing))
        return found

    async def _recall(
        self, index: int, recall: Stood | Ordered, standing: Standing, today: date
    ) -> list[tuple[str, str, bytes]]:
        """The same for a recall. What still stands in a feed of what it recalls goes first, whoever may read today."""
        report = await self._recalls.stood(recall.recalled)
        if report is None:
            return []
        given = decide(report.header, report.leaf, standing.trusted, today).bits
        left = await self._recalls.left(report.id)
        # What is shared after a recall takes account of it.
        shares = [one for one in await self._shares.of(report.id) if one.index < index]
        told = {office: bits for office, bits, _, _ in recall.leaf.decisions}
        # A share that came in at the same time is not in the recall's leaf.
        told = {**dict.fromkeys(_late(recall, report, shares), HANDLING_BIT), **told}
        found = []
        for office, bits in told.items():
            for nkey in standing.desks.get(office, ()):
                if not bits:
                    found.append(self._marker(nkey, office, recall, standing))
                    continue
                await jetstream.erase_last(self._nc, subjects.feed_stream(nkey), subjects.feed_subject(nkey, report.id))
                rest = kept(given.get(office, 0), left.get(office, 0))
                if rest:
                    # Again, and not only where it was erased: a crash may have come between the two.
                    found.append((nkey, report.id, report.parcel(office, rest)))
                for share in (one for one in shares if one.share.office == office):
                    await jetstream.erase_last(
                        self._nc, subjects.feed_stream(nkey), subjects.feed_subject(nkey, share.item)
                    )
                    found += [one for one in await self._shares.parcels(share, standing, today) if one[0] == nkey]
                found.append((nkey, recall.id, await self._told(recall, report, office, nkey, bits)))
        return found

    async def _told(self, recall: Stood | Ordered, report: Stood, office: str, nkey: str, bits: int) -> bytes:
        """What ``office`` is told of a recall."""
        if isinstance(recall, Ordered):
            numbered = any(name == office and had for name, had, _, _ in report.leaf.decisions)
            if numbered:
                # Where a marker stands, the number that is missing is explained already, and is not twice.
                numbered = not await self._stands(nkey, marker_item(report.id, self._key))
            return recall.body if numbered else self._orders.unnumbered(recall.notice)
        # Whom the author did not know of is told by the header that she signed, and by nothing else.
        return recall.parcel(office, bits if recall.envelope.wrap_for(office) else 0)

    async def _stands(self, nkey: str, item: str) -> bool:
        """Whether ``item`` was put into a feed and is there still."""
        subject = subjects.feed_subject(nkey, item)
        return await jetstream.last(self._nc, subjects.feed_stream(nkey), subject) is not None

    def _marker(self, nkey: str, office: str, entry: Stood | Ordered, standing: Standing) -> tuple[str, str, bytes]:
        item = marker_item(entry.id, self._key)
        policy = standing.trusted.rules_version
        return nkey, item, sign_marker(office, entry.kid, policy=policy, at=int(time.time()), key=self._key)

    async def _fill(self, nkey: str, items: list[jetstream.Message]) -> KengeleError | None:
        """Puts ``items`` into one feed; gives what kept it from taking them all."""
        error: KengeleError | None = None
        try:
            await self._put_all(nkey, items)
        except KengeleError as problem:
            _log.warning("feed-waits", code=problem.code)
            error = problem
        self._storing.note(subjects.feed_stream(nkey), error)
        return error

    async def _put_all(self, nkey: str, items: list[jetstream.Message]) -> None:
        start = 0
        while start < len(items):
            end, size = start, 0
            while end < len(items) and end - start < jetstream.MAX_BATCH and size < _BATCH_BYTES:
                size += len(items[end][1])
                end += 1
            await self._put(nkey, items[start:end])
            start = end

    async def _put(self, nkey: str, items: Sequence[jetstream.Message]) -> None:
        try:
            await jetstream.publish_batch(self._nc, items)
            self.delivered += len(items)
        except Conflict:
            # Some of them are there already, from before a crash: put in what is missing.
            stream = subjects.feed_stream(nkey)
            missing = [item for item in items if await jetstream.last(self._nc, stream, item[0]) is None]
            if missing and len(missing) < len(items):
                await self._put(nkey, missing)
            elif missing:
                raise Unavailable("broker-unavailable", "The feed changed meanwhile.", "Try again.") from None

    async def _log_narrowed(self, header: Header, leaf: Leaf, outcome: Outcome, standing: Standing) -> None:
        policy = standing.trusted.rules_version
        body = NarrowedLeaf(
            salt=b64u(secrets.token_bytes(16)),
            digest=leaf.digest,
            policy=policy,
            at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            decisions=outcome.narrowed,
        ).canonical()
        with suppress(Conflict):
            await self._ledger.append([Entry(subjects.ledger_entry("narrowed", f"{header.id}-{policy}"), body)])


def _late(recall: Stood | Ordered, report: Stood, shares: Sequence[Shared]) -> Sequence[str]:
    """The offices that ``recall`` reaches because the report was shared with them."""
    offices = {one.share.office for one in shares}
    if isinstance(recall, Ordered):
        return sorted(offices)
    return reached(recall.envelope, report.leaf, offices)
