"""A hub's log as plain values: entries that make sense, signed checkpoints, cosignatures; and as a source to read from.

log = Log.of(300)
note = log.note(cosigned_by=("unrcca",))
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from nacl.signing import SigningKey

from kengele_schemas.checkpoint import sign_checkpoint
from kengele_schemas.compartments import ALL_BITS
from kengele_schemas.cosignature import attach, cosign, cosigner
from kengele_schemas.encoding import b64u, canonical
from kengele_schemas.leaves import Issue, NarrowedLeaf, SharedLeaf, trust_leaves
from kengele_schemas.merkle import Tree, leaf_hash
from kengele_schemas.receipt import Leaf
from kengele_testing.values import HUB, LOG, NOW, OFFICES, documents, grant, office

WITNESSES: Final = {id: SigningKey(f"witness {id}".encode().ljust(32, b".")) for id in OFFICES}
DOCUMENTS: Final = documents(
    grant(), offices=[office(id, sign=b64u(bytes(key.verify_key))) for id, key in WITNESSES.items()]
)
AT: Final = int(NOW.timestamp())


def digest(number: int) -> str:
    """That of report ``number``."""
    return b64u(hashlib.sha256(b"report %d" % number).digest())


def report(number: int, **changes: Any) -> bytes:
    """The leaf of report ``number``: UNRCCA is given summary and account."""
    said = {
        "salt": b64u(number.to_bytes(16, "big")),
        "digest": digest(number),
        "bytes": digest(number),
        "policy": 1,
        "at": (NOW + timedelta(minutes=number)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "decisions": (("unrcca", 6, ALL_BITS & ~6, ("grant",)),),
        **changes,
    }
    return Leaf(**said).canonical()


def narrowed(number: int, **changes: Any) -> bytes:
    """A leaf that takes all of report ``number`` from UNRCCA."""
    said = {
        "salt": b64u(bytes(16)),
        "digest": digest(number),
        "policy": 1,
        "at": NOW.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "decisions": (("unrcca", 0, ALL_BITS, ()),),
        **changes,
    }
    return NarrowedLeaf(**said).canonical()


def shared(number: int, **changes: Any) -> bytes:
    """A leaf by which report ``number`` is shared with the council, by the custodian."""
    said = {
        "salt": b64u(bytes(16)),
        "digest": digest(number),
        "bytes": digest(number),
        "policy": 1,
        "at": NOW.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "by": "custodian",
        "decisions": (("council", 3, ALL_BITS & ~3, ("grant",)),),
        **changes,
    }
    return SharedLeaf(**said).canonical()


def version(number: int, after: Any = DOCUMENTS, before: Any = None) -> list[bytes]:
    """The leaves of a version of roster and policy."""
    digests = {path: hashlib.sha256(canonical(value)).digest() for path, value in after.items()}
    made = trust_leaves(Issue(number, bytes(32), {"targets": number}, digests), before or {}, after, at=NOW, salt=bytes)
    return [leaf.canonical() for leaf in made]


@dataclass
class Log:
    """Entries in order, under the hub's key. Is a :class:`~kengele_node.audit.sources.Source` besides."""

    leaves: list[bytes] = field(default_factory=list)
    tree: Tree = field(default_factory=Tree)
    key: SigningKey = HUB
    cosigned_by: Sequence[str] = ()

    @classmethod
    def of(cls, size: int) -> Log:
        """A founding, and reports."""
        log = cls()
        log.add(*version(1))
        log.add(*(report(number) for number in range(log.tree.size, size)))
        return log

    @classmethod
    def holding(cls, leaves: Iterable[bytes]) -> Log:
        log = cls()
        log.add(*leaves)
        return log

    def add(self, *leaves: bytes) -> None:
        for leaf in leaves:
            self.leaves.append(leaf)
            self.tree.append(leaf_hash(leaf))

    def note(self, size: int | None = None, cosigned_by: Sequence[str] = ()) -> str:
        """The checkpoint over the first ``size`` entries, cosigned by these offices."""
        size = self.tree.size if size is None else size
        note = sign_checkpoint(LOG, size, self.tree.root(size), self.key)
        return attach(note, (cosign(note, cosigner(LOG, id), AT, WITNESSES[id]) for id in cosigned_by))

    async def witnessed(self) -> str:
        return self.note(cosigned_by=self.cosigned_by)

    async def checkpoint(self) -> str:
        return self.note()

    async def entries(self, start: int, end: int) -> AsyncIterator[bytes]:
        for leaf in self.leaves[start:end]:
            yield leaf
