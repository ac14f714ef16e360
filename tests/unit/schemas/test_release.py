"""Release: default deny, a forbid beats every grant, a grant ends, and nothing that narrows ever widens."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas.areas import Areas
from kengele_schemas.compartments import GRANTABLE, HANDLING_BIT, bitmap
from kengele_schemas.errors import Malformed
from kengele_schemas.fields import read
from kengele_schemas.policy import Rule
from kengele_schemas.release import BadRule, Compiled, Decision, Verdict, narrow
from kengele_schemas.report import Caveat
from kengele_schemas.tlp import LEVELS
from oracle.worlds import AREAS, OFFICES, TODAY, Facts, policy, random_header, random_rule

SUMMARY = bitmap(["summary"])
HEADER = Facts("AA-1", ("rumour",), 3, "AMBER")
Release = Mapping[str, Decision]


def grant(id: str = "g", **fields: object) -> Rule:
    document: dict[str, object] = {
        "id": id,
        "grant": ["summary"],
        "to": ["office:hq"],
        "areas": ["*"],
        "categories": ["*"],
        "tlp_up_to": "RED",
        "expires": "2027-01-01",
        "reason": "test",
    }
    return read(Rule, document | fields)


def forbid(id: str = "f", **fields: object) -> Rule:
    document: dict[str, object] = {"id": id, "forbid": list(GRANTABLE), "to": ["office:hq"], "reason": "test"}
    return read(Rule, document | fields)


def compiled(*rules: Rule) -> Compiled:
    return Compiled([policy(*rules)], OFFICES, AREAS)


def released(*rules: Rule, header: Facts = HEADER, today: date = TODAY) -> Release:
    return compiled(*rules).release(header, today)


def test_without_rules_nobody_reads_anything() -> None:
    assert released() == {}
    assert {verdict for row in compiled().explain(HEADER, TODAY).values() for verdict in row.values()} == {
        Verdict(False, ())
    }


def test_handling_goes_along_with_any_compartment() -> None:
    assert released(grant()) == {"hq": Decision(SUMMARY | HANDLING_BIT, ("g",))}


def test_a_forbid_beats_every_grant() -> None:
    assert released(grant("a"), grant("b", grant=list(GRANTABLE)), forbid()) == {}


def test_a_forbid_of_one_compartment_leaves_the_others() -> None:
    found = released(grant(grant=["summary", "people"]), forbid(forbid=["people"]))
    assert found == {"hq": Decision(SUMMARY | HANDLING_BIT, ("f", "g"))}


def test_only_rules_that_decided_are_named() -> None:
    rules = [
        grant("gives"),
        grant("is-undone", grant=["people"]),
        forbid("takes", forbid=["people"]),
        forbid("takes-what-none-gave", forbid=["source"]),
        grant("for-another", to=["office:cso"]),
    ]
    assert released(*rules)["hq"].rules == ("gives", "takes")


def test_one_rule_is_named_for_each_compartment_however_many_decide() -> None:
    many = [grant(f"g-{number:03}", grant=list(GRANTABLE)) for number in range(300)]
    taking = [forbid(f"f-{number:03}", forbid=["people"]) for number in range(300)]
    assert released(*many, *taking)["hq"].rules == ("f-000", "g-000")

    each = [grant(f"to-{name}", grant=[name]) for name in GRANTABLE[1:]]
    found = released(*many, *each, forbid("a", forbid=[GRANTABLE[0]]))["hq"].rules
    assert found == ("a", "g-000")
    assert released(*each, grant(), forbid("a", forbid=[GRANTABLE[0]]))["hq"].rules == (
        "a",
        *sorted(f"to-{name}" for name in GRANTABLE[1:]),
    )


@pytest.mark.parametrize(("days", "reads"), [(-1, True), (0, True), (1, False)])
def test_a_grant_holds_to_the_end_of_its_last_day(days: int, reads: bool) -> None:
    rule = grant(expires="2026-11-24")
    assert bool(released(rule, today=date(2026, 11, 24) + timedelta(days=days))) is reads


def test_a_new_day_is_decided_anew() -> None:
    rules = compiled(grant(expires=TODAY.isoformat()))
    assert [bool(rules.release(HEADER, TODAY + timedelta(days=day))) for day in (0, 1, 0)] == [True, False, True]


def test_a_forbid_without_a_day_never_ends() -> None:
    assert released(grant(expires="9999-12-31"), forbid(), today=date(9999, 12, 31)) == {}


def test_a_grant_must_cover_all_categories_alone() -> None:
    header = HEADER._replace(categories=("abduction", "rumour"))
    rumours, abductions = grant("r", categories=["rumour"]), grant("a", categories=["aggravating-behaviour"])
    assert released(rumours, abductions, header=header) == {}
    assert released(grant(categories=["conflict"]), header=header)
    assert released(rumours, abductions)["hq"].rules == ("r",)


def test_a_forbid_holds_if_it_covers_any_category() -> None:
    header = HEADER._replace(categories=("abduction", "rumour"))
    assert released(grant(), forbid(categories=["rumour"]), header=header) == {}
    assert released(grant(), forbid(categories=["peace"]), header=header)


@pytest.mark.parametrize(
    ("rule_area", "area", "reads"),
    [
        ("AA", "AA-1", True),
        ("AA", "AA", True),
        ("AA-1", "AA", False),
        ("RIVER", "AA-2", True),
        ("RIVER", "AA-1", False),
        ("NORTH", "CC-2-X", True),
        ("SOUTH", "CC-2-X", True),
        ("WORLD", "UNKNOWN", False),
        ("*", "UNKNOWN", True),
    ],
)
def test_a_rule_covers_what_lies_below_its_area(rule_area: str, area: str, reads: bool) -> None:
    assert bool(released(grant(areas=[rule_area]), header=HEADER._replace(area=area))) is reads


@pytest.mark.parametrize("ceiling", LEVELS)
@pytest.mark.parametrize("level", LEVELS)
def test_markings_are_bounded_on_both_sides(level: str, ceiling: str) -> None:
    header = HEADER._replace(tlp=level)
    stricter = LEVELS.index(level) < LEVELS.index(ceiling)
    assert bool(released(grant(tlp_up_to=ceiling), header=header)) is not stricter
    assert bool(released(grant(), forbid(tlp_from=ceiling), header=header)) is (
        LEVELS.index(level) > LEVELS.index(ceiling)
    )


@pytest.mark.parametrize("severity", range(1, 6))
def test_severities_are_bounded_on_both_sides(severity: int) -> None:
    header = HEADER._replace(severity=severity)
    assert bool(released(grant(min_severity=2, max_severity=4), header=header)) is (severity in (2, 3, 4))


def test_only_active_offices_are_given_anything() -> None:
    rules = compiled(grant(to=["group:all", "office:asleep", "office:gone"]))
    assert set(rules.release(HEADER, TODAY)) == {"north", "south", "hq", "council", "cso"}
    assert set(rules.explain(HEADER, TODAY)) == {"north", "south", "hq", "council", "cso"}


def test_files_hold_together() -> None:
    rules = Compiled([policy(grant(to=["group:un"])), policy(forbid(to=["office:hq"]))], OFFICES, AREAS)
    assert set(rules.release(HEADER, TODAY)) == {"north", "south"}


def test_an_id_may_stand_in_one_file_only() -> None:
    with pytest.raises(BadRule, match="has the id of another rule") as caught:
        Compiled([policy(grant()), policy(grant())], OFFICES, AREAS)
    assert caught.value.code == "bad-rule"


@pytest.mark.parametrize(
    ("field", "value", "path", "near"),
    [
        ("to", ["office:hq", "office:hqq"], "to[1]", "office:hq"),
        ("to", ["group:regionall"], "to[0]", "group:regional"),
        ("areas", ["AA", "NORT"], "areas[1]", "NORTH"),
        ("categories", ["rumor"], "categories[0]", "rumour"),
    ],
)
def test_a_name_that_does_not_exist_is_refused_with_the_nearest(
    field: str, value: Sequence[str], path: str, near: str
) -> None:
    with pytest.raises(BadRule, match="does not exist") as caught:
        compiled(grant("g", **{field: value}))
    assert caught.value.path == path
    assert near in caught.value.mend


def test_a_name_like_no_other_is_told_with_those_there_are() -> None:
    with pytest.raises(BadRule) as caught:
        compiled(grant("g", to=["group:wwxxyyzzqqwwxxyyzz"]))
    assert caught.value.mend.startswith("There are: group:")


def test_rules_for_elsewhere_are_not_looked_at() -> None:
    class Counting(Areas):
        asked = 0

        def ancestors(self, code: str) -> frozenset[str]:
            Counting.asked += 1
            return super().ancestors(code)

    world = Areas.world()
    codes = sorted(row.code for row in world if row.kind == "admin1" and not row.replaced_by)[:1000]
    areas = Counting(world.subset(codes))
    rules = Compiled([policy(*(grant(f"g{i}", areas=[code]) for i, code in enumerate(codes)))], OFFICES, areas)
    Counting.asked = 0
    assert rules.release(HEADER._replace(area=codes[7]), TODAY)["hq"].rules == ("g7",)
    assert Counting.asked == 1


def test_what_is_remembered_is_bounded_and_forgetting_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kengele_schemas.release._MEMO", 3)
    rules = [grant(f"g{i}", min_severity=i, areas=["AA", "CC"], to=["office:hq", "office:cso"]) for i in range(1, 6)]
    remembering = compiled(*rules)
    for _ in range(2):
        for area, severity in itertools.product(("AA-1", "CC-1", "RIVER", "NOWHERE"), range(1, 6)):
            header = HEADER._replace(area=area, severity=severity)
            assert remembering.release(header, TODAY) == compiled(*rules).release(header, TODAY)
            assert remembering._held <= 3


def test_areas_under_the_same_rules_share_what_is_remembered() -> None:
    rules = compiled(grant(areas=["NORTH"]), grant("river", areas=["RIVER"]))
    areas = ("AA", "AA-1", "BB", "BB-1", "AA-2", "CC-1", "CC", "WORLD")
    assert len({id(rules.release(HEADER._replace(area=area), TODAY)) for area in areas}) == 4


SEEDS = st.integers(0, 2**32)


def world(seed: int) -> tuple[list[Rule], list[Facts]]:
    rng = random.Random(seed)
    return [random_rule(rng, f"r{i}") for i in range(rng.randint(0, 20))], [random_header(rng) for _ in range(5)]


def within(narrower: Release, wider: Release) -> bool:
    return all(office in wider and not bits & ~wider[office].bits for office, (bits, _) in narrower.items())


@given(SEEDS, st.booleans())
@settings(max_examples=150, deadline=None)
def test_a_grant_never_takes_and_a_forbid_never_gives(seed: int, grants: bool) -> None:
    rules, headers = world(seed)
    rng = random.Random(seed + 1)
    added = next(rule for rule in iter(lambda: random_rule(rng, "added"), None) if (rule.grant is not None) is grants)
    before, after = compiled(*rules), compiled(*rules, added)
    for header in headers:
        old, new = before.release(header, TODAY), after.release(header, TODAY)
        assert within(old, new) if grants else within(new, old)


@given(SEEDS)
@settings(max_examples=100, deadline=None)
def test_what_is_released_is_what_is_explained(seed: int) -> None:
    rules, headers = world(seed)
    policies = compiled(*rules)
    for header in headers:
        verdicts = policies.explain(header, TODAY)
        for office, row in verdicts.items():
            allowed = bitmap(name for name in GRANTABLE if row[name].allowed)
            decision = policies.release(header, TODAY).get(office)
            assert (decision.bits if decision else 0) == (allowed | HANDLING_BIT if allowed else 0)
            if decision:
                grants = {rule.id for rule in rules if rule.grant is not None}
                firsts = {min(verdict.rules) for verdict in row.values() if verdict.allowed}
                assert grants.intersection(decision.rules) == firsts
                assert set(decision.rules) - grants <= {min(verdict.rules, default="") for verdict in row.values()}


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_the_order_of_rules_and_their_files_do_not_matter(seed: int) -> None:
    rules, headers = world(seed)
    shuffled = random.Random(seed).sample(rules, len(rules))
    cut = seed % (len(rules) + 1)
    one = compiled(*rules)
    other = Compiled([policy(*shuffled[:cut]), policy(*shuffled[cut:])], OFFICES, AREAS)
    assert all(one.release(header, TODAY) == other.release(header, TODAY) for header in headers)


CAVEATS = st.lists(
    st.builds(
        Caveat,
        not_to=st.lists(st.sampled_from(OFFICES.audiences), min_size=1, max_size=3).map(tuple),
        compartments=st.lists(st.sampled_from(["*", *GRANTABLE]), min_size=1, max_size=3).map(tuple),
    ),
    max_size=4,
)


@given(SEEDS, CAVEATS, CAVEATS)
@settings(max_examples=150, deadline=None)
def test_a_caveat_never_widens(seed: int, some: list[Caveat], more: list[Caveat]) -> None:
    rules, headers = world(seed)
    for header in headers:
        release = compiled(*rules).release(header, TODAY)
        assert narrow(release, [], OFFICES) == release
        narrowed = narrow(release, some, OFFICES)
        assert within(narrowed, release)
        assert within(narrow(release, [*some, *more], OFFICES), narrowed)
        assert all(bits & ~HANDLING_BIT for bits, _ in narrowed.values())


def test_a_caveat_takes_from_each_office_of_its_group() -> None:
    release = released(grant(to=["group:all"], grant=["summary", "people"]))
    narrowed = narrow(release, [Caveat(not_to=("group:regional",), compartments=("people",))], OFFICES)
    assert {office for office in release if narrowed[office].bits != release[office].bits} == {"north", "south"}
    assert set(narrow(release, [Caveat(not_to=("group:un",))], OFFICES)) == {"council", "cso"}


def test_a_caveat_on_nobody_known_is_refused_rather_than_passed_over() -> None:
    for nobody, told in (
        ("office:counsil", "Perhaps: office:council"),
        (f"office:{'q' * 24}", "There are: group:all, "),
    ):
        with pytest.raises(Malformed, match="does not exist") as caught:
            narrow({}, [Caveat(not_to=(nobody,))], OFFICES)
        assert caught.value.code == "unknown-reader"
        assert told in caught.value.mend
    assert "office:council" in caught.value.mend
