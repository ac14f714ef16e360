"""Markers at a desk: each explains one missing number, and no second one when it is delivered again.

How many there are is for the hub to say, so the latest are remembered and the oldest forgotten. One that was forgotten
and comes again explains a number more; a hub that wants that need only sign another.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from .bodies import insert

MAX_MARKERS: Final = 50_000
"""Remembered. What is delivered again was not confirmed, or came from a copy: it is among the latest."""
SIXTH: Final = """
ALTER TABLE markers RENAME TO markers_before;
CREATE TABLE markers (number INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB UNIQUE NOT NULL);
INSERT INTO markers (name) SELECT name FROM markers_before;
DROP TABLE markers_before
"""


def insert_marker(connection: sqlite3.Connection, name: bytes) -> bool:
    """Whether it was not there yet. The oldest give way."""
    new = insert(connection, "INSERT OR IGNORE INTO markers (name) VALUES (?)", name)
    if new:
        connection.execute("DELETE FROM markers WHERE number <= (SELECT max(number) FROM markers) - ?", (MAX_MARKERS,))
    return new
