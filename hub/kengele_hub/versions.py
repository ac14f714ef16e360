"""The versions of roster and policy: stored at the broker whole, written into the log, and forgotten once in there.

Several workers may store and read them at once; the timestamp fences them off against each other.
"""

from __future__ import annotations

import hashlib
import secrets
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any, Final

import nats.errors
import structlog
from nats.aio.client import Client
from tuf.api.exceptions import RepositoryError

from kengele_schemas import metadata, publication, subjects
from kengele_schemas.errors import Damaged, KengeleError
from kengele_schemas.leaves import Issue, trust_leaves
from kengele_schemas.metadata import Files
from kengele_schemas.packing import pack, unpack

from . import consumers, jetstream
from .errors import Conflict
from .ledger import Entry, Ledger

MAX_UNPACKED: Final = 8 * 1024 * 1024
_TIMESTAMP: Final = subjects.trust_file("metadata/timestamp.json")
_log = structlog.get_logger(__name__)


class Versions:
    """What the broker has of them. ``files`` are those of the version that was read or stored last; ``held`` is since
    when the hub waits for the coordinators, as it was restored from a copy.
    """

    def __init__(self, nc: Client, ledger: Ledger) -> None:
        self._nc, self._ledger = nc, ledger
        self.files: dict[str, bytes] = {}
        self.held: datetime | None = None
        self._stamp = 0

    async def read(self) -> None:
        """Reads what is stored now. Raises Unavailable."""
        held = await jetstream.last(self._nc, subjects.TRUST, subjects.TRUST_HELD)
        stamp = await jetstream.last(self._nc, subjects.TRUST, _TIMESTAMP)
        self.files = _needed(await self._stored())
        self.held = datetime.fromisoformat(held.data.decode("ascii")) if held and held.data else None
        self._stamp = stamp.sequence if stamp else 0

    async def unchanged(self) -> bool:
        """Whether nobody has stored anything since this was read. Raises Unavailable."""
        stored = await jetstream.last(self._nc, subjects.TRUST, _TIMESTAMP)
        return (stored.sequence if stored else 0) == self._stamp

    async def save(self, files: Files, *more: jetstream.Message) -> None:
        """Stores ``files``. Raises Conflict if another worker has stored some since these were read."""
        changed: list[jetstream.Message] = [
            (subjects.trust_file(path), pack(data), {}) for path, data in files.items() if self.files.get(path) != data
        ]
        # The timestamp last: who reads while this is stored sees the old version or the new one.
        changed.sort(key=lambda message: message[0] == _TIMESTAMP)
        if not changed:
            return
        if changed[-1][0] == _TIMESTAMP:
            fence = {"Nats-Expected-Last-Subject-Sequence": str(self._stamp)}
            changed[-1] = (*changed[-1][:2], fence)
        last = await jetstream.publish_batch(self._nc, [*more, *changed])
        self._stamp = last if changed[-1][0] == _TIMESTAMP else self._stamp
        self.files = dict(files)
        with suppress(nats.errors.Error):
            await self._nc.publish(subjects.TRUST_STORED, b"")

    async def log(self, version: int) -> None:
        """Writes ``version`` into the log, after those before it that it lacks. Raises Damaged, Unavailable."""
        if await self._logged(version):
            return
        stored = await self._stored()
        told = [number for number in metadata.states(stored) if number <= version]
        entries: list[Entry] = []
        for before, number in reversed([*pairwise([0, *told])]):
            if await self._logged(number):
                break
            files = metadata.as_of(stored, number)
            if files:
                entries = [*_entries(number, metadata.as_of(stored, before), files), *entries]
        if not entries:
            raise Damaged(
                "damaged", "The trust files of what is in force are not whole.", "Restore the broker's store."
            )
        try:
            await self._ledger.append(entries)
        except Conflict:
            _log.info("trust-version-logged-before")

    async def _logged(self, version: int) -> bool:
        return await jetstream.last(self._nc, subjects.LEDGER, subjects.ledger_trust(version)) is not None

    async def _stored(self) -> dict[str, bytes]:
        """All files that the broker has, those of earlier versions besides."""
        return {
            subjects.trust_path(stored.subject): unpack(stored.data, max_bytes=MAX_UNPACKED)
            async for stored in consumers.read_all(self._nc, subjects.TRUST, only=subjects.TRUST_FILES)
        }

    async def forget(self) -> None:
        """Deletes the files of earlier versions, once what follows upon them is in the log.

        Another worker may publish in this very moment. So nothing goes but what was just read, message by message, and
        only if what was read is what is in force here: a file may come to be needed again, under the same name.
        """
        read = [one async for one in consumers.read_all(self._nc, subjects.TRUST, only=subjects.TRUST_FILES)]
        stored = {subjects.trust_path(one.subject): unpack(one.data, max_bytes=MAX_UNPACKED) for one in read}
        needed = _needed(stored)
        if needed != _needed(self.files):
            return
        for one in read:
            if subjects.trust_path(one.subject) not in needed:
                await jetstream.erase(self._nc, subjects.TRUST, one.sequence)


def _entries(version: int, before: Files, files: Files) -> list[Entry]:
    """The leaf of ``version``, in its parts."""
    issue = Issue(
        version,
        hashlib.sha256(files[metadata.newest(files, "root")]).digest(),
        metadata.lists(files),
        metadata.document_digests(files),
    )
    made = trust_leaves(issue, _documents(before), _documents(files), at=datetime.now(UTC), salt=secrets.token_bytes)
    return [Entry(subjects.ledger_trust(version, leaf.part), leaf.canonical()) for leaf in made]


def _documents(files: Files) -> dict[str, Any]:
    return metadata.told(files) if files else {}


def _needed(files: dict[str, bytes]) -> dict[str, bytes]:
    """``files`` without those of earlier versions; all of them if damaged, as whoever reads them says so."""
    try:
        return publication.current_of(files) if files else {}
    except (KengeleError, RepositoryError, KeyError, ValueError, TypeError, AttributeError):
        return files
