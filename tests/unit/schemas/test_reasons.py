"""Reasons: the verdict is the one that is released, and what is said to change it does."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas.domain import Header
from kengele_schemas.fields import read
from kengele_schemas.policy import Rule
from kengele_schemas.reasons import reasons
from kengele_schemas.release import Compiled
from oracle.worlds import AREAS, OFFICES, TODAY, Facts, policy, random_header, random_rule

HEADER = Header("AA-1", ("rumour",), 3, "AMBER", TODAY)


def grant(**fields: object) -> Rule:
    bounds = {"areas": ["AA"], "categories": ["conflict"], "tlp_up_to": "AMBER", "expires": "2027-01-01"}
    return read(Rule, {"id": "g", "grant": ["summary"], "to": ["office:hq"], "reason": "test", **bounds, **fields})


@given(st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_the_verdict_is_the_one_that_is_released_and_forbids_named_do_decide(seed: int) -> None:
    rng = random.Random(seed)
    rules = [random_rule(rng, f"r{i}") for i in range(rng.randint(0, 14))]
    facts = random_header(rng)
    found = reasons(rules, OFFICES, AREAS, Header(*facts, TODAY))
    verdicts = Compiled([policy(*rules)], OFFICES, AREAS).explain(facts, TODAY)
    assert {office: {name: one[:2] for name, one in row.items()} for office, row in found.items()} == {
        office: {name: tuple(verdict) for name, verdict in row.items()} for office, row in verdicts.items()
    }
    for office, row in found.items():
        for name, reason in row.items():
            if reason.rules and not reason.allowed:
                left = [rule for rule in rules if rule.id not in reason.rules]
                then = Compiled([policy(*left)], OFFICES, AREAS).explain(facts, TODAY)[office][name]
                named = set(re.findall(r"'(r\d+)'", reason.would[0])) - set(reason.rules)
                assert named == set(then.rules)
                assert then.allowed is ("would grant it" in reason.would[0])


@pytest.mark.parametrize(
    ("fields", "would"),
    [
        ({"areas": ["BB"]}, "'g' would grant it for BB."),
        ({"categories": ["peace", "abduction"]}, "'g' would grant it of peace, abduction alone."),
        ({"min_severity": 4}, "'g' would grant it from severity 4 on."),
        ({"max_severity": 2}, "'g' would grant it up to severity 2."),
        ({"tlp_up_to": "GREEN"}, "'g' would grant it up to TLP:GREEN."),
        ({"tlp_up_to": "RED", "tlp_from": "RED"}, "'g' would grant it from TLP:RED on."),
        ({"expires": "2026-11-23"}, "'g' would grant it had it not ended on 2026-11-23."),
    ],
)
def test_a_grant_that_misses_by_one_condition_says_which(fields: dict[str, object], would: str) -> None:
    reason = reasons([grant(**fields)], OFFICES, AREAS, HEADER)["hq"]["summary"]
    assert (reason.allowed, reason.rules, reason.would) == (False, (), (would,))


def test_one_that_misses_by_two_says_nothing() -> None:
    found = reasons([grant(areas=["BB"], min_severity=4)], OFFICES, AREAS, HEADER)
    assert found["hq"]["summary"].would == ()


def test_what_is_open_says_when_it_ends() -> None:
    rules = [grant(), grant(id="h", expires="2027-02-02")]
    assert reasons(rules, OFFICES, AREAS, HEADER)["hq"]["summary"] == (
        True,
        ("g", "h"),
        ("It ends after 2027-02-02, with 'g', 'h'.",),
    )


def test_only_active_offices_have_a_row() -> None:
    assert set(reasons([], OFFICES, AREAS, Header(*Facts("AA", ("calm",), 1, "CLEAR"), TODAY))) == {*OFFICES.active}
