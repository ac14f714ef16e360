"""A small network as the hub sees it: documents, members' keys, what they send; and the hub's parts on a real bus.

roster = Roster()
found = examine(roster.sealed(), roster.nkeys["osh"], roster.standing(), Quota(600), datetime.now(UTC))

async with running_hub(tmp_path) as hub:
    receipt = await hub.send("osh", hub.roster.sealed())
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey
from nats.aio.client import Client
from nats.aio.msg import Msg

from kengele_hub import consumers, jetstream, streams
from kengele_hub.authority import Authority
from kengele_hub.broker import Broker
from kengele_hub.delivery import Delivery
from kengele_hub.home import HubKeys
from kengele_hub.intake import Standing
from kengele_hub.ledger import Ledger
from kengele_hub.worker import Worker
from kengele_schemas import drafts, subjects
from kengele_schemas.cards import CoordinatorCard
from kengele_schemas.compartments import ALL_BITS
from kengele_schemas.encoding import b64u, canonical, loads
from kengele_schemas.envelope import TENSION_REPORT
from kengele_schemas.keys import X25519, OpeningKey, monitor_id, new_signing_key
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.sealing import Reader, seal
from kengele_schemas.trusted import UNNAMED, Trusted, assemble
from kengele_testing.server import running_broker
from kengele_testing.trust import Paper

LOG = "kengele/test"
TOKEN = bytes(range(16))
_SOME_DAY = ("2020-01-01", "2199-12-31")


def today() -> str:
    return datetime.now(UTC).date().isoformat()


@dataclass
class Roster(Paper):
    """Three coordinators, the monitors ``osh`` and ``batken``, the offices ``unrcca`` and ``council``.

    ``unrcca`` may read summary and account, ``council`` the summary, both of all that comes from Kyrgyzstan.
    """

    authors: dict[str, SigningKey] = field(default_factory=lambda: {n: new_signing_key() for n in ("osh", "batken")})
    opening: dict[str, OpeningKey] = field(
        default_factory=lambda: {name: OpeningKey.generate(X25519) for name in ("unrcca", "council")}
    )
    nkeys: dict[str, str] = field(
        default_factory=lambda: {
            name: KeyPair.generate("user").public for name in ("aigul", "osh", "batken", "unrcca", "council")
        }
    )

    identity: str = UNNAMED
    """That of the network founded last."""

    def kid(self, author: str) -> str:
        return monitor_id(bytes(self.authors[author].verify_key))

    def area(self, author: str) -> str:
        """Where ``author`` reports from."""
        return {"osh": "KG-O", "batken": "KG-B"}[author]

    def documents(self) -> dict[str, Any]:
        def row(name: str, role: str, member: str) -> dict[str, str]:
            return {"nkey": self.nkeys[name], "role": role, "member": member}

        sign = b64u(bytes(self.monitor.verify_key))
        offices = [
            {"id": id, "name": id, "areas": ["KG"], "keys": [key.public.document()], "sign": sign}
            for id, key in self.opening.items()
        ]
        monitors = [
            {
                "kid": self.kid(name),
                "key": b64u(bytes(key.verify_key)),
                "areas": [self.area(name)],
                "not_before": _SOME_DAY[0],
                "not_after": _SOME_DAY[1],
            }
            for name, key in self.authors.items()
        ]
        common = {"areas": ["KG"], "categories": ["*"], "tlp_up_to": "AMBER", "expires": _SOME_DAY[1], "reason": "test"}
        rules = [
            {"id": "to-unrcca", "grant": ["summary", "account"], "to": ["office:unrcca"], **common},
            {"id": "to-council", "grant": ["summary"], "to": ["office:council"], **common},
        ]
        connections = [
            row("aigul", "coordinator", "aigul"),
            *(row(name, "monitor", self.kid(name)) for name in self.authors),
            *(row(name, "office", name) for name in self.opening),
        ]
        return {
            **super().documents(),
            "network.json": {
                "v": 1,
                "name": "Test",
                "hub_key": b64u(bytes(self.hub.verify_key)),
                "log": LOG,
                "custodian": "unrcca",
            },
            "offices.json": {"v": 1, "offices": offices, "groups": {}},
            "policy.json": {"v": 1, "version": 1, "rules": rules},
            "connections.json": {"v": 1, "connections": connections},
            "monitors/KG.json": {"v": 1, "area": "KG", "monitors": monitors},
        }

    def changed(self, path: str, **changes: Any) -> dict[str, Any]:
        """The document at ``path`` with other members."""
        return {path: {**self.documents()[path], **changes}}

    def with_monitor(self, author: str, **changes: Any) -> dict[str, Any]:
        """The list of monitors with another entry for ``author``."""
        path = "monitors/KG.json"
        listed = self.documents()[path]["monitors"]
        return self.changed(
            path, monitors=[row | (changes if row["kid"] == self.kid(author) else {}) for row in listed]
        )

    def with_office(self, office: str, **changes: Any) -> dict[str, Any]:
        """The list of offices with another entry for ``office``."""
        listed = self.documents()["offices.json"]["offices"]
        return self.changed("offices.json", offices=[row | (changes if row["id"] == office else {}) for row in listed])

    def with_rules(self, version: int = 2, without: str = "", **changes: Any) -> dict[str, Any]:
        """The policy in another version, less the rule ``without``."""
        rules = [rule for rule in self.documents()["policy.json"]["rules"] if rule["id"] != without]
        return self.changed("policy.json", version=version, **{"rules": rules, **changes})

    def trusted(self, changed: Mapping[str, Any] | None = None) -> Trusted:
        """The documents as a set that was verified, without signatures."""
        documents = {path: canonical(value) for path, value in {**self.documents(), **(changed or {})}.items()}
        expires = datetime.now(UTC) + timedelta(days=14)
        return assemble(documents, version=1, fresh=True, expires=expires, identity=self.identity)

    def standing(self, changed: Mapping[str, Any] | None = None) -> Standing:
        return Standing.of(self.trusted(changed))

    def sealed(
        self,
        author: str = "osh",
        *,
        key: SigningKey | None = None,
        readers: Sequence[str] = ("unrcca", "council"),
        contents: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> bytes:
        """A report as ``author`` would send it; ``claims`` replace what its header says, ``key`` the author's own."""
        header = {
            "v": 2,
            "net": self.identity,
            "id": b64u(secrets.token_bytes(16)),
            "kid": self.kid(author),
            "kind": "report",
            "area": self.area(author),
            "categories": ["rumour"],
            "severity": 2,
            "day": today(),
            "day_precision": 1,
            "tlp": "AMBER",
            "pol": 1,
            **claims,
        }
        text = {"text": "Talk of a fight.", "lang": "en"}
        filled = {"summary": text, "account": text} if contents is None else contents
        to = [Reader(one, (self.opening.get(one) or _STRANGER).public, ALL_BITS, 1) for one in readers]
        return seal(TENSION_REPORT, header, filled, to, key or self.authors[author])

    def first(self, changed: Mapping[str, Any] | None = None, by: Sequence[int] = (0, 1)) -> dict[str, bytes]:
        """What the coordinators send to found the network."""
        cards = [CoordinatorCard.of(key, KeyPair.generate("user")) for key in self.coordinators]
        keys = (b64u(bytes(key.verify_key)) for key in (self.snapshot, self.timestamp))
        documents = {**self.documents(), **(changed or {})}
        files = self.signed(drafts.found(documents, cards, 2, *keys, datetime.now(UTC)), by).files()
        self.identity = b64u(hashlib.sha256(files["metadata/1.root.json"]).digest())
        return files

    def next(
        self,
        current: Mapping[str, bytes],
        changed: Mapping[str, Any],
        by: Sequence[int] = (0, 1),
        now: datetime | None = None,
    ) -> dict[str, bytes]:
        """What the coordinators send to change documents."""
        return self.signed(drafts.edit(current, changed, now or datetime.now(UTC)), by).files()


