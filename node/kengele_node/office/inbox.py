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
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from kengele_node.rows import RowCipher, Store
from kengele_schemas.compartments import HANDLING, REPORT_COMPARTMENTS, names
from kengele_schemas.encoding import b64u, dumps, loads, unb64u
from kengele_schemas.envelope import assemble, parse
from kengele_schemas.errors import CannotOpen, Damaged, KengeleError, Malformed
from kengele_schemas.orders import Order, mark_of
from kengele_schemas.recall import left
from kengele_schemas.report import Header, parse_compartment, parse_header
from kengele_schemas.sharing import is_shared, join, split

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
CREATE TABLE asides (number INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB UNIQUE NOT NULL, body BLOB NOT NULL)
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
_UNKNOWN: Final = b""
"""The mark of a row that cannot be read."""
MAX_COUNTER: Final = 2**53
AUTHOR: Final = "author"
COORDINATORS: Final = "coordinators"
_MAX_BODY: Final = 8 << 20
_MAX_DEPTH: Final = 16


@dataclass(frozen=True, slots=True)
class Arrival:
    """A report that was verified and opened; ``data`` is the envelope as delivered, ``digest`` of what was signed."""

    data: bytes = field(repr=False)
    digest: bytes
    header: Header = field(repr=False)
    contents: Mapping[str, BaseModel] = field(repr=False)
    counter: int | None = None
    withheld: tuple[str, ...] = ()
    """Compartments that the author gave this office and the hub, by a newer policy, held back."""
    flags: tuple[str, ...] = ()
    """What a reader has to be told: ``monitor-suspended``, ``monitor-revoked``, ``key-expired``,
    ``shared-later-by-author``, ``shared-later-by-custodian``, ``new-key``."""
    disclosures: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What proves the contents to others, by compartment: the keys that opened them will be destroyed one day."""
    bare: bool = False
    """Of a recall: its author has no wrap in it for this office. It takes what came by a share, and nothing else."""
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The keys of the contents, by compartment: the custodian may share them when its own are destroyed."""
    first: str = ""
    """The author's first name, where her keys followed each other since: her numbers go on under all of them."""


@dataclass(frozen=True, slots=True)
class Marker:
    """The hub's signed word that it withholds a report of ``kid`` from this office, and nothing more."""

    data: bytes
    kid: str
    first: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """That the coordinators recalled a report of ``kid``: the hub's word in ``data``, or empty if it was found here."""

    data: bytes
    report: str
    kid: str
    keep: tuple[str, ...] | None = None
    numbered: bool = True
    """Whether the report had a number of its author's for this office."""
    first: str = ""


@dataclass(frozen=True, slots=True)
class Aside:
    """What did not hold up, kept as it came with the code that says why; ``number`` is given by the inbox."""

    data: bytes = field(repr=False)
    code: str
    number: int = 0
    received: float = 0


@dataclass(frozen=True, slots=True)
class Item:
    """A stored arrival; ``received`` in Unix seconds.

    Further flags: ``id-twice``, ``number-twice`` (another report with the same id, or the same number of the same
    author, came before) and ``narrowed`` (its author took a part of it back).
    """

    number: int
    received: float
    arrival: Arrival
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is left of a report that was recalled ``by`` its author or the coordinators.

    ``recalled`` (Unix seconds) is when the recall came.
    """

    number: int
    recalled: float
    id: str
    author: str
    reason: str | None = field(default=None, repr=False)
    by: str = AUTHOR


class Unconfirmed(NamedTuple):
    """A recall that was obeyed and of which the hub has not got the confirmation yet; ``name`` is the inbox's own."""

    name: bytes
    report: str
    recall: bytes


class Lost(NamedTuple):
    """The number of a stored report that cannot be read back."""

    number: int


@dataclass(frozen=True, slots=True)
class Gaps:
    """The numbers of an author's reports to this office that never came, as ranges, both ends included."""

    missing: tuple[tuple[int, int], ...]
    withheld: int
    """How many of them the hub says it withholds by policy."""

    @property
    def unexplained(self) -> int:
        """How many were dropped somewhere, or are still under way."""
        return max(0, sum(last - first + 1 for first, last in self.missing) - self.withheld)


