"""The outbox: a report is on the disk before anyone is told so, and stays until the hub's receipt for it is.

    waiting ──receipt──▶ accepted   (the text is dropped; ``kept`` where the author wanted to keep it. The sealed
                                     envelope goes later, to :mod:`.log_memory`, from which it can wait again)
       ├─────refusal──▶ refused    (kept for the author to correct)
       └──other rules─▶ held       (nothing is sent until its author has looked: :mod:`.consent`)

Nothing on the disk tells what was written, where, or for whom. A row that cannot be read back is set aside as
``damaged`` and stops no other.

    >>> entry = outbox.add(report_id, draft, plan.offices, lambda counters: seal_report(plan, key, counters), now=now)
    >>> [entry.name for entry in outbox.due(now)]
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, cast

from kengele_node.rows import RowCipher, Store
from kengele_schemas.encoding import b64u, dumps, loads, unb64u
from kengele_schemas.errors import Damaged, Refused

from .counters import COUNTERS_SCHEMA, Counters

State = Literal["waiting", "accepted", "kept", "refused", "held", "damaged"]
Seal = Callable[[Mapping[str, int]], bytes]
"""Seals a report, given the number that each office's wrap carries."""

_SCHEMA: Final = f"""
CREATE TABLE entries (
  number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE NOT NULL, state TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0, next_try REAL NOT NULL, body BLOB NOT NULL);
CREATE INDEX due ON entries (state, next_try, number);
{COUNTERS_SCHEMA}"""
_COLUMNS: Final = "number, name, state, attempts, next_try, body"
_MAX_BODY: Final = 4 << 20
_MAX_DEPTH: Final = 16


