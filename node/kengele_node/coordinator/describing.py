"""Describing: what changes in the network's documents, told in plain sentences. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kengele_schemas.areas import AreaRow, Areas
from kengele_schemas.fields import Model
from kengele_schemas.orders import RECALLS
from kengele_schemas.policy import Rule
from kengele_schemas.roster import Monitor, Network, Office

from . import rotating, wording
from .documents import Documents

_SAID: Final = ("id", "grant", "forbid", "to", "reason")


def describe(before: Documents, after: Documents, network: str = "") -> list[str]:
    """In plain sentences, what changes from ``before`` to ``after`` (both by path; the latter only what changes).

    Who signs goes by these, so nothing that changes is left out: each field is told with its value before and after,
    and what comes or goes is told in full.

    Args:
        network: the digest of the network's first root; without it nobody's word for new keys holds.
    """
    told: list[str] = []
    for path, document in sorted(after.items()):
        old = before.get(path) or {}
        if path == "policy.json" or path.startswith("policy/"):
            told += _rules(path, old, document)
        elif path == "offices.json":
            told += _entries("Office", old.get("offices", []), document["offices"], "id", Office)
            told += rotating.offices_word(old.get("offices", []), document["offices"], network)
            told += _groups(old.get("groups", {}), document.get("groups", {}))
        elif path.startswith("monitors/"):
            told += _list_of(path, old, document)
            listed = f"Monitor in {document['area']}"
            told += _entries(listed, old.get("monitors", []), document["monitors"], "kid", Monitor)
            told += rotating.monitors_word(before, document, network)
        elif path == "connections.json" or path.startswith("connections/"):
            told += _list_of(path, old, document)
            told += _connections(old.get("connections", []), document["connections"])
            told += _kept_out(old.get("revoked", []), document.get("revoked", []))
        elif path == RECALLS:
            told += _recalls(old.get("recalls", []), document["recalls"])
        elif path == "areas.json":
            told += _areas(path, old, document)
        elif path == "network.json" and not old:
            told += [f"{path}: {phrase}." for phrase in wording.whole(Network, document, "v", by=" is ")]
        else:
            told += [f"{path}: {phrase}." for phrase in wording.changes(Network, old, document)]
    return _moves(told) or ["Nothing changes; the signatures' life begins anew."]


def _rules(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    told = [f"{path}: version {old.get('version', 0)} becomes {new['version']}."]
    was, below = (side.get("refuse_below", 0) for side in (old, new))
    if below != was:
        told.append(f"{path}: reports sealed under a version below {below} are refused. It was {was}.")
    before, after = ([_assertion(one) for one in side.get("assertions", [])] for side in (old, new))
    told += [f"It need no longer be that {sentence}." for sentence in before if sentence not in after]
    told += [f"It must stay so from now on that {sentence}." for sentence in after if sentence not in before]
    return told + _entries("Rule", old.get("rules", []), new["rules"], "id", Rule)


def _assertion(assertion: Mapping[str, Any]) -> str:
    rest = [name for name in assertion if name != "always" and assertion[name] not in (None, "*", ["*"])]
    bounds = [f"{name} {wording.shown(name, assertion[name])}" for name in rest]
    return "; ".join([assertion["always"], *bounds])


def _says(rule: Mapping[str, Any]) -> str:
    what, parts = ("Grants", rule["grant"]) if rule.get("grant") else ("Forbids", rule["forbid"])
    # In one order, as documents that were signed have their names sorted and drafted ones have not.
    rest = [name for name in Rule.model_fields if rule.get(name) is not None and name not in _SAID]
    bounds = [f"{name} {wording.shown(name, rule[name])}" for name in [*rest, "reason"]]
    said = f"{what} {', '.join(parts)} to {', '.join(rule['to'])}"
    return f" {'; '.join([said, *bounds])}."


def _is_office(row: Mapping[str, Any]) -> str:
    """Who an office is, by what nobody can make look alike: where it is for, and its keys' fingerprints."""
    keys, sign = wording.shown("keys", row["keys"]), wording.digest(row["sign"])
    said = f"Called {wording.quoted(row['name'])}; for {' '.join(row['areas'])}; opens with {keys}; signs with {sign}"
    return f" {'; '.join([said, *wording.whole(Office, row, 'id', 'name', 'areas', 'keys', 'sign')])}."


def _is_monitor(row: Mapping[str, Any]) -> str:
    said = f"Reports from {' '.join(row['areas'])}, {row['not_before']} to {row['not_after']}"
    return f" {'; '.join([said, *wording.whole(Monitor, row, 'kid', 'areas', 'not_before', 'not_after')])}."


def _is_area(row: Mapping[str, Any]) -> str:
    return f" It has {'; '.join(wording.whole(AreaRow, row, 'code'))}."


_IS: Final = {Office: _is_office, Monitor: _is_monitor, AreaRow: _is_area, Rule: _says}


