"""The monitor's memory of the hub's log: a receipt that contradicts an earlier one is not taken.

A receipt proves a place in *a* log. A hub that keeps a private log for one report can prove any place; but two receipts
for one place, or two roots for one size, cannot both be of one log. The hub signed both, so they are kept as evidence.

    >>> memory.take(answer, trusted.network.log, hub_key)
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from kengele_node.rows import RowCipher, Store
from kengele_schemas.checkpoint import verify_proof
from kengele_schemas.encoding import b64u, dumps, loads
from kengele_schemas.errors import Untrusted
from kengele_schemas.merkle import leaf_hash

STORE: Final = "log.db"
TWO_LOGS: Final = "two-logs"
SENTENCE: Final = "The hub's receipt contradicts an earlier one: it may show this node a log that no office sees."
MEND: Final = (
    "The report stays here. Tell the coordinators, by another way than this hub, and give them what this writes:"
    " kengele node outbox --evidence. If they say that the hub was restored from an older copy: kengele node outbox"
    " --log-restored"
)
_SCHEMA: Final = """
CREATE TABLE said (name BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE evidence (name BLOB PRIMARY KEY, at REAL NOT NULL, body BLOB NOT NULL) WITHOUT ROWID
"""
_MAX_BODY: Final = 1 << 20


class Evidence(NamedTuple):
    """Two receipts' leaves and proofs, as the hub signed them, that cannot be of one log; ``at`` in Unix seconds."""

    before: dict[str, Any]
    after: dict[str, Any]
    at: float


class LogMemory:
    """What receipts said of the log, in the monitor's home and encrypted.

    Raises:
        Damaged, Refused: as :class:`~kengele_node.rows.Store`, here and from every method.
    """

    def __init__(self, home: Path, rows: RowCipher) -> None:
        self._path, self._rows = home / STORE, rows

    @contextmanager
    def _store(self) -> Iterator[Store]:
        with closing(Store(self._path, _SCHEMA)) as store:
            yield store

    def take(self, receipt: bytes, log: str, hub_key: bytes) -> None:
        """Remembers what a verified, accepting ``receipt`` says of the ``log``.

        Raises:
            Untrusted: ``two-logs``: it contradicts an earlier one. Both are kept, and this one is not to be taken.
        """
        found = loads(receipt, max_bytes=_MAX_BODY)
        leaf = leaf_hash(found["leaf"].encode())
        index, checkpoint = verify_proof(found["proof"], leaf, log, hub_key)
        shown = {"leaf": found["leaf"], "proof": found["proof"]}
        places = {
            # By key, too: a hub that was given another one, by the roster, signs a log of its own.
            f"{log}\0{b64u(hub_key)}\0index\0{index}": b64u(leaf),
            f"{log}\0{b64u(hub_key)}\0size\0{checkpoint.size}": b64u(checkpoint.root),
        }
        with self._store() as store, store.transaction() as connection:
            names = {place: self._rows.blind(place) for place in places}
            for place, name in names.items():
                row = connection.execute("SELECT body FROM said WHERE name = ?", (name,)).fetchone()
                known = loads(self._rows.open(f"said/{place}", row[0]), max_bytes=_MAX_BODY) if row else {}
                if known.pop("value", places[place]) != places[place]:
                    self._accuse(connection, known, shown)
                    break
            else:
                # Only now: of a receipt that is not taken nothing may stand against an honest one.
                for place, name in names.items():
                    body = self._rows.seal(f"said/{place}", dumps({"value": places[place], **shown}))
                    connection.execute("INSERT OR IGNORE INTO said VALUES (?, ?)", (name, body))
                return
        raise Untrusted(TWO_LOGS, SENTENCE, MEND)

    def _accuse(self, connection: Any, before: dict[str, Any], after: dict[str, Any]) -> None:
        # By the leaf alone: a receipt that is asked for again comes with another proof.
        name = self._rows.blind(f"{before['leaf']}\0{after['leaf']}")
        body = self._rows.seal("evidence", dumps({"before": before, "after": after}))
        connection.execute("INSERT OR IGNORE INTO evidence VALUES (?, ?, ?)", (name, time.time(), body))

    def begin_anew(self) -> None:
        """Compares receipts from now on only, as a restored hub gives places a second time. Evidence stays."""
        with self._store() as store, store.transaction() as connection:
            connection.execute("DELETE FROM said")

    def evidence(self) -> list[Evidence]:
        """All of it, the oldest first."""
        with self._store() as store, store.reading() as connection:
            rows = connection.execute("SELECT body, at FROM evidence ORDER BY at").fetchall()
        return [Evidence(**loads(self._rows.open("evidence", body), max_bytes=_MAX_BODY), at=at) for body, at in rows]
