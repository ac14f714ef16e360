"""A network's trust files without hub or bus: three coordinators, the hub's keys, and a server that is a dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nacl.signing import SigningKey
from tuf.api.metadata import Metadata

from kengele_schemas import drafts, metadata, publication, signatures
from kengele_schemas.areas import Areas
from kengele_schemas.cards import CoordinatorCard
from kengele_schemas.encoding import b64u
from kengele_schemas.keys import X25519, OpeningKey, monitor_id, new_signing_key
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.trust import TrustStore
from kengele_schemas.trusted import Trusted

Files = dict[str, bytes]
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ROOT = "metadata/1.root.json"


@dataclass
class Paper:
    """The keys and the first version, signed by two of three."""

    coordinators: list[SigningKey] = field(default_factory=lambda: [new_signing_key() for _ in range(3)])
    hub: SigningKey = field(default_factory=new_signing_key)
    snapshot: SigningKey = field(default_factory=new_signing_key)
    timestamp: SigningKey = field(default_factory=new_signing_key)
    monitor: SigningKey = field(default_factory=new_signing_key)

    def documents(self) -> dict[str, Any]:
        public = bytes(self.monitor.verify_key)
        office = {
            "id": "unrcca",
            "name": "UNRCCA",
            "areas": ["KG"],
            "keys": [OpeningKey.generate(X25519).public.document()],
            "sign": b64u(bytes(new_signing_key().verify_key)),
        }
        monitor = {
            "kid": monitor_id(public),
            "key": b64u(public),
            "areas": ["KG-O"],
            "not_before": "2026-01-01",
            "not_after": "2027-12-31",
        }
        rule = {
            "id": "grant-one",
            "grant": ["summary"],
            "to": ["office:unrcca"],
            "areas": ["KG"],
            "categories": ["*"],
            "tlp_up_to": "AMBER",
            "expires": "2027-12-31",
            "reason": "test",
        }
        return {
            "network.json": {
                "v": 1,
                "name": "Test",
                "hub_key": b64u(bytes(self.hub.verify_key)),
                "log": "kengele/test",
                "custodian": "unrcca",
            },
            "offices.json": {"v": 1, "offices": [office], "groups": {}},
            "policy.json": {"v": 1, "version": 1, "rules": [rule]},
            "areas.json": Areas.world().subset(["KG-O", "KG-B", "SD-KH"]).model_dump(mode="json", exclude_none=True),
            "connections.json": {"v": 1, "connections": []},
            "monitors/KG.json": {"v": 1, "area": "KG", "monitors": [monitor]},
        }

    def drafted(self, documents: Mapping[str, Any] | None = None) -> drafts.Draft:
        cards = [CoordinatorCard.of(key, KeyPair.generate("user")) for key in self.coordinators]
        keys = (b64u(bytes(key.verify_key)) for key in (self.snapshot, self.timestamp))
        return drafts.found(documents or self.documents(), cards, 2, *keys, NOW)

    def signed(self, draft: drafts.Draft, by: Sequence[int] = (0, 1)) -> drafts.Draft:
        for number in by:
            draft = signatures.sign(draft, self.coordinators[number])
        return draft

    def accept(
        self, draft: drafts.Draft, current: Mapping[str, bytes] | None = None, now: datetime = NOW
    ) -> dict[str, bytes]:
        return self.accept_files(draft.files(), current, now)

    def accept_files(
        self, incoming: Mapping[str, bytes], current: Mapping[str, bytes] | None = None, now: datetime = NOW
    ) -> dict[str, bytes]:
        return publication.accept(current, incoming, self.snapshot, self.timestamp, now)

    def founded(self) -> dict[str, bytes]:
        return self.accept(self.signed(self.drafted()))


def read(directory: Path, files: Mapping[str, bytes], root: bytes, now: datetime = NOW) -> Trusted:
    """What an office makes of ``files``."""
    return TrustStore(directory, root).refresh(files.get, "office", now, "unrcca")


def raised(files: Mapping[str, bytes], version: int = 2) -> dict[str, Any]:
    policy = metadata.document_of(files, "policy.json")
    return {"policy.json": {**policy, "version": version}}


def keyid(key: SigningKey) -> str:
    return metadata.public_key(bytes(key.verify_key)).keyid


def versions(files: Mapping[str, bytes]) -> dict[str, int]:
    roles = ("root", "targets", "monitors-KG", "snapshot", "timestamp")
    return {role: metadata.metadata_version(files[metadata.newest(files, role)]) for role in roles}


def resigned(data: bytes, *keys: SigningKey, **fields: Any) -> bytes:
    """Metadata with other fields, signed by ``keys`` only."""
    changed: Metadata[Any] = Metadata.from_bytes(data)
    for name, value in fields.items():
        setattr(changed.signed, name, value)
    changed.signatures.clear()
    for key in keys:
        changed.sign(metadata.signer_of(key), append=True)
    return changed.to_bytes()
