"""Recalls at the hub: what is left of a report, who confirmed that it is gone, and what is told of that to whom.

>>> await recalls.answer_status(nkey, b'{"recall":"6wCkK0dMs0G9eJxZ1mW2xQ"}')
{'code': 'status', 'confirmations': ['eyJhdCI6…']}
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from nats.aio.client import Client

from kengele_schemas import subjects
from kengele_schemas.encoding import b64u, loads, unb64u
from kengele_schemas.envelope import Envelope, parse
from kengele_schemas.errors import Refused
from kengele_schemas.fields import Bytes32, Model, ReportId, read
from kengele_schemas.leaves import ConfirmedLeaf
from kengele_schemas.orders import Notice, is_notice, read_notice
from kengele_schemas.recall import MAX_CONFIRMATION, left, read_confirmation
from kengele_schemas.receipt import Leaf, read_leaf
from kengele_schemas.report import Header, parse_header

from . import consumers
from .errors import Conflict, not_admitted
from .intake import Standing
from .ledger import Entry, Ledger, split
from .orders import Orders
from .routing import parcel

_MAX_REQUEST: Final = 4096
_AT_ONCE: Final = 8
"""Requests that are answered at the same time; more of them wait, so that nobody keeps the broker busy."""


class _Ask(Model):
    recall: ReportId


class _Look(Model):
    order: Bytes32


@dataclass(frozen=True, slots=True)
class Stood:
    """A report or an author's recall as it stands in the ledger."""

    header: Header
    leaf: Leaf
    envelope: Envelope

    @property
    def id(self) -> str:
        return self.header.id

    @property
    def recalled(self) -> str:
        """The id of what it recalls; empty if it is a report."""
        return self.header.recalls or ""

    @property
    def keep(self) -> Sequence[str] | None:
        return self.header.keep

    @property
    def kid(self) -> str:
        return self.header.kid

    def parcel(self, office: str, bits: int) -> bytes:
        """What ``office`` is given of it."""
        return parcel(self.envelope, office, bits)


@dataclass(frozen=True, slots=True)
class Ordered:
    """A recall by the coordinators as it stands there; every office is given the same notice."""

    notice: Notice
    leaf: Leaf
    body: bytes

    @property
    def id(self) -> str:
        return self.notice.id

    @property
    def recalled(self) -> str:
        return self.notice.report

    @property
    def keep(self) -> Sequence[str] | None:
        return self.notice.keep

    @property
    def kid(self) -> str:
        return self.notice.kid


def read_entry(leaf: bytes, body: bytes) -> Stood | Ordered:
    """What stands in an entry of the ledger. Raises Malformed."""
    if is_notice(body):
        return Ordered(read_notice(body), read_leaf(leaf), body)
    envelope = parse(body)
    return Stood(parse_header(envelope.claims), read_leaf(leaf), envelope)


