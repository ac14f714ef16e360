"""The desk: what the feed delivers is verified, opened, stored, and only then acknowledged.

What does not hold up is set aside with its code and acknowledged as well: nothing that anyone can send stops the feed,
and nothing disappears.

    >>> async with member.session() as session:
    ...     await Desk(session, inbox, member.id, member.opening_keys, member.nkey.public).follow()
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Final, Protocol

from kengele_node.bus import Bus, Delivery
from kengele_node.errors import NotAdmitted
from kengele_node.newest import HUB
from kengele_schemas import subjects
from kengele_schemas.encoding import b64u, unb64u
from kengele_schemas.envelope import Envelope, Wrap, parse, verify
from kengele_schemas.errors import KengeleError, Malformed, Refused, Unreachable, Untrusted
from kengele_schemas.keys import OpeningKey
from kengele_schemas.marker import read_marker
from kengele_schemas.orders import check_proof, is_notice, mark_of, read_notice
from kengele_schemas.report import parse_compartment, parse_header
from kengele_schemas.rotation import Lineage
from kengele_schemas.sealing import open_envelope
from kengele_schemas.sharing import is_shared, split, verified
from kengele_schemas.trusted import Trusted

from .arrivals import MAX_COUNTER, Arrival, Aside, Item, Lost, Marker, Notice, Tombstone
from .asides import MAY_HOLD_NOW, SecondLook
from .inbox import Inbox

Received = Arrival | Marker | Notice | Aside

BATCH: Final = 64
_PATIENCE: Final = 5.0
"""Seconds for which one fetch waits for something to come."""
_RULES_AGE: Final = 900.0
"""Seconds after which a desk looks whether the rules have changed."""
_LONGEST_WAIT: Final = 60.0
_ENVELOPE: Final = b'{"protected":'
NEW_KEY: Final = "new-key"
"""The flag of a report under a key that took a lost one's place: coordinators vouch for it, and nobody else."""


class Session(Protocol):
    """What the desk needs of a :class:`~kengele_node.member.Session`."""

    @property
    def link(self) -> Bus: ...

    async def refresh(self) -> Trusted: ...


def receive(
    data: bytes,
    trusted: Trusted,
    *,
    office: str,
    keys: Sequence[OpeningKey],
    today: date,
    lineage: Lineage | None = None,
) -> Arrival | Marker | Notice:
    """What ``office`` was sent in ``data``, verified and opened.

    A report of a monitor that has been suspended or revoked, or whose time is over, is not thrown away, since it may
    have been sent before; it carries a flag that says so.

    Raises:
        Malformed: not an envelope, marker or notice of the format, or its content does not follow the models.
        Untrusted: ``unknown-monitor``, ``other-network``, ``bad-signature``, ``not-as-signed``, ``not-for-us``,
            ``not-as-shared``, ``not-the-sharer``; ``not-recalled``: a notice of what no coordinators have signed.
        Refused: ``out-of-scope``: its author does not report from that area.
        CannotOpen: not with these keys.
    """
    lineage = lineage or Lineage(trusted.monitors, "")
    # Each has one spelling only, so its first bytes tell an envelope from a share, a marker and a notice.
    if is_notice(data):
        said = read_notice(data, unb64u(trusted.network.hub_key))
        order = trusted.orders.get(mark_of(said.report))
        if order is None:
            raise Untrusted("not-recalled", "The hub says that a report was recalled which was not.")
        writer = trusted.monitors.get(said.kid)
        if writer is None:
            raise Untrusted("unknown-monitor", "The roster does not know the recalled report's author.")
        if said.numbered:
            # It explains a missing number, so it is the author who has to say whose the report is.
            check_proof(said, unb64u(writer.key), trusted.identity)
        first = _other(lineage.first(said.kid), said.kid)
        return Notice(data, said.report, said.kid, order.keep, said.numbered, first)
    if not data.startswith(_ENVELOPE) and not is_shared(data):
        withheld = read_marker(data, office, unb64u(trusted.network.hub_key))
        if withheld.kid not in trusted.monitors:
            # Of names that the hub makes up there is no end, and each would have its row.
            raise Untrusted("unknown-monitor", "The roster does not know the author of what is withheld.")
        return Marker(data, withheld.kid, _other(lineage.first(withheld.kid), withheld.kid), withheld.policy)
    shares, whole = split(data) if is_shared(data) else ([], data)
    envelope = parse(whole)
    header = parse_header(envelope.claims)
    if header.net != trusted.identity:
        raise Untrusted("other-network", "The report is for another network.")
    if shares and header.kind != "report":
        raise Malformed("malformed", "Nothing but a report is shared.")
    monitor = trusted.monitors.get(header.kid)
    if monitor is None:
        raise Untrusted("unknown-monitor", "The roster does not know the report's author.")
    first = _other(lineage.first(header.kid), header.kid)
    if header.recalls is not None and not envelope.wraps:
        verify(envelope, unb64u(monitor.key))
        return Arrival(data, envelope.digest, header, {}, bare=True, first=first)
    wraps, flags = _later(shares, envelope, office, trusted)
    opened = open_envelope(envelope, office, keys, unb64u(monitor.key), wraps)
    if (opened.counter or 0) > MAX_COUNTER:
        raise Malformed("malformed", "A report's number is larger than any author can have reached.")
    try:
        trusted.check_author(monitor, header.area, today)
    except Refused as error:
        if error.code == "out-of-scope" and header.kind == "report":
            raise
        flags = (*flags, error.code)
    if lineage.vouched_by_coordinators(header.kid, today):
        flags = (*flags, NEW_KEY)
    contents = {name: parse_compartment(name, value) for name, value in opened.contents.items()}
    rest = (opened.counter, opened.withheld, flags, opened.disclosures)
    spare = {name: b64u(key) for name, key in opened.keys.items()}
    return Arrival(data, envelope.digest, header, contents, *rest, keys=spare, first=first)


