"""What was recalled at a desk: what its author or the coordinators took back is destroyed, whichever comes first.

A tombstone stays, and what remembers it, so that nothing comes back. Every method works within the transaction of the
:class:`~kengele_node.office.inbox.Inbox` that has the rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from kengele_schemas.compartments import HANDLING, names
from kengele_schemas.encoding import b64u, unb64u
from kengele_schemas.envelope import parse
from kengele_schemas.errors import Damaged, KengeleError, Malformed
from kengele_schemas.orders import mark_of
from kengele_schemas.recall import left
from kengele_schemas.sharing import split

from .arrivals import COORDINATORS
from .bodies import Bodies, insert
from .numbering import author_row, explain, gaps
from .parcels import stripped, wrapped

_UNKNOWN: Final = b""
"""The mark of a row that cannot be read."""


class Recalled:
    """The recalls and orders that one office obeyed."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies

    def obey_order(
        self,
        connection: sqlite3.Connection,
        kid: str,
        report_id: str,
        order: Mapping[str, Any],
        *,
        numbered: bool,
        first: str = "",
    ) -> bool:
        """Obeys an order about this report; False if that was done before. ``numbered`` as a notice has it."""
        name = self._bodies.blind(f"ordered/{order['digest']}/{kid}/{report_id}")
        if connection.execute("SELECT 1 FROM recalls WHERE name = ?", (name,)).fetchone():
            return False
        author = author_row(connection, self._bodies, first or kid) if numbered else None
        body = {**order, "kid": kid, "recalls": report_id, "by": COORDINATORS}
        return self.take_back(connection, name, body, author)

    def take_back(
        self, connection: sqlite3.Connection, name: bytes, body: dict[str, Any], author: bytes | None
    ) -> bool:
        """Obeys the recall that ``body`` says, and keeps it under ``name`` to be confirmed.

        Args:
            author: whose number is missing where the report is not here, and explained by this; None if it had none.
        """
        kid, recalled, bare = body["kid"], body["recalls"], body.get("bare", False)
        before = self.recalls(connection, kid, recalled, bare=bare)
        there = self.obey(connection, kid, recalled, [*before, body])
        # The coordinators' may come before the number is missed; an author's has a later number than what it recalls,
        # so where nothing is missing that is not explained, a marker came for it.
        unknown = not there and not before
        if author is not None and unknown and ("by" in body or gaps(connection, author).unexplained):
            # A number that never came is explained by the recall, unless what it recalls comes all the same.
            body["absent"] = True
            explain(connection, author, 1)
        if not there and not bare and not left(one["keep"] for one in (*before, body)):
            grave = self._bodies.blind(f"gone/{kid}/{recalled}")
            sealed = self._bodies.seal("report", grave, _grave(body))
            row = (grave, self._bodies.blind(f"id/{recalled}"), sealed, self.mark(recalled))
            connection.execute("INSERT INTO reports (name, id, body, mark) VALUES (?, ?, ?, ?)", row)
        self._forget_asides(connection, kid, recalled)
        target, sealed = self._target(kid, recalled), self._bodies.seal("recall", name, body)
        statement = "INSERT INTO recalls (name, target, body) VALUES (?, ?, ?)"
        return insert(connection, statement, name, target, sealed)

    def obey(
        self, connection: sqlite3.Connection, kid: str, report_id: str, recalls: Sequence[Mapping[str, Any]]
    ) -> bool:
        """Leaves of the report only what its author's ``recalls`` leave; whether it is, or was, here."""
        stays = names(left(recall["keep"] for recall in recalls))
        blind = self._bodies.blind(f"id/{report_id}")
        there = False
        for number, name, sealed in connection.execute(
            "SELECT number, name, body FROM reports WHERE id = ?", (blind,)
        ).fetchall():
            try:
                body = dict(self._bodies.open("report", name, sealed))
            except Damaged:
                body = {"header": {"kid": kid}, "contents": {}}  # what cannot be read cannot be looked through either
            if (body.get("gone") or body["header"])["kid"] != kid:
                continue
            there = True
            if "gone" in body:
                continue
            rest = {part: value for part, value in body["contents"].items() if part in stays}
            if not rest.keys() - {HANDLING}:
                body = _grave(recalls[-1])
            elif rest != body["contents"]:
                body |= {"contents": rest, "data": b64u(stripped(unb64u(body["data"]), stays)), "narrowed": True}
                for what in ("disclosures", "keys"):
                    body[what] = {part: text for part, text in body.get(what, {}).items() if part in stays}
            else:
                continue
            connection.execute(
                "UPDATE reports SET body = ? WHERE number = ?", (self._bodies.seal("report", name, body), number)
            )
        return there

    def holds_wrapped(self, connection: sqlite3.Connection, kid: str, report_id: str) -> bool:
        """Whether the report is here by its author's own wrap."""
        blind = self._bodies.blind(f"id/{report_id}")
        for name, sealed in connection.execute("SELECT name, body FROM reports WHERE id = ?", (blind,)).fetchall():
            with suppress(Damaged):
                body = self._bodies.open("report", name, sealed)
                if "gone" not in body and body["header"]["kid"] == kid and wrapped(unb64u(body["data"])):
                    return True
        return False

    def _forget_asides(self, connection: sqlite3.Connection, kid: str, report_id: str) -> None:
        """What was set aside and says that it is the recalled report goes as well: a key may turn up that opens it."""
        author = self._bodies.blind(f"author/{kid}")
        statement = "SELECT number, name, body FROM asides WHERE author = ? OR author IS NULL"
        for number, name, sealed in connection.execute(statement, (author,)).fetchall():
            with suppress(Damaged, Malformed):
                _, whole = split(unb64u(self._bodies.open("aside", name, sealed)["data"]))
                claims = parse(whole).claims
                if (claims.get("id"), claims.get("kid")) == (report_id, kid):
                    connection.execute("DELETE FROM asides WHERE number = ?", (number,))

    def forget_ordered(self, connection: sqlite3.Connection, marks: Collection[str]) -> None:
        """The same for what the coordinators recalled, whoever it says that it is from."""
        for number, name, sealed in connection.execute("SELECT number, name, body FROM asides").fetchall():
            with suppress(Damaged, Malformed):
                _, whole = split(unb64u(self._bodies.open("aside", name, sealed)["data"]))
                claims = parse(whole).claims
                if mark_of(str(claims.get("id"))) in marks:
                    connection.execute("DELETE FROM asides WHERE number = ?", (number,))

    def is_ordered(self, connection: sqlite3.Connection, data: bytes) -> bool:
        """Whether what is in ``data`` says that it is a report which the coordinators recalled."""
        with suppress(KengeleError):
            return bool(self.orders(connection, str(parse(split(data)[1]).claims.get("id"))))
        return False

    def orders(self, connection: sqlite3.Connection, report_id: str) -> list[Mapping[str, Any]]:
        """The coordinators' orders about the report with this id."""
        rows = connection.execute("SELECT name, body FROM orders WHERE mark = ?", (self.mark(report_id),))
        found: list[Mapping[str, Any]] = []
        for name, sealed in rows.fetchall():
            try:
                found.append(self._bodies.open("order", name, sealed))
            except Damaged:
                # How much it takes cannot be read any more: everything, then; and no digest is left to confirm.
                found.append({"digest": "", "keep": None, "reason": None, "at": 0})
        return found

    def mark(self, report_id: str) -> bytes:
        return self._bodies.blind(f"mark/{mark_of(report_id)}")

    def mark_all(self, connection: sqlite3.Connection) -> None:
        """Gives a mark to the rows of an inbox that was filled before there were any."""
        rows = connection.execute("SELECT number, name, body FROM reports WHERE mark IS NULL").fetchall()
        for number, name, sealed in rows:
            try:
                body = self._bodies.open("report", name, sealed)
                mark = self.mark((body.get("gone") or body["header"])["id"])
            except Damaged:
                mark = _UNKNOWN
            connection.execute("UPDATE reports SET mark = ? WHERE number = ?", (mark, number))

    def marked(self, connection: sqlite3.Connection, mark: bytes) -> set[tuple[str, str]]:
        """Author and id of each report with this mark: one, or several if an id was given twice."""
        found = set()
        rows = connection.execute("SELECT name, body FROM reports WHERE mark = ?", (mark,)).fetchall()
        for name, sealed in rows:
            with suppress(Damaged):
                body = self._bodies.open("report", name, sealed)
                about = body.get("gone") or body["header"]
                found.add((about["kid"], about["id"]))
        return found

    def recalls(
        self, connection: sqlite3.Connection, kid: str, report_id: str, *, bare: bool
    ) -> list[Mapping[str, Any]]:
        """The recalls of a report; those that were not addressed here only if it came ``bare`` of a wrap."""
        rows = connection.execute("SELECT name, body FROM recalls WHERE target = ?", (self._target(kid, report_id),))
        found: list[Mapping[str, Any]] = []
        for name, sealed in rows.fetchall():
            try:
                found.append(self._bodies.open("recall", name, sealed))
            except Damaged:
                # How much it took cannot be read any more: everything, then.
                found.append({"kid": kid, "recalls": report_id, "keep": None, "at": 0, "reason": None})
        return [recall for recall in found if bare or not recall.get("bare")]

    def _target(self, kid: str, report_id: str) -> bytes:
        return self._bodies.blind(f"recall/{kid}/{report_id}")


def _grave(recall: Mapping[str, Any]) -> dict[str, Any]:
    gone = {"id": recall["recalls"], "kid": recall["kid"], "at": recall["at"], "reason": recall["reason"]}
    return {"gone": gone | ({"by": recall["by"]} if "by" in recall else {})}
