"""Assertions: one that holds is broken by no header on any day, one that does not is shown a header that breaks it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas import taxonomy
from kengele_schemas.assertions import BadAssertion, broken, check_assertion, require
from kengele_schemas.compartments import GRANTABLE
from kengele_schemas.domain import Side
from kengele_schemas.errors import Refused
from kengele_schemas.fields import BadField, read
from kengele_schemas.policy import Assertion, PolicyFile, Rule
from kengele_schemas.release import Compiled
from kengele_schemas.tlp import LEVELS, rank
from oracle.worlds import AREA_ROWS, AREAS, OFFICES, TODAY, Facts, policy, random_header, random_rule


def said(always: str, **fields: object) -> Assertion:
    return read(Assertion, {"always": always, **fields})


def rule(id: str, **fields: object) -> Rule:
    bounds = {"areas": ["AA"], "categories": ["conflict"], "tlp_up_to": "AMBER", "expires": "2027-01-01"}
    kept: Mapping[str, object] = {} if "forbid" in fields else {"grant": ["source"], **bounds}
    return read(Rule, {"id": id, "to": ["office:council"], "reason": "test", **kept, **fields})


NO_SOURCE = said("no group:government may open source")
FORBID = rule("f", forbid=["source"], to=["group:government"])


def broken_by(*rules: Rule, by: Assertion = NO_SOURCE) -> list[tuple[str, str, date]]:
    found = broken([by], Side.of(rules, OFFICES, AREAS), OFFICES, TODAY)
    return [(one.office, one.compartment, one.example.day) for one in found]


CASES: list[tuple[str, Assertion, list[Rule], bool]] = [
    ("no rules", NO_SOURCE, [], True),
    ("a grant to one of the group", NO_SOURCE, [rule("g")], False),
    ("another compartment", NO_SOURCE, [rule("g", grant=["summary"])], True),
    ("another office", NO_SOURCE, [rule("g", to=["office:hq"])], True),
    ("through a group in a group", said("no group:all may open source"), [rule("g")], False),
    ("forbidden", NO_SOURCE, [rule("g"), FORBID], True),
    ("forbidden elsewhere", NO_SOURCE, [rule("g"), rule("f", forbid=["source"], areas=["BB"])], False),
    ("of anything", said("no group:government may open anything"), [rule("g", grant=["media"])], False),
    ("one of two compartments", said("no office:council may open people, source"), [rule("g")], False),
    ("one of two offices", said("no office:hq, office:council may open source"), [rule("g")], False),
    ("of another area", said("no office:council may open source", areas=["BB"]), [rule("g")], True),
    ("of an area within", said("no office:council may open source", areas=["AA-1"]), [rule("g")], False),
    ("of an area around", said("no office:council may open source", areas=["NORTH"]), [rule("g")], False),
    ("of other categories", said("no office:council may open source", categories=["peace"]), [rule("g")], True),
    ("of one of them", said("no office:council may open source", categories=["rumour", "peace"]), [rule("g")], False),
    ("of stricter markings", said("no office:council may open source", tlp_from="AMBER+STRICT"), [rule("g")], True),
    ("of that marking", said("no office:council may open source", tlp_from="AMBER"), [rule("g")], False),
    ("of looser markings", said("no office:council may open source", tlp_up_to="CLEAR"), [rule("g")], False),
    ("an office that is suspended", said("no office:asleep may open source"), [rule("g", to=["office:asleep"])], True),
    ("a grant that ended", NO_SOURCE, [rule("g", expires="2026-11-23")], True),
]


@pytest.mark.parametrize(("sentence", "assertion", "rules", "holds"), CASES, ids=[case[0] for case in CASES])
def test_it_holds_or_not(sentence: str, assertion: Assertion, rules: list[Rule], holds: bool) -> None:
    assert (broken_by(*rules, by=assertion) == []) is holds


def test_a_forbid_that_ends_first_breaks_it_on_the_day_after() -> None:
    ending = FORBID.model_copy(update={"expires": date(2026, 12, 1)})
    assert broken_by(rule("g"), ending) == [("council", "source", date(2026, 12, 2))]
    later = FORBID.model_copy(update={"expires": date(2027, 1, 1)})
    assert broken_by(rule("g"), later) == []


@given(st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_a_counter_example_is_one_and_without_one_no_header_breaks_it(seed: int) -> None:
    rng = random.Random(seed)
    rules = [random_rule(rng, f"r{i}") for i in range(rng.randint(1, 12))]
    scope = {
        "areas": rng.choice([["*"], rng.sample([row.code for row in AREA_ROWS], 2)]),
        "categories": rng.choice([["*"], rng.sample(taxonomy.codes(), 2)]),
        "tlp_from": rng.choice([None, "GREEN"]),
        "tlp_up_to": rng.choice([None, "AMBER"]),
    }
    part = rng.choice(GRANTABLE)
    assertion = said(f"no {rng.choice(OFFICES.audiences)} may open {part}", **scope)
    compiled = Compiled([policy(*rules)], OFFICES, AREAS)
    found = {one.office: one for one in broken([assertion], Side.of(rules, OFFICES, AREAS), OFFICES, TODAY)}
    for office, one in found.items():
        facts = Facts(*one.example[:4])
        verdict = compiled.explain(facts, one.example.day)[office][part]
        assert (verdict.allowed, verdict.rules) == (True, one.rules)
        assert meant(assertion, facts)
        assert office in OFFICES.members(assertion.to[0])
    ends = [day.expires + timedelta(days=1) for day in rules if day.expires]
    days = {TODAY, *(day for day in ends if day > TODAY)}
    for header, day in itertools.product([random_header(rng) for _ in range(20)], days):
        if meant(assertion, header):
            for office in (OFFICES.members(assertion.to[0]) - found.keys()) & {*OFFICES.active}:
                assert not compiled.explain(header, day)[office][part].allowed


def meant(assertion: Assertion, header: Facts) -> bool:
    return (
        AREAS.known(header.area)
        and any(AREAS.covers(area, header.area) for area in assertion.areas)
        and any(taxonomy.covers(code, leaf) for code in assertion.categories for leaf in header.categories)
        and rank(header.tlp) <= rank(assertion.tlp_up_to or LEVELS[0])
        and rank(header.tlp) >= rank(assertion.tlp_from or LEVELS[-1])
    )


@pytest.mark.parametrize(
    "sentence",
    [
        "",
        "group:government may open source",
        "no group:government may read source",
        "no group:government may open sources",
        "no group:government may open handling",
        "no group:government may open anything, source",
        "no everybody may open source",
        "no group:government  may open source",
        "no group:government may open source.",
        "no group:government may open source\n",
    ],
)
def test_what_cannot_be_checked_is_no_assertion(sentence: str) -> None:
    with pytest.raises(BadField):
        said(sentence)


@pytest.mark.parametrize(
    ("assertion", "path", "near"),
    [
        (said("no group:goverment may open source"), "always", "group:government"),
        (said("no office:hq may open source", areas=["AA", "NORHT"]), "areas[1]", "NORTH"),
        (said("no office:hq may open source", categories=["rumor"]), "categories[0]", "rumour"),
    ],
)
def test_one_about_what_does_not_exist_is_refused_lest_it_hold_of_nobody(
    assertion: Assertion, path: str, near: str
) -> None:
    with pytest.raises(BadAssertion) as caught:
        check_assertion(assertion, OFFICES, AREAS)
    assert caught.value.path == path
    assert near in caught.value.mend
    with pytest.raises(BadAssertion):
        require([PolicyFile(version=1, rules=(), assertions=(assertion,))], OFFICES, AREAS, "", TODAY)


def test_one_in_any_file_holds_for_the_rules_of_all() -> None:
    first = PolicyFile(version=1, rules=(), assertions=(NO_SOURCE,))
    require([first, policy(rule("g"), FORBID)], OFFICES, AREAS, "", TODAY)
    with pytest.raises(Refused, match="no group:government may open source") as caught:
        require([first, policy(rule("g"))], OFFICES, AREAS, "", TODAY)
    assert caught.value.code == "assertion-broken"
    assert "council may open source of a report from AA" in caught.value.mend
