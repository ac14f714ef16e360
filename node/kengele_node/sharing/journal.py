"""The journal of what was shared from here: on the disk before it is sent, until the hub proves that its log has it.

Sent again it does no harm, so after a crash or a lost answer what waits is sent once more, byte for byte.

    >>> journal.add(report_id, "council", bits, digest, share)
    >>> [one.office for one in journal.waiting()]
    ['council']
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kengele_node.rows import RowCipher, Store
from kengele_schemas.encoding import b64u, dumps, loads, unb64u
from kengele_schemas.errors import Damaged

_SCHEMA: Final = """
CREATE TABLE shares (
  name BLOB PRIMARY KEY, report BLOB NOT NULL, shared INTEGER NOT NULL DEFAULT 0, body BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX reports ON shares (report)
"""
_MAX_BODY: Final = 1 << 20
FILE: Final = "shares.db"


@dataclass(frozen=True, slots=True)
class Kept:
    """One share; ``bits`` are the compartments in it, ``digest`` the report's, ``data`` what is sent."""

    name: bytes
    report: str
    office: str
    bits: int
    digest: str
    data: bytes = field(repr=False)


class Journal:
    """The shares of one member.

    Raises:
        Damaged, Refused: as :class:`~kengele_node.rows.Store`, here and from every method.
    """

    def __init__(self, path: Path, rows: RowCipher) -> None:
        self._store = Store(path, _SCHEMA)
        self._rows = rows

    def close(self) -> None:
        self._store.close()

    def add(self, report: str, office: str, bits: int, digest: str, data: bytes) -> None:
        """Puts a share in; one for the same office and compartments that waits already stays as it is."""
        name = self._rows.blind(f"share/{report}/{office}/{bits}")
        body = {"report": report, "office": office, "bits": bits, "digest": digest, "data": b64u(data)}
        sealed = self._rows.seal(_under(name), dumps(body))
        with self._store.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO shares (name, report, body) VALUES (?, ?, ?)",
                (name, self._rows.blind(f"report/{report}"), sealed),
            )

    def waiting(self) -> list[Kept]:
        """What the hub has not been proven to have. A row that cannot be read back is left out."""
        return self._read("shared = 0")

    def shared(self, name: bytes) -> None:
        """The hub's log holds it."""
        with self._store.transaction() as connection:
            connection.execute("UPDATE shares SET shared = 1 WHERE name = ?", (name,))

    def drop(self, name: bytes) -> None:
        """The hub does not take it: whoever still wants it shared plans it anew."""
        with self._store.transaction() as connection:
            connection.execute("DELETE FROM shares WHERE name = ?", (name,))

    def had(self, report: str) -> dict[str, int]:
        """What offices were given of a report by shares from here, as bits; those that wait included."""
        found: dict[str, int] = {}
        for one in self._read("report = ?", self._rows.blind(f"report/{report}")):
            found[one.office] = found.get(one.office, 0) | one.bits
        return found

    def _read(self, clause: str, *values: object) -> list[Kept]:
        with self._store.reading() as connection:
            rows = connection.execute(f"SELECT name, body FROM shares WHERE {clause}", values).fetchall()  # noqa: S608
        found = []
        for name, sealed in rows:
            with suppress(Damaged):
                body: Any = loads(self._rows.open(_under(name), sealed), max_bytes=_MAX_BODY)
                data = unb64u(body["data"])
                found.append(Kept(name, body["report"], body["office"], body["bits"], body["digest"], data))
        return found


def _under(name: object) -> str:
    # On the disk a name, too, may have rotted into another type.
    return f"share/{b64u(name) if isinstance(name, bytes) else ''}"
