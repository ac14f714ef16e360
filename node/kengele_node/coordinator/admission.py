"""Admission: what letting members in makes of the network's documents. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from kengele_schemas.areas import Areas
from kengele_schemas.cards import JoinRequest
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.regional import area_of

from .documents import Documents, connection_lists, differing
from .rotating import YEAR


def admit(
    documents: Documents,
    requests: Sequence[JoinRequest],
    areas: Areas,
    today: date,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """The documents with those who ask for it let in.

    A monitor stands in the list of its country, or where it reports from several in that of the smallest area that
    covers them all; but where an area that covers them has coordinators of its own, in that one's, and its connection
    beside it.

    Args:
        groups: by office id, the groups it joins; a new group is made.

    Raises:
        Refused: ``already-admitted``, ``unknown-area``, ``no-common-area``.
        Malformed: a group is given for who is not let in.
    """
    changed = dict(documents)
    known = taken(documents)
    connections = [*documents["connections.json"]["connections"]]
    offices = [*documents["offices.json"]["offices"]]
    joined = {name: [*members] for name, members in documents["offices.json"].get("groups", {}).items()}
    strangers = {*(groups or {})} - {request.member for request in requests}
    if strangers:
        raise Malformed(
            "malformed",
            f"{min(strangers)} is to be in a group, and does not join here.",
            "Look for a typing error; all groups at once are set by --groups.",
        )
    for request in requests:
        if known & {request.nkey, request.member}:
            raise Refused(
                "already-admitted",
                "This member, or its key, is in the network already or was removed from it.",
                "Who comes back makes a new home with new keys; an office takes another id as well.",
            )
        known |= {request.nkey, request.member}
        for area in request.areas:
            if not areas.known(area):
                near = f"Perhaps: {', '.join(found)}. " if (found := areas.suggest(area)) else ""
                raise Refused(
                    "unknown-area",
                    f"The network has no area {area}.",
                    f"{near}Who asks makes a new home, with another.",
                )
        row = {"nkey": request.nkey, "role": request.role, "member": request.member}
        own = f"connections/{_list_area(changed, request, areas)}.json" if request.monitor is not None else ""
        if own in changed:
            row |= {"asked": request.nkey_signature}
            changed[own] = {**changed[own], "connections": [*changed[own]["connections"], row]}
        else:
            connections.append(row)
        if request.office is not None:
            part = request.office.model_dump(mode="json", exclude_none=True)
            offices.append({**part, "areas": list(request.areas), "status": "active"})
            for group in (groups or {}).get(request.office.id, ()):
                joined.setdefault(group, []).append(f"office:{request.office.id}")
        elif request.monitor is not None:
            _enlist(changed, request, areas, today)
    changed["connections.json"] = {**documents["connections.json"], "connections": connections}
    changed["offices.json"] = {**documents["offices.json"], "offices": offices, "groups": joined}
    return differing(documents, changed)


def taken(documents: Documents) -> set[str]:
    """Keys and names of all who are in the network, or were: a key that was removed is kept out for good."""
    lines = [listed for _, listed in connection_lists(documents)]
    return {
        *(row["nkey"] for listed in lines for row in (*listed["connections"], *listed.get("revoked", ()))),
        *(row["member"] for listed in lines for row in listed["connections"]),
        *(office["id"] for office in documents["offices.json"]["offices"]),
        *(
            entry["kid"]
            for path, document in documents.items()
            if path.startswith("monitors/")
            for entry in document["monitors"]
        ),
    }


def list_area(request_areas: Sequence[str], areas: Areas) -> str:
    """The area in whose list a monitor with these areas stands: the smallest that covers all of them.

    Raises:
        Refused: ``no-common-area``.
    """
    common = frozenset.intersection(*(areas.ancestors(area) for area in request_areas))
    country = areas.country_of(request_areas[0])
    if country is not None and country in common:
        return country
    ranked = sorted(common, key=lambda code: (len(areas.below(code)), code))
    if not ranked:
        raise Refused("no-common-area", "No one area covers all of this monitor's.", "Enrol it for fewer areas.")
    return ranked[0]


def _list_area(documents: Documents, request: JoinRequest, areas: Areas) -> str:
    """Of the areas with coordinators of their own the smallest that covers a monitor's, else its :func:`list_area`."""
    regions = [area_of(path)[1] for path in documents if path.startswith("connections/")]
    over = [code for code in regions if areas.known(code) and all(areas.covers(code, area) for area in request.areas)]
    return min(over, key=lambda code: (len(areas.below(code)), code), default="") or list_area(request.areas, areas)


def _enlist(changed: dict[str, Any], request: JoinRequest, areas: Areas, today: date) -> None:
    if request.monitor is None:
        return
    area = _list_area(changed, request, areas)
    path = f"monitors/{area}.json"
    listed = changed.get(path) or {"v": 1, "area": area, "monitors": []}
    entry = {
        **request.monitor.model_dump(mode="json"),
        "areas": list(request.areas),
        "not_before": today.isoformat(),
        "not_after": (today + YEAR).isoformat(),
        "status": "active",
    }
    changed[path] = {**listed, "monitors": [*listed["monitors"], entry]}
