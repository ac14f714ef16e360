"""A region on paper: Kyrgyzstan's lists are signed by two of three regional coordinators, who sign nothing else.

region = Region()
files = region.handed()
files = region.publish(region.drafted(files, region.rules(files, grant("mediation"))), files)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from nacl.signing import SigningKey

from kengele_schemas import drafts, metadata, signatures
from kengele_schemas.cards import JoinRequest, coordinator_id
from kengele_schemas.drafts import Draft
from kengele_schemas.keys import new_signing_key
from kengele_schemas.nkeys import KeyPair
from kengele_testing.trust import NOW, Files, Paper


def rule(id: str, **fields: Any) -> dict[str, Any]:
    """A grant to UNRCCA in Kyrgyzstan."""
    return {
        "id": id,
        "grant": ["account"],
        "to": ["office:unrcca"],
        "areas": ["KG"],
        "categories": ["*"],
        "tlp_up_to": "AMBER",
        "expires": "2027-12-31",
        "reason": "test",
        **fields,
    }


@dataclass
class Region:
    """``paper`` is the network's; ``keys`` are those of the regional coordinators."""

    paper: Paper = field(default_factory=Paper)
    keys: list[SigningKey] = field(default_factory=lambda: [new_signing_key() for _ in range(3)])
    area: str = "KG"
    line: KeyPair = field(default_factory=lambda: KeyPair.generate("user"))
    _seats: dict[str, str] = field(default_factory=dict)

    @property
    def nkey(self) -> str:
        return self.line.public

    def row(self, nkey: KeyPair | None = None) -> dict[str, str]:
        """The connection of the paper's monitor, as she asked for it, with this key or the region's own."""
        request = JoinRequest.for_monitor(self.paper.monitor, nkey or self.line, ("KG-O",))
        row = {"nkey": request.nkey, "role": "monitor", "member": request.member}
        return {**row, "asked": request.nkey_signature}

    def seat(self, keys: Iterable[SigningKey]) -> list[dict[str, str]]:
        """The connections of coordinators."""
        ids = [coordinator_id(bytes(key.verify_key)) for key in keys]
        for id in ids:
            self._seats.setdefault(id, KeyPair.generate("user").public)
        return [{"nkey": self._seats[id], "role": "coordinator", "member": id} for id in ids]

    def founded(self, now: datetime = NOW, **documents: Any) -> Files:
        """The network's first version, whose coordinators are in it."""
        made = {**self.paper.documents(), **documents}
        made["connections.json"] = {"v": 1, "connections": self.seat(self.paper.coordinators), "revoked": []}
        return self.paper.accept(self.paper.signed(self.paper.drafted(made)), now=now)

    def own(self, files: Mapping[str, bytes]) -> dict[str, Any]:
        """The area's documents, empty where there are none yet."""
        empty: dict[str, Any] = {
            f"policy/{self.area}.json": {"v": 1, "version": 1, "rules": []},
            f"monitors/{self.area}.json": {"v": 1, "area": self.area, "monitors": []},
            f"connections/{self.area}.json": {"v": 1, "area": self.area, "connections": [], "revoked": []},
        }
        return {path: metadata.document_of(files, path) or value for path, value in empty.items()}

    def handing(self, files: Files, keys: Sequence[SigningKey], threshold: int = 2, now: datetime = NOW) -> Draft:
        """The draft by which ``keys`` sign for the area; unsigned."""
        rows = self.seat([*self.paper.coordinators, *keys])
        changed = {"connections.json": {"v": 1, "connections": rows, "revoked": []}, **self.own(files)}
        known = [metadata.public_key(bytes(key.verify_key)) for key in keys]
        return drafts.hand_over(files, changed, self.area, {key.keyid: key for key in known}, threshold, now)

    def handed(self, files: Files | None = None, now: datetime = NOW, by: Sequence[int] = (0, 1)) -> Files:
        """A network in which the regional coordinators sign for their area."""
        before = self.founded() if files is None else files
        draft = self.signed(self.paper.signed(self.handing(before, self.keys, now=now), by))
        return self.paper.accept(draft, before, now)

    def drafted(self, files: Files, changed: Mapping[str, Any], now: datetime = NOW) -> Draft:
        return drafts.edit(files, changed, now, area=self.area)

    def rules(self, files: Files, *rules: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
        """The area's rules in their next version."""
        path = f"policy/{self.area}.json"
        return {path: {"v": 1, "version": metadata.document_of(files, path)["version"] + 1, "rules": rules, **fields}}

    def signed(self, draft: Draft, by: Sequence[int] = (0, 1)) -> Draft:
        for number in by:
            draft = signatures.sign(draft, self.keys[number])
        return draft

    def publish(self, draft: Draft, files: Files, now: datetime = NOW, by: Sequence[int] = (0, 1)) -> Files:
        """The hub's files once two regional coordinators have signed."""
        return self.paper.accept(self.signed(draft, by), files, now)
