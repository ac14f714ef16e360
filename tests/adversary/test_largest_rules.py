"""Coordinators, or a region's, who write as many rules as there may be: they cannot have the hub refuse a report.

Its leaf names the rules that decided, for each of 200 offices. A leaf that fits no receipt would be refused for good,
and one in the log that fits no entry could not be audited.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from kengele_hub import consumers
from kengele_hub.delivery import CONSUMER
from kengele_hub.ledger import split
from kengele_schemas import subjects
from kengele_schemas.compartments import GRANTABLE
from kengele_schemas.encoding import dumps
from kengele_schemas.envelope import MAX_READERS
from kengele_schemas.errors import Malformed
from kengele_schemas.leaves import NarrowedLeaf, read_entry
from kengele_schemas.policy_text import policy_from_yaml
from kengele_schemas.receipt import read_receipt
from kengele_testing.hub import LOG, Hub, Roster, running_hub

pytestmark = pytest.mark.full

OFFICES = ["council", "unrcca", *(f"office-{number:a>25}" for number in range(100, 98 + MAX_READERS))]
LONGEST = 32


def run(tmp_path: Path, claim: Callable[[Hub], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with running_hub(tmp_path) as hub, asyncio.timeout(240):
            await claim(hub)

    asyncio.run(whole())


def rule(id: str, **fields: Any) -> dict[str, Any]:
    assert len(id) == LONGEST
    common = {"areas": ["*"], "categories": ["*"], "tlp_up_to": "RED", "expires": "2199-12-31", "reason": "test"}
    return {"id": id, "to": ["group:all"], **common, **fields}


def each(kind: str = "g") -> list[dict[str, Any]]:
    """Another rule for every office and compartment: as many names as one leaf can hold."""
    return [
        rule(f"{kind}-{number:03}-{part:z>26}", grant=[name], to=[f"office:{office}"])
        for number, office in enumerate(OFFICES)
        for part, name in enumerate(GRANTABLE)
    ]


def hundreds() -> list[dict[str, Any]]:
    """Rules that all speak of every report for everybody."""
    return [rule(f"z-{number:0>30}", grant=list(GRANTABLE)) for number in range(400)]


def network(roster: Roster) -> dict[str, Any]:
    first, *_ = offices = roster.documents()["offices.json"]["offices"]
    known = {one["id"] for one in offices}
    more = [{**first, "id": name, "name": name} for name in OFFICES if name not in known]
    groups = {"all": [f"office:{name}" for name in OFFICES]}
    return {"offices.json": {"v": 1, "offices": [*offices, *more], "groups": groups}}


def policy(version: int, *rules: dict[str, Any]) -> dict[str, Any]:
    return {"policy.json": {"v": 1, "version": version, "rules": list(rules)}}


def test_no_rules_there_can_be_have_the_hub_refuse_a_report(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        await hub.publish({**network(hub.roster), **policy(2, *each(), *hundreds())})
        data = hub.roster.sealed(readers=OFFICES, pol=2)

        (answer,) = await hub.take(("osh", data))

        assert answer["code"] == "accepted"
        key = bytes(hub.keys.hub_key.verify_key)
        receipt = read_receipt(dumps(answer), key, LOG, hashlib.sha256(data).digest())
        assert receipt.leaf is not None
        assert len(receipt.leaf.decisions) == MAX_READERS
        assert {len(rules) for _, _, _, rules in receipt.leaf.decisions} == {len(GRANTABLE)}

        # What is given less under newer rules is named as compactly: whoever audits can read it.
        forbids = [rule(f"f-{number:0>30}", forbid=["source"]) for number in range(400)]
        await hub.publish(policy(3, *each(), *hundreds(), *forbids))
        await consumers.ensure_consumer(hub.nc, subjects.LEDGER, CONSUMER)
        assert hub.authority.standing is not None
        await hub.delivery.deliver(
            await consumers.pull(hub.nc, subjects.LEDGER, CONSUMER, 200, 1), hub.authority.standing
        )
        entries = [read_entry(split(one.data)[0]) for one in await hub.stored(subjects.LEDGER)]
        (narrowed,) = [leaf for leaf in entries if isinstance(leaf, NarrowedLeaf)]
        assert {rules[0] for _, _, _, rules in narrowed.decisions} == {"f-" + "0" * 30}

    run(tmp_path, claim)


def test_a_rules_name_of_one_letter_more_is_taken_neither_from_a_file_nor_by_the_hub(tmp_path: Path) -> None:
    longest = rule("a" * LONGEST, grant=["summary"], to=["office:unrcca"])
    longer = {**longest, "id": longest["id"] + "a"}
    assert policy_from_yaml(dumps([longest]).decode()).rules
    with pytest.raises(Malformed) as caught:
        policy_from_yaml(dumps([longer]).decode())
    assert "32 at most" in f"{caught.value.sentence} {caught.value.mend}"

    async def claim(hub: Hub) -> None:
        files = hub.roster.next(hub.authority.files, policy(2, longer))
        with pytest.raises(Malformed):
            await hub.authority.publish(files)
        assert hub.authority.standing is not None
        assert hub.authority.standing.trusted.policy.version == 1

    run(tmp_path, claim)
