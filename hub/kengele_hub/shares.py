"""Shares at the hub: whether one is taken, what is in the log of it, and what of it goes into which feed.

A share is taken from the report's author or from the network's custodian, for an office that the rules in force give
something of the report, and of that it is given no more than stands in the log. Whether the office has some of it
already makes no difference to the answer: nobody learns from it who else holds a report.

    >>> await shares.answer(nkey, share)
    {'code': 'shared', 'leaf': '{"at":…}', 'proof': 'c2sp.org/tlog-proof@v1…', 'repeat': False}
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, Final

from nats.aio.client import Client

from kengele_schemas import subjects
from kengele_schemas.compartments import ALL_BITS, HANDLING_BIT
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import KengeleError, Malformed, Refused
from kengele_schemas.leaves import NarrowedLeaf, SharedLeaf, read_entry
from kengele_schemas.release import Decision
from kengele_schemas.sharing import By, Share, join, read_share, verified
from kengele_schemas.trusted import Trusted

from . import consumers, jetstream
from .errors import Conflict, Unavailable, not_admitted
from .intake import Standing
from .ledger import Entry, Ledger, split
from .recalls import Recalls, Stood
from .routing import kept, parcel

_AT_ONCE: Final = 8
"""Requests that are answered at the same time; more of them wait, so that nobody keeps the broker busy."""
_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Shared:
    """A share as it stands in the ledger; ``index`` is its entry's, ``data`` what was signed."""

    index: int
    leaf: SharedLeaf
    share: Share
    data: bytes

    @classmethod
    def read(cls, index: int, stored: bytes) -> Shared:
        """Raises Damaged, Malformed."""
        leaf_bytes, data = split(stored)
        leaf = read_entry(leaf_bytes)
        if not isinstance(leaf, SharedLeaf):
            raise Malformed("malformed", "A share in the ledger has another's leaf.")
        return cls(index, leaf, read_share(data), data)

    @property
    def bits(self) -> int:
        """What was released by it."""
        return self.leaf.decisions[0][1]

    @property
    def item(self) -> str:
        """Under which it stands in a feed."""
        return b64u(hashlib.sha256(self.data).digest()[:16])


