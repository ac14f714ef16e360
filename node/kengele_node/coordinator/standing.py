"""Standing: what suspending, restoring and removing members makes of the network's documents. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from kengele_schemas.cards import CoordinatorCard
from kengele_schemas.errors import Refused
from kengele_schemas.roster import Status

from . import rotating
from .documents import Documents, connection_lists, differing

_SEE: Final = "See: kengele coordinator members list"


def suspend(documents: Documents, member: str) -> dict[str, Any]:
    """The documents with ``member`` suspended: it stays connected; nothing is taken from it and nothing given to it.

    Raises:
        Refused: ``no-such-member``.
    """
    return _moved(documents, member, "active", "suspended")


def restore(documents: Documents, member: str) -> dict[str, Any]:
    """The documents with a suspended ``member`` active again. Who was revoked needs new keys. Raises as above."""
    return _moved(documents, member, "suspended", "active")


def _moved(documents: Documents, member: str, before: Status, after: Status) -> dict[str, Any]:
    if before not in {_status(row) for row in _rows(documents) if member in (row.get("id"), row.get("kid"))}:
        raise Refused("no-such-member", f"There is no such member that is {before}.", _SEE)
    return differing(documents, _with_status(documents, member, after))


def _rows(documents: Documents) -> list[dict[str, Any]]:
    """Every office and monitor."""
    lists = [document["monitors"] for path, document in documents.items() if path.startswith("monitors/")]
    return [*documents["offices.json"]["offices"], *(row for listed in lists for row in listed)]


def _status(row: Mapping[str, Any]) -> str:
    return str(row.get("status", "active"))


def _with_status(documents: Documents, member: str, status: Status) -> dict[str, Any]:
    """Offices and lists of monitors, with this one's status under all its names."""
    names = rotating.names_of(documents, member)

    def marked(rows: Sequence[dict[str, Any]], key: str) -> list[dict[str, Any]]:
        return [{**row, "status": status} if row[key] in names else row for row in rows]

    offices = documents["offices.json"]
    changed = {"offices.json": {**offices, "offices": marked(offices["offices"], "id")}}
    for path, document in documents.items():
        if path.startswith("monitors/"):
            changed[path] = {**document, "monitors": marked(document["monitors"], "kid")}
    return changed


def remove(documents: Documents, member: str, now: int) -> dict[str, Any]:
    """The documents with ``member`` revoked: its keys are kept out for good, what it sent stays readable.

    Raises:
        Refused: ``no-such-member``.
    """
    changed = dict(documents)
    names = rotating.names_of(documents, member)
    for path, listed in connection_lists(documents):
        gone = [row for row in listed["connections"] if row["member"] in names]
        if gone:
            changed[path] = _without(listed, gone, now)
    if changed == documents:
        raise Refused("no-such-member", "There is no such member.", _SEE)
    return differing(documents, changed | _with_status(documents, member, "revoked"))


def _without(listed: Mapping[str, Any], gone: Sequence[Any], now: int) -> dict[str, Any]:
    """A list of connections without those rows, whose keys are kept out for good."""
    kept = [row for row in listed["connections"] if row not in gone]
    revoked = [*listed.get("revoked", []), *({"nkey": row["nkey"], "at": now} for row in gone)]
    return {**listed, "connections": kept, "revoked": revoked}


def reseat(documents: Documents, coming: Sequence[CoordinatorCard], going: Collection[str], now: int) -> dict[str, Any]:
    """The documents with the connections of coordinators who come and without those of who go, kept out for good.

    Raises:
        Refused: ``no-such-member``, ``already-admitted``.
    """
    listed = documents["connections.json"]
    rows = listed["connections"]
    seated = {row["member"] for row in rows if row["role"] == "coordinator"}
    if not set(going) <= seated:
        raise Refused("no-such-member", "There is no such coordinator.", _SEE)
    known = {
        row["nkey"]
        for _, some in connection_lists(documents)
        for row in (*some["connections"], *some.get("revoked", []))
    }
    if any(card.id in seated or card.nkey in known for card in coming):
        raise Refused("already-admitted", "This coordinator, or its key, is or was in the network already.")
    gone = [row for row in rows if row["role"] == "coordinator" and row["member"] in going]
    new = [{"nkey": card.nkey, "role": "coordinator", "member": card.id} for card in coming]
    made = _without(listed, gone, now)
    return {"connections.json": {**made, "connections": [*made["connections"], *new]}}
