"""The network that the flow is measured on: many monitors, several offices, and reports sealed beforehand."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any, Self

from nacl.signing import SigningKey

from kengele_hub.home import HubKeys
from kengele_schemas.compartments import bitmap
from kengele_schemas.encoding import b64u, canonical, unb64u
from kengele_schemas.envelope import TENSION_REPORT
from kengele_schemas.keys import HYBRID, OpeningKey, OpeningPublic, monitor_id, new_signing_key
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.sealing import Reader, seal
from kengele_testing.hub import TOKEN, Roster, today

PARTS = ("handling", "summary", "account")
CONTENTS = {
    "summary": {"text": "s" * 120, "lang": "en"},
    "account": {"text": "a" * 600, "lang": "en"},
    "place": {"name": "p" * 40},
}
"""The standard report: what one office is granted of it is ``PARTS``."""
SETTLED = "first.json"


@dataclass
class Town(Roster):
    """``Roster`` with as many members and rules as are asked for; each office may read summary and account.

    ``rules`` more are for an area where nothing happens, ``idle`` more monitors do not report.
    """

    pairs: dict[str, KeyPair] = field(default_factory=dict)
    rules: int = 0
    idle: int = 0

    @classmethod
    def of(cls, offices: int = 8, monitors: int = 16, *, suite: str = HYBRID, rules: int = 0, idle: int = 0) -> Self:
        authors = {f"m{number}": new_signing_key() for number in range(monitors)}
        opening = {f"office-{number}": OpeningKey.generate(suite) for number in range(offices)}
        pairs = {name: KeyPair.generate("user") for name in ("aigul", *authors, *opening)}
        nkeys = {name: pair.public for name, pair in pairs.items()}
        return cls(authors=authors, opening=opening, nkeys=nkeys, pairs=pairs, rules=rules, idle=idle)

    def documents(self) -> dict[str, Any]:
        found = super().documents()
        common = {"categories": ["*"], "tlp_up_to": "AMBER", "expires": "2199-12-31", "reason": "bench"}
        rules = [
            {"id": f"to-{one}", "grant": ["summary", "account"], "to": [f"office:{one}"], "areas": ["KG"], **common}
            for one in self.opening
        ]
        rules += [
            {"id": f"idle-{number}", "grant": ["summary"], "to": ["office:office-0"], "areas": ["SD-KH"], **common}
            for number in range(self.rules)
        ]
        found["network.json"] |= {"custodian": "office-0", "reports_per_hour": 1_000_000}
        found["policy.json"]["rules"] = rules
        for _ in range(self.idle):
            public = bytes(new_signing_key().verify_key)
            kid = monitor_id(public)
            nkey = KeyPair.generate("user").public
            row = {"not_before": "2020-01-01", "not_after": "2199-12-31", "areas": ["KG-B"]}
            found["monitors/KG.json"]["monitors"].append({"kid": kid, "key": b64u(public), **row})
            found["connections.json"]["connections"].append({"nkey": nkey, "role": "monitor", "member": kid})
        return found

    def area(self, author: str) -> str:
        return "KG-O"

    def settle(self, home: Path) -> HubKeys:
        """A hub's home with its keys and, beside them, what founds this network on it."""
        keys = HubKeys.create(home)
        self.hub, self.snapshot, self.timestamp = keys.hub_key, keys.snapshot_key, keys.timestamp_key
        files = {path: b64u(data) for path, data in self.first().items()}
        (home / SETTLED).write_bytes(canonical({"token": b64u(TOKEN), "files": files}))
        return keys

    def load(self, count: int, *, workers: int = 2) -> list[tuple[str, bytes]]:
        """``count`` standard reports, each with the monitor that sends it, sealed for all offices."""
        names = list(self.authors)
        jobs = [(bytes(self.authors[names[n % len(names)]]), names[n % len(names)]) for n in range(count)]
        public = [(name, key.public.document()) for name, key in self.opening.items()]
        with ProcessPoolExecutor(workers) as pool:
            sealed = pool.map(_seal, (key for key, _ in jobs), repeat(public), chunksize=64)
            return [(name, data) for (_, name), data in zip(jobs, sealed, strict=True)]


def _seal(key: bytes, offices: Sequence[tuple[str, dict[str, str]]]) -> bytes:
    author = SigningKey(key)
    claims = {
        "v": 1,
        "id": b64u(secrets.token_bytes(16)),
        "kid": monitor_id(bytes(author.verify_key)),
        "kind": "report",
        "area": "KG-O",
        "categories": ["rumour"],
        "severity": 2,
        "day": today(),
        "day_precision": 1,
        "tlp": "AMBER",
        "pol": 1,
    }
    readers = [
        Reader(name, OpeningPublic.from_document(one["suite"], one["key"]), bitmap(PARTS), 1) for name, one in offices
    ]
    return seal(TENSION_REPORT, claims, CONTENTS, readers, author)


def token_of(document: dict[str, Any]) -> tuple[str, dict[str, bytes]]:
    """What :meth:`Town.settle` left for the hub."""
    return document["token"], {path: unb64u(text) for path, text in document["files"].items()}
