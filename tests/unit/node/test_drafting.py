"""What no coordinator's tool drafts, whoever would sign it."""

from __future__ import annotations

import pytest

from kengele_node.coordinator import documents as papers
from kengele_node.coordinator.drafting import check
from kengele_schemas.errors import Refused
from kengele_testing.trust import Paper

BEFORE = {**Paper().documents(), "connections.json": {"v": 1, "connections": [], "revoked": []}}


def test_documents_as_they_stand_are_one_set() -> None:
    assert check(BEFORE).offices.active == ("unrcca",)


def test_the_custodian_is_not_removed_while_it_is_one() -> None:
    offices = BEFORE["offices.json"]
    gone = {**offices, "offices": [{**row, "status": "revoked"} for row in offices["offices"]]}
    with pytest.raises(Refused) as caught:
        check({**BEFORE, "offices.json": gone})
    assert caught.value.code == "is-custodian"
    check({**BEFORE, "offices.json": {**gone, "offices": [{**row, "status": "suspended"} for row in gone["offices"]]}})


def test_a_rule_is_told_in_one_order_however_its_document_is_spelt() -> None:
    policy = BEFORE["policy.json"]
    rule = policy["rules"][0]
    told = [
        papers.describe(BEFORE, {"policy.json": {**policy, "version": 2, "rules": [{**other, "id": "other"}]}})
        for other in (rule, dict(sorted(rule.items())), dict(sorted(rule.items(), reverse=True)))
    ]
    assert told[0] == told[1] == told[2]
