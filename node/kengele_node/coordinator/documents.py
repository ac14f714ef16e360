"""The network's documents as coordinators change them: admitting, removing, adopting rules. Pure.

Each function takes the documents by path, as JSON values, and gives those that change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Final

from kengele_schemas.areas import Areas
from kengele_schemas.cards import CoordinatorCard, HubCard, JoinRequest
from kengele_schemas.compartments import GRANTABLE
from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.fields import read
from kengele_schemas.keys import fingerprint
from kengele_schemas.orders import MAX_ORDERS, RECALLS, Order, Reason, RecallsFile, mark_of, narrows
from kengele_schemas.policy import Assertion, Rule
from kengele_schemas.recall import left
from kengele_schemas.regional import LINES, MONITORS, POLICY, area_of
from kengele_schemas.roster import Status

from . import rotating
from .rotating import YEAR

Documents = Mapping[str, Any]
_SAID: Final = ("id", "grant", "forbid", "to", "reason")
_SEE: Final = "See: kengele coordinator members list"


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
    return _differing(documents, changed)


def taken(documents: Documents) -> set[str]:
    """Keys and names of all who are in the network, or were: a key that was removed is kept out for good."""
    lines = [listed for _, listed in _lines(documents)]
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


def remove(documents: Documents, member: str, now: int) -> dict[str, Any]:
    """The documents with ``member`` revoked: its keys are kept out for good, what it sent stays readable.

    Raises:
        Refused: ``no-such-member``.
    """
    changed = dict(documents)
    names = rotating.names_of(documents, member)
    for path, listed in _lines(documents):
        gone = [row for row in listed["connections"] if row["member"] in names]
        if gone:
            changed[path] = _without(listed, gone, now)
    if changed == documents:
        raise Refused("no-such-member", "There is no such member.", _SEE)
    return _differing(documents, changed | _with_status(documents, member, "revoked"))


def _lines(documents: Documents) -> list[tuple[str, Any]]:
    """The lists of connections: the network's, and those of areas with coordinators of their own."""
    return [(path, listed) for path, listed in documents.items() if path.startswith("connections") and listed]


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
    known = {row["nkey"] for _, some in _lines(documents) for row in (*some["connections"], *some.get("revoked", []))}
    if any(card.id in seated or card.nkey in known for card in coming):
        raise Refused("already-admitted", "This coordinator, or its key, is or was in the network already.")
    gone = [row for row in rows if row["role"] == "coordinator" and row["member"] in going]
    new = [{"nkey": card.nkey, "role": "coordinator", "member": card.id} for card in coming]
    made = _without(listed, gone, now)
    return {"connections.json": {**made, "connections": [*made["connections"], *new]}}


def hand_over(documents: Documents, area: str) -> dict[str, Any]:
    """The documents of ``area`` as its own coordinators take them over: its monitors' connections are among them.

    Raises:
        Refused: ``unknown-area``.
    """
    if area not in {row["code"] for row in documents["areas.json"]["areas"]}:
        raise Refused("unknown-area", f"The network has no area {area}.", "Look for a typing error.")
    policy, monitors, lines = (f"{folder}/{area}.json" for folder in (POLICY, MONITORS, LINES))
    changed = {
        policy: documents.get(policy) or {"v": 1, "version": 1, "rules": []},
        monitors: documents.get(monitors) or {"v": 1, "area": area, "monitors": []},
    }
    listed = documents["connections.json"]
    own = {row["kid"] for row in changed[monitors]["monitors"]}
    moved = [row for row in listed["connections"] if row["role"] == "monitor" and row["member"] in own]
    before = documents.get(lines) or {"v": 1, "area": area, "connections": [], "revoked": []}
    changed[lines] = {**before, "connections": [*before["connections"], *moved]}
    if moved:
        changed["connections.json"] = {
            **listed,
            "connections": [one for one in listed["connections"] if one not in moved],
        }
    return changed


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
    return _differing(documents, _with_status(documents, member, after))


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


def adopt(
    documents: Documents,
    rules: Sequence[Rule],
    *,
    assertions: Sequence[Assertion] | None = None,
    refuse_below: int | None = None,
    region: str = "",
) -> dict[str, Any]:
    """The documents with ``rules`` as the policy's next version.

    Args:
        region: for which area they are; for the network if empty.
        assertions: what must stay true from then on; what had to before if they are left out.
        refuse_below: from then on the hub takes nothing sealed under an older version.
    """
    path = f"policy/{region}.json" if region else "policy.json"
    policy = documents.get(path) or {"v": 1, "version": 0}
    below = policy.get("refuse_below", 0) if refuse_below is None else refuse_below
    version = policy["version"] + 1
    if below > 1 + sum(value["version"] for name, value in documents.items() if name.startswith("policy")):
        raise Malformed("bad-field", "No report could be sealed under that version.", "Name an earlier one.")
    written = [rule.model_dump(mode="json", exclude_none=True) for rule in rules]
    made = {**policy, "version": version, "refuse_below": below, "rules": written}
    if assertions is not None:
        made["assertions"] = [one.model_dump(mode="json", exclude_none=True) for one in assertions]
    return {path: made}


