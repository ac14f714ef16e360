"""What past reports' headers said, for coordinators who ask where they would have gone under other rules.

They are given by :class:`~kengele_schemas.headers.Tallies`: none by itself, none of a day that is not over, none with
an id. The ledger is read on a little with each request, and what was read is not read again.

    >>> await headers.answer(nkey, b'{"since":"2026-08-27","skip":0}')
    {'code': 'headers', 'rows': [{'day': '2026-11-02', 'area': 'KG-O', …, 'count': 3}], 'next': None}
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Final

import structlog
from nats.aio.client import Client
from pydantic import Field

from kengele_schemas import subjects
from kengele_schemas.encoding import loads
from kengele_schemas.envelope import parse
from kengele_schemas.errors import KengeleError, Refused
from kengele_schemas.fields import Day, Model, read
from kengele_schemas.headers import Facts, Tallies
from kengele_schemas.receipt import MAX_RECEIPT
from kengele_schemas.replay import REMEMBERED

from . import consumers
from .errors import not_admitted
from .intake import Standing
from .ledger import Ledger, split

MAX_ROWS: Final = 1000
MAX_READ: Final = 250
"""Reports that are read on at one request."""
_MAX_REQUEST: Final = 4096
_LATE: Final = 3600
"""Seconds after a day's end in which a report may still come to stand under it."""
_log = structlog.get_logger(__name__)


class _Ask(Model):
    since: Day | None = None
    skip: Annotated[int, Field(ge=0, le=2**53)] = 0


class Headers:
    """One worker's part of the service.

    Args:
        nc: a connection in the account ``HUB``.
        ledger: where the reports stand.
        standing: gives the members in force.
        clock: Unix seconds.
    """

    def __init__(
        self,
        nc: Client,
        ledger: Ledger,
        standing: Callable[[], Standing | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._nc, self._ledger, self._standing, self._clock = nc, ledger, standing, clock
        self._tallies = Tallies()
        self._first = self._next = 0
        self._whole = date.min
        self._reading = asyncio.Lock()

    async def answer(self, nkey: str, request: bytes) -> dict[str, Any]:
        """The answer to a coordinator: a page, or ``reading`` as long as not all of the ledger has been read.

        Raises:
            Refused: ``not-admitted``; ``too-far-back``.
            Malformed: this is no request.
        """
        standing = self._standing()
        if standing is None or standing.roles.get(nkey, ("", ""))[0] != "coordinator":
            raise not_admitted()
        ask = read(_Ask, loads(request, max_bytes=_MAX_REQUEST))
        over = datetime.fromtimestamp(self._clock() - _LATE, UTC).date()
        earliest = over - REMEMBERED
        since = ask.since or earliest
        if since < earliest:
            days = REMEMBERED.days
            raise Refused("too-far-back", f"Headers are given for {days} days.", f"Ask since {earliest} or later.")
        async with self._reading:
            if self._whole < over and not await self._read_on(earliest):
                return {"code": "reading", "read": self._next - self._first, "of": self._ledger.size + 1 - self._first}
            self._whole = over
        self._tallies.forget_before(earliest)
        rows, following = self._tallies.page(since, over, skip=ask.skip, limit=MAX_ROWS)
        more = {"since": following.since.isoformat(), "skip": following.skip} if following else None
        return {"code": "headers", "rows": rows, "next": more}

    async def _read_on(self, earliest: date) -> bool:
        """Whether all reports have been read now."""
        if not self._next:
            await self._ledger.refresh()
            self._first = self._next = await self._begin(earliest)
        found = 0
        reading = consumers.read_all(
            self._nc, subjects.LEDGER, self._next, only=subjects.LEDGER_REPORTS, limit=MAX_READ
        )
        async with aclosing(reading):
            async for stored in reading:
                self._add(stored.data)
                self._next = stored.sequence + 1
                found += 1
                await asyncio.sleep(0)  # others' requests come first
        return found < MAX_READ

    async def _begin(self, earliest: date) -> int:
        """The sequence of the first entry that may be of ``earliest`` or later."""
        low, high = 1, self._ledger.size + 1
        while low < high:
            middle = (low + high) // 2
            if _day((await self._ledger.read(middle - 1)).leaf) < earliest - timedelta(days=1):
                low = middle + 1
            else:
                high = middle
        return low

    def _add(self, data: bytes) -> None:
        try:
            leaf, body = split(data)
            self._tallies.add(_day(leaf), read(Facts, parse(body).claims))
        except (KengeleError, ValueError, TypeError, KeyError) as error:
            # Intake has read it, so this is a fault here; the other reports are told all the same.
            _log.error("header-not-read", error=type(error).__name__)


def _day(leaf: bytes) -> date:
    """The day on which an entry was written, as its leaf says."""
    return date.fromisoformat(loads(leaf, max_bytes=MAX_RECEIPT)["at"][:10])
