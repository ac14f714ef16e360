"""Numbers an author's reports to each office from 1, so that the office notices one that never came.

Which offices there are and how far each has counted does not show on the disk. Every method works inside the
transaction it is given: a number is taken if and only if the report that carries it is stored.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from typing import Any, Final

from kengele_node.rows import RowCipher
from kengele_schemas.encoding import dumps, loads
from kengele_schemas.errors import Damaged

COUNTERS_SCHEMA: Final = "CREATE TABLE counters (name BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID"
_MAX_BODY: Final = 1 << 20
_FRESH: Final[Mapping[str, Any]] = {"last": 0, "free": []}


class Counters:
    """The counters of ``author`` (its ``kid``), one an office."""

    def __init__(self, rows: RowCipher, author: str) -> None:
        self._rows = rows
        self._author = author

    def take(self, connection: sqlite3.Connection, office: str) -> int | None:
        """The next number for ``office``; None where its row is damaged: the report goes without one, but it goes."""
        try:
            count = self._read(connection, office)
        except Damaged:
            return None
        free = count["free"]
        number: int = free[0] if free else count["last"] + 1
        self._write(connection, office, {"last": max(number, count["last"]), "free": free[1:]})
        return number

    def give_back(self, connection: sqlite3.Connection, office: str, number: int) -> None:
        """Lets the next report carry ``number``: an office would take one that never comes for a report dropped."""
        try:
            count = self._read(connection, office)
        except Damaged:
            return
        self._write(connection, office, {**count, "free": sorted({*count["free"], number})})

    def reached(self, connection: sqlite3.Connection, office: str, waiting: Collection[int]) -> int:
        """The highest number that went to ``office`` and is neither free again nor among the ``waiting``; 0 if none."""
        try:
            count = self._read(connection, office)
        except Damaged:
            return 0
        out = {*count["free"], *waiting}
        number: int = count["last"]
        while number in out:
            number -= 1
        return number

    def _read(self, connection: sqlite3.Connection, office: str) -> Mapping[str, Any]:
        name = self._name(office)
        row = connection.execute("SELECT body FROM counters WHERE name = ?", (self._rows.blind(name),)).fetchone()
        if row is None:
            return _FRESH
        count: Mapping[str, Any] = loads(self._rows.open(name, row[0]), max_bytes=_MAX_BODY)
        return count

    def _write(self, connection: sqlite3.Connection, office: str, count: Mapping[str, Any]) -> None:
        name = self._name(office)
        connection.execute(
            "INSERT INTO counters VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body",
            (self._rows.blind(name), self._rows.seal(name, dumps(count))),
        )

    def _name(self, office: str) -> str:
        return f"counter/{self._author}/{office}"