_STRANGER = OpeningKey.generate(X25519)


@dataclass
class Hub:
    """The hub's parts in this process, over one connection to a real broker."""

    home: Path
    broker: Broker
    keys: HubKeys
    nc: Client
    roster: Roster
    ledger: Ledger
    authority: Authority
    worker: Worker
    delivery: Delivery

    @classmethod
    async def of(cls, home: Path, broker: Broker, keys: HubKeys, roster: Roster) -> Hub:
        """One more worker on ``broker``; its cache is in ``home``."""
        home.mkdir(exist_ok=True)
        nc = await broker.access.connect()
        try:
            ledger = Ledger(nc, keys.hub_key, LOG, home / "ledger.cache")
            await ledger.load()
            authority = Authority(keys, nc, broker.access, ledger, hashlib.sha256(TOKEN).digest())
            await authority.load()
        except BaseException:
            await nc.close()
            raise
        worker = Worker(keys, nc, ledger, authority)
        delivery = Delivery(nc, ledger, keys.hub_key, lambda: authority.standing, worker.submissions.recent)
        return cls(home, broker, keys, nc, roster, ledger, authority, worker, delivery)

    @asynccontextmanager
    async def another(self, name: str = "another") -> AsyncIterator[Hub]:
        """A second worker on the same broker."""
        hub = await Hub.of(self.home.parent / name, self.broker, self.keys, self.roster)
        try:
            yield hub
        finally:
            await hub.nc.close()

    async def publish(self, changed: Mapping[str, Any]) -> int:
        return await self.authority.publish(self.roster.next(self.authority.files, changed))

    @asynccontextmanager
    async def running(self, *parts: str) -> AsyncIterator[None]:
        """Lets ``parts`` (``worker``, ``delivery``) run while the block does."""
        if "worker" in parts:
            await self.worker.listen()
            await self.nc.flush()
        running = {"worker": self.worker.submissions.run, "delivery": self.delivery.run}
        tasks = [asyncio.create_task(running[part]()) for part in parts]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def send(self, member: str, data: bytes) -> dict[str, Any]:
        """The answer to one report, over the bus. The worker must run."""
        answer = await self.nc.request(subjects.reports_submit(self.roster.nkeys[member]), data, timeout=20)
        return dict(loads(answer.data, max_bytes=1 << 20))

    async def take(self, *sent: tuple[str, bytes]) -> list[dict[str, Any]]:
        """The answers to ``sent``, members and their reports, taken in as one batch."""
        inboxes = [self.nc.new_inbox() for _ in sent]
        waiting = [await self.nc.subscribe(inbox) for inbox in inboxes]
        await self.nc.flush()
        await self.worker.submissions.take(
            [self.message(*one, inbox) for one, inbox in zip(sent, inboxes, strict=True)]
        )
        answers = [await subscription.next_msg(30) for subscription in waiting]
        for subscription in waiting:
            await subscription.unsubscribe()
        return [dict(loads(answer.data, max_bytes=1 << 20)) for answer in answers]

    def message(self, member: str, data: bytes, reply: str = "") -> Msg:
        """``data`` as it comes in from ``member``."""
        return Msg(self.nc, subjects.reports_submit(self.roster.nkeys[member]), reply, data)

    async def feed(self, office: str) -> list[jetstream.Stored]:
        """All that was ever put into an office's feed."""
        stream = subjects.feed_stream(self.roster.nkeys[office])
        return [stored async for stored in consumers.read_all(self.nc, stream)]

    async def stored(self, stream: str) -> list[jetstream.Stored]:
        return [stored async for stored in consumers.read_all(self.nc, stream)]


@asynccontextmanager
async def running_hub(
    tmp_path: Path, roster: Roster | None = None, *, found: bool = True, **options: Any
) -> AsyncIterator[Hub]:
    """A broker and one worker's parts, the network founded unless ``found`` says no."""
    roster = roster or Roster()
    async with running_broker(tmp_path) as (broker, keys):
        roster.hub, roster.snapshot, roster.timestamp = keys.hub_key, keys.snapshot_key, keys.timestamp_key
        nc = await broker.access.connect()
        await streams.ensure_streams(nc, **options)
        await nc.close()
        hub = await Hub.of(tmp_path / "worker", broker, keys, roster)
        try:
            if found:
                await hub.authority.found(b64u(TOKEN), roster.first())
            yield hub
        finally:
            with suppress(Exception):
                await hub.nc.close()
