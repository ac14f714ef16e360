"""The inbox: what an office received, each report once, and what should have come but did not.

What its author or the coordinators recalled is destroyed here, whichever comes first, and a tombstone stays. What is
shared later of a report that is here is put to it.

Nothing on the disk tells what was reported, by whom or from where; of the authors' numbering only the numbers show.

    >>> new = inbox.keep([arrival, marker, aside], now=now)
    >>> inbox.gaps(kid).unexplained
    0
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from kengele_node.rows import RowCipher, Store
from kengele_schemas.compartments import HANDLING, names
from kengele_schemas.encoding import b64u, unb64u
from kengele_schemas.errors import CannotOpen, Damaged, Malformed
from kengele_schemas.orders import Order
from kengele_schemas.recall import left
from kengele_schemas.report import parse_compartment, parse_header
from kengele_schemas.sharing import is_shared

from . import asides
from .arrivals import AUTHOR, Arrival, Aside, Gaps, Item, Lost, Marker, Notice, Tombstone, Unconfirmed
from .bodies import Bodies, insert
from .markers import SIXTH, insert_marker
from .numbering import HEARD, author_row, count, explain, gaps, hear, heard_at, settle_heard
from .parcels import both, in_order, wrapped
from .recalled import Recalled

_SCHEMA: Final = """
CREATE TABLE reports (
  number INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB UNIQUE NOT NULL, id BLOB NOT NULL, body BLOB NOT NULL,
  mark BLOB);