def recall(
    documents: Documents, report_id: str, *, keep: Collection[str] = (), reason: Reason | None = None
) -> dict[str, Any]:
    """The documents with the report of this id recalled, or all of it but ``keep``.

    Raises:
        Malformed: ``malformed``: this is no report's id; ``unknown-compartment``.
        Refused: ``already-recalled``: all of it, or as much as this; ``gives-back``: what stays went before;
            ``too-many-recalls``.
    """
    if not set(keep) <= set(GRANTABLE):
        raise Malformed("unknown-compartment", "No report has such a part.", f"Choose from: {', '.join(GRANTABLE)}.")
    held = read(RecallsFile, documents.get(RECALLS) or {"v": 1, "recalls": []}).by_mark()
    mark, parts = checked_mark(report_id), tuple(sorted(set(keep)))
    before = held.get(mark)
    why = reason or (before.reason if before is not None else None)
    order = Order(mark=mark, keep=parts or None, reason=why)  # type: ignore[arg-type]
    if before is not None and not narrows(order, before):
        stays = f"Of it may stay: {', '.join(before.keep)}." if before.keep else "Nothing of it stays."
        if left([order.keep]) & ~left([before.keep]):
            raise Refused(
                "gives-back", f"What was recalled is not given back. {stays}", "Name with --keep less than that."
            )
        raise Refused(
            "already-recalled", f"This report was recalled before. {stays}", "See: kengele coordinator recalls"
        )
    if before is None and len(held) >= MAX_ORDERS:
        raise Refused("too-many-recalls", f"A network has room for {MAX_ORDERS} recalls.", "Its author can recall it.")
    rows = sorted({**held, order.mark: order}.values(), key=lambda one: one.mark)
    return {RECALLS: {"v": 1, "recalls": [one.model_dump(mode="json", exclude_none=True) for one in rows]}}


def checked_mark(report_id: str) -> str:
    """The mark of the report with this id. Raises Malformed."""
    try:
        whole = len(unb64u(report_id)) == 16
    except Malformed:
        whole = False
    if not whole:
        raise Malformed(
            "malformed",
            "This is no report's id.",
            "It has 22 letters, digits, - and _; a desk that holds the report shows it: kengele office show",
        )
    return mark_of(report_id)


def _differing(before: Documents, after: Documents) -> dict[str, Any]:
    return {path: value for path, value in after.items() if before.get(path) != value}


def describe(before: Documents, after: Documents, network: str = "") -> list[str]:
    """In plain sentences, what changes from ``before`` to ``after`` (both by path; the latter only what changes).

    Who signs goes by these, so nothing that changes is left out.

    Args:
        network: the digest of the network's first root; without it nobody's word for new keys holds.
    """
    told: list[str] = []
    for path, document in sorted(after.items()):
        old = before.get(path) or {}
        if path == "policy.json" or path.startswith("policy/"):
            told += _rules(path, old, document)
        elif path == "offices.json":
            told += _entries("Office", old.get("offices", []), document["offices"], "id", _is_office)
            told += rotating.offices_word(old.get("offices", []), document["offices"], network)
            told += _groups(old.get("groups", {}), document.get("groups", {}))
        elif path.startswith("monitors/"):
            listed = f"Monitor in {document['area']}"
            told += _entries(listed, old.get("monitors", []), document["monitors"], "kid", _is_monitor)
            told += rotating.monitors_word(before, document, network)
        elif path == "connections.json" or path.startswith("connections/"):
            told += _connections(old.get("connections", []), document["connections"])
            told += _kept_out(old.get("revoked", []), document.get("revoked", []))
        elif path == RECALLS:
            told += _recalls(old.get("recalls", []), document["recalls"])
        elif path == "areas.json" and old:
            told += _entries("Area", old["areas"], document["areas"], "code")
        elif old:
            fields = sorted({*old, *document})
            told += [
                f"{path}: {field} changes from {old.get(field)} to {document.get(field)}."
                for field in fields
                if old.get(field) != document.get(field)
            ]
        elif path == "network.json":
            told += [f"{path}: {field} is {value}." for field, value in document.items() if field != "v"]
        else:
            told.append(f"{path} is new, with {len(document.get('areas', ()))} areas.")
    return told or ["Nothing changes; the signatures' life begins anew."]


