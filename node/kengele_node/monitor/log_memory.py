"""The monitor's memory of the hub's log: what receipts said, the newest checkpoint, and what no office confirmed yet.

A receipt proves a place in *a* log. A hub that keeps a private log for one report can prove any place. So a receipt
that contradicts an earlier one is not taken; and the sealed envelope stays here, after its receipt came, until an
office has cosigned a checkpoint that continues the receipt's (:mod:`.log_watch`), or :data:`KEPT` has passed. Two
statements of the hub that cannot both be of one log are kept as evidence.

    >>> memory.take(answer, trusted.network.log, hub_key, name=entry.name, envelope=entry.envelope)
    >>> [place.name for place in memory.unconfirmed()]
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from kengele_node.rows import RowCipher, Store
from kengele_schemas.checkpoint import read_proof, verify_proof
from kengele_schemas.encoding import b64u, dumps, loads, unb64u
from kengele_schemas.errors import Damaged, Untrusted
from kengele_schemas.merkle import leaf_hash
from kengele_schemas.trusted import Trusted

STORE: Final = "log.db"
TWO_LOGS: Final = "two-logs"
SENTENCE: Final = "The hub's receipt contradicts an earlier one: it may show this node a log that no office sees."
MEND: Final = (
    "The report stays here. Tell the coordinators, by another way than this hub, and give them what this writes:"
    " kengele node outbox --evidence. If they say that the hub was restored from an older copy: kengele node outbox"
    " --log-restored"
)
KEPT: Final = 14 * 86400.0
"""Seconds for which an accepted envelope stays here if no office confirms that it sees it in the log."""
EVIDENCE: Final = 20
"""So many of the first pieces of evidence, and of the last, are kept."""
_PLACES: Final = """
CREATE TABLE newest (number INTEGER PRIMARY KEY CHECK (number = 1), body BLOB NOT NULL);
CREATE TABLE places (name BLOB PRIMARY KEY, until REAL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX open ON places (until)
"""
_SCHEMA: Final = f"""
CREATE TABLE said (name BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE evidence (name BLOB PRIMARY KEY, at REAL NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
{_PLACES}"""
_MAX_BODY: Final = 1 << 20
_UNTIL_DECIDED: Final = 1e12
"""Unix seconds, never reached: a doubted envelope stays until a person decides, and is looked at after all others."""


class Evidence(NamedTuple):
    """Two statements that the hub signed and that cannot be of one log; ``at`` in Unix seconds.

    Each is a receipt's ``leaf`` and ``proof``, or a ``checkpoint``, a note.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    at: float


class Place(NamedTuple):
    """The place that a receipt gave one entry of the outbox, and what became of it."""

    name: str
    """The entry's, in the outbox."""
    size: int
    root: str
    """Of the receipt's checkpoint; the root in base64url."""
    shown: dict[str, Any]
    """The receipt's leaf and proof."""
    key: str
    """The hub's, in base64url, under which the receipt was read."""
    until: float | None
    """Unix seconds until which the envelope stays; None once it is gone."""
    envelope: str | None
    """In base64url; None once it is gone."""
    by: tuple[str, ...] = ()
    """The offices that cosigned a checkpoint which continues the receipt's."""
    doubted: bool = False
    """True once the hub showed a log that does not continue the receipt's."""


class Taken(NamedTuple):
    """The largest checkpoint that was taken, a note, and the hub's key under which it holds, in base64url."""

    note: str
    key: str


class LogMemory:
    """Receipts, places, the last checkpoint and evidence, in the monitor's home and encrypted.

    Raises:
        Damaged, Refused: as :class:`~kengele_node.rows.Store`, here and from every method.
    """

    def __init__(self, home: Path, rows: RowCipher) -> None:
        self._path, self._rows = home / STORE, rows

    @contextmanager
    def _store(self) -> Iterator[Store]:
        with closing(Store(self._path, _SCHEMA, _PLACES)) as store:
            yield store

    def take(
        self,
        receipt: bytes,
        log: str,
        hub_key: bytes,
        *,
        name: str = "",
        envelope: bytes | None = None,
        now: float | None = None,
    ) -> None:
        """Remembers what a verified, accepting ``receipt`` says of the ``log``.

        Args:
            name: the outbox entry that it is for; none is watched if empty.
            envelope: what was accepted; it is kept until an office has confirmed the log, or :data:`KEPT` has passed.
            now: Unix seconds.

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
            for place, blind in names.items():
                row = connection.execute("SELECT body FROM said WHERE name = ?", (blind,)).fetchone()
                known = loads(self._rows.open(f"said/{place}", row[0]), max_bytes=_MAX_BODY) if row else {}
                if known.pop("value", places[place]) != places[place]:
                    self._accuse(connection, known, shown)
                    break
            else:
                # Only now: of a receipt that is not taken nothing may stand against an honest one.
                for place, blind in names.items():
                    body = self._rows.seal(f"said/{place}", dumps({"value": places[place], **shown}))
                    connection.execute("INSERT OR IGNORE INTO said VALUES (?, ?)", (blind, body))
                if name and envelope is not None and not self._confirmed(connection, name, found["leaf"]):
                    until = (time.time() if now is None else now) + KEPT
                    root = b64u(checkpoint.root)
                    self._put(
                        connection,
                        Place(name, checkpoint.size, root, shown, b64u(hub_key), until, b64u(envelope)),
                    )
                return
        raise Untrusted(TWO_LOGS, SENTENCE, MEND)

    def _accuse(self, connection: Any, before: dict[str, Any], after: dict[str, Any], now: float | None = None) -> None:
        # By leaf and checkpoint's text alone: proofs and cosignatures change from answer to answer.
        said = [one["leaf"] if "leaf" in one else one["checkpoint"].partition("\n\n")[0] for one in (before, after)]
        name = self._rows.blind("\0".join(said))
        body = self._rows.seal("evidence", dumps({"before": before, "after": after}))
        at = time.time() if now is None else now
        connection.execute("INSERT OR IGNORE INTO evidence VALUES (?, ?, ?)", (name, at, body))
        # A hub can make as much of it as it likes; any one piece convicts it.
        connection.execute(
            "DELETE FROM evidence WHERE name NOT IN (SELECT name FROM evidence ORDER BY at LIMIT ?)"
            " AND name NOT IN (SELECT name FROM evidence ORDER BY at DESC LIMIT ?)",
            (EVIDENCE, EVIDENCE),
        )

    def _confirmed(self, connection: Any, name: str, leaf: str) -> bool:
        """Whether offices confirmed the entry ``name`` under just this ``leaf``: its receipt only came once more."""
        place = self._found(connection, name)
        return place is not None and bool(place.by) and place.shown["leaf"] == leaf

    def _stands(self, connection: Any, place: Place) -> bool:
        """Whether ``place`` is as it was read: its entry may have been sent again since, under another receipt."""
        return self._found(connection, place.name) == place

    def _found(self, connection: Any, name: str) -> Place | None:
        blind = self._rows.blind(f"entry/{name}")
        row = connection.execute("SELECT body FROM places WHERE name = ?", (blind,)).fetchone()
        return self._place(blind, row[0]) if row else None

    def _put(self, connection: Any, place: Place) -> None:
        blind = self._rows.blind(f"entry/{place.name}")
        body = self._rows.seal(f"place/{b64u(blind)}", dumps(place._asdict()))
        connection.execute("INSERT OR REPLACE INTO places VALUES (?, ?, ?)", (blind, place.until, body))

    def _place(self, name: bytes, body: bytes) -> Place:
        found = loads(self._rows.open(f"place/{b64u(name)}", body), max_bytes=_MAX_BODY)
        return Place(**{**found, "by": tuple(found["by"])})

    @staticmethod
    def _said(place: Place) -> list[str]:
        """The names under which the receipt's place and size are remembered."""
        proof = read_proof(place.shown["proof"])
        log = proof.checkpoint.partition("\n")[0]
        return [f"{log}\0{place.key}\0index\0{proof.at}", f"{log}\0{place.key}\0size\0{place.size}"]

    def compare(self, answer: Mapping[str, Any], trusted: Trusted) -> None:
        """Remembers what another answer with a leaf and its proof says: a share's. Raises as :meth:`take`."""
        shown = {"leaf": answer["leaf"], "proof": answer["proof"]}
        self.take(dumps(shown), trusted.network.log, unb64u(trusted.network.hub_key))

    def unconfirmed(self, limit: int = 1000) -> list[Place]:
        """The accepted entries whose envelopes are still here, the oldest first; all if ``limit`` is -1."""
        return self._open("until IS NOT NULL", (), limit)

    def _open(self, which: str, values: Sequence[float], limit: int = -1) -> list[Place]:
        statement = f"SELECT name, body FROM places WHERE {which} ORDER BY until LIMIT ?"  # noqa: S608
        with self._store() as store, store.reading() as connection:
            rows = connection.execute(statement, (*values, limit)).fetchall()
        found = []
        for name, body in rows:
            # A row that cannot be read back stops no other.
            with suppress(Damaged):
                found.append(self._place(name, body))
        return found

    def unconfirmed_since(self, at: float) -> bool:
        """Whether an envelope that was accepted before ``at``, in Unix seconds, is still here."""
        with self._store() as store, store.reading() as connection:
            row = connection.execute("SELECT 1 FROM places WHERE until < ? LIMIT 1", (at + KEPT,)).fetchone()
        return row is not None

    def place(self, name: str) -> Place | None:
        """The place of the outbox's entry ``name``; None if it was accepted before places were kept, or never."""
        with self._store() as store, store.reading() as connection:
            return self._found(connection, name)

    def places(self, names: Iterable[str]) -> dict[str, Place]:
        """The places of those of the entries ``names`` that have one."""
        with self._store() as store, store.reading() as connection:
            found = {name: self._found(connection, name) for name in names}
        return {name: place for name, place in found.items() if place is not None}

    def waiting(self) -> int:
        """How many accepted entries no office has confirmed yet."""
        with self._store() as store, store.reading() as connection:
            (count,) = connection.execute("SELECT count(*) FROM places WHERE until IS NOT NULL").fetchone()
        return int(count)

    def confirm(self, place: Place, by: Iterable[str]) -> None:
        """Notes that the offices ``by`` cosigned what continues the receipt's checkpoint. The envelope goes."""
        with self._store() as store, store.transaction() as connection:
            if not self._stands(connection, place):
                return
            self._put(connection, place._replace(until=None, envelope=None, by=tuple(sorted(by)), doubted=False))
            # A receipt that contradicts this one contradicts the newest checkpoint too: that is what is compared then.
            for said in self._said(place):
                connection.execute("DELETE FROM said WHERE name = ?", (self._rows.blind(said),))

    def doubt(self, place: Place, note: str, now: float) -> None:
        """Keeps as evidence that the checkpoint ``note`` does not continue the receipt's. The envelope stays."""
        with self._store() as store, store.transaction() as connection:
            if not self._stands(connection, place):
                return
            self._put(connection, place._replace(doubted=True, until=_UNTIL_DECIDED))
            self._accuse(connection, place.shown, {"checkpoint": note}, now)

    def forked(self, before: str, after: str, now: float) -> None:
        """Keeps as evidence that the checkpoint ``after`` does not continue ``before``; both are notes."""
        with self._store() as store, store.transaction() as connection:
            self._accuse(connection, {"checkpoint": before}, {"checkpoint": after}, now)

    def expire(self, now: float) -> None:
        """Lets go of envelopes that no office confirmed in time; not of those whose place is doubted."""
        over = self._open("(until <= ? OR until > ?) AND until <> ?", (now, now + KEPT, _UNTIL_DECIDED))
        for place in over:
            # One that lies too far ahead was written by a clock that was wrong: its time begins now.
            ahead = place.until is not None and place.until > now
            left = place._replace(until=now + KEPT) if ahead else place._replace(until=None, envelope=None)
            with self._store() as store, store.transaction() as connection:
                if self._stands(connection, place):
                    self._put(connection, left)

    def last(self) -> Taken | None:
        """The largest checkpoint that was taken; None if none ever was."""
        with self._store() as store, store.reading() as connection:
            row = connection.execute("SELECT body FROM newest").fetchone()
        return Taken(**loads(self._rows.open("newest", row[0]), max_bytes=_MAX_BODY)) if row else None

    def keep(self, taken: Taken) -> None:
        """Puts ``taken`` in the place of the one before, unless that is larger: another program looked meanwhile."""
        with self._store() as store, store.transaction() as connection:
            row = connection.execute("SELECT body FROM newest").fetchone()
            known = Taken(**loads(self._rows.open("newest", row[0]), max_bytes=_MAX_BODY)) if row else None
            if known is not None and known.key == taken.key and _size(known.note) > _size(taken.note):
                return
            sealed = self._rows.seal("newest", dumps(taken._asdict()))
            connection.execute("INSERT OR REPLACE INTO newest VALUES (1, ?)", (sealed,))

    def begin_anew(self) -> list[Place]:
        """Compares from now on only, as a restored hub gives places a second time. Evidence stays.

        Returns:
            What no office has confirmed: the restored hub may have lost it.
        """
        left = self.unconfirmed(-1)
        with self._store() as store, store.transaction() as connection:
            connection.execute("DELETE FROM said")
            connection.execute("DELETE FROM newest")
        return left

    def evidence(self) -> list[Evidence]:
        """All of it, the oldest first."""
        with self._store() as store, store.reading() as connection:
            rows = connection.execute("SELECT body, at FROM evidence ORDER BY at").fetchall()
        return [Evidence(**loads(self._rows.open("evidence", body), max_bytes=_MAX_BODY), at=at) for body, at in rows]


def _size(note: str) -> int:
    """The size that a verified checkpoint, a note, says."""
    return int(note.split("\n", 2)[1])
