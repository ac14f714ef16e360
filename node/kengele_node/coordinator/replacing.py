"""Replacing: a member whose keys are lost comes back with others, tied to the name that it had. Pure.

The old keys could not sign that, so readers are told for some time that the coordinators alone say so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from kengele_schemas.areas import Areas
from kengele_schemas.cards import JoinRequest
from kengele_schemas.errors import Refused
from kengele_schemas.fields import read
from kengele_schemas.invitations import OfficeName, Terms
from kengele_schemas.roster import Office
from kengele_schemas.trusted import Trusted

from . import admission, rotating, standing
from .documents import Documents, connection_lists
from .rotating import YEAR

_SEE = "See: kengele coordinator members list"


def offered(trusted: Trusted, member: str) -> tuple[str, tuple[str, ...], OfficeName | None]:
    """Role, areas and office that an invitation offers who comes in the place of ``member``.

    Raises:
        Refused: ``no-such-member``; ``overtaken``: somebody has taken its place before.
    """
    if any(one.after == member and one.handover is None for one in trusted.monitors.values()):
        raise Refused("overtaken", "Another key has taken this one's place already.", _SEE)
    monitor, office = trusted.monitors.get(member), trusted.offices.get(member)
    if monitor is not None:
        return "monitor", monitor.areas, None
    if office is not None:
        return "office", office.areas, OfficeName(id=office.id, name=office.name)
    raise Refused("no-such-member", "There is no such member.", _SEE)


def let_in(
    documents: Documents,
    terms: Terms,
    request: JoinRequest,
    areas: Areas,
    today: date,
    now: int,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """The documents with who came by an invitation let in, in the place of whom its ``terms`` name.

    Args:
        documents: those in force, by path.
        terms: of the invitation.
        request: of the newcomer.
        areas: the network's.
        today: the first day.
        now: from which moment on the lost keys are kept out, in Unix seconds.
        groups: by office id, the groups that a new one joins.

    Raises:
        Refused: ``already-admitted``, ``no-such-member``, ``overtaken``; Malformed: as :func:`~.admission.admit`.
    """
    if terms.replaces is None:
        return admission.admit(documents, [request], areas, today, groups=groups)
    known = admission.taken(documents) - ({terms.replaces} if request.office is not None else set())
    if known & {request.nkey, request.member}:
        raise Refused("already-admitted", "These keys are, or were, in the network.", "Who comes back makes new keys.")
    changed = {**documents, **_out(documents, terms.replaces, now)}
    connections = "connections.json"
    line = {"nkey": request.nkey, "role": request.role, "member": request.member}
    if request.office is not None:
        changed["offices.json"] = _office(documents, request, today)
    else:
        path, listed, entry = _monitor(changed, terms.replaces, request, today)
        changed[path] = {**listed, "monitors": [*listed["monitors"], entry]}
        if (own := path.replace("monitors/", "connections/")) in changed:
            connections = own
            line |= {"asked": request.nkey_signature}
    lines = changed[connections]
    changed[connections] = {**lines, "connections": [*lines["connections"], line]}
    return {path: value for path, value in changed.items() if documents.get(path) != value}


def _out(documents: Documents, member: str, now: int) -> dict[str, Any]:
    """The documents without the lost keys' lines; of a monitor that is out already, nothing changes."""
    names = rotating.names_of(documents, member)
    if any(row["member"] in names for _, listed in connection_lists(documents) for row in listed["connections"]):
        return standing.remove(documents, member, now)
    return {}


def _office(documents: Documents, request: JoinRequest, today: date) -> dict[str, Any]:
    assert request.office is not None, "only an office's request comes here"
    offices = documents["offices.json"]
    row = next((row for row in offices["offices"] if row["id"] == request.member), None)
    if row is None:
        raise Refused("no-such-member", "There is no such office.", _SEE)
    part = request.office.model_dump(mode="json", exclude_none=True)
    kept = {name: value for name, value in row.items() if name != "vouched"}
    changed = {**kept, "keys": part["keys"], "sign": part["sign"], "status": "active", "replaced": today.isoformat()}
    read(Office, changed)
    return {**offices, "offices": [changed if one is row else one for one in offices["offices"]]}


def _monitor(
    documents: Documents, replaced: str, request: JoinRequest, today: date
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    assert request.monitor is not None, "only a monitor's request comes here"
    path, listed, _ = rotating.listed(documents, replaced)
    names = rotating.names_of(documents, replaced)
    followed = {row["after"]: row for row in listed["monitors"] if row.get("after") is not None}
    last = next(name for name in names if name not in followed or followed[name]["kid"] not in names)
    if last in followed:
        raise Refused("overtaken", "Another key has taken this one's place already.", _SEE)
    entry = {
        **request.monitor.model_dump(mode="json"),
        "areas": list(request.areas),
        "not_before": today.isoformat(),
        "not_after": (today + YEAR).isoformat(),
        "status": "active",
        "after": last,
    }
    return path, listed, entry
