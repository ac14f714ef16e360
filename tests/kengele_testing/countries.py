"""The documents of a network in three countries, each with its list; what an office is told of them differs."""

from __future__ import annotations

from typing import Any

from nacl.signing import SigningKey

from kengele_schemas import drafts, metadata
from kengele_schemas.areas import Areas
from kengele_schemas.encoding import b64u
from kengele_schemas.keys import X25519, OpeningKey, monitor_id
from kengele_testing.trust import NOW, Files, Paper

WORLD = Areas.world()
KEYS = {name: SigningKey(bytes([number]) * 32) for number, name in enumerate(("KG-O", "SD-KH", "KZ"), 1)}
KIDS = {area: monitor_id(bytes(key.verify_key)) for area, key in KEYS.items()}
RULE = {
    "id": "one",
    "grant": ["summary"],
    "to": ["office:unrcca"],
    "areas": ["KG"],
    "categories": ["*"],
    "tlp_up_to": "AMBER",
    "expires": "2027-12-31",
    "reason": "test",
}


def office(name: str, *areas: str) -> dict[str, Any]:
    return {
        "id": name,
        "name": name.upper(),
        "areas": list(areas),
        "keys": [OpeningKey.generate(X25519).public.document()],
        "sign": b64u(bytes(SigningKey.generate().verify_key)),
    }


def listed(area: str, *monitors: str) -> dict[str, Any]:
    """The list of an area with a monitor in each of the areas named."""
    entries = [
        {
            "kid": KIDS[own],
            "key": b64u(bytes(KEYS[own].verify_key)),
            "areas": [own],
            "not_before": "2026-01-01",
            "not_after": "2027-12-31",
        }
        for own in monitors
    ]
    return {"v": 1, "area": area, "monitors": entries}


def policy(*rules: dict[str, Any], version: int = 1) -> dict[str, Any]:
    return {"v": 1, "version": version, "rules": list(rules)}


def documents(paper: Paper) -> dict[str, Any]:
    """Three countries, each with its list; an office in each of two, and one that lives by what it is granted."""
    offices = [office("unrcca", "KG"), office("unmis", "SD"), office("desk", "UZ"), office("nobody", "UZ")]
    granted = {**RULE, "id": "two", "to": ["group:desks"], "areas": ["KZ"]}
    forbidden = {"id": "three", "forbid": ["summary"], "to": ["office:nobody"], "areas": ["KG"], "reason": "test"}
    return {
        **paper.documents(),
        "offices.json": {"v": 1, "offices": offices, "groups": {"desks": ["office:desk"]}},
        "areas.json": WORLD.subset(["KG-O", "KG-B", "SD-KH", "KZ", "UZ"]).model_dump(mode="json", exclude_none=True),
        "policy.json": policy(RULE, granted, forbidden),
        "policy/SD.json": policy({**RULE, "id": "four", "to": ["office:unmis"], "areas": ["SD-KH"]}),
        "monitors/KG.json": listed("KG", "KG-O"),
        "monitors/SD.json": listed("SD", "SD-KH"),
        "monitors/KZ.json": listed("KZ", "KZ"),
    }


def founded(paper: Paper) -> Files:
    return paper.accept(paper.signed(paper.drafted(documents(paper))))


def changed(paper: Paper, first: Files) -> Files:
    """The next version: other rules, and KG's list empty."""
    rules = metadata.document_of(first, "policy.json")
    changes = {"policy.json": {**rules, "version": 2}, "monitors/KG.json": listed("KG")}
    return paper.accept(paper.signed(drafts.edit(first, changes, NOW)), first)
