"""Recalls at the hub: what is left of a report, who confirmed that it is gone, and what its author is told of that.

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
from kengele_schemas.fields import Model, ReportId, read
from kengele_schemas.leaves import ConfirmedLeaf
from kengele_schemas.recall import MAX_CONFIRMATION, left, read_confirmation
from kengele_schemas.receipt import Leaf, read_leaf
from kengele_schemas.report import Header, parse_header

from . import jetstream
from .authority import not_admitted
from .errors import Conflict
from .intake import Standing
from .ledger import Entry, Ledger, split

_MAX_REQUEST: Final = 4096
_AT_ONCE: Final = 8
"""Requests that are answered at the same time; more of them wait, so that nobody keeps the broker busy."""


class _Ask(Model):
    recall: ReportId


@dataclass(frozen=True, slots=True)
class Stood:
    """A report or recall as it stands in the ledger."""

    header: Header
    leaf: Leaf
    envelope: Envelope


class Recalls:
    """One worker's part of it.

    Args:
        nc: a connection in the account ``HUB``.
        ledger: where recalls and confirmations stand.
        standing: gives the members in force.
    """

    def __init__(self, nc: Client, ledger: Ledger, standing: Callable[[], Standing | None]) -> None:
        self._nc, self._ledger, self._standing = nc, ledger, standing
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def stood(self, report_id: str) -> Stood | None:
        """The report or recall with this id; None if there is none. Raises Unavailable, Damaged, Malformed."""
        index = self._ledger.place_of(report_id)
        if index is None:
            await self._ledger.refresh()
            index = self._ledger.place_of(report_id)
        return None if index is None else await self._read(index)

    async def left(self, report_id: str) -> dict[str, int]:
        """What is left, as bits, to each office from which the report was recalled. Raises as :meth:`stood`."""
        keeps: dict[str, list[Sequence[str] | None]] = {}
        for index in self._ledger.recalls_of(report_id):
            recall = await self._read(index)
            for office, _, _, _ in recall.leaf.decisions:
                keeps.setdefault(office, []).append(recall.header.keep)
        return {office: left(found) for office, found in keeps.items()}

    async def left_at_all(self, report_id: str) -> int:
        """What all recalls of a report together leave, as bits, whomever they speak to. Raises as :meth:`stood`."""
        return left([(await self._read(index)).header.keep for index in self._ledger.recalls_of(report_id)])

    async def answer_confirm(self, nkey: str, request: bytes) -> dict[str, Any]:
        """Keeps an office's confirmation, in the ledger for good.

        Raises:
            Refused: ``not-admitted``; ``nothing-to-recall``: there is no such recall, or not for this office.
            Untrusted: ``bad-signature``.
            Malformed: this is no confirmation.
        """
        standing, role, office = self._asker(nkey)
        row = standing.trusted.offices.get(office) if role == "office" else None
        if row is None:
            raise not_admitted()
        said = read_confirmation(request[:MAX_CONFIRMATION], unb64u(row.sign))
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
                await self._ledger.append([Entry(subjects.ledger_confirmed(recall.header.id, office), leaf, request)])
        return {"code": "confirmed"}

    async def answer_status(self, nkey: str, request: bytes) -> dict[str, Any]:
        """The confirmations of one of the asker's own recalls.

        Raises:
            Refused: ``not-admitted``; ``nothing-to-recall``: no such recall of this monitor's.
            Malformed: this is no request.
        """
        _, role, member = self._asker(nkey)
        if role != "monitor":
            raise not_admitted()
        ask = read(_Ask, loads(request, max_bytes=_MAX_REQUEST))
        async with self._room:
            recall = await self.stood(ask.recall)
            if recall is None or recall.header.kind != "recall" or recall.header.kid != member:
                raise _nothing()
            only = subjects.ledger_confirmed(ask.recall)
            stored = jetstream.read_all(self._nc, subjects.LEDGER, only=only)
            return {"code": "status", "confirmations": [b64u(split(one.data)[1]) async for one in stored]}

    async def _recall(self, report_id: str, digest: str) -> Stood | None:
        for _ in range(2):
            for index in self._ledger.recalls_of(report_id):
                recall = await self._read(index)
                if recall.leaf.digest == digest:
                    return recall
            await self._ledger.refresh()  # another worker may have taken it in
        return None

    async def _shared_with(self, report_id: str, office: str) -> bool:
        """Whether the report was shared with ``office``: at the same time as a recall, which then does not name it."""
        only = subjects.ledger_share(report_id, office)
        return bool([one async for one in jetstream.read_all(self._nc, subjects.LEDGER, only=only)])

    async def _read(self, index: int) -> Stood:
        placed = await self._ledger.read(index)
        envelope = parse(placed.body)
        return Stood(parse_header(envelope.claims), read_leaf(placed.leaf), envelope)

    def _asker(self, nkey: str) -> tuple[Standing, str, str]:
        standing = self._standing()
        if standing is None or nkey not in standing.roles:
            raise not_admitted()
        return (standing, *standing.roles[nkey])


def _told(recall: Stood, office: str) -> bool:
    return any(name == office and bits for name, bits, _, _ in recall.leaf.decisions)


def _nothing() -> Refused:
    return Refused("nothing-to-recall", "There is no such recall here.", "See: kengele node recalls")
