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
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import nats.errors
import structlog
from nats.aio.client import Client
from tuf.api.metadata import Metadata

from kengele_schemas import disk, metadata, publication, subjects
from kengele_schemas.cards import HubCard, read_card
from kengele_schemas.encoding import b64u, dumps, loads, unb64u
from kengele_schemas.errors import Damaged, KengeleError, Malformed, Refused
from kengele_schemas.metadata import METADATA, Files
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.regional import LINES
from kengele_schemas.trust import TrustStore
from kengele_schemas.trusted import Trusted

from . import feeds, streams
from .access import Access
from .errors import Conflict, Unavailable, not_admitted
from .home import HubKeys
from .intake import Standing
from .ledger import Ledger
from .orders import Orders
from .patience import patiently
from .versions import Versions

_RENEW: Final = timedelta(hours=12)
_CARD: Final = "hub-card.json"
_LOOK: Final = 3600.0
"""Seconds between two looks at what is about to expire."""
_GLANCE: Final = 2.0
"""Seconds between two looks at whether another worker has published something."""
_log = structlog.get_logger(__name__)
Check = Callable[[Files], Awaitable[None]]


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
        self.versions = Versions(self.nc, self.ledger)
        self.standing: Standing | None = None
        self._changing = asyncio.Lock()
        self._behind = False
        """Whether what was read last is not in force, as the broker was away meanwhile."""
        self._feeds: set[str] = set()
        self._joiner = _joiner(self.keys.home)
        self._removed: set[str] = set()
        self.orders = Orders(self.nc, self.ledger, self.keys.hub_key)

    @property
    def files(self) -> dict[str, bytes]:
        """The files of the version that was read or stored last."""
        return self.versions.files

    @property
    def held(self) -> datetime | None:
        """Since when the hub waits for the coordinators; None unless it was restored."""
        return self.versions.held

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
        await self.versions.read()
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
            Unavailable: the broker did not confirm, for half a minute.
        """
        async with self._changing:
            try:
                given = hashlib.sha256(unb64u(token)).digest()
            except Malformed:
                given = b""
            if self.files or not hmac.compare_digest(given, self.token):
                raise not_admitted()
            # Nobody may found twice, so who founds cannot be asked to send it again.
            return await patiently(self._begin, incoming)

    async def _begin(self, incoming: Files) -> int:
        # Another may have founded meanwhile, at another worker: then the broker stores this no more.
        if incoming and incoming.items() <= self.files.items():
            return await self._hold()
        return await self._publish(None, incoming)

    async def publish(self, incoming: Files, check: Check | None = None) -> int:
        """Stores a new version. Gives its number. Raises as :meth:`found`; nothing in force changes then.

        ``check`` is called with what has all its signatures, as it may take long, and refuses it by raising.

        Unavailable, StorageFull: it may be in force; sent again, it is brought to its end.
        """
        async with self._changing:
            if not self.files:
                raise not_admitted()
            if self.held is not None:
                return await self._reinstate(incoming, self.held)
            if incoming and incoming.items() <= self.files.items():
                return await self._hold()
            return await self._publish(self.files, incoming, check)

    async def _publish(
        self, current: Files | None, incoming: Files, check: Check | None = None, *, again: bool = False
    ) -> int:
        now = datetime.now(UTC)
        # In a thread, as one coordinator alone may send what takes long to be refused, again and again.
        accepted = await asyncio.to_thread(
            publication.accept, current, incoming, self.keys.snapshot_key, self.keys.timestamp_key, now
        )
        self._check_lines(accepted)
        if check is not None:
            await check({path: data for path, data in incoming.items() if accepted.get(path) == data})
        if current is None:
            network = metadata.document_of(accepted, "network.json")
            if network["hub_key"] != b64u(bytes(self.keys.hub_key.verify_key)):
                raise Refused("another-hub", "These files name another hub.", "Found the network with this hub's card.")
        try:
            await self.versions.save(accepted)
        except Conflict:
            # Another worker has stored something, or this was stored before and nobody was told.
            await self.versions.read()
            if not incoming.items() <= self.files.items():
                if again:
                    raise
                return await self._publish(self.files, incoming, check, again=True)
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
        await self.versions.save(accepted, (subjects.TRUST_HELD, b"", {}))
        self.versions.held = None
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
        await self.versions.log(version)
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
            if self._behind or not await self.versions.unchanged():
                await self._take_over()

    async def _take_over(self) -> None:
        await self.versions.read()
        try:
            if self.files:
                await self._apply()
            if self.standing is not None:
                await self.orders.enter(self.standing.trusted)
        except Unavailable:
            self._behind = True
            raise
        self._behind = False

    async def _renew(self) -> None:
        now = datetime.now(UTC)
        renewed = publication.refresh_timestamp(
            self.files, self.keys.snapshot_key, self.keys.timestamp_key, now, before=now + _RENEW
        )
        try:
            await self.versions.save(renewed)
        except Conflict:
            await self.versions.read()  # another worker was faster

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
                await self.versions.log(self.standing.trusted.version)
                await self.orders.enter(self.standing.trusted)
                await self.versions.forget()
        except KengeleError as error:
            _log.warning("trust-version-not-logged", code=error.code)


def _joiner(home: Path) -> str:
    """The key of all who are not in yet, from the hub's card; empty where that was taken away."""
    try:
        return KeyPair.from_seed(read_card(disk.read(home / _CARD), HubCard).join.seed).public
    except (OSError, KengeleError):
        return ""


def _held_until(files: Files) -> datetime:
    """The last second in which every signature on ``files`` held."""
    signed = (Metadata[Any].from_bytes(data).signed for path, data in files.items() if path.startswith(METADATA))
    end: datetime = min(one.expires for one in signed)
    return end.replace(tzinfo=UTC) - timedelta(seconds=1)
