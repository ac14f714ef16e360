"""The numbers of an author's reports to this office: which came, and which should have come but did not.

>>> number = count(connection, author, 7)
>>> gaps(connection, author).unexplained
0
"""

from __future__ import annotations

import sqlite3
from typing import Final

from .arrivals import MAX_COUNTER, Gaps
from .bodies import Bodies

HEARD: Final = """
CREATE TABLE heard (
  author BLOB PRIMARY KEY, at REAL NOT NULL, number INTEGER NOT NULL, since REAL NOT NULL) WITHOUT ROWID
"""
_GRACE: Final = 24 * 3600.0
"""Seconds after which what an author says that she sent, and nobody delivered, is missing."""


def hear(connection: sqlite3.Connection, author: bytes, at: float, number: int, now: float) -> None:
    """Her word of that moment that her reports to this office reach up to ``number``; an older one changes nothing."""
    row = connection.execute("SELECT at, number, since FROM heard WHERE author = ?", (author,)).fetchone()
    before, reached, since = row or (at, 0, now)
    (last,) = connection.execute("SELECT last FROM authors WHERE name = ?", (author,)).fetchone()
    if reached <= last:
        # All that she had spoken of is here. While it is not, more that she says starts no new time of grace.
        since = now
    values = (author, max(at, before), max(min(number, MAX_COUNTER), reached), since)
    connection.execute("INSERT OR REPLACE INTO heard VALUES (?, ?, ?, ?)", values)


def settle_heard(connection: sqlite3.Connection, now: float) -> None:
    """What was said to be sent and has not come for long is missing from now on, and may still come."""
    rows = connection.execute(
        "SELECT name, last, number FROM authors JOIN heard ON author = name WHERE number > last AND since <= ?",
        (now - _GRACE,),
    ).fetchall()
    for author, last, number in rows:
        connection.execute("INSERT INTO gaps VALUES (?, ?, ?)", (author, last + 1, number))
        connection.execute("UPDATE authors SET last = ? WHERE name = ?", (number, author))


def heard_at(connection: sqlite3.Connection, author: bytes) -> float | None:
    """When she was heard last, by her own clock; None if never."""
    row = connection.execute("SELECT at FROM heard WHERE author = ?", (author,)).fetchone()
    return row[0] if row else None


def author_row(connection: sqlite3.Connection, bodies: Bodies, kid: str) -> bytes:
    """The name of this author's row, which is made if there is none."""
    name = bodies.blind(f"author/{kid}")
    sealed = bodies.seal_text("author", name, kid.encode())
    connection.execute("INSERT OR IGNORE INTO authors VALUES (?, 0, 0, ?)", (name, sealed))
    return name


def explain(connection: sqlite3.Connection, author: bytes, numbers: int) -> None:
    """So many more of the missing numbers are explained; or fewer, below 0."""
    connection.execute("UPDATE authors SET withheld = withheld + ? WHERE name = ?", (numbers, author))


def gaps(connection: sqlite3.Connection, author: bytes) -> Gaps:
    """Which numbers of ``author``'s never came."""
    missing = connection.execute("SELECT first, last FROM gaps WHERE author = ? ORDER BY first", (author,))
    ranges = tuple((first, last) for first, last in missing)
    row = connection.execute("SELECT withheld FROM authors WHERE name = ?", (author,)).fetchone()
    return Gaps(ranges, row[0] if row else 0)


def count(connection: sqlite3.Connection, author: bytes, number: int) -> bool:
    """Ticks off ``number``; False if it was ticked off before."""
    (last,) = connection.execute("SELECT last FROM authors WHERE name = ?", (author,)).fetchone()
    if number > last:
        if number > last + 1:
            connection.execute("INSERT INTO gaps VALUES (?, ?, ?)", (author, last + 1, number - 1))
        connection.execute("UPDATE authors SET last = ? WHERE name = ?", (number, author))
        return True
    gap = connection.execute(
        "SELECT first, last FROM gaps WHERE author = ? AND first <= ? ORDER BY first DESC LIMIT 1", (author, number)
    ).fetchone()
    if gap is None or gap[1] < number:
        return False
    first, end = gap
    connection.execute("DELETE FROM gaps WHERE author = ? AND first = ?", (author, first))
    for low, high in ((first, number - 1), (number + 1, end)):
        if low <= high:
            connection.execute("INSERT INTO gaps VALUES (?, ?, ?)", (author, low, high))
    return True
