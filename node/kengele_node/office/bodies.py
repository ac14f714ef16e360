"""The rows of a desk's inbox as documents, each sealed under what it is and the name of its row."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from kengele_node.rows import RowCipher
from kengele_schemas.encoding import b64u, dumps, loads

_MAX_BODY: Final = 8 << 20
_MAX_DEPTH: Final = 16


class Bodies:
    """Seals and opens them."""

    def __init__(self, rows: RowCipher) -> None:
        self.blind = rows.blind
        self._rows = rows

    def seal(self, what: str, name: bytes, body: Mapping[str, Any]) -> bytes:
        """``body`` so that only the row ``name`` among those of ``what`` gives it back."""
        return self.seal_text(what, name, dumps(body))

    def open(self, what: str, name: object, sealed: bytes) -> Mapping[str, Any]:
        """Raises Damaged: it cannot be read back."""
        body: Mapping[str, Any] = loads(self.open_text(what, name, sealed), max_bytes=_MAX_BODY, max_depth=_MAX_DEPTH)
        return body

    def seal_text(self, what: str, name: bytes, text: bytes) -> bytes:
        """The same for what is no document."""
        return self._rows.seal(_under(what, name), text)

    def open_text(self, what: str, name: object, sealed: bytes) -> bytes:
        """Raises Damaged."""
        return self._rows.open(_under(what, name), sealed)


def _under(what: str, name: object) -> str:
    # On the disk a name, too, may have rotted into another type.
    return f"{what}/{b64u(name) if isinstance(name, bytes) else ''}"


def insert(connection: sqlite3.Connection, statement: str, *values: object) -> bool:
    """Whether the row was not there yet."""
    return connection.execute(statement, values).rowcount == 1
