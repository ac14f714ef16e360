"""A small network as plain values: keys, documents and rules, signed by nobody, on no disk and on no line.

trusted = network(grant(to=["office:unrcca"]))
data = sealed(report(), trusted, {"unrcca": 1})
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from nacl.signing import SigningKey

from kengele_node.monitor.compose import Plan, new_report_id, plan_report, seal_report
from kengele_schemas.areas import Areas
from kengele_schemas.encoding import b64u
from kengele_schemas.keys import X25519, OpeningKey, monitor_id
from kengele_schemas.report import Report, parse_draft
from kengele_schemas.trusted import Trusted, assemble

NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
TODAY: Final = NOW.date()
HUB: Final = SigningKey(b"h" * 32)
MONITOR: Final = SigningKey(b"m" * 32)
KID: Final = monitor_id(bytes(MONITOR.verify_key))
LOG: Final = "kengele/test"
OFFICES: Final = ("council", "cso", "unoca", "unrcca")
GROUPS: Final = {"government": ("council",), "un": ("unrcca", "unoca")}
KEYS: Final = {id: OpeningKey(X25519, id.encode().ljust(32, b".")) for id in OFFICES}
CUSTODIAN: Final = "unrcca"
EVERYTHING: Final = ("summary", "account", "place", "people", "source", "media")
CANARY: Final = "canary-7f3a"
"""Stands in every field of :func:`canaried`, and nowhere else."""

_DISTRICT: Final = {"code": "KG-O-7", "name": "Kara-Suu", "kind": "admin2", "parents": ["KG-O"]}
_AREAS: Final = Areas.world().subset(["KG-O", "KG-B", "SD-KH"]).model_dump(mode="json", exclude_none=True)
AREAS: Final = {**_AREAS, "areas": [*_AREAS["areas"], _DISTRICT]}


def office(id: str, **changes: Any) -> dict[str, Any]:
    """An office's entry; its name is its id in capitals."""
    key = KEYS[id].public.document()
    entry = {"id": id, "name": id.upper(), "areas": ["KG"], "keys": [key], "sign": b64u(bytes(HUB.verify_key))}
    return {**entry, **changes}


def monitor(key: SigningKey = MONITOR, **changes: Any) -> dict[str, Any]:
    """A monitor's entry."""
    public = bytes(key.verify_key)
    days = {"not_before": "2026-01-01", "not_after": "2027-12-31"}
    return {"kid": monitor_id(public), "key": b64u(public), "areas": ["KG"], **days, **changes}


def grant(id: str = "grant", **fields: Any) -> dict[str, Any]:
    """A rule that gives UNRCCA summary and account of everything."""
    bounds = {"areas": ["*"], "categories": ["*"], "tlp_up_to": "RED", "expires": "2027-01-01"}
    return {"id": id, "grant": ["summary", "account"], "to": ["office:unrcca"], **bounds, "reason": "test", **fields}


def forbid(id: str = "forbid", **fields: Any) -> dict[str, Any]:
    """A rule that takes everything from UNRCCA."""
    return {"id": id, "forbid": list(EVERYTHING), "to": ["office:unrcca"], "reason": "test", **fields}


def documents(
    *rules: Mapping[str, Any],
    version: int = 1,
    offices: Sequence[Mapping[str, Any]] | None = None,
    monitors: Sequence[Mapping[str, Any]] | None = None,
    **network: Any,
) -> dict[str, Any]:
    """The network's documents by path; a group holds those of its offices that are there."""
    listed = [office(id) for id in OFFICES] if offices is None else list(offices)
    there = {one["id"] for one in listed}
    groups = {name: [f"office:{id}" for id in ids if id in there] for name, ids in GROUPS.items()}
    return {
        "network.json": {
            "v": 1,
            "name": "Test",
            "hub_key": b64u(bytes(HUB.verify_key)),
            "log": LOG,
            "custodian": CUSTODIAN,
            **network,
        },
        "offices.json": {"v": 1, "offices": listed, "groups": groups},
        "policy.json": {"v": 1, "version": version, "rules": list(rules)},
        "areas.json": AREAS,
        "connections.json": {"v": 1, "connections": [], "revoked": []},
        "monitors/KG.json": {
            "v": 1,
            "area": "KG",
            "monitors": [monitor()] if monitors is None else list(monitors),
        },
    }


def network(
    *rules: Mapping[str, Any], expires: datetime = NOW + timedelta(days=7), version: int = 1, **settings: Any
) -> Trusted:
    """What a member holds of a network with these ``rules``; ``settings`` as of :func:`documents`."""
    made = {path: json.dumps(value).encode() for path, value in documents(*rules, version=version, **settings).items()}
    return assemble(made, version=version, fresh=True, expires=expires)


def draft(**changes: Any) -> dict[str, Any]:
    """A small report from Osh, as JSON values."""
    value = {
        "area": "KG-O",
        "categories": ["rumour"],
        "severity": 2,
        "day": TODAY.isoformat(),
        "tlp": "AMBER",
        "summary": {"text": "Talk of a fight.", "lang": "en"},
        "account": {"text": "At the bazaar.", "lang": "en"},
    }
    return {**value, **changes}


def report(**changes: Any) -> Report:
    return parse_draft(draft(**changes))


def canaried(**changes: Any) -> dict[str, Any]:
    """A report with :data:`CANARY` in each field that a person fills with words of her own."""
    text = {"text": f"Of {CANARY}.", "lang": "en"}
    item = {"digest": b64u(b"d" * 32), "key": b64u(b"k" * 32), "type": "image/jpeg", "size": 1, "caption": CANARY}
    return draft(
        handling={"wishes": text},
        summary=text,
        account={**text, "local_terms": [{"code": "rumour", "text": CANARY, "lang": "ky"}]},
        place={"name": CANARY, "lat": 40.5, "lon": 72.8, "precision": 1},
        people={"actors": [{"name": CANARY, "role": "witness", "group": CANARY}]},
        source={"basis": "witness", "description": CANARY},
        media={"items": [item]},
        **changes,
    )


def planned(written: Report, trusted: Trusted, *, report_id: str = "", now: datetime = NOW) -> Plan:
    return plan_report(written, trusted, kid=KID, report_id=report_id or new_report_id(), now=now)


def sealed(
    written: Report,
    trusted: Trusted,
    counters: Mapping[str, int] | None = None,
    *,
    key: SigningKey = MONITOR,
    report_id: str = "",
) -> bytes:
    """``written`` as the owner of ``key`` would send it."""
    kid = monitor_id(bytes(key.verify_key))
    plan = plan_report(written, trusted, kid=kid, report_id=report_id or new_report_id(), now=NOW)
    return seal_report(plan, key, counters or {})