class Shares:
    """One worker's part of it.

    Args:
        nc: a connection in the account ``HUB``.
        ledger: where shares stand.
        recalls: what was recalled is not shared.
        standing: gives the rules and members in force.
    """

    def __init__(self, nc: Client, ledger: Ledger, recalls: Recalls, standing: Callable[[], Standing | None]) -> None:
        self._nc, self._ledger, self._recalls, self._standing = nc, ledger, recalls, standing
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def of(self, report_id: str) -> list[Shared]:
        """All shares of a report, the oldest first. Raises Unavailable, Damaged, Malformed."""
        stored = consumers.read_all(self._nc, subjects.LEDGER, only=subjects.ledger_share(report_id))
        return [Shared.read(one.sequence - 1, one.data) async for one in stored]

    async def answer(self, nkey: str, request: bytes) -> dict[str, Any]:
        """Takes a share in; the answer proves that it is in the log.

        Raises:
            Refused: ``not-admitted``, ``not-the-custodian``, the monitor's standing; ``nothing-to-share``: there is no
                such report of hers or at the custodian's desk, or it was recalled; ``not-granted``; ``future-dated``.
            Untrusted: ``not-as-shared``, ``bad-signature``.
            Malformed: this is no share.
        """
        standing = self._standing()
        role, member = standing.roles.get(nkey, ("", "")) if standing else ("", "")
        if standing is None or role not in ("monitor", "office"):
            raise not_admitted()
        if role == "office" and member != standing.trusted.network.custodian:
            raise _not_the_custodian()
        share = read_share(request)
        if share.by not in standing.names_of(member):
            raise not_admitted()
        _check_standing(role, member, standing.trusted)
        async with self._room:
            return await self._take(share, request, standing)

    async def _take(self, share: Share, data: bytes, standing: Standing) -> dict[str, Any]:
        trusted, now = standing.trusted, datetime.now(UTC)
        if share.day > now.date() + timedelta(days=trusted.network.max_future_days):
            raise Refused("future-dated", "The share's day lies in the future.", "Set this machine's clock.")
        stood = await self._recalls.stood(share.report)
        if stood is None or stood.header.kind != "report" or share.core != b64u(stood.envelope.core):
            raise _nothing()
        by = _by(share, stood, trusted)
        verified(data, stood.envelope, trusted)
        for _ in range(_ATTEMPTS):
            await self._ledger.refresh()
            recalls = self._ledger.recalls_of(share.report)
            bits, rules = await self._released(share, by, stood, trusted, now.date())
            # Another custodian's share of the same is another one: of one who is none any more nothing is delivered.
            who = by if by == "author" else f"{by}-{share.by}"
            place = subjects.ledger_share(share.report, share.office, f"{who}-{bits}")
            earlier = await jetstream.last(self._nc, subjects.LEDGER, place)
            if earlier is not None:
                await self._ledger.refresh()  # another worker may have written it a moment ago
                leaf_bytes, _ = split(earlier.data)
                return self._answer(earlier.sequence - 1, leaf_bytes, repeat=True)
            leaf = SharedLeaf(
                salt=b64u(secrets.token_bytes(16)),
                digest=stood.leaf.digest,
                bytes=b64u(hashlib.sha256(data).digest()),
                policy=trusted.rules_version,
                at=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                by=by,
                decisions=((share.office, bits, ALL_BITS & ~bits, rules),),
            ).canonical()
            with suppress(Conflict):
                # Never behind a recall that was not looked at.
                (index,) = await self._ledger.append(
                    [Entry(place, leaf, data)],
                    still=lambda: self._ledger.recalls_of(share.report) == recalls,  # noqa: B023
                )
                return self._answer(index, leaf, repeat=False)
        raise Unavailable("ledger-busy", "Others write to the ledger all the time.", "Try again.")

    def _answer(self, index: int, leaf: bytes, *, repeat: bool) -> dict[str, Any]:
        proof = self._ledger.proofs([index])[0]
        return {"code": "shared", "leaf": leaf.decode("utf-8"), "proof": proof, "repeat": repeat}

    async def _released(
        self, share: Share, by: By, stood: Stood, trusted: Trusted, today: date
    ) -> tuple[int, tuple[str, ...]]:
        """What the rules of today, recalls and what its sharer holds leave to the office, and by which rules."""
        bits, rules = trusted.compiled.release(stood.header, today).get(share.office, Decision(0, ()))
        if not bits or share.office == share.by:
            raise Refused("not-granted", "By the rules this office reads nothing of that report.", "Look at the rules.")
        if by == "custodian":
            bits &= _had(share.by, stood, await self.of(share.report))
        bits = kept(bits, await self._recalls.left_at_all(share.report))
        if not bits:
            raise _nothing()
        return bits, tuple(rules)

    async def parcels(self, shared: Shared, standing: Standing, today: date) -> list[tuple[str, str, bytes]]:
        """What a share puts into which feed: nkey, item, data; nothing, once there is nothing new in it.

        Raises:
            Unavailable, Damaged, Malformed.
        """
        stood = await self._recalls.stood(shared.share.report)
        if stood is None:
            return []
        office, promised, withheld, rules = shared.leaf.decisions[0]
        allowed = kept(promised, self._allowed(shared, stood, standing.trusted, today))
        if allowed != promised:
            decision = (office, allowed, withheld | promised & ~allowed, rules)
            await self._log_narrowed(shared, decision, standing.trusted.rules_version)
        # The custodian's word that an office has it does not keep the author from giving it, nor that of one who was
        # the custodian the next one.
        others, custodian = shared.leaf.by == "custodian", standing.trusted.network.custodian
        before = [
            one
            for one in await self.of(shared.share.report)
            if one.index < shared.index and (one.leaf.by == "author" or (others and one.share.by == custodian))
        ]
        bits = kept(allowed, await self._recalls.left_at_all(shared.share.report))
        if not bits & ~_had(office, stood, before) & ~HANDLING_BIT:
            return []
        data = join([shared.data], parcel(stood.envelope, "", bits))
        return [(nkey, shared.item, data) for nkey in standing.desks.get(office, ())]

    @staticmethod
    def _allowed(shared: Shared, stood: Stood, trusted: Trusted, today: date) -> int:
        author = trusted.monitors.get(stood.header.kid)
        if author is None or author.status == "revoked":
            return 0
        if shared.leaf.by == "custodian" and shared.share.by != trusted.network.custodian:
            return 0
        return trusted.compiled.release(stood.header, today).get(shared.share.office, Decision(0, ())).bits

    async def _log_narrowed(self, shared: Shared, decision: tuple[str, int, int, tuple[str, ...]], policy: int) -> None:
        body = NarrowedLeaf(
            salt=b64u(secrets.token_bytes(16)),
            digest=shared.leaf.digest,
            policy=policy,
            at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            decisions=(decision,),
        ).canonical()
        with suppress(Conflict):
            await self._ledger.append([Entry(subjects.ledger_entry("narrowed", f"{shared.item}-{policy}"), body)])


def _by(share: Share, stood: Stood, trusted: Trusted) -> By:
    """Whose the share is. Raises Refused, ``nothing-to-share``: it is not for this one to share."""
    author = trusted.monitors.get(stood.header.kid)
    if author is None or author.status == "revoked":
        raise _nothing()
    if share.by == stood.header.kid:
        return "author"
    if share.by == trusted.network.custodian:
        return "custodian"
    raise _nothing()


def _check_standing(role: str, member: str, trusted: Trusted) -> None:
    if role == "office":
        if member not in trusted.offices.active:
            raise not_admitted()
        return
    row = trusted.monitors.get(member)
    if row is None:
        raise not_admitted()
    try:
        row.standing(row.areas[0], datetime.now(UTC).date(), trusted.areas)
    except KengeleError as error:
        # Wherever she reports from now: what she shares was taken when it came.
        if error.code != "out-of-scope":
            raise


def _had(office: str, stood: Stood, shares: Iterable[Shared]) -> int:
    """What stands in the log as released to ``office``, by the report's leaf and by ``shares``."""
    decisions = [*stood.leaf.decisions, *(one.leaf.decisions[0] for one in shares)]
    return reduce(or_, (bits for name, bits, _, _ in decisions if name == office), 0)


def _nothing() -> Refused:
    return Refused(
        "nothing-to-share",
        "There is no such report here that may be shared.",
        "It may have been recalled, or its author removed.",
    )


def _not_the_custodian() -> Refused:
    return Refused(
        "not-the-custodian",
        "Only the office that the network names as its custodian shares others' reports.",
        "Ask the report's author, or the custodian.",
    )
