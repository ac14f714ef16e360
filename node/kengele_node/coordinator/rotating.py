"""Rotating: what members' own word about their keys makes of the network's documents. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.fields import read
from kengele_schemas.roster import Monitor, Office
from kengele_schemas.rotation import GRACE, NEWS, Epoch, OfficeKeys, handed_over, vouched

from .documents import Documents

YEAR: Final = timedelta(days=365)


def take_keys(documents: Documents, statement: OfficeKeys, network: str) -> dict[str, Any]:
    """The documents with the keys of ``statement`` in the place of those that its office has.

    Args:
        documents: those in force, by path.
        statement: of the office.
        network: the digest of the network's first root.

    Raises:
        Refused: ``no-such-member``; ``overtaken``.
        Untrusted: ``bad-card``: it is not the office's.
    """
    offices = documents["offices.json"]
    row = next((row for row in offices["offices"] if row["id"] == statement.office), None)
    if row is None:
        raise Refused("no-such-member", "There is no such office.", "See: kengele coordinator members list")
    statement.check(read(Office, row), network)
    keys = [key.model_dump(mode="json", exclude_none=True) for key in statement.keys]
    changed = {**row, "keys": keys, "vouched": statement.signature}
    rows = [changed if one is row else one for one in offices["offices"]]
    return {"offices.json": {**offices, "offices": rows}}


def take_epoch(documents: Documents, statement: Epoch, network: str, today: date) -> dict[str, Any]:
    """The documents with the monitor that hands its key over under its next name besides.

    The old name's days end with the grace, so that what waits in an outbox still arrives; its connection is the new's.

    Raises:
        Refused: ``no-such-member``; ``overtaken``: its key was followed by one before; ``not-active``.
        Untrusted: ``bad-card``: it is not the monitor's.
    """
    path, held, row = listed(documents, statement.after)
    monitor = read(Monitor, row)
    statement.check(monitor, network)
    names = {one["kid"] for _, one in _monitors(documents)}
    if statement.kid in names or any(one.get("after") == monitor.kid for one in held["monitors"]):
        raise Refused(
            "overtaken", "Another key follows this monitor's already.", "See: kengele coordinator members list"
        )
    if monitor.status != "active":
        raise Refused(
            "not-active",
            f"This monitor is {monitor.status}: no key follows its own.",
            "Who was revoked is invited anew, with other keys.",
        )
    days = {"not_before": today.isoformat(), "not_after": (today + YEAR).isoformat()}
    following = {**row, **days, "kid": statement.kid, "key": statement.key, "after": monitor.kid}
    ending = {**row, "not_after": min(monitor.not_after, today + GRACE).isoformat()}
    rows = [ending if one is row else one for one in held["monitors"]]
    return {
        path: {**held, "monitors": [*rows, {**following, "handover": statement.signature}]},
        **_renamed_lines(documents, monitor.kid, statement.kid),
    }


def _renamed_lines(documents: Documents, before: str, following: str) -> dict[str, Any]:
    """The list of connections, the network's or a region's, in which the line of ``before`` is now ``following``'s."""
    changed = {}
    for path, listed in documents.items():
        if path.startswith("connections") and any(row["member"] == before for row in listed["connections"]):
            rows = [row | ({"member": following} if row["member"] == before else {}) for row in listed["connections"]]
            changed[path] = {**listed, "connections": rows}
    return changed


def names_of(documents: Documents, member: str) -> frozenset[str]:
    """``member`` and all names that keys were handed over from, and to, one after the other."""
    rows = {row["kid"]: row for _, row in _monitors(documents)}
    links = [(row["after"], kid) for kid, row in rows.items() if row.get("handover")]
    before, behind = {kid: after for after, kid in links}, dict(links)
    found = {member}
    for steps in (before, behind):
        kid = member
        while (kid := steps.get(kid, "")) and kid not in found:
            found.add(kid)
    return frozenset(found)


def monitors_word(before: Documents, new: Mapping[str, Any], network: str) -> list[str]:
    """Of each monitor in the list ``new`` whose key follows another, whether that one says so itself."""
    old = {row["kid"]: row for _, row in _monitors(before)}
    rows = {row["kid"]: row for row in new["monitors"]}
    told = []
    for kid, row in rows.items():
        after = row.get("after")
        was = old.get(kid, {})
        if after is None or all(was.get(name) == row.get(name) for name in ("after", "handover", "key")):
            continue
        try:
            own = after in rows and handed_over(read(Monitor, row), read(Monitor, rows[after]), network)
        except Malformed:
            own = False
        if own:
            told.append(f"Monitor {kid}: follows {after}, as {after}'s own key has signed.")
        else:
            told.append(
                f"Monitor {kid}: TAKES THE PLACE OF {after}, WHICH HAS NOT SIGNED THAT. Offices are told so with its"
                f" reports for {NEWS.days} days. Be sure who she is before you sign."
            )
    return told


def _monitors(documents: Documents) -> list[tuple[str, dict[str, Any]]]:
    return [
        (path, row)
        for path, document in documents.items()
        if path.startswith("monitors/")
        for row in document["monitors"]
    ]


def listed(documents: Documents, kid: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """A monitor's entry, the list in which it stands, and that one's path."""
    for path, row in _monitors(documents):
        if row["kid"] == kid:
            return path, documents[path], row
    raise Refused("no-such-member", "There is no such monitor.", "See: kengele coordinator members list")


def offices_word(old: Sequence[Any], new: Sequence[Any], network: str) -> list[str]:
    """Of each office whose keys change, whether it says so itself."""
    before = {row["id"]: row for row in old}
    told = []
    for row in new:
        was = before.get(row["id"])
        if was is None or (row["keys"], row["sign"]) == (was["keys"], was["sign"]):
            continue
        try:
            own = vouched(read(Office, row), read(Office, was), network)
        except Malformed:
            own = False
        if own:
            told.append(f"Office {row['id']}: its new keys are signed by the office itself.")
        else:
            told.append(
                f"Office {row['id']}: ITS KEYS CHANGE, AND IT HAS NOT SIGNED THAT. Whoever made the new ones reads what"
                " is sealed for it from then on. Ask the office, by voice, before you sign."
            )
    return told
