"""Describing: all that changes is told before it is signed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from kengele_node.coordinator.describing import describe
from kengele_node.coordinator.documents import adopt
from kengele_node.coordinator.rotating import YEAR
from kengele_schemas.encoding import unb64u
from kengele_schemas.fields import read
from kengele_schemas.keys import fingerprint
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.policy import Assertion, Rule
from kengele_testing.values import KEYS, TODAY, forbid, grant
from unit.node.test_documents import COORDINATORS, founded, gone, let_in, monitor, office, rules

SWAPPED = KeyPair.generate("user").public


class TestWhatIsTold:
    def change(self, before: dict[str, Any], after: dict[str, Any]) -> list[str]:
        return describe(before, {path: value for path, value in after.items() if before.get(path) != value})

    def test_of_a_new_network_is_all_of_it(self) -> None:
        made = founded("KG")
        network = made["network.json"]
        assert describe({}, made) == [
            f"areas.json is new, with {len(made['areas.json']['areas'])} areas.",
            *(f"Key {card.nkey} of coordinator {card.id}: is new." for card in COORDINATORS),
            'network.json: name is "Bell".',
            f"network.json: hub's signing key is {fingerprint(unb64u(network['hub_key']))}.",
            f'network.json: hub\'s log is "{network["log"]}".',
            f"network.json: custodian is {network['custodian']}.",
            "policy.json: version 0 becomes 1.",
        ]

    def test_of_an_admission_is_who_comes_in_with_which_key(self) -> None:
        before, one, other = founded("KG"), office(), monitor()
        assert one.office is not None
        opening, signing = (fingerprint(unb64u(key)) for key in (one.office.keys[0].key, one.office.sign))
        assert other.monitor is not None
        own = fingerprint(unb64u(other.monitor.key))
        assert self.change(before, let_in(before, one, other, groups={"unrcca": ["un"]})) == [
            f"Key {one.nkey} of office unrcca: is new.",
            f"Key {other.nkey} of monitor {other.member}: is new.",
            f"Monitor in KG {other.member}: is new. Reports from KG-O, {TODAY} to {TODAY + YEAR}; signing key {own}.",
            f'Office unrcca: is new. Called "UNRCCA"; for KG; opens with {opening} (X25519); signs with {signing}.',
            "Group un: is now office:unrcca.",
        ]

    def test_of_a_removal_is_who_goes(self) -> None:
        one, other = office(), monitor()
        before = let_in(founded("KG"), one, other)
        assert self.change(before, gone(before, other.member)) == [
            f"Key {other.nkey} of monitor {other.member}: goes.",
            f"Key {other.nkey}: is kept out for good. Since 2026-05-28T20:26:40Z.",
            f"Monitor in KG {other.member}: is revoked for good; before, it was active.",
        ]
        assert self.change(before, gone(before, "unrcca"))[2:] == [
            "Office unrcca: is revoked for good; before, it was active."
        ]

    def test_of_a_key_in_another_list_is_that_it_stays_and_of_one_that_changes_hands_all(self) -> None:
        row = {"nkey": "UA", "role": "monitor", "member": "m-a"}
        before = {"connections.json": {"connections": [row]}}
        moved = {"connections.json": {"connections": []}, "connections/KG.json": {"connections": [row]}}
        assert self.change(before, moved) == ["Key UA of monitor m-a: stays, in another list."]
        other = {"connections": [row | {"member": "m-b"}]}
        assert self.change(before, moved | {"connections/KG.json": other}) == [
            "Key UA of monitor m-a: goes.",
            "Key UA of monitor m-b: is new.",
        ]

    def test_of_rules_is_each_that_comes_goes_or_changes_and_what_it_says_now(self) -> None:
        before = founded("KG")
        before |= adopt(before, rules(grant("stays"), grant("goes"), grant("changes"), grant("turns")))
        after = adopt(
            before,
            rules(
                grant("stays"),
                grant("changes", tlp_up_to="GREEN", to=["office:cso"]),
                forbid("turns", forbid=["people"]),
                grant("comes", areas=["KG", "TJ"], min_severity=3),
            ),
        )
        always = "categories *; min_severity 1; max_severity 5"
        assert describe(before, after) == [
            "policy.json: version 2 becomes 3.",
            "Rule comes: is new. Grants summary, account to office:unrcca; areas KG TJ; categories *; min_severity 3;"
            ' max_severity 5; tlp_up_to RED; expires 2027-01-01; reason "test".',
            f"Rule goes: goes. Before: Grants summary, account to office:unrcca; areas *; {always}; tlp_up_to RED;"
            ' expires 2027-01-01; reason "test".',
            "Rule changes: list of those it is for changes from office:unrcca to office:cso.",
            "Rule changes: tlp_up_to changes from RED to GREEN.",
            f"Rule changes: now it says: Grants summary, account to office:cso; areas *; {always};"
            ' tlp_up_to GREEN; expires 2027-01-01; reason "test".',
            "Rule turns: grant changes from summary account to none.",
            "Rule turns: forbid changes from none to people.",
            "Rule turns: tlp_up_to changes from RED to none.",
            "Rule turns: expires changes from 2027-01-01 to none.",
            f'Rule turns: now it says: Forbids people to office:unrcca; areas *; {always}; reason "test".',
        ]

    def test_of_regional_rules_names_the_region(self) -> None:
        after = {"policy/KG.json": {"v": 1, "version": 4, "rules": [forbid("regional", areas=["KG"])]}}
        told = describe({}, after)
        assert told[0] == "policy/KG.json: version 0 becomes 4."
        assert told[1].startswith("Rule regional: is new. Forbids summary")

    def test_of_no_change_is_that_too(self) -> None:
        assert describe(founded("KG"), {}) == ["Nothing changes; the signatures' life begins anew."]

    @pytest.mark.parametrize(
        ("path", "change", "told"),
        [
            (
                "network.json",
                lambda document: document.update(custodian="cso"),
                "network.json: custodian changes from unrcca to cso.",
            ),
            (
                "network.json",
                lambda document: document.update(header_level=2),
                "network.json: level of areas that the hub sees changes from 1 to 2.",
            ),
            (
                "policy.json",
                lambda document: document.update(refuse_below=1),
                "policy.json: reports sealed under a version below 1 are refused. It was 0.",
            ),
            (
                "offices.json",
                lambda document: document["groups"].update(un=[]),
                "Group un: is now empty. It was office:unrcca.",
            ),
            ("offices.json", lambda document: document["groups"].clear(), "Group un: goes."),
            (
                "offices.json",
                lambda document: document["groups"]["un"].append("office:cso"),
                "Group un: is now office:unrcca, office:cso.",
            ),
            (
                "offices.json",
                lambda document: document["offices"][0].update(keys=[KEYS["cso"].public.document()]),
                "Office unrcca: opening keys change from ",
            ),
            ("areas.json", lambda document: document["areas"].pop(), "Area"),
            ("areas.json", lambda document: document["areas"][-1].update(parents=[]), ": parents change from "),
            (
                "areas.json",
                lambda document: document["areas"][-1].update(replaced_by=["KG-B"]),
                "list of what replaces it changes from none to KG-B.",
            ),
            (
                "offices.json",
                lambda document: document["offices"][0].update(status="revoked"),
                "is revoked for good; before, it was active.",
            ),
            (
                "connections.json",
                lambda document: document["connections"][-1].update(role="coordinator"),
                "is now that of coordinator unrcca, no longer of office unrcca.",
            ),
            (
                "connections.json",
                lambda document: document["connections"][-1].update(nkey=SWAPPED),
                f"Key {SWAPPED} of office unrcca: is new.",
            ),
            ("connections.json", lambda document: document["revoked"].clear(), "is kept out no longer."),
            ("connections.json", lambda document: document["revoked"][0].update(at=1), "from another time on."),
        ],
    )
    def test_leaves_no_change_out(self, path: str, change: Callable[[Any], object], told: str) -> None:
        """A second coordinator signs by what she is told: what is not told would be one coordinator's alone."""
        other = monitor()
        before = gone(let_in(founded("KG"), office(), other, groups={"unrcca": ["un"]}), other.member)
        connections = before["connections.json"]["connections"]
        assert connections[-1]["member"] == "unrcca"
        changed = copy.deepcopy(before[path])
        change(changed)
        assert any(told in line for line in describe(before, {path: changed}))


def test_what_must_stay_true_stays_until_it_is_taken_out_and_either_is_told() -> None:
    before = founded("KG")
    sentence = read(Assertion, {"always": "no office:unrcca may open source", "areas": ["KG"]})
    first_step = {**before, **adopt(before, [], assertions=[sentence])}
    assert "It must stay so from now on that no office:unrcca may open source; areas KG." in describe(
        before, first_step
    )
    kept = adopt(first_step, [read(Rule, grant())])
    assert kept["policy.json"]["assertions"] == first_step["policy.json"]["assertions"]
    assert not any("stay so" in line or "no longer" in line for line in describe(first_step, kept))
    dropped = adopt(first_step, [], assertions=[])
    assert "It need no longer be that no office:unrcca may open source; areas KG." in describe(first_step, dropped)