def _other(first: str, kid: str) -> str:
    return first if first != kid else ""


def _later(
    shares: Sequence[bytes], envelope: Envelope, office: str, trusted: Trusted
) -> tuple[list[tuple[str, Wrap]], tuple[str, ...]]:
    """The wraps in ``shares``, and a flag for each who made one."""
    found = [verified(one, envelope, trusted) for one in shares]
    if any(share.office != office for share, _ in found):
        raise Untrusted("not-for-us", "A share speaks to another office.")
    return [share.later for share, _ in found], tuple(sorted({f"shared-later-by-{by}" for _, by in found}))


class Desk:
    """Follows one office's feed.

    Args:
        session: the line, and how the network's rules are fetched anew over it.
        office: the office's id.
        keys: its private opening keys, newest first.
        nkey: the office's, whose feed it is.
        network: the digest of the network's first root, by which monitors' word for their new keys is checked.
        clock: Unix seconds.
        jitter: a random number between its two arguments.
    """

    told: Callable[[Received], None]
    """Called with each item that is new, once it is stored."""
    watch: Callable[[Trusted], Awaitable[None]]
    """Called before the feed is looked into, at the start and then every quarter of an hour."""
    confirm: Callable[[], Awaitable[None]]
    """Called after each look into the feed: recalls that were obeyed are to be confirmed."""
    learn: Callable[[int, str, Trusted], Awaitable[Trusted]]
    """Called with the newest version of the rules that a batch names, by whom, and the rules so far; gives those to go
    by from then on."""
    rest: Callable[[], Awaitable[None]]
    """Called whenever the feed had nothing."""
    trusted: Trusted | None
    """The rules it goes by; fetched before anything is taken."""
    keys: Sequence[OpeningKey]
    """What it opens with; may be replaced at any time."""

    def __init__(
        self,
        session: Session,
        inbox: Inbox,
        office: str,
        keys: Sequence[OpeningKey],
        nkey: str,
        *,
        network: str = "",
        clock: Callable[[], float] = time.time,
        jitter: Callable[[float, float], float] = random.uniform,
        batch: int = BATCH,
    ) -> None:
        self.told = lambda _: None
        self.watch = _not_watching
        self.confirm = _not_confirming
        self.learn = _not_learning
        self.rest = _not_resting
        self.trusted = None
        self._session = session
        self._inbox = inbox
        self._office = office
        self.keys = tuple(keys)
        self._stream, self._consumer = subjects.feed_stream(nkey), subjects.feed_consumer(nkey)
        self._network = network
        self._lineage: tuple[Trusted, Lineage] | None = None
        self._clock = clock
        self._jitter = jitter
        self._batch = batch
        self._rules_from = self._watched = float("-inf")
        self._second = SecondLook(lambda limit, after: inbox.asides(limit, after=after))

    async def follow(self, *, until_empty: bool = False) -> None:
        """Takes what the feed has, for good; with ``until_empty`` until it has nothing more.

        Raises:
            Damaged: the inbox takes no more; what was not stored stays in the feed.
            Untrusted: the rules cannot be verified; nothing is taken by rules that may be old.
            Unreachable, NotAdmitted: with ``until_empty`` only; otherwise it waits for the line.
        """
        failures = 0
        while True:
            try:
                known = await self._rules()
                await self._watch(known)
                patience = 0 if until_empty or self._second.due else _PATIENCE
                deliveries = await self._session.link.fetch(self._stream, self._consumer, self._batch, patience)
                await self._take(deliveries, known)
                self._reconsider(self.trusted or known)
                await self.confirm()
                if not deliveries:
                    await self.rest()
                failures = 0
            except (Unreachable, NotAdmitted):
                if until_empty:
                    raise
                await asyncio.sleep(self._jitter(0, min(_LONGEST_WAIT, 2.0 ** min(failures, 16))))
                failures += 1
                continue
            if until_empty and not deliveries and not self._second.due:
                return

    def take_over(self, trusted: Trusted) -> None:
        """Judges by ``trusted`` from now on, obeys its recalls, and gives what was set aside a second look by it."""
        self.trusted = trusted
        self._rules_from = asyncio.get_running_loop().time()
        for notice in self._inbox.order(trusted.orders.values(), now=self._clock()):
            self.told(notice)
        self._second.begin(trusted, self.keys, self._today())
        self._reconsider(trusted)

    async def _rules(self) -> Trusted:
        """The rules, not much older than the hub's. Where new ones come in, what was set aside gets a second look."""
        now = asyncio.get_running_loop().time()
        if self.trusted is not None and now - self._rules_from < _RULES_AGE:
            return self.trusted
        trusted = await self._session.refresh()
        self.take_over(trusted)
        return trusted

    async def _watch(self, known: Trusted) -> None:
        # By its own clock: what the hub tells of new rules makes the rules young, and with them nothing was watched.
        now = asyncio.get_running_loop().time()
        if now - self._watched >= _RULES_AGE:
            await self.watch(known)
            self._watched = now

    async def _take(self, deliveries: Sequence[Delivery], known: Trusted) -> None:
        if not deliveries:
            return
        items = [self._judge(delivery.data, known) for delivery in deliveries]
        if any(_may_hold(item, MAY_HOLD_NOW) for item in items):
            # Its author may have been admitted, or the area added, a moment ago.
            self._rules_from = float("-inf")
            known = await self._rules()
            items = [self._judge(item.data, known) if _may_hold(item, MAY_HOLD_NOW) else item for item in items]
        named = max(filter(None, map(_named, items)), default=None)
        if named is not None and (newer := await self.learn(*named, known)) is not known:
            self.take_over(newer)
            items = [self._judge(delivery.data, newer) for delivery in deliveries]
        new = self._inbox.keep(items, now=self._clock())
        for item, is_new in zip(items, new, strict=True):
            if is_new:
                self._tell(item)
        # One that gets lost is no harm: it is delivered again, and known again. The hub hears them in this order, so
        # its answer to the last is one to all.
        for delivery in deliveries[:-1]:
            await self._session.link.acknowledge(delivery)
        await self._session.link.acknowledge(deliveries[-1], confirm=True)

    def _judge(self, data: bytes, known: Trusted) -> Received:
        today = self._today()
        try:
            lineage = self._lineage_in(known)
            item = receive(data, known, office=self._office, keys=self.keys, today=today, lineage=lineage)
        except KengeleError as error:
            return Aside(data, error.code)
        if isinstance(item, Arrival) and item.header.recalls and self._foreign(item.header.recalls, item.header.kid):
            return Aside(data, "not-the-author")
        return item

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock(), UTC).date()

    def _lineage_in(self, known: Trusted) -> Lineage:
        if self._lineage is None or self._lineage[0] is not known:
            self._lineage = known, Lineage(known.monitors, self._network)
        return self._lineage[1]

    def _foreign(self, report_id: str, kid: str) -> bool:
        """Whether all that is here under this id is another author's."""
        found = [item for item in self._inbox.find(report_id) if not isinstance(item, Lost)]
        authors = {item.author if isinstance(item, Tombstone) else item.arrival.header.kid for item in found}
        return bool(authors) and kid not in authors

    def _reconsider(self, known: Trusted) -> None:
        for aside in self._second.some():
            item = self._judge(aside.data, known)
            if not isinstance(item, Aside) and self._inbox.settle(aside, item):
                self._tell(item)

    def _tell(self, item: Received) -> None:
        """Tells of a report only what is here of it now: a recall may have come before it, or just behind it."""
        if isinstance(item, Arrival) and item.header.recalls is None:
            found = self._inbox.find(item.header.id)
            here = [one.arrival for one in found if isinstance(one, Item) and one.arrival.digest == item.digest]
            if not here:
                return
            stays = {name: value for name, value in item.contents.items() if name in here[0].contents}
            item = replace(item, contents=stays)
        self.told(item)


async def _not_watching(_: Trusted) -> None:
    pass


async def _not_confirming() -> None:
    pass


async def _not_resting() -> None:
    pass


async def _not_learning(_: int, __: str, known: Trusted) -> Trusted:
    return known


def _named(item: Received) -> tuple[int, str] | None:
    """The version of the rules that ``item`` names, and by whose word; the hub takes nothing that names none of its."""
    if isinstance(item, Arrival):
        return item.header.pol, item.header.kid
    return (item.policy, HUB) if isinstance(item, Marker) else None


def _may_hold(item: Received, codes: frozenset[str]) -> bool:
    return isinstance(item, Aside) and item.code in codes
