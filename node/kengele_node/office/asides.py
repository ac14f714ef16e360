"""What an office set aside: how much of it is kept, and when it gets a second look.

Any member can send what does not hold up, as much as its quota allows. So each author has a bounded place for it, in
which the oldest gives way; and a second look comes when something has changed by which it may turn out well, a few at a
time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Final

from kengele_schemas.envelope import parse
from kengele_schemas.errors import KengeleError
from kengele_schemas.keys import OpeningKey
from kengele_schemas.sharing import split
from kengele_schemas.trusted import Trusted

from .arrivals import Aside, Lost

MAX_EACH: Final = 500
"""Kept of one author: of an honest one hardly any is ever set aside, but for what waits for a lost key."""
MAX_ALL: Final = 20_000
"""Kept together: the hub may name authors that are none."""
FOURTH: Final = """
ALTER TABLE asides ADD COLUMN author BLOB;
CREATE INDEX aside_authors ON asides (author)
"""
MAY_HOLD_NOW: Final = frozenset({"unknown-monitor", "out-of-scope", "not-the-sharer", "not-recalled"})
"""By the newest roster these may turn out well. The hub lets none through that any author could send on purpose."""
_WAITS_FOR_KEY: Final = frozenset({"cannot-open"})
"""With a key brought back these may turn out well; any author can send them on purpose."""
_AT_ONCE: Final = 16
"""Judged before others have their turn; one takes some milliseconds."""
_PAGE: Final = 64


def author_in(data: bytes) -> str:
    """Whose report ``data`` says that it is; empty where it says nothing."""
    try:
        return str(parse(split(data)[1]).claims.get("kid"))
    except KengeleError:
        return ""


def insert_aside(connection: sqlite3.Connection, name: bytes, sealed: bytes, author: bytes) -> bool:
    """Whether it was not there yet. The oldest of ``author`` gives way, or the oldest of the author with the most."""
    if connection.execute("SELECT 1 FROM asides WHERE name = ?", (name,)).fetchone():
        return False
    _make_room(connection, author)
    connection.execute("INSERT INTO asides (name, body, author) VALUES (?, ?, ?)", (name, sealed, author))
    return True


def crowded(connection: sqlite3.Connection) -> bool:
    """Whether of somebody so much was set aside that the oldest may have given way."""
    most = connection.execute("SELECT count(*) FROM asides GROUP BY author ORDER BY count(*) DESC LIMIT 1").fetchone()
    return most is not None and most[0] >= MAX_EACH


def _make_room(connection: sqlite3.Connection, author: bytes) -> None:
    (own,) = connection.execute("SELECT count(*) FROM asides WHERE author = ?", (author,)).fetchone()
    (every,) = connection.execute("SELECT count(*) FROM asides").fetchone()
    if own < MAX_EACH and every < MAX_ALL:
        return
    if own < MAX_EACH:
        most = "SELECT author FROM asides GROUP BY author ORDER BY count(*) DESC LIMIT 1"
        (author,) = connection.execute(most).fetchone()
    oldest = "SELECT min(number) FROM asides WHERE author IS ?"
    connection.execute(f"DELETE FROM asides WHERE number = ({oldest})", (author,))  # noqa: S608


class SecondLook:
    """Which of what was set aside is to be judged anew.

    Args:
        page: of what was set aside: how many, and after which number.
    """

    def __init__(self, page: Callable[[int, int], list[Aside | Lost]]) -> None:
        self._page = page
        self._rules: tuple[Trusted, date] | None = None
        self._keys: frozenset[bytes] = frozenset()
        self._codes: frozenset[str] = frozenset()
        self._after = 0

    @property
    def due(self) -> bool:
        """Whether there is more to be judged."""
        return bool(self._codes)

    def begin(self, known: Trusted, keys: Sequence[OpeningKey], today: date) -> None:
        """Begins from the oldest on where rules, keys or day are others than before, with what that may matter to."""
        wanted: frozenset[str] = frozenset()
        if self._rules is None or not _alike(self._rules, (known, today)):
            wanted |= MAY_HOLD_NOW
        held = frozenset(key.raw for key in keys)
        if held - self._keys:
            wanted |= _WAITS_FOR_KEY
        self._rules, self._keys = (known, today), held
        if wanted:
            self._codes, self._after = self._codes | wanted, 0

    def some(self) -> Iterator[Aside]:
        """The next few that are to be judged; none of a page that holds nothing of the kind, and then there is more."""
        if not self._codes:
            return
        found = 0
        # One page only: to unseal what is of no matter takes its time, too.
        page = self._page(_PAGE, self._after)
        if not page:
            self._codes = frozenset()
        for aside in page:
            self._after = aside.number
            if isinstance(aside, Aside) and aside.code in self._codes:
                found += 1
                yield aside
            if found >= _AT_ONCE:
                break


def _alike(one: tuple[Trusted, date], other: tuple[Trusted, date]) -> bool:
    (known, day), (new, today) = one, other
    if known is new or day != today:
        return day == today
    return (known.version, known.monitors, known.orders) == (new.version, new.monitors, new.orders)
