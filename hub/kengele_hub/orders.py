"""Orders at the hub: each of the coordinators' recalls gets a place in the ledger beside the authors' own.

From there it goes their way: what it takes is taken out of the feeds, by whichever worker, and again after a crash. The
place is found by a keyed digest, so that no author can have put a recall of her own there before.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from nacl.signing import SigningKey
from nats.aio.client import Client

from kengele_schemas import subjects
from kengele_schemas.compartments import ALL_BITS, HANDLING_BIT
from kengele_schemas.encoding import b64u
from kengele_schemas.envelope import parse
from kengele_schemas.orders import Notice, Order, is_notice, mark_of, proof_of, sign_notice
from kengele_schemas.receipt import Leaf, read_leaf
from kengele_schemas.report import parse_header
from kengele_schemas.trusted import Trusted

from . import consumers
from .errors import Conflict
from .intake import fitting
from .ledger import Entry, Ledger

_PERSON: Final = b"kengele-order"


class Orders:
    """One worker's part of it.

    Args:
        nc: a connection in the account ``HUB``.
        ledger: where they stand.
        key: the hub's.
    """

    def __init__(self, nc: Client, ledger: Ledger, key: SigningKey) -> None:
        self._nc, self._ledger, self._key = nc, ledger, key
        self._sought: set[bytes] = set()

    def id_of(self, order: Order) -> str:
        """The id under which ``order`` stands in the ledger, and its notice in the feeds."""
        digest = hashlib.blake2b(order.digest, key=bytes(self._key), digest_size=16, person=_PERSON)
        return b64u(digest.digest())

    async def enter(self, trusted: Trusted) -> None:
        """Gives every order about a report that is in the ledger its place there, if it has none yet.

        A report that comes later is looked after by who delivers it. Raises Unavailable, StorageFull, Damaged.
        """
        new = {mark: order for mark, order in trusted.orders.items() if order.digest not in self._sought}
        if not new:
            return
        await self._ledger.refresh()
        found = await asyncio.to_thread(_named, new.keys(), self._ledger.ids())
        for report_id in found:
            await self.enter_for(report_id, trusted)
        self._sought = {order.digest for order in trusted.orders.values()}

    async def shared(self, report_id: str) -> set[str]:
        """The offices with which the report was shared. Raises Unavailable."""
        stored = consumers.read_all(self._nc, subjects.LEDGER, only=subjects.ledger_share(report_id))
        return {subjects.shared_with(one.subject) async for one in stored}

    def unnumbered(self, notice: Notice) -> bytes:
        """``notice`` for an office that had the report by a share alone."""
        return sign_notice(notice.model_copy(update={"numbered": False, "proof": None}), self._key)

    async def enter_for(self, report_id: str, trusted: Trusted) -> None:
        """The same for the order about the report with this id, if there is one."""
        order = trusted.orders.get(mark_of(report_id)) if trusted.orders else None
        index = self._ledger.place_of(report_id)
        if order is None or index is None or self._ledger.place_of(self.id_of(order)) is not None:
            return
        placed = await self._ledger.read(index)
        if is_notice(placed.body):
            return
        envelope = parse(placed.body)
        header, report = parse_header(envelope.claims), read_leaf(placed.leaf)
        if header.kind != "report":
            return
        said = Notice(id=self.id_of(order), report=report_id, kid=header.kid, keep=order.keep, proof=proof_of(envelope))
        notice = sign_notice(said, self._key)
        subject = subjects.ledger_recall(report_id, self.id_of(order))
        had = {office for office, bits, _, _ in report.decisions if bits} | await self.shared(report_id)
        with suppress(Conflict):
            await self._ledger.append([Entry(subject, _leaf(order, report, had, notice, trusted), notice)])


def _named(marks: Iterable[str], ids: Iterable[bytes]) -> list[str]:
    wanted = frozenset(marks)
    return [report_id for report_id in map(b64u, ids) if mark_of(report_id) in wanted]


def _leaf(order: Order, report: Leaf, had: Iterable[str], notice: bytes, trusted: Trusted) -> bytes:
    """What the log says of it: a recall of this report, told to every office that was released any of it."""
    return Leaf(
        kind="recall",
        salt=b64u(secrets.token_bytes(16)),
        digest=b64u(order.digest),
        bytes=b64u(hashlib.sha256(notice).digest()),
        policy=trusted.rules_version,
        at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        decisions=fitting([(office, HANDLING_BIT, ALL_BITS & ~HANDLING_BIT, ()) for office in sorted(had)], trusted),
        recalls=report.digest,
    ).canonical()
