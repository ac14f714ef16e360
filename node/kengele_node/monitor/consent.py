"""Consent: an author's agreement to who reads what, kept with what waits and held against newer rules.

A report that waits may have to be sealed again, under rules that she never saw. It is then sealed for those readers and
parts to which both she and the rules agree. Where that is less than she was promised, it is held and she is asked.

    >>> kept = agreed_to(plan)
    >>> narrowed, changes = judged(kept, plan_report(report, newer, kid=kid, report_id=id, now=now), root_digest, areas)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

from kengele_schemas.areas import Areas
from kengele_schemas.compartments import HANDLING, HANDLING_BIT, names
from kengele_schemas.encoding import b64u, unb64u
from kengele_schemas.envelope import parse
from kengele_schemas.errors import Malformed, Untrusted
from kengele_schemas.keys import OpeningPublic
from kengele_schemas.roster import Office
from kengele_schemas.rotation import OfficeKeys, keys_digest

from .compose import Plan

Agreed = Mapping[str, Any]
"""What an entry keeps, as JSON values: ``mode``, ``area`` as the hub saw it, and ``readers`` by office."""
_UNKNOWN: Final = "unknown"
_DIGEST: Final = 16

HELD: Final = {
    "readers-changed": "By the rules of now less would be read than you were promised.",
    "key-replaced": "An office that was to read it has other keys, and the old key has not vouched for them.",
    "area-finer": "The hub would see a finer area than when you agreed.",
    "older-rules": "The hub shows this node older rules than it uses; somebody may read who is to read no more.",
    "readers-not-kept": "An older version of this program put it in and did not keep who was to read what.",
}
"""Why an entry is held, by code."""


class Change(NamedTuple):
    """One way in which what would hold now is not what was promised."""

    code: str
    sentence: str


def agreed_to(plan: Plan) -> dict[str, Any]:
    """What there is to keep of a ``plan`` that its author has seen and agreed to."""
    readers = {one.office: {"name": one.name, "bits": one.bits, **keys_shown(one.row)} for one in plan.readers}
    return {"mode": plan.mode, "area": plan.header.area, "readers": readers}


def reconstructed(envelope: bytes) -> dict[str, Any]:
    """As much as an ``envelope`` tells of what was agreed to, where nothing was kept: who, and not which parts."""
    readers = {wrap.office: {"name": wrap.office, "bits": 0} for wrap in parse(envelope).wraps}
    return {"mode": _UNKNOWN, "readers": readers}


def custodian_only(agreed: Agreed | None) -> bool:
    """Whether the author was told that the network's custodian alone can read it."""
    return agreed is not None and agreed["mode"] == "custodian-only"


def judged(agreed: Agreed | None, plan: Plan, network: str, areas: Areas) -> tuple[Plan, list[Change]]:
    """``plan`` less what was not agreed to, and what is missing of what was; if anything is, it is not to be sealed.

    Args:
        plan: by the rules of now.
        network: the digest of the network's first root, to which an office's word on its keys is bound.
    """
    if agreed is None or agreed["mode"] == _UNKNOWN:
        return replace(plan, readers=()), [Change("readers-not-kept", HELD["readers-not-kept"])]
    promised: Mapping[str, Mapping[str, Any]] = agreed["readers"]
    changes = []
    now = {one.office: one for one in plan.readers}
    kept = [
        replace(one, bits=one.bits & promised[one.office]["bits"]) for one in plan.readers if one.office in promised
    ]
    for office, said in promised.items():
        reading = now.get(office)
        missing = said["bits"] & ~(reading.bits if reading else 0) & ~HANDLING_BIT
        if missing:
            parts = ", ".join(_parts(missing))
            changes.append(Change("readers-changed", f"{said['name']} was to read {parts}, and would not now."))
        if reading is not None and not follows(said, reading.row, reading.key, network):
            changes.append(
                Change(
                    "key-replaced",
                    f"{said['name']} has other keys than you were shown, and its old key has not vouched for them.",
                )
            )
    if not kept and not changes:
        changes.append(Change("readers-changed", "Nobody would read it now."))
    if _finer(agreed["area"], plan.header.area, areas):
        changes.append(Change("area-finer", f"The hub would see the area {plan.header.area}, not {agreed['area']}."))
    return replace(plan, readers=tuple(kept)), changes


def follows(said: Mapping[str, Any], office: Office | None, key: OpeningPublic, network: str) -> bool:
    """Whether ``key`` is one of those shown for ``office``, or the office itself says that it follows them."""
    if _digest(key) in said.get("keys", ()):
        return True
    if office is None or office.vouched is None or "sign" not in said:
        return False
    statement = {"network": network, "office": office.id, "after": said["after"], "keys": office.keys}
    try:
        OfficeKeys(**statement, signature=office.vouched).verify(unb64u(said["sign"]))
    except (ValueError, Malformed, Untrusted):
        return False
    return True


def promises(agreed: Agreed | None) -> list[str]:
    """What was agreed to, for a terminal, one line an office."""
    if agreed is None:
        return ["Not known."]
    told = [
        f"{said['name']} will read: {', '.join(_parts(said['bits'])) or 'parts that were not kept'}"
        for said in agreed["readers"].values()
    ]
    if custodian_only(agreed):
        told.append("Only the network's custodian.")
    return told


def same(shown: Plan, now: Plan) -> bool:
    """Whether the same offices read the same parts under the same keys by both."""
    return (shown.mode, shown.header.area, shown.renewed) == (now.mode, now.header.area, now.renewed) and [
        (one.office, one.bits, one.key) for one in shown.readers
    ] == [(one.office, one.bits, one.key) for one in now.readers]


def keys_shown(office: Office | None) -> dict[str, Any]:
    """What there is to keep of the keys of an ``office``, to notice later that they were replaced."""
    if office is None:
        return {}
    digests = [_digest(key.public()) for key in office.keys]
    return {"sign": office.sign, "after": keys_digest(office.keys), "keys": digests}


def _digest(key: OpeningPublic) -> str:
    return b64u(hashlib.sha256(key.suite.encode("ascii") + b"\0" + key.raw).digest()[:_DIGEST])


def _parts(bits: int) -> list[str]:
    return [name for name in names(bits) if name != HANDLING]


def _finer(before: str, after: str, areas: Areas) -> bool:
    # An area that the rules know no more cannot be compared; the readers are what was promised, and are the same.
    return before != after and not (areas.known(before) and areas.covers(after, before))