CREATE INDEX ids ON reports (id);
CREATE INDEX marks ON reports (mark);
CREATE TABLE orders (name BLOB PRIMARY KEY, mark BLOB NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX ordered ON orders (mark);
CREATE TABLE recalls (
  name BLOB PRIMARY KEY, target BLOB NOT NULL, confirmed INTEGER NOT NULL DEFAULT 0, body BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX targets ON recalls (target);
CREATE TABLE authors (
  name BLOB PRIMARY KEY, last INTEGER NOT NULL, withheld INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE gaps (author BLOB, first INTEGER, last INTEGER, PRIMARY KEY (author, first)) WITHOUT ROWID;
CREATE TABLE markers (name BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE asides (number INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB UNIQUE NOT NULL, body BLOB NOT NULL,
  author BLOB);
CREATE INDEX aside_authors ON asides (author)
"""
_SECOND: Final = """
DROP TABLE recalls;
CREATE TABLE recalls (
  name BLOB PRIMARY KEY, target BLOB NOT NULL, confirmed INTEGER NOT NULL DEFAULT 0, body BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX targets ON recalls (target)
"""
_THIRD: Final = """
ALTER TABLE reports ADD COLUMN mark BLOB;
CREATE INDEX marks ON reports (mark);
CREATE TABLE orders (name BLOB PRIMARY KEY, mark BLOB NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX ordered ON orders (mark)
"""


class Inbox:
    """The reports of one office.

    Raises:
        Damaged, Refused: as :class:`~kengele_node.rows.Store`, here and from every method.
    """

    def __init__(self, path: Path, rows: RowCipher) -> None:
        self._store = Store(path, f"{_SCHEMA};{HEARD};{SIXTH}", _SECOND, _THIRD, asides.FOURTH, HEARD, SIXTH)
        self._bodies = Bodies(rows)
        self._recalled = Recalled(self._bodies)

    def close(self) -> None:
        self._store.close()

    def keep(self, items: Sequence[Arrival | Marker | Notice | Aside], *, now: float) -> list[bool]:
        """Stores all of ``items``, or on an error none; they are on the disk when this returns.

        Returns:
            For each whether it is new; one that came before changes nothing.
        """
        with self._store.transaction() as connection:
            return [self._keep(connection, item, now) for item in items]

    def order(self, orders: Iterable[Order], *, now: float) -> list[Notice]:
        """Obeys the coordinators' ``orders``, for what is here and for good; gives what was found and obeyed.

        Those it knows are passed over. Each is kept, so that nothing comes back if the coordinators' list is lost.
        """
        with self._store.transaction() as connection:
            known = {name for (name,) in connection.execute("SELECT name FROM orders")}
            names = {self._bodies.blind(f"order/{b64u(order.digest)}"): order for order in orders}
            new = {name: order for name, order in names.items() if name not in known}
            found: list[Notice] = []
            if new:
                self._recalled.mark_all(connection)
            for name, order in new.items():
                body = {"digest": b64u(order.digest), "keep": order.keep, "reason": order.reason, "at": now}
                mark = self._bodies.blind(f"mark/{order.mark}")
                row = (name, mark, self._bodies.seal("order", name, body))
                connection.execute("INSERT INTO orders VALUES (?, ?, ?)", row)
                for kid, report_id in self._recalled.marked(connection, mark):
                    self._recalled.obey_order(connection, kid, report_id, body, numbered=False)
                    found.append(Notice(b"", report_id, kid, order.keep))
            if new:
                self._recalled.forget_ordered(connection, {order.mark for order in new.values()})
        return found

    def settle(self, aside: Aside, item: Arrival | Marker | Notice) -> bool:
        """Moves what was set aside, and holds up now, to where it belongs; whether it is new there."""
        with self._store.transaction() as connection:
            connection.execute("DELETE FROM asides WHERE number = ?", (aside.number,))
            return self._keep(connection, item, aside.received)

    def items(self, limit: int = 100, *, before: int | None = None) -> list[Item | Tombstone | Lost]:
        """The latest reports first; ``before`` is the last number of the page already seen."""
        return self._items("number < ? ORDER BY number DESC LIMIT ?", before if before is not None else 1 << 62, limit)

    def find(self, report_id: str) -> list[Item | Tombstone | Lost]:
        """The report with this id; several only if an author, or whoever has the author's key, gave an id twice."""
        return self._items("id = ? ORDER BY number", self._bodies.blind(f"id/{report_id}"))

    def count(self) -> int:
        with self._store.reading() as connection:
            return int(connection.execute("SELECT count(*) FROM reports").fetchone()[0])

    def authors(self) -> list[str]:
        """The first ``kid`` of everyone who reported to this office, sorted; one whose row is damaged is left out."""
        with self._store.reading() as connection:
            rows = connection.execute("SELECT name, body FROM authors").fetchall()
        found = []
        for name, body in rows:
            try:
                found.append(self._bodies.open_text("author", name, body).decode())
            except Damaged:
                continue
        return sorted(found)

    def gaps(self, author: str) -> Gaps:
        """What of ``author``'s reports (a ``kid``) never came. Those that come late fill their place."""
        with self._store.reading() as connection:
            return gaps(connection, self._bodies.blind(f"author/{author}"))

    def hear(self, author: str, *, at: float, number: int, now: float) -> None:
        """Keeps ``author``'s own word that her reports to this office reach up to ``number``."""
        with self._store.transaction() as connection:
            hear(connection, author_row(connection, self._bodies, author), at, number, now)

    def settle_heard(self, now: float) -> None:
        """What authors say that they sent, and nobody delivered for a day, is missing."""
        with self._store.transaction() as connection:
            settle_heard(connection, now)

    def heard(self, author: str) -> float | None:
        """When ``author`` said last that she is there, by her own clock; None if never."""
        with self._store.reading() as connection:
            return heard_at(connection, self._bodies.blind(f"author/{author}"))

    def asides(self, limit: int = 1000, *, after: int = 0) -> list[Aside | Lost]:
        """What was set aside, the oldest first; ``after`` is the last number of the page already seen."""
        with self._store.reading() as connection:
            rows = connection.execute(
                "SELECT number, name, body FROM asides WHERE number > ? ORDER BY number LIMIT ?", (after, limit)
            ).fetchall()
        found: list[Aside | Lost] = []
        for number, name, sealed in rows:
            try:
                body = self._bodies.open("aside", name, sealed)
            except Damaged:
                found.append(Lost(number))
                continue
            found.append(Aside(unb64u(body["data"]), body["code"], number, body["at"]))
        return found

    def crowded(self) -> bool:
        """Whether of one author so much was set aside that the oldest may have given way."""
        with self._store.reading() as connection:
            return asides.crowded(connection)

    def discard(self, number: int) -> None:
        """Deletes what was set aside: someone has looked at it."""
        with self._store.transaction() as connection:
            connection.execute("DELETE FROM asides WHERE number = ?", (number,))

    def unconfirmed(self) -> list[Unconfirmed]:
        """The recalls that were obeyed and are still to be confirmed."""
        with self._store.reading() as connection:
            rows = connection.execute("SELECT name, body FROM recalls WHERE confirmed = 0").fetchall()
        found = []
        for name, sealed in rows:
            with suppress(Damaged):
                body = self._bodies.open("recall", name, sealed)
                if body["digest"]:
                    found.append(Unconfirmed(name, body["recalls"], unb64u(body["digest"])))
        return found

    def confirmed(self, name: bytes) -> None:
        """The hub has the confirmation of the recall with this name."""
        with self._store.transaction() as connection:
            connection.execute("UPDATE recalls SET confirmed = 1 WHERE name = ?", (name,))

    def scrub(self) -> None:
        """Nothing of what was recalled is on the disk when this returns, as far as the disk lets a program say so."""
        self._store.scrub()

    def _keep(self, connection: sqlite3.Connection, item: Arrival | Marker | Notice | Aside, now: float) -> bool:
        if isinstance(item, Arrival):
            return self._keep_arrival(connection, item, now)
        if isinstance(item, Notice):
            # Whose it is the hub says only where nothing is here that says it better.
            about = self._recalled.marked(connection, self._recalled.mark(item.report)) or {(item.kid, item.report)}
            orders = self._recalled.orders(connection, item.report)
            obeyed = [
                self._recalled.obey_order(
                    connection,
                    *one,
                    order,
                    numbered=item.numbered,
                    first=item.first if one[0] == item.kid else "",
                )
                for one in about
                for order in orders
            ]
            return any(obeyed)
        if isinstance(item, Aside) and self._recalled.is_ordered(connection, item.data):
            return False  # what may open later is not kept for that
        name = self._bodies.blind(f"raw/{hashlib.sha256(item.data).hexdigest()}")
        if isinstance(item, Marker):
            new = insert_marker(connection, name)
            if new:
                author = author_row(connection, self._bodies, item.first or item.kid)
                explain(connection, author, 1)
            return new
        sealed = self._bodies.seal("aside", name, {"data": b64u(item.data), "code": item.code, "at": now})
        author = self._bodies.blind(f"author/{asides.author_in(item.data)}")
        return asides.insert_aside(connection, name, sealed, author)

    def _keep_arrival(self, connection: sqlite3.Connection, arrival: Arrival, now: float) -> bool:
        header = arrival.header
        name = self._bodies.blind(f"report/{arrival.digest.hex()}")
        row = connection.execute("SELECT body FROM reports WHERE name = ?", (name,)).fetchone()
        if row is not None and not self._unburied(connection, name, row[0], arrival):
            return self._add(connection, name, row[0], arrival)
        if header.recalls is not None:
            return self._keep_recall(connection, name, arrival, now)
        for order in self._recalled.orders(connection, header.id):
            self._recalled.obey_order(connection, header.kid, header.id, order, numbered=False)
        id_ = self._bodies.blind(f"id/{header.id}")
        flags = list(arrival.flags)
        if connection.execute("SELECT 1 FROM reports WHERE id = ?", (id_,)).fetchone():
            flags.append("id-twice")
        author = author_row(connection, self._bodies, arrival.first or header.kid)
        recalls = self._recalled.recalls(connection, header.kid, header.id, bare=is_shared(arrival.data))
        counted = arrival.counter is not None and count(connection, author, arrival.counter)
        if arrival.counter is not None and not counted:
            flags.append("number-twice")
        if counted and any(recall.get("absent") for recall in recalls):
            explain(connection, author, -1)
        if recalls and not left(recall["keep"] for recall in recalls):
            return False  # its tombstone is there already
        body = {
            "at": now,
            "data": b64u(arrival.data),
            "digest": b64u(arrival.digest),
            "header": header.claims(),
            "contents": {
                part: value.model_dump(mode="json", exclude_none=True) for part, value in arrival.contents.items()
            },
            "counter": arrival.counter,
            "withheld": arrival.withheld,
            "noted": arrival.flags,
            "disclosures": dict(arrival.disclosures),
            "keys": dict(arrival.keys),
            "flags": flags,
        }
        sealed = self._bodies.seal("report", name, body)
        row = (name, id_, sealed, self._recalled.mark(header.id))
        new = insert(connection, "INSERT INTO reports (name, id, body, mark) VALUES (?, ?, ?, ?)", *row)
        if recalls:
            self._recalled.obey(connection, header.kid, header.id, recalls)
        return new

    def _unburied(self, connection: sqlite3.Connection, name: bytes, sealed: bytes, arrival: Arrival) -> bool:
        """Whether only what was shared of this report was recalled, and it comes now by its author's own wrap."""
        if is_shared(arrival.data):
            return False
        try:
            gone = self._bodies.open("report", name, sealed).get("gone")
        except Damaged:
            return False
        kid, report_id = arrival.header.kid, arrival.header.id
        speaking = [recall["keep"] for recall in self._recalled.recalls(connection, kid, report_id, bare=False)]
        if gone is None or not (arrival.contents.keys() - {HANDLING}) & {*names(left(speaking))}:
            return False
        connection.execute("DELETE FROM reports WHERE name = ?", (name,))
        return True

    def _add(self, connection: sqlite3.Connection, name: bytes, sealed: bytes, arrival: Arrival) -> bool:
        """Puts to a report that is here what ``arrival``, the same report, holds besides; whether that is anything."""
        header = arrival.header
        try:
            body = dict(self._bodies.open("report", name, sealed))
        except Damaged:
            return False
        if "gone" in body:
            if arrival.counter is not None:
                # Only a copy without a number was here: what was recalled has come all the same.
                count(connection, author_row(connection, self._bodies, arrival.first or header.kid), arrival.counter)
            return False
        if not (is_shared(arrival.data) or is_shared(unb64u(body["data"]))):
            return False
        shared_only = is_shared(arrival.data) and not wrapped(unb64u(body["data"]))
        recalls = self._recalled.recalls(connection, header.kid, header.id, bare=shared_only)
        stays: Sequence[str] = names(left(recall["keep"] for recall in recalls))
        more = {part: value for part, value in arrival.contents.items() if part in stays}
        numbered = arrival.counter is not None and body["counter"] is None
        if not more.keys() - body["contents"].keys() and not numbered:
            return False
        if numbered and arrival.counter is not None:
            count(connection, author_row(connection, self._bodies, arrival.first or header.kid), arrival.counter)
            body["counter"] = arrival.counter
        dumped = {part: value.model_dump(mode="json", exclude_none=True) for part, value in more.items()}
        contents = {**dumped, **body["contents"]}
        proofs = {**arrival.disclosures, **body.get("disclosures", {})}
        keys = {**arrival.keys, **body.get("keys", {})}
        body |= {
            "disclosures": {part: proofs[part] for part in in_order(contents) if part in proofs},
            "keys": {part: keys[part] for part in in_order(contents) if part in keys},
            "data": b64u(both(unb64u(body["data"]), arrival.data, stays)),
            "contents": {part: contents[part] for part in in_order(contents)},
            "withheld": in_order({*body["withheld"], *arrival.withheld} - contents.keys()),
            "noted": sorted({*body["noted"], *arrival.flags}),
            "flags": sorted({*body["flags"], *arrival.flags}),
        }
        connection.execute(
            "UPDATE reports SET body = ? WHERE name = ?", (self._bodies.seal("report", name, body), name)
        )
        return True

    def _keep_recall(self, connection: sqlite3.Connection, name: bytes, recall: Arrival, now: float) -> bool:
        kid, recalled = recall.header.kid, recall.header.recalls or ""
        if connection.execute("SELECT 1 FROM recalls WHERE name = ?", (name,)).fetchone():
            return False
        if recall.bare and self._recalled.holds_wrapped(connection, kid, recalled):
            # Its author did not address it here: whoever brings it may mean to destroy what she has left.
            self._keep(connection, Aside(recall.data, CannotOpen().code), now)
            return False
        author = author_row(connection, self._bodies, recall.first or kid)
        if recall.counter is not None:
            count(connection, author, recall.counter)
        wishes = getattr(recall.contents.get("handling"), "wishes", None)
        body: dict[str, Any] = {
            "kid": kid,
            "recalls": recalled,
            "digest": b64u(recall.digest),
            "keep": recall.header.keep,
            "at": now,
            "reason": wishes.text if wishes else None,
            **({"bare": True} if recall.bare else {}),
        }
        return self._recalled.take_back(connection, name, body, author if recall.counter is not None else None)

    def _items(self, clause: str, *values: object) -> list[Item | Tombstone | Lost]:
        with self._store.reading() as connection:
            rows = connection.execute(
                f"SELECT number, name, body FROM reports WHERE {clause}",  # noqa: S608
                values,
            ).fetchall()
            return [self._item(*row) for row in rows]

    def _item(self, number: int, name: bytes, sealed: bytes) -> Item | Tombstone | Lost:
        try:
            body = self._bodies.open("report", name, sealed)
            if "gone" in body:
                gone = body["gone"]
                by = gone.get("by", AUTHOR)
                return Tombstone(number, gone["at"], gone["id"], gone["kid"], gone["reason"], by)
            header = parse_header(body["header"])
            contents = {part: parse_compartment(part, value) for part, value in body["contents"].items()}
        except (Damaged, Malformed):
            return Lost(number)
        flags = tuple(body["flags"]) + (("narrowed",) if "narrowed" in body else ())
        arrival = Arrival(
            unb64u(body["data"]),
            unb64u(body["digest"]),
            header,
            contents,
            body["counter"],
            tuple(body["withheld"]),
            tuple(body["noted"]),
            body.get("disclosures", {}),
            keys=body.get("keys", {}),
        )
        return Item(number, body["at"], arrival, flags)
