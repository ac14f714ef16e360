"""The network's documents as coordinators make and change them: the first ones, an area's own, rules, recalls. Pure.

Each function takes the documents by path, as JSON values, and gives those that change. So do, for members,
``admission``, ``standing``, ``rotating`` and ``replacing``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from kengele_schemas.areas import Areas
from kengele_schemas.cards import CoordinatorCard, HubCard
from kengele_schemas.compartments import GRANTABLE
from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.fields import read
from kengele_schemas.orders import MAX_ORDERS, RECALLS, Order, Reason, RecallsFile, mark_of, narrows
from kengele_schemas.policy import Assertion, Rule
from kengele_schemas.recall import left
from kengele_schemas.regional import LINES, MONITORS, POLICY

Documents = Mapping[str, Any]


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


def connection_lists(documents: Documents) -> list[tuple[str, Any]]:
    """The lists of connections: the network's, and those of areas with coordinators of their own."""
    return [(path, listed) for path, listed in documents.items() if path.startswith("connections") and listed]


def differing(before: Documents, after: Documents) -> dict[str, Any]:
    """Of the documents ``after`` those that are not as before."""
    return {path: value for path, value in after.items() if before.get(path) != value}
