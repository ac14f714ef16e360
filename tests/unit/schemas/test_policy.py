"""A rule that could hold for ever, for anything or for nothing is no rule; and the demonstration's rules all matter."""

from __future__ import annotations

import itertools
from datetime import date
from importlib.resources import files
from typing import Any

import pytest
import yaml

from kengele_schemas import taxonomy
from kengele_schemas.areas import Areas
from kengele_schemas.compartments import bitmap, names
from kengele_schemas.fields import BadField, read
from kengele_schemas.policy import PolicyFile, Rule
from kengele_schemas.policy_text import from_yaml
from kengele_schemas.release import Compiled
from kengele_schemas.roster import Offices
from kengele_schemas.tlp import LEVELS
from oracle.worlds import Facts, offices_file, policy

GRANT: dict[str, Any] = {
    "id": "a-grant",
    "grant": ["summary", "account"],
    "to": ["office:hq"],
    "areas": ["KG"],
    "categories": ["*"],
    "tlp_up_to": "AMBER",
    "expires": "2027-03-31",
    "reason": "MoU 2026/14",
}
FORBID: dict[str, Any] = {"id": "a-forbid", "forbid": ["people"], "to": ["group:government"], "reason": "Do no harm"}


def test_a_grant_says_its_bounds_and_a_forbid_holds_for_all() -> None:
    granting, forbidding = read(Rule, GRANT), read(Rule, FORBID)
    assert granting.expires == date(2027, 3, 31)
    assert granting.compartments == ("summary", "account")
    assert (forbidding.areas, forbidding.categories, forbidding.expires) == (("*",), ("*",), None)


def test_a_rule_comes_back_from_its_document() -> None:
    for document in (GRANT, FORBID):
        rule = read(Rule, document)
        assert read(Rule, rule.model_dump(mode="json")) == rule


@pytest.mark.parametrize(
    ("document", "change", "path"),
    [
        (GRANT, {"forbid": ["people"]}, ""),
        (GRANT, {"grant": None}, ""),
        (GRANT, {"grant": []}, "grant"),
        (GRANT, {"grant": ["handling"]}, "grant[0]"),
        (GRANT, {"grant": ["summary", "summary"]}, "grant"),
        (GRANT, {"grant": ["*"]}, "grant[0]"),
        (GRANT, {"expires": None}, ""),
        (GRANT, {"expires": "2027-02-30"}, "expires"),
        (GRANT, {"expires": 20270331}, "expires"),
        (GRANT, {"tlp_up_to": None}, ""),
        (GRANT, {"tlp_up_to": "amber"}, "tlp_up_to"),
        (GRANT, {"tlp_from": "RED"}, ""),
        (GRANT, {"min_severity": 4, "max_severity": 3}, ""),
        (GRANT, {"min_severity": 0}, "min_severity"),
        (GRANT, {"max_severity": "5"}, "max_severity"),
        (GRANT, {"to": []}, "to"),
        (GRANT, {"to": ["hq"]}, "to[0]"),
        (GRANT, {"to": ["office:*"]}, "to[0]"),
        (GRANT, {"areas": []}, "areas"),
        (GRANT, {"areas": ["KG*"]}, "areas[0]"),
        (GRANT, {"categories": ["peace", "peace"]}, "categories"),
        (GRANT, {"id": "A grant"}, "id"),
        (GRANT, {"id": "x" * 65}, "id"),
        (GRANT, {"reason": " "}, "reason"),
        (GRANT, {"until": "2028-01-01"}, ""),
        (FORBID, {"forbid": []}, "forbid"),
        (FORBID, {"tlp_up_to": "GREEN", "tlp_from": "AMBER"}, ""),
    ],
)
def test_what_is_no_rule_is_refused_by_its_field(document: dict[str, Any], change: dict[str, Any], path: str) -> None:
    with pytest.raises(BadField) as caught:
        read(Rule, document | change)
    assert caught.value.paths[0] == path


