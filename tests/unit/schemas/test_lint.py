"""Lint: what it says a rule does or does not do is so, as taking the rule out and comparing shows."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kengele_schemas.areas import AreaRow, Areas, AreasFile
from kengele_schemas.diff import diff
from kengele_schemas.domain import Side
from kengele_schemas.fields import read
from kengele_schemas.lint import SENTENCES, Finding, lint
from kengele_schemas.policy import Rule
from oracle.worlds import AREAS, OFFICES, TODAY, random_rule

IDLE = {"expired", "for-nobody", "forbidden-wholly", "shadowed", "forbid-without-effect"}


def grant(id: str = "g", **fields: object) -> Rule:
    document: dict[str, object] = {
        "id": id,
        "grant": ["summary"],
        "to": ["office:hq"],
        "areas": ["AA"],
        "categories": ["conflict"],
        "tlp_up_to": "AMBER",
        "expires": "2027-06-01",
        "reason": "test",
    }
    return read(Rule, document | fields)


def forbid(id: str = "f", **fields: object) -> Rule:
    return read(Rule, {"id": id, "forbid": ["summary"], "to": ["office:hq"], "reason": "test"} | fields)


def found(*rules: Rule, **options: object) -> list[Finding]:
    return lint(rules, OFFICES, AREAS, TODAY, **options)  # type: ignore[arg-type]


@given(st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_a_rule_said_to_do_nothing_can_go_and_no_other_can(seed: int) -> None:
    rng = random.Random(seed)
    rules = [random_rule(rng, f"r{i}") for i in range(rng.randint(2, 14))]
    said = {finding.rule for finding in found(*rules) if finding.code in IDLE}
    whole = Side.of(rules, OFFICES, AREAS)
    for rule in rules:
        without = Side.of([other for other in rules if other is not rule], OFFICES, AREAS)
        assert (rule.id in said) is not bool(diff(whole, without, TODAY)), rule


@given(st.integers(0, 2**32))
@example(seed=26603)
@settings(max_examples=60, deadline=None)
def test_what_is_said_to_act_in_a_rules_stead_does_so_alone(seed: int) -> None:
    rng = random.Random(seed)
    rules = [random_rule(rng, f"r{i}") for i in range(10)]
    for finding in found(*rules):
        if finding.code in ("shadowed", "forbidden-wholly") and " and others" not in finding.sentence:
            named = finding.sentence.partition(", by ")[2].rstrip(".").split(", ")
            # What a rule grants is what no forbid takes away again.
            besides = finding.code == "shadowed"
            kept = [rule for rule in rules if rule.id in (finding.rule, *named) or (besides and rule.forbid)]
            without = [rule for rule in kept if rule.id != finding.rule]
            assert not diff(Side.of(kept, OFFICES, AREAS), Side.of(without, OFFICES, AREAS), TODAY)


def odd(finding: Finding) -> tuple[str, str, str]:
    return finding.code, finding.rule, finding.path


CASES: list[tuple[str, Sequence[Rule], list[tuple[str, str, str]]]] = [
    ("nothing odd", [grant()], []),
    ("the same twice: each can go", [grant("a"), grant("b")], [("shadowed", "a", ""), ("shadowed", "b", "")]),
    ("a wider one shadows", [grant("a", areas=["AA-1"]), grant("b")], [("shadowed", "a", "")]),
    ("another compartment does not", [grant("a", areas=["AA-1"], grant=["people"]), grant("b")], []),
    (
        "two narrower ones do not shadow a wider one: reports of both kinds",
        [
            grant("a", categories=["rumour"]),
            grant("b", categories=["abduction"]),
            grant("c", categories=["rumour", "abduction"]),
        ],
        [("shadowed", "a", ""), ("shadowed", "b", "")],
    ),
    ("one that lasts longer is not shadowed", [grant("a"), grant("b", expires="2027-06-02")], [("shadowed", "a", "")]),
    ("a grant forbidden wholly", [grant(), forbid()], [("forbidden-wholly", "g", "")]),
    ("a forbid of what nobody grants", [grant(), forbid(areas=["BB"])], [("forbid-without-effect", "f", "")]),
    (
        "a forbid that another makes idle",
        [grant(), forbid("f", areas=["AA"], tlp_from="AMBER"), forbid("w", areas=["AA"], tlp_from="GREEN")],
        [("forbid-without-effect", "f", "")],
    ),
    ("ended yesterday", [grant(expires="2026-11-23")], [("expired", "g", "expires")]),
    ("ends today", [grant(expires="2026-11-24")], [("expires-now", "g", "expires")]),
    ("ends in three days", [grant(expires="2026-11-27")], [("expires-now", "g", "expires")]),
    ("ends in four days", [grant(expires="2026-11-28")], [("expires-soon", "g", "expires")]),
    ("ends in a fortnight", [grant(expires="2026-12-08")], [("expires-soon", "g", "expires")]),
    ("ends in fifteen days", [grant(expires="2026-12-09")], []),
    ("ends in a year", [grant(expires="2027-11-25")], []),
    ("ends in more", [grant(expires="2027-11-26")], [("expires-late", "g", "expires")]),
    ("a forbid may last", [grant(), forbid(categories=["rumour"], expires="2037-01-01")], []),
    ("an office that is gone", [grant(to=["office:gone"])], [("for-nobody", "g", ""), ("empty-group", "g", "to[0]")]),
    ("an empty group beside another", [grant(to=["office:hq", "group:none"])], [("empty-group", "g", "to[1]")]),
    ("an area in another", [grant(areas=["AA-1", "AA"])], [("named-twice", "g", "areas[0]")]),
    ("an area and everywhere", [grant(areas=["*", "AA"])], [("named-twice", "g", "areas[1]")]),
    ("a category in its group", [grant(categories=["conflict", "rumour"])], [("named-twice", "g", "categories[1]")]),
    ("an office in its group", [grant(to=["office:hq", "group:un"])], [("named-twice", "g", "to[0]")]),
    ("a group in a group", [grant(to=["group:un", "group:all"])], [("named-twice", "g", "to[0]")]),
    (
        "a name that does not exist",
        [grant(to=["office:hqq"], areas=["AAA"])],
        [("unknown-name", "g", "to[0]"), ("unknown-name", "g", "areas[0]")],
    ),
]


@pytest.mark.parametrize(("sentence", "rules", "expected"), CASES, ids=[case[0] for case in CASES])
def test_each_finding_is_made_where_it_is_due_and_only_there(
    sentence: str, rules: Sequence[Rule], expected: list[tuple[str, str, str]]
) -> None:
    assert [odd(finding) for finding in found(*rules)] == expected


def test_each_finding_says_a_sentence_and_an_unknown_name_the_nearest() -> None:
    (finding,) = found(grant(to=["office:hqq"]))
    assert (finding.weight, finding.sentence) == ("error", "It is for an office or group that does not exist.")
    assert "office:hq" in finding.mend
    shadowed, _ = found(grant("a"), grant("b"))
    assert shadowed.sentence == "All that it grants is granted without it, by b."
    assert {code for _, _, expected in CASES for code, _, _ in expected} >= {*SENTENCES} - {
        "no-such-header",
        "widens-sensitive",
    }


def test_a_rule_with_an_unknown_name_does_not_hide_what_is_odd_about_others() -> None:
    rules = [grant("x", areas=["AAA"]), grant("a"), grant("b")]
    assert [finding.code for finding in found(*rules)] == ["unknown-name", "shadowed", "shadowed"]


def test_an_area_finer_than_headers_name_is_never_met() -> None:
    rows = [
        AreaRow(code="XX", name="x", kind="country"),
        AreaRow(code="XX-1", name="x", kind="admin1", parents=("XX",)),
        AreaRow(code="XX-1-A", name="x", kind="admin2", parents=("XX-1",)),
    ]
    areas = Areas(AreasFile(areas=tuple(rows)))
    for level, code, odd_ones in ((1, "XX-1-A", ["no-such-header"]), (2, "XX-1-A", []), (1, "XX-1", [])):
        findings = lint([grant(areas=[code])], OFFICES, areas, TODAY, header_level=level)
        assert [finding.code for finding in findings] == odd_ones


def test_who_newly_gains_what_can_give_a_person_away_is_told_by_its_rule() -> None:
    held = Side.of([grant("a", grant=["people"])], OFFICES, AREAS)
    same, more = grant("a", grant=["people"]), grant("b", grant=["source", "summary"])
    findings = [finding for finding in found(same, more, in_force=held) if finding.code == "widens-sensitive"]
    assert [(finding.rule, finding.sentence) for finding in findings] == [
        ("b", "By it hq gains source, as of a report from AA.")
    ]


def test_the_day_that_is_asked_of_decides() -> None:
    day = date(2027, 5, 20)
    assert [f.code for f in lint([grant()], OFFICES, AREAS, day)] == ["expires-soon"]
    assert [f.code for f in lint([grant()], OFFICES, AREAS, day + timedelta(days=30))] == ["expired"]