class Inbox:
    """The reports of one office.

    Raises:
        Damaged, Refused: as :class:`~kengele_node.rows.Store`, here and from every method.
    """

    def __init__(self, path: Path, rows: RowCipher) -> None:
        self._store = Store(path, _SCHEMA, _SECOND, _THIRD)
        self._rows = rows

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
            names = {self._rows.blind(f"order/{b64u(order.digest)}"): order for order in orders}
            new = {name: order for name, order in names.items() if name not in known}
            found: list[Notice] = []
            if new:
                self._mark_all(connection)
            for name, order in new.items():
                body = {"digest": b64u(order.digest), "keep": order.keep, "reason": order.reason, "at": now}
                mark = self._rows.blind(f"mark/{order.mark}")
                row = (name, mark, self._seal(_sealed_under("order", name), body))
                connection.execute("INSERT INTO orders VALUES (?, ?, ?)", row)
                for kid, report_id in self._marked(connection, mark):
                    self._obey_order(connection, kid, report_id, body, numbered=False)
                    found.append(Notice(b"", report_id, kid, order.keep))
            if new:
                self._forget_ordered(connection, {order.mark for order in new.values()})
        return found

    def settle(self, aside: Aside, arrival: Arrival) -> bool:
        """Moves what was set aside, and holds up now, to the reports; whether it is new there."""
        with self._store.transaction() as connection:
            connection.execute("DELETE FROM asides WHERE number = ?", (aside.number,))
            return self._keep(connection, arrival, aside.received)

    def items(self, limit: int = 100, *, before: int | None = None) -> list[Item | Tombstone | Lost]:
        """The latest reports first; ``before`` is the last number of the page already seen."""
        return self._items("number < ? ORDER BY number DESC LIMIT ?", before if before is not None else 1 << 62, limit)

    def find(self, report_id: str) -> list[Item | Tombstone | Lost]:
        """The report with this id; several only if an author, or whoever has the author's key, gave an id twice."""
        return self._items("id = ? ORDER BY number", self._rows.blind(f"id/{report_id}"))

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
                found.append(self._rows.open(_sealed_under("author", name), body).decode())
            except Damaged:
                continue
        return sorted(found)

    def gaps(self, author: str) -> Gaps:
        """What of ``author``'s reports (a ``kid``) never came. Those that come late fill their place."""
        with self._store.reading() as connection:
            return _gaps(connection, self._rows.blind(f"author/{author}"))

    def asides(self, limit: int = 1000, *, after: int = 0) -> list[Aside | Lost]:
        """What was set aside, the oldest first; ``after`` is the last number of the page already seen."""
        with self._store.reading() as connection:
            rows = connection.execute(
                "SELECT number, name, body FROM asides WHERE number > ? ORDER BY number LIMIT ?", (after, limit)
            ).fetchall()
        found: list[Aside | Lost] = []
        for number, name, sealed in rows:
            try:
                body = self._open(_sealed_under("aside", name), sealed)
            except Damaged:
                found.append(Lost(number))
                continue
            found.append(Aside(unb64u(body["data"]), body["code"], number, body["at"]))
        return found

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
                body = self._open(_sealed_under("recall", name), sealed)
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
            about = self._marked(connection, self._mark(item.report)) or {(item.kid, item.report)}
            orders = self._orders(connection, item.report)
            obeyed = [
                self._obey_order(
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
        if isinstance(item, Aside) and self._is_ordered(connection, item.data):
            return False  # what may open later is not kept for that
        name = self._rows.blind(f"raw/{hashlib.sha256(item.data).hexdigest()}")
        if isinstance(item, Marker):
            new = _insert(connection, "INSERT OR IGNORE INTO markers VALUES (?)", name)
            if new:
                author = self._author(connection, item.first or item.kid)
                connection.execute("UPDATE authors SET withheld = withheld + 1 WHERE name = ?", (author,))
            return new
        sealed = self._seal(_sealed_under("aside", name), {"data": b64u(item.data), "code": item.code, "at": now})
        return _insert(connection, "INSERT OR IGNORE INTO asides (name, body) VALUES (?, ?)", name, sealed)

    def _keep_arrival(self, connection: sqlite3.Connection, arrival: Arrival, now: float) -> bool:
        header = arrival.header
        name = self._rows.blind(f"report/{arrival.digest.hex()}")
        row = connection.execute("SELECT body FROM reports WHERE name = ?", (name,)).fetchone()
        if row is not None and not self._unburied(connection, name, row[0], arrival):
            return self._add(connection, name, row[0], arrival)
        if header.recalls is not None:
            return self._keep_recall(connection, name, arrival, now)
        for order in self._orders(connection, header.id):
            self._obey_order(connection, header.kid, header.id, order, numbered=False)
        id_ = self._rows.blind(f"id/{header.id}")
        flags = list(arrival.flags)
        if connection.execute("SELECT 1 FROM reports WHERE id = ?", (id_,)).fetchone():
            flags.append("id-twice")
        author = self._author(connection, arrival.first or header.kid)
        recalls = self._recalls(connection, header.kid, header.id, bare=is_shared(arrival.data))
        counted = arrival.counter is not None and _count(connection, author, arrival.counter)
        if arrival.counter is not None and not counted:
            flags.append("number-twice")
        if counted and any(recall.get("absent") for recall in recalls):
            connection.execute("UPDATE authors SET withheld = withheld - 1 WHERE name = ?", (author,))
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
        sealed = self._seal(_sealed_under("report", name), body)
        row = (name, id_, sealed, self._mark(header.id))
        new = _insert(connection, "INSERT INTO reports (name, id, body, mark) VALUES (?, ?, ?, ?)", *row)
        if recalls:
            self._obey(connection, header.kid, header.id, recalls)
        return new

    def _unburied(self, connection: sqlite3.Connection, name: bytes, sealed: bytes, arrival: Arrival) -> bool:
        """Whether only what was shared of this report was recalled, and it comes now by its author's own wrap."""
        if is_shared(arrival.data):
            return False
        try:
            gone = self._open(_sealed_under("report", name), sealed).get("gone")
        except Damaged:
            return False
        kid, report_id = arrival.header.kid, arrival.header.id
        speaking = [recall["keep"] for recall in self._recalls(connection, kid, report_id, bare=False)]
        if gone is None or not (arrival.contents.keys() - {HANDLING}) & {*names(left(speaking))}:
            return False
        connection.execute("DELETE FROM reports WHERE name = ?", (name,))
        return True

    def _add(self, connection: sqlite3.Connection, name: bytes, sealed: bytes, arrival: Arrival) -> bool:
        """Puts to a report that is here what ``arrival``, the same report, holds besides; whether that is anything."""
        under, header = _sealed_under("report", name), arrival.header
        try:
            body = dict(self._open(under, sealed))
        except Damaged:
            return False
        if "gone" in body:
            if arrival.counter is not None:
                # Only a copy without a number was here: what was recalled has come all the same.
                _count(connection, self._author(connection, arrival.first or header.kid), arrival.counter)
            return False
        if not (is_shared(arrival.data) or is_shared(unb64u(body["data"]))):
            return False
        shared_only = is_shared(arrival.data) and not _wrapped(unb64u(body["data"]))
        recalls = self._recalls(connection, header.kid, header.id, bare=shared_only)
        stays: Sequence[str] = names(left(recall["keep"] for recall in recalls))
        more = {part: value for part, value in arrival.contents.items() if part in stays}
        numbered = arrival.counter is not None and body["counter"] is None
        if not more.keys() - body["contents"].keys() and not numbered:
            return False
        if numbered and arrival.counter is not None:
            _count(connection, self._author(connection, arrival.first or header.kid), arrival.counter)
            body["counter"] = arrival.counter
        dumped = {part: value.model_dump(mode="json", exclude_none=True) for part, value in more.items()}
        contents = {**dumped, **body["contents"]}
        proofs = {**arrival.disclosures, **body.get("disclosures", {})}
        keys = {**arrival.keys, **body.get("keys", {})}
        body |= {
            "disclosures": {part: proofs[part] for part in _ordered(contents) if part in proofs},
            "keys": {part: keys[part] for part in _ordered(contents) if part in keys},
            "data": b64u(_both(unb64u(body["data"]), arrival.data, stays)),
            "contents": {part: contents[part] for part in _ordered(contents)},
            "withheld": _ordered({*body["withheld"], *arrival.withheld} - contents.keys()),
            "noted": sorted({*body["noted"], *arrival.flags}),
            "flags": sorted({*body["flags"], *arrival.flags}),
        }
        connection.execute("UPDATE reports SET body = ? WHERE name = ?", (self._seal(under, body), name))
        return True

    def _keep_recall(self, connection: sqlite3.Connection, name: bytes, recall: Arrival, now: float) -> bool:
        kid, recalled = recall.header.kid, recall.header.recalls or ""
        if connection.execute("SELECT 1 FROM recalls WHERE name = ?", (name,)).fetchone():
            return False
        if recall.bare and self._held_wrapped(connection, kid, recalled):
            # Its author did not address it here: whoever brings it may mean to destroy what she has left.
            self._keep(connection, Aside(recall.data, CannotOpen().code), now)
            return False
        author = self._author(connection, recall.first or kid)
        if recall.counter is not None:
            _count(connection, author, recall.counter)
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
        return self._take_back(connection, name, body, author if recall.counter is not None else None)

    def _obey_order(
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
        name = self._rows.blind(f"ordered/{order['digest']}/{kid}/{report_id}")
        if connection.execute("SELECT 1 FROM recalls WHERE name = ?", (name,)).fetchone():
            return False
        author = self._author(connection, first or kid) if numbered else None
        body = {**order, "kid": kid, "recalls": report_id, "by": COORDINATORS}
        return self._take_back(connection, name, body, author)

    def _take_back(
        self, connection: sqlite3.Connection, name: bytes, body: dict[str, Any], author: bytes | None
    ) -> bool:
        """Obeys the recall that ``body`` says, and keeps it under ``name`` to be confirmed.

        Args:
            author: whose number is missing where the report is not here, and explained by this; None if it had none.
        """
        kid, recalled, bare = body["kid"], body["recalls"], body.get("bare", False)
        before = self._recalls(connection, kid, recalled, bare=bare)
        there = self._obey(connection, kid, recalled, [*before, body])
        # The coordinators' may come before the number is missed; an author's has a later number than what it recalls,
        # so where nothing is missing that is not explained, a marker came for it.
        missed = author is not None and ("by" in body or _gaps(connection, author).unexplained)
        if not there and not before and missed:
            # A number that never came is explained by the recall, unless what it recalls comes all the same.
            body["absent"] = True
            connection.execute("UPDATE authors SET withheld = withheld + 1 WHERE name = ?", (author,))
        if not there and not bare and not left(one["keep"] for one in (*before, body)):
            grave = self._rows.blind(f"gone/{kid}/{recalled}")
            sealed = self._seal(_sealed_under("report", grave), _grave(body))
            row = (grave, self._rows.blind(f"id/{recalled}"), sealed, self._mark(recalled))
            connection.execute("INSERT INTO reports (name, id, body, mark) VALUES (?, ?, ?, ?)", row)
        self._forget_asides(connection, kid, recalled)
        target, sealed = self._target(kid, recalled), self._seal(_sealed_under("recall", name), body)
        statement = "INSERT INTO recalls (name, target, body) VALUES (?, ?, ?)"
        return _insert(connection, statement, name, target, sealed)

    def _obey(
        self, connection: sqlite3.Connection, kid: str, report_id: str, recalls: Sequence[Mapping[str, Any]]
    ) -> bool:
        """Leaves of the report only what its author's ``recalls`` leave; whether it is, or was, here."""
        stays = names(left(recall["keep"] for recall in recalls))
        blind = self._rows.blind(f"id/{report_id}")
        there = False
        for number, name, sealed in connection.execute(
            "SELECT number, name, body FROM reports WHERE id = ?", (blind,)
        ).fetchall():
            under = _sealed_under("report", name)
            try:
                body = dict(self._open(under, sealed))
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
                body |= {"contents": rest, "data": b64u(_stripped(unb64u(body["data"]), stays)), "narrowed": True}
                for what in ("disclosures", "keys"):
                    body[what] = {part: text for part, text in body.get(what, {}).items() if part in stays}
            else:
                continue
            connection.execute("UPDATE reports SET body = ? WHERE number = ?", (self._seal(under, body), number))
        return there

    def _held_wrapped(self, connection: sqlite3.Connection, kid: str, report_id: str) -> bool:
        """Whether the report is here by its author's own wrap."""
        blind = self._rows.blind(f"id/{report_id}")
        for name, sealed in connection.execute("SELECT name, body FROM reports WHERE id = ?", (blind,)).fetchall():
            with suppress(Damaged):
                body = self._open(_sealed_under("report", name), sealed)
                if "gone" not in body and body["header"]["kid"] == kid and _wrapped(unb64u(body["data"])):
                    return True
        return False

    def _forget_asides(self, connection: sqlite3.Connection, kid: str, report_id: str) -> None:
        """What was set aside and says that it is the recalled report goes as well: a key may turn up that opens it."""
        for number, name, sealed in connection.execute("SELECT number, name, body FROM asides").fetchall():
            with suppress(Damaged, Malformed):
                _, whole = split(unb64u(self._open(_sealed_under("aside", name), sealed)["data"]))
                claims = parse(whole).claims
                if (claims.get("id"), claims.get("kid")) == (report_id, kid):
                    connection.execute("DELETE FROM asides WHERE number = ?", (number,))

    def _forget_ordered(self, connection: sqlite3.Connection, marks: Collection[str]) -> None:
        """The same for what the coordinators recalled, whoever it says that it is from."""
        for number, name, sealed in connection.execute("SELECT number, name, body FROM asides").fetchall():
            with suppress(Damaged, Malformed):
                _, whole = split(unb64u(self._open(_sealed_under("aside", name), sealed)["data"]))
                claims = parse(whole).claims
                if mark_of(str(claims.get("id"))) in marks:
                    connection.execute("DELETE FROM asides WHERE number = ?", (number,))

    def _is_ordered(self, connection: sqlite3.Connection, data: bytes) -> bool:
        """Whether what is in ``data`` says that it is a report which the coordinators recalled."""
        with suppress(KengeleError):
            return bool(self._orders(connection, str(parse(split(data)[1]).claims.get("id"))))
        return False

    def _orders(self, connection: sqlite3.Connection, report_id: str) -> list[Mapping[str, Any]]:
        """The coordinators' orders about the report with this id."""
        rows = connection.execute("SELECT name, body FROM orders WHERE mark = ?", (self._mark(report_id),))
        found: list[Mapping[str, Any]] = []
        for name, sealed in rows.fetchall():
            try:
                found.append(self._open(_sealed_under("order", name), sealed))
            except Damaged:
                # How much it takes cannot be read any more: everything, then; and no digest is left to confirm.
                found.append({"digest": "", "keep": None, "reason": None, "at": 0})
        return found

    def _mark(self, report_id: str) -> bytes:
        return self._rows.blind(f"mark/{mark_of(report_id)}")

    def _mark_all(self, connection: sqlite3.Connection) -> None:
        """Gives a mark to the rows of an inbox that was filled before there were any."""
        rows = connection.execute("SELECT number, name, body FROM reports WHERE mark IS NULL").fetchall()
        for number, name, sealed in rows:
            try:
                body = self._open(_sealed_under("report", name), sealed)
                mark = self._mark((body.get("gone") or body["header"])["id"])
            except Damaged:
                mark = _UNKNOWN
            connection.execute("UPDATE reports SET mark = ? WHERE number = ?", (mark, number))

    def _marked(self, connection: sqlite3.Connection, mark: bytes) -> set[tuple[str, str]]:
        """Author and id of each report with this mark: one, or several if an id was given twice."""
        found = set()
        rows = connection.execute("SELECT name, body FROM reports WHERE mark = ?", (mark,)).fetchall()
        for name, sealed in rows:
            with suppress(Damaged):
                body = self._open(_sealed_under("report", name), sealed)
                about = body.get("gone") or body["header"]
                found.add((about["kid"], about["id"]))
        return found

    def _recalls(
        self, connection: sqlite3.Connection, kid: str, report_id: str, *, bare: bool
    ) -> list[Mapping[str, Any]]:
        """The recalls of a report; those that were not addressed here only if it came ``bare`` of a wrap."""
        rows = connection.execute("SELECT name, body FROM recalls WHERE target = ?", (self._target(kid, report_id),))
        found: list[Mapping[str, Any]] = []
        for name, sealed in rows.fetchall():
            try:
                found.append(self._open(_sealed_under("recall", name), sealed))
            except Damaged:
                # How much it took cannot be read any more: everything, then.
                found.append({"kid": kid, "recalls": report_id, "keep": None, "at": 0, "reason": None})
        return [recall for recall in found if bare or not recall.get("bare")]

    def _target(self, kid: str, report_id: str) -> bytes:
        return self._rows.blind(f"recall/{kid}/{report_id}")

    def _author(self, connection: sqlite3.Connection, kid: str) -> bytes:
        name = self._rows.blind(f"author/{kid}")
        sealed = self._rows.seal(_sealed_under("author", name), kid.encode())
        connection.execute("INSERT OR IGNORE INTO authors VALUES (?, 0, 0, ?)", (name, sealed))
        return name

    def _items(self, clause: str, *values: object) -> list[Item | Tombstone | Lost]:
        with self._store.reading() as connection:
            rows = connection.execute(
                f"SELECT number, name, body FROM reports WHERE {clause}",  # noqa: S608
                values,
            ).fetchall()
            return [self._item(*row) for row in rows]

    def _item(self, number: int, name: bytes, sealed: bytes) -> Item | Tombstone | Lost:
        try:
            body = self._open(_sealed_under("report", name), sealed)
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

    def _seal(self, name: str, body: Mapping[str, Any]) -> bytes:
        return self._rows.seal(name, dumps(body))

    def _open(self, name: str, sealed: bytes) -> Mapping[str, Any]:
        body: Mapping[str, Any] = loads(self._rows.open(name, sealed), max_bytes=_MAX_BODY, max_depth=_MAX_DEPTH)
        return body


def _grave(recall: Mapping[str, Any]) -> dict[str, Any]:
    gone = {"id": recall["recalls"], "kid": recall["kid"], "at": recall["at"], "reason": recall["reason"]}
    return {"gone": gone | ({"by": recall["by"]} if "by" in recall else {})}


def _stripped(data: bytes, stays: Sequence[str]) -> bytes:
    """The envelope with those ciphertexts only; the author's signature still holds."""
    shares, whole = split(data)
    envelope = parse(whole)
    kept = {name: text for name, text in envelope.ciphertexts.items() if name in stays}
    return join(shares, assemble(envelope.protected, envelope.payload, envelope.signature, kept, envelope.wraps))


def _wrapped(data: bytes) -> bool:
    """Whether a report's author has a wrap of her own in it for this office."""
    return bool(parse(split(data)[1]).wraps)


def _both(held: bytes, arrived: bytes, stays: Sequence[str]) -> bytes:
    """What was held of a report and what has arrived of it, as one; of both only the compartments that stay."""
    first, second = split(held), split(arrived)
    old, new = parse(first[1]), parse(second[1])
    shares = list(dict.fromkeys((*first[0], *second[0])))
    texts = {**new.ciphertexts, **old.ciphertexts}
    kept = {name: texts[name] for name in _ordered(texts) if name in stays}
    return join(shares, assemble(old.protected, old.payload, old.signature, kept, old.wraps or new.wraps))


def _ordered(parts: Collection[str]) -> list[str]:
    return [name for name in REPORT_COMPARTMENTS if name in parts]


def _sealed_under(what: str, name: object) -> str:
    # On the disk a name, too, may have rotted into another type.
    return f"{what}/{b64u(name) if isinstance(name, bytes) else ''}"


def _insert(connection: sqlite3.Connection, statement: str, *values: object) -> bool:
    return connection.execute(statement, values).rowcount == 1


def _gaps(connection: sqlite3.Connection, author: bytes) -> Gaps:
    missing = connection.execute("SELECT first, last FROM gaps WHERE author = ? ORDER BY first", (author,))
    ranges = tuple((first, last) for first, last in missing)
    row = connection.execute("SELECT withheld FROM authors WHERE name = ?", (author,)).fetchone()
    return Gaps(ranges, row[0] if row else 0)


def _count(connection: sqlite3.Connection, author: bytes, number: int) -> bool:
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