def _rules(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    told = [f"{path}: version {old.get('version', 0)} becomes {new['version']}."]
    below = new.get("refuse_below", 0)
    if below != old.get("refuse_below", 0):
        told.append(f"{path}: reports sealed under a version below {below} are refused.")
    before, after = ([_assertion(one) for one in side.get("assertions", [])] for side in (old, new))
    told += [f"It need no longer be that {sentence}." for sentence in before if sentence not in after]
    told += [f"It must stay so from now on that {sentence}." for sentence in after if sentence not in before]
    return told + _entries("Rule", old.get("rules", []), new["rules"], "id", _says)


def _assertion(assertion: Mapping[str, Any]) -> str:
    rest = [name for name in assertion if name != "always" and assertion[name] != ["*"]]
    bounds = [f"{name} {_shown(assertion[name])}" for name in rest]
    return "; ".join([assertion["always"], *bounds])


def _says(rule: Mapping[str, Any]) -> str:
    """What a rule says, its reason aside."""
    what, parts = ("Grants", rule["grant"]) if "grant" in rule else ("Forbids", rule["forbid"])
    # In one order, as documents that were signed have their names sorted and drafted ones have not.
    rest = [name for name in Rule.model_fields if name in rule and name not in _SAID]
    bounds = [f"{name} {_shown(rule[name])}" for name in rest]
    said = f"{what} {', '.join(parts)} to {', '.join(rule['to'])}"
    return f" {'; '.join([said, *bounds])}."


def _is_office(row: Mapping[str, Any]) -> str:
    """Who an office is, by what nobody can make look alike: where it is for, and its keys' fingerprints."""
    keys = ", ".join(f"{fingerprint(unb64u(key['key']))}{_days(key)}" for key in row["keys"])
    sign = fingerprint(unb64u(row["sign"]))
    return f" Called {row['name']}; for {' '.join(row['areas'])}; opens with {keys}; signs with {sign}."


def _days(key: Mapping[str, Any]) -> str:
    return "".join(
        f" {word} {key[name]}" for word, name in (("from", "not_before"), ("to", "not_after")) if name in key
    )


def _is_monitor(row: Mapping[str, Any]) -> str:
    return f" Reports from {' '.join(row['areas'])}, {row['not_before']} to {row['not_after']}."


def _shown(value: object) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


def _groups(old: Mapping[str, Sequence[str]], new: Mapping[str, Sequence[str]]) -> list[str]:
    changed = [name for name in sorted({*old, *new}) if set(old.get(name, ())) != set(new.get(name, ()))]
    gone = [f"Group {name}: goes." for name in old if name not in new]
    return gone + [f"Group {name}: is now {', '.join(new[name]) or 'empty'}." for name in changed if name in new]


def _connections(old: Sequence[Any], new: Sequence[Any]) -> list[str]:
    before, after = ({row["nkey"]: f"{row['role']} {row['member']}" for row in rows} for rows in (old, new))
    told = [f"Key {nkey} of {who}: is new." for nkey, who in after.items() if nkey not in before]
    told += [f"Key {nkey} of {who}: goes." for nkey, who in before.items() if nkey not in after]
    moved = sorted(nkey for nkey in before.keys() & after.keys() if before[nkey] != after[nkey])
    return told + [f"Key {nkey}: is now that of {after[nkey]}." for nkey in moved]


def _recalls(old: Sequence[Any], new: Sequence[Any]) -> list[str]:
    before, after = ({row["mark"]: row for row in rows} for rows in (old, new))
    told = [f"Report with mark {mark}: its recall is taken back." for mark in before if mark not in after]
    for mark, row in after.items():
        if row == before.get(mark):
            continue
        stays = f"only {', '.join(row['keep'])} may stay" if row.get("keep") else "nothing of it stays"
        why = f" Reason: {row['reason']}." if "reason" in row else ""
        word = "recalled" if mark not in before else "recalled further"
        told.append(f"Report with mark {mark}: is {word}, at every office that has it; {stays}.{why}")
    return told


def _kept_out(old: Sequence[Any], new: Sequence[Any]) -> list[str]:
    before, after = ({row["nkey"]: row["at"] for row in rows} for rows in (old, new))
    told = [f"Key {nkey}: is kept out for good." for nkey in after if nkey not in before]
    told += [f"Key {nkey}: is kept out no longer." for nkey in before if nkey not in after]
    same = before.keys() & after.keys()
    return told + [
        f"Key {nkey}: is kept out from another time on." for nkey in sorted(same) if before[nkey] != after[nkey]
    ]


def _entries(
    what: str, old: Sequence[Any], new: Sequence[Any], key: str, says: Callable[[Any], str] = lambda _: ""
) -> list[str]:
    before, after = {row[key]: row for row in old}, {row[key]: row for row in new}
    told = [f"{what} {name}: is new.{says(row)}" for name, row in after.items() if name not in before]
    told += [f"{what} {name}: goes." for name in before if name not in after]
    for name, row in after.items():
        was = before.get(name, row)
        fields = sorted(field for field in {*row, *was} if row.get(field) != was.get(field))
        if fields:
            rest = "" if fields == ["status"] else says(row)
            told.append(f"{what} {name}: changes in {', '.join(fields)}.{rest}")
    return told
