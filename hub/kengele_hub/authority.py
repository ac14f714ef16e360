"""What the coordinators have signed, as the hub keeps and checks it.

The hub can hold roster and policy back or show them late; it cannot make any: every version is verified here as a
client would verify it, and by each client again. A version is in force once its files are stored, all in one batch.

A hub that was restored from a copy cannot know what was signed after the copy was made: who was revoked since would be
back. It takes and gives nothing until enough coordinators have signed a version anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import nats.errors
import structlog
from nats.aio.client import Client
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata

from kengele_schemas import metadata, publication, subjects
from kengele_schemas.cards import HubCard, read_card
from kengele_schemas.encoding import b64u, dumps, loads, unb64u
from kengele_schemas.errors import Damaged, KengeleError, Malformed, Refused
from kengele_schemas.leaves import Issue, trust_leaves
from kengele_schemas.metadata import METADATA, Files
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.packing import pack, unpack
from kengele_schemas.regional import LINES
from kengele_schemas.trust import TrustStore
from kengele_schemas.trusted import Trusted

from . import consumers, feeds, jetstream, streams
from .access import Access
from .errors import Conflict, Unavailable, not_admitted
from .home import HubKeys
from .intake import Standing
from .ledger import Entry, Ledger
from .orders import Orders

MAX_UNPACKED: Final = 8 * 1024 * 1024
_RENEW: Final = timedelta(hours=12)
_CARD: Final = "hub-card.json"
_LOOK: Final = 3600.0
"""Seconds between two looks at what is about to expire."""
_GLANCE: Final = 2.0
"""Seconds between two looks at whether another worker has published something."""
_TIMESTAMP: Final = subjects.trust_file("metadata/timestamp.json")
_log = structlog.get_logger(__name__)


@dataclass
class Authority:
    """Trust files and what follows from them. ``standing`` is None until the network was founded, and while the hub is
    held: ``held`` is since when it waits for the coordinators, as it was restored from a copy.

    ``token`` is the hash of the founding token; who has it may publish the first version, once.
    """

    keys: HubKeys
    nc: Client
    access: Access
    ledger: Ledger
    token: bytes
    replicas: int = 1

    def __post_init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.standing: Standing | None = None
        self._changing = asyncio.Lock()
        self.held: datetime | None = None
        self._stamp = 0
        self._behind = False
        """Whether what was read last is not in force, as the broker was away meanwhile."""
        self._feeds: set[str] = set()
        self._joiner = _joiner(self.keys.home)
        self._removed: set[str] = set()
        self.orders = Orders(self.nc, self.ledger, self.keys.hub_key)

    @property
    def _store(self) -> Path:
        return self.keys.home / "trust"

    @property
    def revoked(self) -> set[str]:
        """The nkeys that the roster in force keeps out for good."""
        connections = self.standing.trusted.connections if self.standing else None
        return {row.nkey for row in connections.revoked} if connections else set()

    async def load(self) -> None:
        """Reads the files from the broker and brings members and feeds in line. Raises Unavailable, Untrusted."""
        async with self._changing:
            await self._bring_up()

    async def keep_fresh(self) -> None:
        """Signs the timestamp anew in time, and notices when an area's signatures run out, for ever."""
        while True:
            await asyncio.sleep(self._pause())
            try:
                async with self._changing:
                    await self._bring_up()
            except KengeleError as error:
                _log.warning("trust-not-renewed", code=error.code)
                with suppress(KengeleError):
                    await self._judge_anew()

    def _pause(self) -> float:
        ends = self.standing.trusted.ends.values() if self.standing else ()
        now = datetime.now(UTC)
        return min([_LOOK, *((end - now).total_seconds() + 1 for end in ends if end > now)])

    async def _judge_anew(self) -> None:
        """Holds the dates of what is in force against the clock, where the files themselves are past theirs."""
        async with self._changing:
            root = self.files.get("metadata/1.root.json")
            if self.standing is not None and root is not None:
                store = TrustStore(self._store, root)
                self.standing = Standing.of(await asyncio.to_thread(store.offline, "hub", datetime.now(UTC)))

    async def _bring_up(self) -> None:
        await self._read_stored()
        if self.files and self.held is None:
            await self._renew()
        if self.files:
            await self._apply()
            await self._make_up()

    async def found(self, token: str, incoming: Files) -> int:
        """Stores the first version. Gives its number.

        Raises:
            Refused: ``not-admitted``: a wrong token, or the network was founded already.
            Malformed, Untrusted, Refused: what is wrong with the files.
        """
        async with self._changing:
            try:
                given = hashlib.sha256(unb64u(token)).digest()
            except Malformed:
                given = b""
            if self.files or not hmac.compare_digest(given, self.token):
                raise not_admitted()
            return await self._publish(None, incoming)

    async def publish(self, incoming: Files) -> int:
        """Stores a new version. Gives its number. Raises as :meth:`found`; nothing in force changes then.

        Unavailable, StorageFull: it may be in force; sent again, it is brought to its end.
        """
        async with self._changing:
            if not self.files:
                raise not_admitted()
            if self.held is not None:
                return await self._reinstate(incoming, self.held)
            if incoming and incoming.items() <= self.files.items():
                return await self._hold()
            return await self._publish(self.files, incoming)

    async def _publish(self, current: Files | None, incoming: Files, *, again: bool = False) -> int:
        now = datetime.now(UTC)
        # In a thread, as one coordinator alone may send what takes long to be refused, again and again.
        accepted = await asyncio.to_thread(
            publication.accept, current, incoming, self.keys.snapshot_key, self.keys.timestamp_key, now
        )
        self._check_lines(accepted)
        if current is None:
            network = metadata.document_of(accepted, "network.json")
            if network["hub_key"] != b64u(bytes(self.keys.hub_key.verify_key)):
                raise Refused("another-hub", "These files name another hub.", "Found the network with this hub's card.")
        try:
            await self._save(accepted)
        except Conflict:
            # Another worker has stored something, or this was stored before and nobody was told.
            await self._read_stored()
            if not incoming.items() <= self.files.items():
                if again:
                    raise
                return await self._publish(self.files, incoming, again=True)
        return await self._hold()

    async def _reinstate(self, incoming: Files, since: datetime) -> int:
        if "metadata/1.root.json" not in incoming:
            raise Refused(
                "hub-restored",
                "This hub was restored from a copy and may lack what was signed since: it waits for the coordinators.",
                "Two of you sign anew: kengele coordinator renew, sign, publish.",
            )
        now = datetime.now(UTC)
        accepted = await asyncio.to_thread(
            publication.reinstate, self.files, incoming, since, self.keys.snapshot_key, self.keys.timestamp_key, now
        )
        self._check_lines(accepted)
        await self._save(accepted, (subjects.TRUST_HELD, b"", {}))
        self.held = None
        _log.info("hub-reinstated")
        return await self._hold()

    def _check_lines(self, files: Files) -> None:
        """Checks that no area speaks of the key by which newcomers reach the hub: it could lock all of them out."""
        for path in (path for path in metadata.document_paths(files) if path.startswith(f"{LINES}/")):
            document = metadata.document_of(files, path)
            if self._joiner in {row["nkey"] for row in (*document["connections"], *document.get("revoked", ()))}:
                raise Refused("another-lists", "A list of connections names the key of all who join.", "Leave it out.")

    async def _hold(self) -> int:
        """Brings the files that are stored into force and into the log; gives their version."""
        await self._apply()
        if self.standing is None:
            raise Damaged("damaged", "The trust files cannot be read back.")
        version = self.standing.trusted.version
        await self._log(version)
        # Before anybody hears of it: an office may confirm at once.
        await self.orders.enter(self.standing.trusted)
        with suppress(nats.errors.Error):
            await self.nc.publish(subjects.NEWS, dumps(version))
        return version

    async def heard(self, news: bytes) -> None:
        """Takes over what another worker has published. Raises as :meth:`load`."""
        async with self._changing:
            known = self.standing.trusted.version if self.standing else 0
            if loads(news, max_bytes=32) == known:
                return
            await self._take_over()

    async def keep_current(self) -> None:
        """Notices what other workers have published, for ever: the news of it is told once, and may be lost."""
        while True:
            await asyncio.sleep(_GLANCE)
            try:
                await self.look_again()
            except KengeleError as error:
                _log.warning("trust-not-taken-over", code=error.code)

    async def look_again(self) -> None:
        """Takes over what another worker has signed anew: were one to show an older timestamp, members would take the
        hub for one that goes back. Raises as :meth:`load`."""
        async with self._changing:
            if self._behind or not await self._unchanged():
                await self._take_over()

    async def _take_over(self) -> None:
        await self._read_stored()
        try:
            if self.files:
                await self._apply()
            if self.standing is not None:
                await self.orders.enter(self.standing.trusted)
        except Unavailable:
            self._behind = True
            raise
        self._behind = False

    async def _unchanged(self) -> bool:
        stored = await jetstream.last(self.nc, subjects.TRUST, _TIMESTAMP)
        return (stored.sequence if stored else 0) == self._stamp

    async def _save(self, files: Files, *more: jetstream.Message) -> None:
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
        last = await jetstream.publish_batch(self.nc, [*more, *changed])
        self._stamp = last if changed[-1][0] == _TIMESTAMP else self._stamp
        self.files = dict(files)
        with suppress(nats.errors.Error):
            await self.nc.publish(subjects.TRUST_STORED, b"")

    async def _renew(self) -> None:
        now = datetime.now(UTC)
        renewed = publication.refresh_timestamp(
            self.files, self.keys.snapshot_key, self.keys.timestamp_key, now, before=now + _RENEW
        )
        try:
            await self._save(renewed)
        except Conflict:
            await self._read_stored()  # another worker was faster

    def _read(self, files: Mapping[str, bytes]) -> Trusted:
        root = files.get("metadata/1.root.json")
        if root is None:
            raise Damaged("damaged", "The first root is missing from the trust files.", "Restore the broker's store.")
        return TrustStore(self._store, root).refresh(files.get, "hub", datetime.now(UTC))

    def _last_word(self, store: TrustStore, files: Files) -> Trusted:
        try:
            return store.offline("hub", datetime.now(UTC))
        except KengeleError:
            # The directory is lost besides, as after a restoration.
            return store.refresh(files.get, "hub", _held_until(files))

    async def _apply(self) -> None:
        if self.held is not None:
            self.standing = None
            # Desks fetch from the broker itself, and one of them may have been revoked since.
            await feeds.close_feeds(self.nc, await streams.names(self.nc))
            _log.warning("hub-waits-for-coordinators")
            return
        try:
            trusted = await asyncio.to_thread(self._read, dict(self.files))
        except KengeleError:
            root = self.files.get("metadata/1.root.json")
            if self.standing is not None or root is None:
                raise
            # After a long stop the coordinators' signatures may be past their date; what they said last still holds,
            # and the hub must run for them to sign anew.
            trusted = await asyncio.to_thread(self._last_word, TrustStore(self._store, root), dict(self.files))
            _log.warning("trust-expired")
        standing = Standing.of(trusted)
        for nkeys in standing.desks.values():
            for nkey in set(nkeys) - self._feeds:
                await feeds.ensure_feed(self.nc, nkey, replicas=self.replicas)
                self._feeds.add(nkey)
        # Before the broker is told: whether it answers or not, nothing more is taken from who is revoked.
        self.standing = standing
        revoked = self.revoked
        if revoked:
            await self.access.revoke(revoked)
        # Of those revoked before the start, too: a hub may have died before it had removed a feed.
        for nkey in sorted(revoked - self._removed):
            await feeds.remove_feed(self.nc, nkey)
            self._feeds.discard(nkey)
            self._removed.add(nkey)

    async def _make_up(self) -> None:
        """Writes into the log what is in force, if a crash or a full disk came in between when it was published."""
        try:
            if self.standing is not None:
                await self._log(self.standing.trusted.version)
                await self.orders.enter(self.standing.trusted)
                await self._forget()
        except KengeleError as error:
            _log.warning("trust-version-not-logged", code=error.code)

    async def _forget(self) -> None:
        """Deletes the files of earlier versions, once what follows upon them is in the log.

        Another worker may publish in this very moment. So nothing goes but what was just read, message by message, and
        only if what was read is what is in force here: a file may come to be needed again, under the same name.
        """
        read = [one async for one in consumers.read_all(self.nc, subjects.TRUST, only=subjects.TRUST_FILES)]
        stored = {subjects.trust_path(one.subject): unpack(one.data, max_bytes=MAX_UNPACKED) for one in read}
        needed = _needed(stored)
        if needed != _needed(self.files):
            return
        for one in read:
            if subjects.trust_path(one.subject) not in needed:
                await jetstream.erase(self.nc, subjects.TRUST, one.sequence)

    async def _log(self, version: int) -> None:
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
            await self.ledger.append(entries)
        except Conflict:
            _log.info("trust-version-logged-before")

    async def _logged(self, version: int) -> bool:
        return await jetstream.last(self.nc, subjects.LEDGER, subjects.ledger_trust(version)) is not None

    async def _stored(self) -> dict[str, bytes]:
        """All files that the broker has, those of earlier versions besides."""
        return {
            subjects.trust_path(stored.subject): unpack(stored.data, max_bytes=MAX_UNPACKED)
            async for stored in consumers.read_all(self.nc, subjects.TRUST, only=subjects.TRUST_FILES)
        }

    async def _read_stored(self) -> None:
        held = await jetstream.last(self.nc, subjects.TRUST, subjects.TRUST_HELD)
        stamp = await jetstream.last(self.nc, subjects.TRUST, _TIMESTAMP)
        self.files = _needed(await self._stored())
        self.held = datetime.fromisoformat(held.data.decode("ascii")) if held and held.data else None
        self._stamp = stamp.sequence if stamp else 0


def _joiner(home: Path) -> str:
    """The key of all who are not in yet, from the hub's card; empty where that was taken away."""
    try:
        return KeyPair.from_seed(read_card((home / _CARD).read_bytes(), HubCard).join.seed).public
    except (OSError, KengeleError):
        return ""


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


def _held_until(files: Files) -> datetime:
    """The last second in which every signature on ``files`` held."""
    signed = (Metadata[Any].from_bytes(data).signed for path, data in files.items() if path.startswith(METADATA))
    end: datetime = min(one.expires for one in signed)
    return end.replace(tzinfo=UTC) - timedelta(seconds=1)


def _needed(files: dict[str, bytes]) -> dict[str, bytes]:
    """``files`` without those of earlier versions; all of them if damaged, as whoever reads them says so."""
    try:
        return publication.current_of(files) if files else {}
    except (KengeleError, RepositoryError, KeyError, ValueError, TypeError, AttributeError):
        return files
