"""What the hub watches of itself: how long what is signed holds, what room is left, what waits to be delivered.

Figures of the whole and times; nothing here says who, where or what.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import nats.errors
from cryptography import x509
from nats.aio.client import Client
from tuf.api.metadata import Metadata

from kengele_schemas import disk, subjects
from kengele_schemas.errors import KengeleError
from kengele_schemas.metadata import newest
from kengele_schemas.trusted import Trusted

from . import consumers, delivery, jetstream

PACE: Final = 10.0
"""Seconds between two looks."""
LEAST_ROOM: Final = 64 * 1024**2
"""Bytes of free disk below which the hub is not ready, while it can still write down what is under way."""
_REMEMBERED: Final = 120.0
"""Seconds for which a report that was not stored is held against the storage, if none is stored meanwhile."""
_FULL: Final = "storage-full"


class Holds(NamedTuple):
    """Until when what is signed holds; None where there is nothing yet. All in UTC."""

    root: datetime | None = None
    vouched: datetime | None = None
    """The hub's own signature that nothing is newer."""
    rules: datetime | None = None
    """The first day on which a grant will have ended."""

    @classmethod
    def of(cls, files: Mapping[str, bytes], trusted: Trusted | None, now: datetime) -> Holds:
        """What ``files`` and the set read from them say; grants that have ended by ``now`` are left out."""
        if not files or trusted is None:
            return cls()
        policies = (trusted.policy, *trusted.regional.values())
        days = [rule.expires for policy in policies for rule in policy.rules if rule.expires is not None]
        last = min((day for day in days if day >= now.date()), default=None)
        ends = datetime.combine(last, datetime.max.time(), UTC) if last else None
        return cls(_expires(files, newest(files, "root")), _expires(files, "metadata/timestamp.json"), ends)


def _expires(files: Mapping[str, bytes], path: str) -> datetime | None:
    try:
        found: datetime = Metadata[Any].from_bytes(files[path]).signed.expires
    except Exception:  # whatever is wrong with it is told by who verifies it
        return None
    return found.replace(tzinfo=UTC)


class Room:
    """Whether the storage takes reports: judged by what became of the last ones, as no free space proves it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stored = self._refused = 0
        self._since: float | None = None

    def full(self, receipts: Mapping[str, int]) -> bool:
        """Whether the last reports were turned away for want of room, by the counts of all receipts so far."""
        refused, stored = receipts.get(_FULL, 0), receipts.get("accepted", 0)
        if stored > self._stored:
            self._since = None
        if refused > self._refused:
            self._since = self._clock()
        self._stored, self._refused = stored, refused
        return self._since is not None and self._clock() - self._since < _REMEMBERED


@dataclass(slots=True)
class Watch:
    """Looks now and then; ``None`` is what is not known.

    Args:
        nc: a connection in the account ``HUB``.
        home: the hub's.
        holds: tells until when what is signed holds.
        certificate: the broker's, if the hub has it.
        embedded: whether the broker's store is on this machine.
    """

    nc: Client
    home: Path
    holds: Callable[[], Holds]
    certificate: Path | None = None
    embedded: bool = True
    room: Room = field(default_factory=Room)
    signed: Holds = field(default_factory=Holds)
    certificate_until: datetime | None = None
    disk_free: int | None = None
    disk_size: int | None = None
    writable: bool = True
    stored: int | None = None
    limit: int | None = None
    waiting: int | None = None
    cosigned: datetime | None = None

    @property
    def cramped(self) -> bool:
        """Whether the disk has no room or cannot be written."""
        return not self.writable or (self.embedded and self.disk_free is not None and self.disk_free < LEAST_ROOM)

    async def run(self) -> None:
        """Looks for ever."""
        while True:
            await self.look()
            await asyncio.sleep(PACE)

    async def look(self) -> None:
        """Takes in how all is now; what the broker does not answer stays as it was."""
        self.signed = self.holds()
        self.certificate_until = certificate_end(self.certificate)
        self.disk_free, self.disk_size, self.writable = disk_of(self.home)
        try:
            account = await jetstream.account(self.nc)
            limit = int(account["limits"]["max_storage"])
            self.stored, self.limit = int(account["storage"]), limit if limit >= 0 else None
            router = await consumers.consumer(self.nc, subjects.LEDGER, delivery.CONSUMER)
            self.waiting = int(router["num_pending"]) + int(router["num_ack_pending"]) if router else None
            self.cosigned = await jetstream.last_time(self.nc, subjects.AUDIT, "audited.cosignature.*.*")
        except (KengeleError, nats.errors.Error, OSError, KeyError, TypeError, ValueError):
            return


def certificate_end(path: Path | None) -> datetime | None:
    """Until when the first of the certificates in ``path`` holds; None if there is none or it cannot be read."""
    if path is None:
        return None
    try:
        chain = x509.load_pem_x509_certificates(disk.read_own(path))
        return min(one.not_valid_after_utc for one in chain)
    except (OSError, ValueError):
        return None


def disk_of(home: Path) -> tuple[int | None, int | None, bool]:
    """Bytes that are free and bytes in all on the disk of ``home``, and whether it can be written."""
    try:
        disk = shutil.disk_usage(home)
        read_only = bool(os.statvfs(home).f_flag & os.ST_RDONLY)
    except OSError:
        return None, None, False
    return disk.free, disk.total, not read_only and os.access(home, os.W_OK)
