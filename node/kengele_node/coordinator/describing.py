"""Describing: what changes in the network's documents, told in plain sentences. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kengele_schemas.encoding import unb64u
from kengele_schemas.keys import fingerprint
from kengele_schemas.orders import RECALLS
from kengele_schemas.policy import Rule

from . import rotating
from .documents import Documents

_SAID: Final = ("id", "grant", "forbid", "to", "reason")


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
    return _moves(told) or ["Nothing changes; the signatures' life begins anew."]


def _rules(path: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    told = [f"{path}: version {old.get('version', 0)} becomes {new['version']}."]
    below = new.get("refuse_below", 0)
    if below != old.get("refuse_below", 0):
        told.append(
            f"{path}: reports sealed under a version below {below} are refused. It was {old.get('refuse_below', 0)}."
        )
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
    return gone + [
        f"Group {name}: is now {', '.join(new[name]) or 'empty'}.{_was(old, name)}" for name in changed if name in new
    ]


def _was(old: Mapping[str, Sequence[str]], group: str) -> str:
    return f" It was {', '.join(old[group]) or 'empty'}." if group in old else ""


def _moves(told: Sequence[str]) -> list[str]:
    """``told``, where a key that goes from one list into another, and stays its member's, neither goes nor is new."""
    keys = {line.removesuffix(": goes.") for line in told if line.startswith("Key ") and line.endswith(": goes.")}
    stays = {key for key in keys if f"{key}: is new." in told}
    lines = {f"{key}: goes.": "" for key in stays} | {
        f"{key}: is new.": f"{key}: stays, in another list." for key in stays
    }
    return [line for line in (lines.get(one, one) for one in told) if line]


def _connections(old: Sequence[Any], new: Sequence[Any]) -> list[str]:
    before, after = ({row["nkey"]: f"{row['role']} {row['member']}" for row in rows} for rows in (old, new))
    told = [f"Key {nkey} of {who}: is new." for nkey, who in after.items() if nkey not in before]
    told += [f"Key {nkey} of {who}: goes." for nkey, who in before.items() if nkey not in after]
    moved = sorted(nkey for nkey in before.keys() & after.keys() if before[nkey] != after[nkey])
    return told + [f"Key {nkey}: is now that of {after[nkey]}, no longer of {before[nkey]}." for nkey in moved]


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
            both = "".join(f" {field}: {_value(field, was)} becomes {_value(field, row)}." for field in fields)
            told.append(f"{what} {name}: changes in {', '.join(fields)}.{rest}{both}")
    return told


def _value(field: str, row: Mapping[str, Any]) -> str:
    """One field of an entry for a person: keys by their fingerprints, as nobody can make those look alike."""
    value = row.get(field)
    if value is None or value == []:
        return "none"
    if field == "keys":
        return ", ".join(f"{fingerprint(unb64u(key['key']))}{_days(key)}" for key in value)
    return fingerprint(unb64u(value)) if field == "sign" else _shown(value)