class Recalls:
    """One worker's part of it.

    Args:
        nc: a connection in the account ``HUB``.
        ledger: where recalls and confirmations stand.
        orders: the coordinators' recalls among them.
        standing: gives the members in force.
    """

    def __init__(self, nc: Client, ledger: Ledger, orders: Orders, standing: Callable[[], Standing | None]) -> None:
        self._nc, self._ledger, self._orders, self._standing = nc, ledger, orders, standing
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def stood(self, report_id: str) -> Stood | None:
        """The report or author's recall with this id; None if there is none. Raises Unavailable, Damaged, Malformed."""
        found = await self._at(report_id)
        return found if isinstance(found, Stood) else None

    async def left(self, report_id: str) -> dict[str, int]:
        """What is left, as bits, to each office from which the report was recalled. Raises as :meth:`stood`."""
        keeps: dict[str, list[Sequence[str] | None]] = {}
        for index in self._ledger.recalls_of(report_id):
            recall = await self._read(index)
            for office, _, _, _ in recall.leaf.decisions:
                keeps.setdefault(office, []).append(recall.keep)
        return {office: left(found) for office, found in keeps.items()}

    async def left_at_all(self, report_id: str) -> int:
        """What all recalls of a report together leave, as bits, whomever they speak to. Raises as :meth:`stood`."""
        return left([(await self._read(index)).keep for index in self._ledger.recalls_of(report_id)])

    async def answer_confirm(self, nkey: str, request: bytes) -> dict[str, Any]:
        """Keeps an office's confirmation, in the ledger for good.

        Raises:
            Refused: ``not-admitted``; ``nothing-to-recall``: there is no such recall, or not for this office.
            Untrusted: ``bad-signature``, ``other-network``.
            Malformed: this is no confirmation.
        """
        standing, role, office = self._asker(nkey)
        row = standing.trusted.offices.get(office) if role == "office" else None
        if row is None:
            raise not_admitted()
        said = read_confirmation(request[:MAX_CONFIRMATION], unb64u(row.sign), standing.trusted.identity)
        if said.office != office:
            raise not_admitted()
        async with self._room:
            recall = await self._recall(said.report, said.recall)
            if recall is None or not (_told(recall, office) or await self._shared_with(said.report, office)):
                raise _nothing()
            leaf = ConfirmedLeaf(
                salt=b64u(secrets.token_bytes(16)),
                digest=said.recall,
                bytes=b64u(hashlib.sha256(request).digest()),
                office=office,
                at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            ).canonical()
            with suppress(Conflict):
                await self._ledger.append([Entry(subjects.ledger_confirmed(recall.id, office), leaf, request)])
        return {"code": "confirmed"}

    async def answer_status(self, nkey: str, request: bytes) -> dict[str, Any]:
        """The confirmations of one of a monitor's own recalls, or for a coordinator of one of theirs.

        Raises:
            Refused: ``not-admitted``; ``nothing-to-recall``: no such recall of the asker's.
            Malformed: this is no request.
        """
        standing, role, member = self._asker(nkey)
        if role not in ("monitor", "coordinator"):
            raise not_admitted()
        document = loads(request, max_bytes=_MAX_REQUEST)
        async with self._room:
            if role == "coordinator":
                return await self._status_of(read(_Look, document).order, standing)
            ask = read(_Ask, document)
            recall = await self.stood(ask.recall)
            if recall is None or recall.header.kind != "recall":
                raise _nothing()
            if recall.header.kid not in standing.names_of(member):
                raise _nothing()
            return {"code": "status", "confirmations": await self._confirmations(ask.recall)}

    async def _status_of(self, mark: str, standing: Standing) -> dict[str, Any]:
        """Of the order with this mark; ``report`` is None where no such report ever came in."""
        order = standing.trusted.orders.get(mark)
        if order is None:
            raise _nothing()
        order_id = self._orders.id_of(order)
        found = await self._at(order_id)
        if not isinstance(found, Ordered):
            return {"code": "status", "report": None, "offices": [], "confirmations": []}
        offices = {office for office, _, _, _ in found.leaf.decisions} | await self._orders.shared(found.recalled)
        return {
            "code": "status",
            "report": found.leaf.recalls,
            "offices": sorted(offices),
            "confirmations": await self._confirmations(order_id),
        }

    async def _confirmations(self, recall_id: str) -> list[str]:
        stored = consumers.read_all(self._nc, subjects.LEDGER, only=subjects.ledger_confirmed(recall_id))
        return [b64u(split(one.data)[1]) async for one in stored]

    async def _at(self, entry_id: str) -> Stood | Ordered | None:
        index = self._ledger.place_of(entry_id)
        if index is None:
            await self._ledger.refresh()
            index = self._ledger.place_of(entry_id)
        return None if index is None else await self._read(index)

    async def _recall(self, report_id: str, digest: str) -> Stood | Ordered | None:
        for _ in range(2):
            for index in self._ledger.recalls_of(report_id):
                recall = await self._read(index)
                if recall.leaf.digest == digest:
                    return recall
            await self._ledger.refresh()  # another worker may have taken it in
        return None

    async def _shared_with(self, report_id: str, office: str) -> bool:
        """Whether the report was shared with ``office``: at the same time as a recall, which then does not name it."""
        return office in await self._orders.shared(report_id)

    async def _read(self, index: int) -> Stood | Ordered:
        placed = await self._ledger.read(index)
        return read_entry(placed.leaf, placed.body)

    def _asker(self, nkey: str) -> tuple[Standing, str, str]:
        standing = self._standing()
        if standing is None or nkey not in standing.roles:
            raise not_admitted()
        return (standing, *standing.roles[nkey])


def _told(recall: Stood | Ordered, office: str) -> bool:
    return any(name == office and bits for name, bits, _, _ in recall.leaf.decisions)


def _nothing() -> Refused:
    return Refused("nothing-to-recall", "There is no such recall here.", "See: kengele node recalls")
