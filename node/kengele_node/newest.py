"""The newest rules that a home has seen named: by an author in what she signed, or by the hub in what it signed.

A hub can serve a member old rules as long as the coordinators' signatures on them last, and sign itself that there are
none newer. Whatever it takes, decides or delivers by newer rules names their number. That number is kept, sealed, in
the file ``newest``; rules below it are told to be older than those that the hub uses.

It counts until coordinators have signed their list anew, a day or more later: that list names what there is, and a
number that somebody made up ends with it.

    >>> newest.saw(7, HUB)
    True
    >>> newest.older(trusted).code
    'older-rules'
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

from kengele_schemas import disk
from kengele_schemas.drafts import TARGETS_LIFE
from kengele_schemas.encoding import dumps, loads
from kengele_schemas.errors import KengeleError
from kengele_schemas.trusted import Trusted

from .rows import RowCipher

CODE: Final = "older-rules"
HUB: Final = "hub"
"""Stands in the place of an author where the hub's own word names the rules."""
MEND: Final = "Ask a coordinator, by another way than this hub, which version is in force. Until then send with care."
MOMENT: Final = 15.0
"""Seconds for which workers of the hub may differ."""
_PAUSE: Final = 2.0
_FILE: Final = "newest"
_MAX: Final = 4096
_DAY: Final = timedelta(days=1)


class Named(NamedTuple):
    """Version ``policy`` of the rules, as it was named last ``by`` an author (her ``kid``) or the hub."""

    policy: int
    by: str
    at: datetime


class Older(NamedTuple):
    """Finding: the hub shows version ``shown`` of the rules, and ``named`` is newer."""

    shown: int
    named: Named

    @property
    def code(self) -> str:
        return CODE

    @property
    def sentence(self) -> str:
        """For a person."""
        who = "the hub itself" if self.named.by == HUB else f"a report of {self.named.by}"
        return (
            f"The hub shows us older rules than it uses: version {self.shown}. On {self.named.at.date()} {who} named"
            f" version {self.named.policy}."
        )

    def line(self) -> str:
        """The finding and what to do, in one line."""
        return f"ATTENTION ({CODE}): {self.sentence} {MEND}"

    def document(self) -> dict[str, Any]:
        """As JSON."""
        at = self.named.at.isoformat(timespec="seconds")
        return {"code": CODE, "shown": self.shown, "used": self.named.policy, "by": self.named.by, "at": at}


class Newest:
    """A home's memory of the newest rules that were named.

    Args:
        home: where the file is.
        rows: the cipher of what is in it.
        now: aware, UTC.
    """

    def __init__(self, home: Path, rows: RowCipher, now: Callable[[], datetime]) -> None:
        self._home, self._rows, self._now = home, rows, now
        self._last = self._kept()

    def saw(self, policy: int, by: str) -> bool:
        """Whether version ``policy`` is news: newer than all that were named, of what still counts."""
        found = Named(policy, by, self._now())
        if not _counts(found, self._last):
            return False
        kept = self._kept()  # another process may have written more
        if not _counts(found, kept):
            self._last = kept
            return False
        self._last = found
        # A full disk keeps nobody from reporting.
        with suppress(KengeleError, OSError):
            body = {"policy": policy, "by": by, "at": found.at.timestamp()}
            disk.write(self._home / _FILE, self._rows.seal(_FILE, dumps(body)))
        return kept is None or policy != kept.policy

    def older(self, trusted: Trusted) -> Older | None:
        """The finding, where ``trusted`` is older than what was named."""
        named = self._last
        if named is None or named.policy <= trusted.rules_version or _signed(trusted) > named.at + _DAY:
            return None
        return Older(trusted.rules_version, named)

    def confirmed(self, trusted: Trusted) -> Named | None:
        """Who besides the hub named ``trusted``, or newer rules, last."""
        named = self._last
        return named if named and named.by != HUB and named.policy >= trusted.rules_version else None

    async def learn(
        self,
        policy: int,
        by: str,
        known: Trusted,
        refresh: Callable[[], Awaitable[Trusted]],
        told: Callable[[Older], object],
    ) -> Trusted:
        """The rules to go by, now that version ``policy`` was named; fetched anew if that is above all before.

        Another worker of the hub may be a moment behind, so it is asked for some seconds. ``told`` is called where the
        hub goes on to serve less.
        """
        if not self.saw(policy, by) or policy <= known.rules_version:
            return known
        loop = asyncio.get_running_loop()
        deadline = loop.time() + MOMENT
        while True:
            try:
                known = await refresh()
            except KengeleError:
                return known
            if known.rules_version >= policy:
                return known
            if loop.time() >= deadline:
                if (found := self.older(known)) is not None:
                    told(found)
                return known
            await asyncio.sleep(_PAUSE)

    def _kept(self) -> Named | None:
        try:
            body: Any = loads(self._rows.open(_FILE, disk.read(self._home / _FILE, _MAX)), max_bytes=_MAX)
            return Named(int(body["policy"]), str(body["by"]), datetime.fromtimestamp(body["at"], UTC))
        except (KengeleError, OSError, ValueError, KeyError, TypeError, OverflowError):
            return None


def _counts(found: Named, held: Named | None) -> bool:
    """Whether ``found`` says more than ``held``: of one version an author says more than the hub, and today's word
    more than an earlier day's. After the longest time for which signatures hold, whatever is named counts."""
    if held is None or found.at > held.at + TARGETS_LIFE + _DAY:
        return True
    if found.policy != held.policy:
        return found.policy > held.policy
    if (found.by == HUB) != (held.by == HUB):
        return held.by == HUB
    return found.at > held.at + _DAY


def _signed(trusted: Trusted) -> datetime:
    """When coordinators signed their list."""
    return trusted.targets_expire - TARGETS_LIFE
