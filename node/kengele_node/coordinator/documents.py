"""The network's documents as coordinators change them: admitting, removing, adopting rules. Pure.

Each function takes the documents by path, as JSON values, and gives those that change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

from kengele_schemas.areas import Areas
from kengele_schemas.cards import CoordinatorCard, HubCard, JoinRequest
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.policy import Rule

Documents = Mapping[str, Any]
YEAR: Final = timedelta(days=365)


def first(
    name: str,
    hub: HubCard,
    coordinators: Sequence[CoordinatorCard],
    custodian: str,
    areas: Iterable[str],
    **settings: Any,
) -> dict[str, Any]:
    """The documents of a network that has no members yet.

    Args:
        name: the network's.
        hub: its card.
        coordinators: who founds it.
        custodian: the office that will be sealed for when rules have run out.
        areas: codes that the network uses; with each come all that lie in it and above it. All of the world if empty.
        settings: further members of ``network.json``.
    """
    world = Areas.world()
    wanted = {code for area in areas for code in world.below(area)} or {row.code for row in world}
    network = {"v": 1, "name": name, "hub_key": hub.hub_key, "log": hub.log, "custodian": custodian, **settings}
    connections = [{"nkey": card.nkey, "role": "coordinator", "member": card.id} for card in coordinators]
    return {
        "network.json": network,
        "offices.json": {"v": 1, "offices": [], "groups": {}},
        "policy.json": {"v": 1, "version": 1, "refuse_below": 0, "rules": []},
        "areas.json": world.subset(sorted(wanted)).model_dump(mode="json", exclude_none=True),
        "connections.json": {"v": 1, "connections": connections, "revoked": []},
    }


def admit(
    documents: Documents,
    requests: Sequence[JoinRequest],
    areas: Areas,
    today: date,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """The documents with those who ask for it let in.

    A monitor stands in the list of the country of its first area, or of that area where it lies in none.

    Args:
        groups: by office id, the groups it joins; a new group is made.

    Raises:
        Refused: ``already-admitted``, ``unknown-area``.
    """
    changed = dict(documents)
    connections = [*documents["connections.json"]["connections"]]
    offices = [*documents["offices.json"]["offices"]]
    joined = {name: [*members] for name, members in documents["offices.json"].get("groups", {}).items()}
    for request in requests:
        if any(row["nkey"] == request.nkey or row["member"] == request.member for row in connections):
            raise Refused("already-admitted", "This member, or its key, is in the network already.")
        for area in request.areas:
            if not areas.known(area):
                near = ", ".join(areas.suggest(area))
                raise Refused("unknown-area", f"There is no area {area}.", f"Perhaps: {near}." if near else "")
        connections.append({"nkey": request.nkey, "role": request.role, "member": request.member})
        if request.office is not None:
            part = request.office.model_dump(mode="json", exclude_none=True)
            offices.append({**part, "areas": list(request.areas), "status": "active"})
            for group in (groups or {}).get(request.office.id, ()):
                joined.setdefault(group, []).append(f"office:{request.office.id}")
        elif request.monitor is not None:
            _enlist(changed, request, areas, today)
    changed["connections.json"] = {**documents["connections.json"], "connections": connections}
    changed["offices.json"] = {**documents["offices.json"], "offices": offices, "groups": joined}
    return _differing(documents, changed)


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


def _enlist(changed: dict[str, Any], request: JoinRequest, areas: Areas, today: date) -> None:
    if request.monitor is None:
        return
    area = list_area(request.areas, areas)
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


def remove(documents: Documents, member: str, now: int) -> dict[str, Any]:
    """The documents with ``member`` revoked: its keys are kept out for good, what it sent stays readable.

    Raises:
        Refused: ``no-such-member``.
    """
    changed = dict(documents)
    rows = documents["connections.json"]["connections"]
    gone = [row for row in rows if row["member"] == member]
    if not gone:
        raise Refused("no-such-member", "There is no such member.", "See: kengele coordinator members")
    revoked = [*documents["connections.json"].get("revoked", []), *({"nkey": row["nkey"], "at": now} for row in gone)]
    kept = [row for row in rows if row["member"] != member]
    changed["connections.json"] = {"v": 1, "connections": kept, "revoked": revoked}
    offices = documents["offices.json"]
    changed["offices.json"] = {
        **offices,
        "offices": [_revoke(office, office["id"], member) for office in offices["offices"]],
    }
    for path, document in documents.items():
        if path.startswith("monitors/"):
            entries = [_revoke(entry, entry["kid"], member) for entry in document["monitors"]]
            changed[path] = {**document, "monitors": entries}
    return _differing(documents, changed)


def _revoke(entry: dict[str, Any], own: str, member: str) -> dict[str, Any]:
    return {**entry, "status": "revoked"} if own == member else entry


def adopt(documents: Documents, rules: Sequence[Rule], *, refuse_below: int | None = None) -> dict[str, Any]:
    """The documents with ``rules`` as the policy's next version.

    Args:
        refuse_below: from then on the hub takes nothing sealed under an older version.
    """
    policy = documents["policy.json"]
    below = policy.get("refuse_below", 0) if refuse_below is None else refuse_below
    version = policy["version"] + 1
    if below > version:
        raise Malformed("bad-field", "No report could be sealed under that version.", "Name an earlier one.")
    written = [rule.model_dump(mode="json", exclude_none=True) for rule in rules]
    return {"policy.json": {**policy, "version": version, "refuse_below": below, "rules": written}}


def _differing(before: Documents, after: Documents) -> dict[str, Any]:
    return {path: value for path, value in after.items() if before.get(path) != value}


def describe(before: Documents, after: Documents) -> list[str]:
    """In plain sentences, what changes from ``before`` to ``after`` (both by path; the latter only what changes)."""
    told: list[str] = []
    for path, document in sorted(after.items()):
        old = before.get(path) or {}
        if path == "policy.json" or path.startswith("policy/"):
            told += _rules(path, old, document)
        elif path == "offices.json":
            told += _entries("Office", old.get("offices", []), document["offices"], "id")
            if old.get("groups", {}) != document["groups"]:
                told.append("Groups of offices change.")
        elif path.startswith("monitors/"):
            told += _entries(f"Monitor in {document['area']}", old.get("monitors", []), document["monitors"], "kid")
        elif path == "connections.json":
            new, gone = len(document["connections"]) - len(old.get("connections", [])), len(document.get("revoked", []))
            told.append(f"Connections: {new:+d}; {gone} keys are kept out.")
        else:
            told.append(f"{path} changes." if old else f"{path} is new.")
    return told or ["Nothing changes; the signatures' life begins anew."]


def _rules(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    told = [f"{path}: version {old.get('version', 0)} becomes {new['version']}."]
    return told + _entries("Rule", old.get("rules", []), new["rules"], "id")


def _entries(what: str, old: Sequence[Any], new: Sequence[Any], key: str) -> list[str]:
    before, after = {row[key]: row for row in old}, {row[key]: row for row in new}
    told = [f"{what} {name}: is new." for name in after if name not in before]
    told += [f"{what} {name}: goes." for name in before if name not in after]
    for name, row in after.items():
        was = before.get(name, row)
        fields = sorted(field for field in {*row, *was} if row.get(field) != was.get(field))
        if fields:
            told.append(f"{what} {name}: changes in {', '.join(fields)}.")
    return told
