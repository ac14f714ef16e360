"""The office as a witness: it keeps the last checkpoint of the hub's log, and cosigns only what continues it.

A hub that shows two offices different logs must keep them apart for ever: whoever sees a checkpoint of the other log
refuses it, and has two statements signed by the hub that cannot both be true. Those are kept as evidence.

    >>> seen = await Witness(session, memory, member.id, member.key, member.nkey.public).look(trusted)
    >>> seen.shared
    {'cewarn': 1800000000}
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from nacl.signing import SigningKey

from kengele_node.log_reader import Contradiction, LogReader, Session
from kengele_node.rows import RowCipher, Store
from kengele_schemas import subjects
from kengele_schemas.cosignature import cosign, cosigner
from kengele_schemas.encoding import dumps, loads
from kengele_schemas.errors import Damaged, KengeleError, Refused, Unreachable
from kengele_schemas.trusted import Trusted

PACE: Final = 900.0
"""Seconds between two looks."""
KEPT: Final = 20
_SCHEMA: Final = """
CREATE TABLE seen (number INTEGER PRIMARY KEY CHECK (number = 1), body BLOB NOT NULL);
CREATE TABLE evidence (name BLOB PRIMARY KEY, at REAL NOT NULL, body BLOB NOT NULL) WITHOUT ROWID
"""
_MAX_BODY: Final = 1 << 20


class Seen(NamedTuple):
    """A checkpoint (a note) that was taken at a time, and when other offices last cosigned one that this one took.

    ``since`` is when this office began to witness; times are Unix seconds.
    """

    note: str
    at: float
    since: float
    shared: dict[str, int]


class Evidence(NamedTuple):
    """Two checkpoints, as the hub signed them, of which the second does not continue the first; ``at`` Unix seconds."""

    code: str
    before: str
    after: str
    at: float


class Memory:
    """What a witness has seen, on its disk and encrypted.

    Raises:
        Damaged, Refused: as :class:`~kengele_node.rows.Store`, here and from every method.
    """

    def __init__(self, path: Path, rows: RowCipher) -> None:
        self._store = Store(path, _SCHEMA)
        self._rows = rows

    def close(self) -> None:
        self._store.close()

    def last(self) -> Seen:
        """What was taken last; an empty note if nothing ever was.

        Raises:
            Damaged: it cannot be read back; a witness that forgot must not sign.
        """
        with self._store.reading() as connection:
            row = connection.execute("SELECT body FROM seen").fetchone()
        return Seen(**loads(self._rows.open("seen", row[0]), max_bytes=_MAX_BODY)) if row else Seen("", 0, 0, {})

    def keep(self, before: Seen, seen: Seen) -> None:
        """Puts ``seen`` in the place of ``before``. Raises Refused, ``storage-busy``, if that is not the last."""
        with self._store.transaction() as connection:
            if self.last().note != before.note:
                raise Refused("storage-busy", "Another program witnesses for this office.", "Try again.")
            sealed = self._rows.seal("seen", dumps(seen._asdict()))
            connection.execute("INSERT OR REPLACE INTO seen VALUES (1, ?)", (sealed,))

    def accuse(self, evidence: Evidence) -> bool:
        """Keeps ``evidence``; whether it is new.

        Of each kind the first :data:`KEPT` and as many of the latest stay: a hub can make as many as it likes, of which
        any one convicts it.
        """
        body = dumps(evidence._asdict())
        # Signatures may be added from look to look; what the hub said is the same.
        said = (note.partition("\n\n")[0] for note in (evidence.before, evidence.after))
        name = self._rows.blind("\0".join(said))
        with self._store.transaction() as connection:
            row = (name, evidence.at, self._rows.seal("evidence", body))
            new = connection.execute("INSERT OR IGNORE INTO evidence VALUES (?, ?, ?)", row).rowcount == 1
            if new:
                self._make_room(connection, evidence.code)
            return new

    def _make_room(self, connection: sqlite3.Connection, code: str) -> None:
        same = []
        for name, sealed in connection.execute("SELECT name, body FROM evidence ORDER BY at, name").fetchall():
            with suppress(Damaged):
                if loads(self._rows.open("evidence", sealed), max_bytes=_MAX_BODY)["code"] == code:
                    same.append(name)
        for name in same[KEPT:-KEPT]:
            connection.execute("DELETE FROM evidence WHERE name = ?", (name,))

    def evidence(self) -> list[Evidence]:
        """All of it, the oldest first."""
        with self._store.reading() as connection:
            rows = connection.execute("SELECT body FROM evidence ORDER BY at").fetchall()
        found = (loads(self._rows.open("evidence", body), max_bytes=_MAX_BODY) for (body,) in rows)
        return [Evidence(**one) for one in found]


def open_memory(home: Path, rows: RowCipher) -> Memory:
    """The memory of the witness at home in ``home``."""
    return Memory(home / "witness.db", rows)


class Witness:
    """Looks at the log for one office.

    Args:
        session: the line.
        memory: what it has seen.
        office: whose witness it is.
        key: the office's signing key.
        nkey: the office's.
        clock: Unix seconds.
    """

    told: Callable[[KengeleError], None]
    """Called by :meth:`watch` with what is wrong, each time that it is found so."""

    def __init__(
        self,
        session: Session,
        memory: Memory,
        office: str,
        key: SigningKey,
        nkey: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.told = lambda _: None
        self._session, self._memory, self._office, self._key, self._nkey = session, memory, office, key, nkey
        self._clock = clock
        self._looked = float("-inf")

    async def watch(self, trusted: Trusted) -> None:
        """Looks if the last look is long enough ago. What is wrong is told, and stops nobody's reading."""
        if 0 <= self._clock() - self._looked < PACE:
            return
        try:
            await self.look(trusted)
        except Unreachable:
            return
        except KengeleError as error:
            self.told(error)
        self._looked = self._clock()

    async def look(self, trusted: Trusted) -> Seen:
        """Takes the hub's checkpoint and cosigns it.

        Raises:
            Untrusted: ``log-forked``, ``log-rolled-back``: kept as evidence; ``bad-proof``, ``bad-cosignature``.
            Unreachable: no line.
            Refused: the hub does not answer.
            Malformed: its answer is none.
        """
        before, log = self._memory.last(), trusted.network.log
        try:
            shown = await LogReader(self._session, self._nkey).look(
                before.note if before.note.startswith(f"{log}\n") else "", trusted
            )
        except Contradiction as error:
            self._memory.accuse(Evidence(error.code, error.before, error.after, self._clock()))
            raise
        new, note, _ = shown.newest
        shared = dict(before.shared)
        for one in shown.cosigned:
            for office, at in one.by.items():
                if office != self._office:
                    shared[office] = max(at, shared.get(office, 0))
        now = self._clock()
        seen = Seen(note, now, before.since or now, shared)
        # On the disk before it is signed: a witness that forgets could sign the other log next time.
        self._memory.keep(before, seen)
        line = cosign(note, cosigner(log, self._office), int(now), self._key)
        await self._session.ask(subjects.audit_cosign(self._nkey), {"size": new.size, "line": line})
        return seen