@dataclass(frozen=True, slots=True)
class Entry:
    """One report of the outbox; times in Unix seconds. Of a ``damaged`` one only the first five fields are known."""

    number: int
    """What the author's own list calls it; never leaves the node."""
    name: str
    state: State
    attempts: int
    next_try: float
    report_id: str = ""
    added: float = 0
    draft: Any = field(default=None, repr=False)
    """The report as JSON values, to seal it anew or correct it; None once accepted and not kept."""
    envelope: bytes | None = field(default=None, repr=False)
    """What is sent, while waiting."""
    sent_digest: bytes = b""
    """SHA-256 of the last envelope: what the receipt speaks of."""
    counters: Mapping[str, int] = field(default_factory=dict, repr=False)
    keep_text: bool = False
    receipt: bytes | None = field(default=None, repr=False)
    code: str = ""
    """Why it was refused, or is held."""
    header: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The claims that the hub has read, once accepted: a recall repeats them."""
    spare: dict[str, Any] | None = field(default=None, repr=False)
    """What it takes to share the report later, if its author wanted it kept."""
    agreed: Mapping[str, Any] | None = field(default=None, repr=False)
    """Who was to read what, as its author agreed to; None where an older version put it in."""


class Outbox:
    """The reports of one monitor.

    Args:
        path: the store's file.
        rows: the cipher of its rows.
        author: the monitor's ``kid``; offices count each author's reports from 1.

    Raises:
        Damaged, Refused: as :class:`~kengele_node.rows.Store`, here and from every method.
    """

    def __init__(self, path: Path, rows: RowCipher, author: str) -> None:
        self._store = Store(path, _SCHEMA)
        self._rows = rows
        self._counters = Counters(rows, author)

    def close(self) -> None:
        self._store.close()

    def add(
        self,
        report_id: str,
        draft: object,
        offices: Iterable[str],
        seal: Seal,
        *,
        now: float,
        keep_text: bool = False,
        spare: dict[str, Any] | None = None,
        agreed: Mapping[str, Any] | None = None,
        replaces: str | None = None,
    ) -> Entry:
        """Puts a report in; it is on the disk when this returns.

        Args:
            offices: the readers whose wraps carry a number.
            seal: called once, inside the transaction that takes the numbers.
            keep_text: whether the draft stays once the report is accepted.
            spare: what ``seal`` puts into it is kept with the report, before and after.
            agreed: who is to read what, as its author was shown; to it every later sealing is held.
            replaces: the name of a refused or held entry of which this is the correction.

        Raises:
            Refused: ``already-added``, where this id is in the outbox already.
            Damaged: ``storage-full``; nothing was added and no number taken.
        """
        name = self._name(report_id)
        with self._store.transaction() as connection:
            if connection.execute("SELECT 1 FROM entries WHERE name = ?", (name,)).fetchone():
                raise Refused("already-added", "This report is in the outbox already.")
            counters = {office: self._counters.take(connection, office) for office in sorted(set(offices))}
            body = {
                "id": report_id,
                "added": now,
                "draft": draft,
                "keep": keep_text,
                **self._sealed(counters, seal),
                **_spare(spare),
                **_agreed(agreed),
            }
            if replaces is not None:
                connection.execute("DELETE FROM entries WHERE name = ? AND state IN ('refused', 'held')", (replaces,))
            number = connection.execute(
                "INSERT INTO entries (name, state, next_try, body) VALUES (?, 'waiting', ?, ?)",
                (name, now, self._rows.seal(f"waiting/{name}", dumps(body))),
            ).lastrowid
        return self._entry((number, name, "waiting", 0, now), body)

    def due(self, now: float, limit: int = 16, *, besides: Collection[str] = ()) -> list[Entry]:
        """Up to ``limit`` waiting reports whose time has come, the longest due first; ``besides`` are left out.

        A report that failed is due again behind those that became due before it, so none holds up the others.
        """
        found: list[Entry] = []
        skipped = set(besides)
        while len(found) < limit:
            with self._store.reading() as connection:
                rows = connection.execute(
                    f"SELECT {_COLUMNS} FROM entries WHERE state = 'waiting' AND next_try <= ?"  # noqa: S608
                    " ORDER BY next_try, number LIMIT ?",
                    (now, limit + len(skipped)),
                ).fetchall()
            fresh = [row for row in rows if row[1] not in skipped][: limit - len(found)]
            if not fresh:
                break
            entries = [self._read(row) for row in fresh]
            skipped.update(entry.name for entry in entries)
            found += [entry for entry in entries if entry.state == "waiting"]
            self._set_aside([entry.number for entry in entries if entry.state == "damaged"])
        return found

    def next_due(self, *, besides: Collection[str] = ()) -> float | None:
        """When the next report is due, None if none waits; ``besides`` are left out."""
        with self._store.reading() as connection:
            rows = connection.execute(
                "SELECT name, next_try FROM entries WHERE state = 'waiting' ORDER BY next_try, number LIMIT ?",
                (1 + len(besides),),
            )
            return next((next_try for name, next_try in rows if name not in besides), None)

    def entries(self, limit: int = 100, *, before: int | None = None) -> list[Entry]:
        """The newest reports of any state first; ``before`` is the last number of the page already seen."""
        with self._store.reading() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM entries WHERE number < ? ORDER BY number DESC LIMIT ?",  # noqa: S608
                (before if before is not None else 1 << 62, limit),
            ).fetchall()
        return [self._read(row) for row in rows]

    def held(self) -> list[Entry]:
        """What is not sent until its author has looked, the oldest first."""
        with self._store.reading() as connection:
            rows = connection.execute(
                f"SELECT {_COLUMNS} FROM entries WHERE state = 'held' ORDER BY number"  # noqa: S608
            ).fetchall()
        return [entry for entry in map(self._read, rows) if entry.state == "held"]

    def find(self, report_id: str) -> Entry | None:
        """The report with this id."""
        return self.get(self._name(report_id))

    def get(self, name: str) -> Entry | None:
        with self._store.reading() as connection:
            row = connection.execute(
                f"SELECT {_COLUMNS} FROM entries WHERE name = ?",  # noqa: S608
                (name,),
            ).fetchone()
        return None if row is None else self._read(row)

    def counts(self) -> dict[State, int]:
        """How many reports there are in each state."""
        with self._store.reading() as connection:
            return dict(connection.execute("SELECT state, count(*) FROM entries GROUP BY state").fetchall())

    def reached(self, offices: Iterable[str]) -> dict[str, int]:
        """By office the highest number that the hub has accepted; offices without one are left out."""
        with self._store.reading() as connection:
            rows = connection.execute(f"SELECT {_COLUMNS} FROM entries WHERE state = 'waiting'").fetchall()  # noqa: S608
            waiting = [entry.counters for entry in map(self._read, rows)]
            found = {
                office: self._counters.reached(connection, office, [row[office] for row in waiting if office in row])
                for office in offices
            }
        return {office: number for office, number in found.items() if number}

    def later(self, name: str, next_try: float) -> None:
        """The hub asked to try again; not before ``next_try``."""
        with self._store.transaction() as connection:
            connection.execute(
                "UPDATE entries SET attempts = attempts + 1, next_try = ? WHERE name = ? AND state = 'waiting'",
                (next_try, name),
            )

    def hasten(self, now: float, longest: float) -> None:
        """Nothing waits longer than ``longest`` seconds from ``now``: the clock may have been wrong at that time."""
        with self._store.transaction() as connection:
            connection.execute(
                "UPDATE entries SET next_try = ? WHERE state = 'waiting' AND next_try > ?", (now, now + longest)
            )

    def accepted(self, name: str, receipt: bytes, header: Mapping[str, Any] | None = None) -> None:
        """Keeps the verified ``receipt`` and the ``header``'s claims, and drops envelope and draft; the draft stays if
        its author wanted to."""
        with self._store.transaction() as connection:
            entry = self._waiting(connection, name)
            if entry is None:
                return
            body = _kept(entry) | {"receipt": b64u(receipt), "header": dict(header or {})} | _spare(entry.spare)
            if not entry.keep_text:
                del body["draft"]
            self._write(connection, name, "kept" if entry.keep_text else "accepted", body)

    def refused(self, name: str, code: str, receipt: bytes | None = None) -> None:
        """Keeps the draft for its author to correct. The numbers it took go to the next reports.

        Args:
            receipt: the hub's refusal; None if the node itself cannot send it any more.
        """
        with self._store.transaction() as connection:
            entry = self._waiting(connection, name)
            if entry is None:
                return
            self._give_back(connection, entry)
            proof = {"receipt": b64u(receipt)} if receipt is not None else {}
            self._write(connection, name, "refused", _kept(entry) | {"code": code} | proof)

    def hold(self, name: str, code: str, agreed: Mapping[str, Any] | None = None) -> None:
        """Keeps a waiting report unsent until its author has looked. The numbers it took go to the next reports.

        Args:
            code: why.
            agreed: what is known of what she agreed to, where nothing was kept.
        """
        with self._store.transaction() as connection:
            entry = self._waiting(connection, name)
            if entry is None:
                return
            self._give_back(connection, entry)
            spare = None if entry.spare is None else dict[str, Any]()
            body = _kept(entry) | {"code": code} | _spare(spare) | _agreed(entry.agreed or agreed)
            self._write(connection, name, "held", body)

    def reseal(
        self,
        name: str,
        offices: Iterable[str],
        seal: Seal,
        spare: dict[str, Any] | None = None,
        *,
        agreed: Mapping[str, Any] | None = None,
        state: State = "waiting",
    ) -> Entry | None:
        """The waiting report sealed anew, under its id and the numbers it had; None if it is not in ``state`` any more.

        Only for one that the hub has refused: else two envelopes of one id would be under way. ``spare`` is as for
        :meth:`add`; the keys are others. One that is ``held`` waits again from then on, by what its author has
        ``agreed`` to now.
        """
        with self._store.transaction() as connection:
            entry = self._waiting(connection, name, state)
            if entry is None:
                return None
            wanted = set(offices)
            for office in entry.counters.keys() - wanted:
                self._counters.give_back(connection, office, entry.counters[office])
            counters = {
                office: entry.counters.get(office) or self._counters.take(connection, office)
                for office in sorted(wanted)
            }
            body = _kept(entry) | self._sealed(counters, seal) | _spare(spare) | _agreed(agreed or entry.agreed)
            self._write(connection, name, "waiting", body)
        return self._entry((entry.number, name, "waiting", entry.attempts, entry.next_try), body)

    def again(self, name: str, envelope: bytes, *, now: float) -> bool:
        """Has an accepted report wait again, as it was sealed; whether there was one. Its receipt stays until the next.

        The hub takes one envelope twice as one report, so it does no harm where nothing was lost.
        """
        with self._store.transaction() as connection:
            accepted: tuple[State, ...] = ("accepted", "kept")
            for state in accepted:
                entry = self._waiting(connection, name, state)
                if entry is None or hashlib.sha256(envelope).digest() != entry.sent_digest:
                    continue
                receipt = {} if entry.receipt is None else {"receipt": b64u(entry.receipt)}
                body = _kept(entry) | receipt | {"header": dict(entry.header), "envelope": b64u(envelope)}
                self._write(connection, name, "waiting", body | _spare(entry.spare))
                connection.execute("UPDATE entries SET attempts = 0, next_try = ? WHERE name = ?", (now, name))
                return True
        return False

    def _give_back(self, connection: sqlite3.Connection, entry: Entry) -> None:
        for office, counter in entry.counters.items():
            self._counters.give_back(connection, office, counter)

    def forget(self, name: str) -> None:
        """Deletes a report that does not wait: its author has done with it."""
        with self._store.transaction() as connection:
            connection.execute("DELETE FROM entries WHERE name = ? AND state <> 'waiting'", (name,))

    def _name(self, report_id: str) -> str:
        return b64u(self._rows.blind(report_id)[:16])

    @staticmethod
    def _sealed(counters: Mapping[str, int | None], seal: Seal) -> dict[str, Any]:
        numbers = {office: counter for office, counter in counters.items() if counter is not None}
        envelope = seal(numbers)
        digest = hashlib.sha256(envelope).digest()
        return {"counters": numbers, "envelope": b64u(envelope), "sent": b64u(digest)}

    def _write(self, connection: sqlite3.Connection, name: str, state: State, body: Mapping[str, Any]) -> None:
        # The state is part of what is authenticated: flipping it on the disk does not make a report look sent.
        sealed = self._rows.seal(f"{state}/{name}", dumps(body))
        connection.execute("UPDATE entries SET state = ?, body = ? WHERE name = ?", (state, sealed, name))

    def _waiting(self, connection: sqlite3.Connection, name: str, state: State = "waiting") -> Entry | None:
        row = connection.execute(
            f"SELECT {_COLUMNS} FROM entries WHERE name = ? AND state = ?",  # noqa: S608
            (name, state),
        ).fetchone()
        if row is None:
            return None
        entry = self._read(row)
        return entry if entry.state == state else None

    def _set_aside(self, numbers: Collection[int]) -> None:
        # By number, as it may be the name that is damaged; one left waiting would be looked at for ever.
        if numbers:
            with self._store.transaction() as connection:
                connection.executemany("UPDATE entries SET state = 'damaged' WHERE number = ?", [(n,) for n in numbers])

    def _read(self, row: tuple[Any, ...]) -> Entry:
        *head, sealed = row
        number, name, state, attempts, next_try = head
        try:
            body = loads(self._rows.open(f"{state}/{name}", sealed), max_bytes=_MAX_BODY, max_depth=_MAX_DEPTH)
        except Damaged:
            return Entry(number, str(name), "damaged", attempts, next_try)
        return self._entry(tuple(head), body)

    @staticmethod
    def _entry(head: tuple[Any, ...], body: Mapping[str, Any]) -> Entry:
        number, name, state, attempts, next_try = head
        envelope, receipt = body.get("envelope"), body.get("receipt")
        return Entry(
            number,
            name,
            cast(State, state),
            attempts,
            next_try,
            body["id"],
            body["added"],
            body.get("draft"),
            None if envelope is None else unb64u(envelope),
            unb64u(body["sent"]),
            body.get("counters", {}),
            body["keep"],
            None if receipt is None else unb64u(receipt),
            body.get("code", ""),
            body.get("header", {}),
            body.get("spare"),
            body.get("agreed"),
        )


def _spare(spare: dict[str, Any] | None) -> dict[str, Any]:
    return {} if spare is None else {"spare": spare}


def _agreed(agreed: Mapping[str, Any] | None) -> dict[str, Any]:
    return {} if agreed is None else {"agreed": agreed}


def _kept(entry: Entry) -> dict[str, Any]:
    """What of ``entry`` outlasts its waiting."""
    return {
        "id": entry.report_id,
        "added": entry.added,
        "draft": entry.draft,
        "keep": entry.keep_text,
        "sent": b64u(entry.sent_digest),
        **_agreed(entry.agreed),
    }