def _areas(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Of a network's first areas, only those are told one by one that are not as the world's table has them."""
    if old:
        return _entries("Area", old["areas"], new["areas"], "code", AreaRow)
    world = {row.code: row.model_dump(mode="json", exclude_none=True) for row in Areas.world()}
    own = [row for row in new["areas"] if any(wording.changes(AreaRow, world.get(row["code"], {}), row))]
    return [f"{path} is new, with {len(new['areas'])} areas.", *_entries("Area", [], own, "code", AreaRow)]


def _list_of(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    was, area = old.get("area"), new.get("area")
    return [f"{path}: area changes from {was} to {area}."] if old and was != area else []


def _groups(old: Mapping[str, Sequence[str]], new: Mapping[str, Sequence[str]]) -> list[str]:
    told = [f"Group {name}: goes. It was {', '.join(old[name]) or 'empty'}." for name in old if name not in new]
    for name in sorted(new):
        was, now = old.get(name, ()), new[name]
        if name in old and set(was) == set(now):
            continue
        steps = [("Comes", now, was), ("Goes", was, now)] if name in old else []
        moved = [
            f" {word}: {', '.join(one for one in side if one not in other)}."
            for word, side, other in steps
            if set(side) - set(other)
        ]
        before = f" It was {', '.join(was) or 'empty'}." if name in old else ""
        told.append(f"Group {name}: is now {', '.join(now) or 'empty'}.{before}{''.join(moved)}")
    return told


def _moves(told: Sequence[str]) -> list[str]:
    """``told``, where a key that goes from one list into another, and stays its member's, neither goes nor is new."""
    keys = {line.removesuffix(": goes.") for line in told if line.startswith("Key ") and line.endswith(": goes.")}
    stays = {key for key in keys if f"{key}: is new." in told}
    lines = {f"{key}: goes.": "" for key in stays} | {
        f"{key}: is new.": f"{key}: stays, in another list." for key in stays
    }
    return [line for line in (lines.get(one, one) for one in told) if line]


def _connections(old: Sequence[Any], new: Sequence[Any]) -> list[str]:
    before, after = ({row["nkey"]: _speaks(row) for row in rows} for rows in (old, new))
    told = [f"Key {nkey} of {who}: is new." for nkey, who in after.items() if nkey not in before]
    told += [f"Key {nkey} of {who}: goes." for nkey, who in before.items() if nkey not in after]
    moved = sorted(nkey for nkey in before.keys() & after.keys() if before[nkey] != after[nkey])
    return told + [f"Key {nkey}: is now that of {after[nkey]}, no longer of {before[nkey]}." for nkey in moved]


def _speaks(row: Mapping[str, Any]) -> str:
    asked = f", who asked by signature {row['asked']}" if row.get("asked") else ""
    return f"{row['role']} {row['member']}{asked}"


def _recalls(old: Sequence[Any], new: Sequence[Any]) -> list[str]:
    before, after = ({row["mark"]: row for row in rows} for rows in (old, new))
    told = [
        f"Report with mark {mark}: its recall is taken back. Before, {_order(row, None)}"
        for mark, row in before.items()
        if mark not in after
    ]
    for mark, row in after.items():
        was = before.get(mark)
        if row == was:
            continue
        word = "recalled" if was is None else "recalled further"
        ends = "" if was is None else f" Before, {_order(was, row)}"
        told.append(f"Report with mark {mark}: is {word}, at every office that has it; {_order(row, was)}{ends}")
    return told


def _order(row: Mapping[str, Any], other: Mapping[str, Any] | None) -> str:
    stays = f"only {', '.join(row['keep'])} may stay" if row.get("keep") else "nothing of it stays"
    said = row.get("reason") or (other or {}).get("reason")
    why = f" Reason: {row.get('reason') or 'none'}." if said else ""
    return f"{stays}.{why}"


def _kept_out(old: Sequence[Any], new: Sequence[Any]) -> list[str]:
    before, after = ({row["nkey"]: wording.moment(row["at"]) for row in rows} for rows in (old, new))
    told = [f"Key {nkey}: is kept out for good. Since {at}." for nkey, at in after.items() if nkey not in before]
    told += [f"Key {n}: is kept out no longer. Before, since {at}." for n, at in before.items() if n not in after]
    same = sorted(nkey for nkey in before.keys() & after.keys() if before[nkey] != after[nkey])
    return told + [f"Key {n}: is kept out from another time on. Since {after[n]}; before, {before[n]}." for n in same]


def _entries(what: str, old: Sequence[Any], new: Sequence[Any], key: str, model: type[Model]) -> list[str]:
    says = _IS[model]
    before, after = {row[key]: row for row in old}, {row[key]: row for row in new}
    told = [f"{what} {name}: is new.{says(row)}" for name, row in after.items() if name not in before]
    told += [f"{what} {name}: goes. Before:{says(row)}" for name, row in before.items() if name not in after]
    for name, row in after.items():
        found = list(wording.changes(model, before.get(name, row), row))
        told += [f"{what} {name}: {phrase}." for phrase in found]
        if found and model is Rule:
            told.append(f"{what} {name}: now it says:{says(row)}")
    return told