@pytest.mark.parametrize("field", ["areas", "categories"])
def test_a_grant_never_holds_for_everything_by_silence(field: str) -> None:
    with pytest.raises(BadField, match="without saying where or of what"):
        read(Rule, {name: value for name, value in GRANT.items() if name != field})


def test_a_policy_gives_each_rule_its_own_id() -> None:
    document = {"version": 3, "refuse_below": 3, "rules": [GRANT, FORBID]}
    assert len(read(PolicyFile, document).rules) == 2
    with pytest.raises(BadField, match="two rules of one id"):
        read(PolicyFile, document | {"rules": [GRANT, GRANT]})


# The demonstration's own rules.

DATA = files("kengele_node.demo") / "data"
TODAY = date(2026, 11, 24)
WORLD = Areas.world()
PLACES = ("KG-O", "KG", "KZ", "SD-DN", "SD", "KE-43", "UG-306", "ET-SN", "NG-BO", "ML", "FR", "CO")


def demo() -> tuple[tuple[Rule, ...], Offices]:
    listed = yaml.safe_load((DATA / "offices.yaml").read_text("utf-8"))
    ids = [office["id"] for office in listed["offices"]]
    assert all(WORLD.known(area) for office in listed["offices"] for area in office["areas"])
    offices = Offices(offices_file(dict.fromkeys(ids, "active"), listed["groups"]))
    return from_yaml((DATA / "policy.yaml").read_text("utf-8"), offices, WORLD), offices


def headers() -> list[Facts]:
    leaves = [taxonomy.leaves(group)[0] for top in ("conflict", "peace") for group in taxonomy.children(top)]
    leaves += ["arrest", "cattle-raid", "cattle-returned", "rumour"]
    return [
        Facts(area, (leaf,), severity, level)
        for area, leaf, severity, level in itertools.product(PLACES, leaves, range(1, 6), LEVELS)
    ]


def test_each_rule_of_the_demonstration_changes_what_somebody_reads() -> None:
    rules, offices = demo()
    asked = headers()
    whole = Compiled([policy(*rules)], offices, WORLD)
    answers = [whole.release(header, TODAY) for header in asked]
    for rule in rules:
        without = Compiled([policy(*(other for other in rules if other is not rule))], offices, WORLD)
        touched = (i for i, header in enumerate(asked) if any(WORLD.covers(area, header.area) for area in rule.areas))
        assert any(
            {office: bits for office, (bits, _) in without.release(asked[i], TODAY).items()}
            != {office: bits for office, (bits, _) in answers[i].items()}
            for i in touched
        ), rule.id


def test_every_rule_of_the_demonstration_ends() -> None:
    rules, _ = demo()
    assert {rule.expires.year for rule in rules if rule.expires} == {2027}
    assert all(rule.expires for rule in rules)


def test_the_demonstration_keeps_its_promises() -> None:
    rules, offices = demo()
    whole = Compiled([policy(*rules)], offices, WORLD)
    people = bitmap(["people", "source"])
    for header in headers():
        release = whole.release(header, TODAY)
        for government in offices.members("group:government"):
            if government in release:
                assert not release[government].bits & people
                assert header.categories != ("arrest",)
        if header.tlp == "RED":
            assert set(release) <= offices.members("group:regional")
            assert len(release) <= 1, "RED is for one centre"


def test_a_rumour_in_osh_reaches_those_it_concerns() -> None:
    rules, offices = demo()
    whole = Compiled([policy(*rules)], offices, WORLD)
    release = whole.release(Facts("KG-O", ("rumour",), 3, "AMBER"), TODAY)
    assert {office: names(bits)[1:] for office, (bits, _) in release.items()} == {
        "kg-peace-council": ("summary", "account", "place"),
        "un-hq": ("summary", "account", "place"),
        "unrcca": ("summary", "account", "place", "people", "source", "media"),
    }
    assert release["kg-peace-council"].rules == ("kg-peace-council", "sources-never-to-governments")
