"""The monitor's watch over the hub's log: it asks whether an office has cosigned what continues the receipts it got.

The hub shows monitors and offices the same checkpoint for a quarter of an hour. An office cosigns it only if it
continues all that this office saw before. A node that finds such a cosignature, and a proof that the cosigned tree
continues the one of a receipt, knows that the office's log holds its report: only then the envelope may go.

    >>> looked = await LogWatch(session, memory, member.nkey.public).look(trusted)
    >>> looked.confirmed
    2
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from kengele_node.log_reader import Contradiction, Cosigned, LogReader, Session
from kengele_schemas.checkpoint import Checkpoint
from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import KengeleError, Unreachable, Untrusted
from kengele_schemas.merkle import verify_consistency
from kengele_schemas.trusted import Trusted

from .log_memory import MEND, SENTENCE, TWO_LOGS, LogMemory, Place, Taken

EVERY: Final = 3600.0
"""Seconds from one look to the next, half of them more or less; whether anything waits or not."""
_FIRST: Final = 60.0
"""Seconds within which the first look follows once there is a line."""
_AT_ONCE: Final = 32
"""Places that one look asks a proof for; the others wait for the next."""


class Looked(NamedTuple):
    """The result of one look: the log's size as shown, entries confirmed by it, and entries that still wait."""

    size: int
    confirmed: int
    waiting: int


class LogWatch:
    """Looks at the log for one monitor.

    Args:
        session: the line.
        memory: what receipts and earlier looks said.
        nkey: the monitor's.
        clock: Unix seconds.
    """

    def __init__(
        self, session: Session, memory: LogMemory, nkey: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._reader, self._memory, self._clock = LogReader(session, nkey), memory, clock

    async def look(self, trusted: Trusted) -> Looked:
        """Compares the hub's log with what is remembered, and lets go of envelopes that an office has confirmed.

        Raises:
            Untrusted: ``log-forked``, ``log-rolled-back``, ``two-logs``: kept as evidence, and nothing is let go for
                it; ``bad-proof``, ``bad-cosignature``.
            Unreachable: no line.
            Refused: the hub does not answer.
            Malformed: its answer is none.
        """
        try:
            return await self._look(trusted)
        finally:
            # Whatever the hub answers: it does not decide how long an envelope lies here.
            self._memory.expire(self._clock())

    async def _look(self, trusted: Trusted) -> Looked:
        log, key = trusted.network.log, trusted.network.hub_key
        before = self._memory.last()
        # A hub that the roster gave another key begins a log of its own.
        known = before is not None and before.key == key and before.note.startswith(f"{log}\n")
        try:
            shown = await self._reader.look(before.note if before is not None and known else "", trusted)
        except Contradiction as error:
            self._memory.forked(error.before, error.after, self._clock())
            raise Untrusted(error.code, error.sentence, MEND) from None
        self._memory.keep(Taken(shown.newest.note, key))
        confirmed = await self._confirm(shown.cosigned, key)
        return Looked(shown.newest.checkpoint.size, confirmed, self._memory.waiting())

    async def _confirm(self, cosigned: Iterable[Cosigned], key: str) -> int:
        places = [place for place in self._memory.unconfirmed() if place.key == key]
        done: set[str] = set()
        doubted = False
        for checkpoint, note, by in cosigned:
            under = [place for place in places if place.name not in done and place.size <= checkpoint.size]
            for place in under[:_AT_ONCE] if by else ():
                if await self._continues(place, checkpoint):
                    self._memory.confirm(place, by)
                    done.add(place.name)
                else:
                    self._memory.doubt(place, note, self._clock())
                    doubted = True
        if doubted:
            raise Untrusted(TWO_LOGS, SENTENCE, MEND)
        return len(done)

    async def _continues(self, place: Place, checkpoint: Checkpoint) -> bool:
        """Whether the hub proves that ``checkpoint`` continues the receipt's."""
        root = unb64u(place.root)
        path = await self._reader.consistency(Checkpoint(checkpoint.origin, place.size, root), checkpoint)
        try:
            verify_consistency(place.size, checkpoint.size, path, root, checkpoint.root)
        except Untrusted:
            return False
        return True


@asynccontextmanager
async def watching(
    session: Any, memory: LogMemory, rules: Callable[[], Trusted | None], told: Callable[[KengeleError], None]
) -> AsyncIterator[None]:
    """While the block runs, a :class:`~kengele_node.member.Session` looks at the log from time to time.

    Args:
        session: the line.
        memory: what receipts said.
        rules: the rules as last verified; fetched where it gives None.
        told: called with what is wrong, at each look that finds it.
    """
    work = asyncio.create_task(_work(session, memory, rules, told))
    try:
        yield
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def _work(
    session: Any, memory: LogMemory, rules: Callable[[], Trusted | None], told: Callable[[KengeleError], None]
) -> None:
    looks = LogWatch(session, memory, session.member.nkey.public)
    # Not when a report was sent: the hour of a look tells an onlooker nothing.
    wait = random.uniform(0, _FIRST)  # noqa: S311
    while True:
        await asyncio.sleep(wait)
        wait = random.uniform(0.5, 1.5) * EVERY  # noqa: S311
        try:
            await looks.look(rules() or await session.refresh())
        except Unreachable:
            memory.expire(time.time())
            wait = random.uniform(0.5, 1.5) * _FIRST  # noqa: S311
        except KengeleError as error:
            told(error)
