"""Pauses: whoever sends far more than a node can be told to is kept out by the broker for a while.

NATS bounds no connection's rate, and to drop a message costs the hub most of what it costs to hear one. So a member
that goes on above what no honest node reaches is not heard at all for a time: its nkey is revoked up to a moment that
is still to come. The broker keeps that, so that every worker and every server is rid of the sender and a restart lets
it back no sooner; and it ends by itself, with the first JWT that is issued after that moment.

    >>> pauses = Pauses(access, lambda: revoked)
    >>> pauses.note(nkey, 1)  # too much, once more
    >>> await pauses.run()
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Final

import structlog

from kengele_schemas.errors import KengeleError

from .access import Access

WINDOW: Final = 10.0
"""Seconds over which it is counted what a sender sends too much."""
MOST: Final = 1000
"""Of that, what is borne. A node has 16 reports under way, so that of an honest one hardly any is ever too much."""
FIRST: Final = 60
LONGEST: Final = 3600
"""Seconds: the first pause; each further one is twice as long, up to the longest."""
QUIET: Final = 24 * 3600
"""Seconds after which an earlier pause is forgotten."""
_REST: Final = 1.0
"""Seconds between two changes of the members' account, however many ask for it."""
_log = structlog.get_logger(__name__)


class Tally:
    """What each sender did within the window that is open; all are forgotten together when it closes."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._opened = float("-inf")

    def add(self, sender: str, weight: int, now: float) -> int:
        """Adds ``weight`` and gives the sum. ``now`` is in seconds of a clock that is never set back."""
        if now - self._opened >= WINDOW:
            self._counts.clear()
            self._opened = now
        self._counts[sender] = found = self._counts.get(sender, 0) + weight
        return found

    def forget(self, sender: str) -> None:
        """Counts ``sender`` from nothing on."""
        self._counts.pop(sender, None)


class Pauses:
    """Whom one worker has paused. Call :meth:`run` besides.

    Args:
        access: to the broker that keeps them out.
        revoked: the roster's revoked nkeys, as they are when asked.
        first: seconds of the first pause.
        clock: Unix seconds.
    """

    def __init__(
        self,
        access: Access,
        revoked: Callable[[], Collection[str]],
        *,
        first: int = FIRST,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.count = 0
        """Pauses since the start."""
        self._access, self._revoked, self._first, self._clock = access, revoked, first, clock
        self._tally = Tally()
        self._ends: dict[str, tuple[int, int]] = {}
        """How long each sender's last pause was, and when it ended or ends, until that is forgotten."""
        self._wanted: dict[str, int] = {}
        self._stirred = asyncio.Event()

    def note(self, sender: str, weight: int) -> None:
        """Counts what ``sender`` sent too much, and asks for a pause when it is more than is borne."""
        if self._tally.add(sender, weight, time.monotonic()) >= MOST:
            self._tally.forget(sender)
            self._wanted[sender] = self._until(sender)
            self._stirred.set()

    def _until(self, sender: str) -> int:
        now = int(self._clock())
        self._ends = {one: found for one, found in self._ends.items() if now - found[1] <= QUIET}
        length, end = self._ends.get(sender, (0, 0))
        # What still comes in during a pause was on its way, or the broker was told otherwise since: no longer for that.
        if end < now:
            length = min(2 * length, LONGEST) or self._first
            end = now + length
            self.count += 1
        self._ends[sender] = (length, end)
        return end

    async def run(self) -> None:
        """Has the broker keep out whoever is to be paused, for ever."""
        told = 0
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            wanted, self._wanted = self._wanted, {}
            try:
                await self._access.pause(wanted, self._revoked())
                if self.count > told:
                    _log.warning("senders-paused", count=self.count - told)
                    told = self.count
            except KengeleError as error:
                # Whoever goes on sending is counted anew.
                _log.warning("pause-not-taken", code=error.code)
            except Exception as error:
                _log.error("pause-failed", error=type(error).__name__)
            await asyncio.sleep(_REST)
