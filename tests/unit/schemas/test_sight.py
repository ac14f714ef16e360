"""Who can see, and what one office can see: both say what deciding header by header would."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas import taxonomy
from kengele_schemas.areas import Areas
from kengele_schemas.compartments import GRANTABLE, names
from kengele_schemas.domain import Domain, Side
from kengele_schemas.fields import read
from kengele_schemas.policy import Rule
from kengele_schemas.release import Compiled
from kengele_schemas.sight import Asked, Sight, all_of, compact, matrix
from kengele_schemas.tlp import LEVELS
from oracle.worlds import AREA_ROWS, AREAS, OFFICES, TODAY, Facts, policy, random_header, random_rule

SEEDS = st.integers(0, 2**32)
CODES = frozenset(row.code for row in AREA_ROWS)


def domain_of(rules: list[Rule]) -> Domain:
    return Domain([Side.of(rules, OFFICES, AREAS)], TODAY)


def some(seed: int) -> tuple[list[Rule], random.Random]:
    rng = random.Random(seed)
    return [random_rule(rng, f"r{i}") for i in range(rng.randint(0, 16))], rng


def covers(sight: Sight, header: Facts) -> bool:
    def inside(whole: tuple[str, ...], only: tuple[str, ...]) -> bool:
        return header.area in only or any(AREAS.covers(code, header.area) for code in whole)

    return (
        inside(sight.areas, sight.only)
        and not inside(sight.but, sight.but_only)
        and header.severity in sight.severities
        and header.tlp in sight.tlp
        and any(
            all(any(taxonomy.covers(code, leaf) for code in codes) for leaf in header.categories)
            for codes in sight.categories
        )
    )


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_what_an_office_sees_is_what_is_released_to_it(seed: int) -> None:
    rules, rng = some(seed)
    domain, compiled = domain_of(rules), Compiled([policy(*rules)], OFFICES, AREAS)
    sees = {office: all_of(domain, office, AREAS) for office in OFFICES.active}
    for _ in range(40):
        header = random_header(rng)._replace(area=rng.choice(sorted(CODES)))
        released = compiled.release(header, TODAY)
        for office in OFFICES.active:
            opened = set(names(released[office].bits)[1:]) if office in released else set()
            assert {sight.compartment for sight in sees[office] if covers(sight, header)} == opened


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_of_one_header_the_matrix_is_what_is_explained(seed: int) -> None:
    rules, rng = some(seed)
    domain, compiled = domain_of(rules), Compiled([policy(*rules)], OFFICES, AREAS)
    for _ in range(10):
        header = random_header(rng)._replace(area=rng.choice(sorted(CODES)))
        asked = Asked(frozenset([header.area]), header.categories, header.severity, header.tlp)
        for office, row in matrix(domain, OFFICES.active, asked).items():
            for name, seen in row.items():
                verdict = compiled.explain(header, TODAY)[office][name]
                assert (seen.share, seen.asked) == ("all" if verdict.allowed else "none", 1)
                assert not verdict.allowed or seen.rules == verdict.rules


@given(SEEDS)
@settings(max_examples=15, deadline=None)
def test_what_is_left_open_is_counted_header_by_header(seed: int) -> None:
    rules, rng = some(seed)
    domain, compiled = domain_of(rules), Compiled([policy(*rules)], OFFICES, AREAS)
    area, severity = rng.choice(["NORTH", "AA", "CC-2"]), rng.choice([None, 3])
    found = matrix(domain, OFFICES.active, Asked(AREAS.below(area), None, severity, "GREEN"))
    counted = {(office, name): 0 for office in OFFICES.active for name in GRANTABLE}
    asked = 0
    for code in AREAS.below(area):
        for leaf in taxonomy.leaves():
            for level in [severity] if severity else range(1, 6):
                asked += 1
                for office, decision in compiled.release(Facts(code, (leaf,), level, "GREEN"), TODAY).items():
                    for name in names(decision.bits)[1:]:
                        counted[office, name] += 1
    assert {(office, name): seen.opened for office, row in found.items() for name, seen in row.items()} == counted
    assert {seen.asked for row in found.values() for seen in row.values()} == {asked}


@given(st.sets(st.sampled_from(sorted(CODES))))
@settings(deadline=None)
def test_areas_are_named_shortly_and_mean_the_same(codes: set[str]) -> None:
    whole, only = compact(codes, AREAS)
    assert {code for code in CODES if code in only or any(AREAS.covers(top, code) for top in whole)} == codes
    assert not any(a != b and AREAS.covers(a, b) for a in whole for b in whole)


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (CODES, (("*",), ())),
        (set(), ((), ())),
        ({"AA", "AA-1", "AA-2"}, (("AA",), ())),
        ({"AA", "AA-1"}, (("AA-1",), ("AA",))),
    ],
)
def test_a_whole_is_named_by_its_top(codes: set[str], expected: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
    assert compact(codes, AREAS) == expected


def test_an_old_code_and_what_took_its_place_are_named_once() -> None:
    world = Areas.world()
    old = next(row.code for row in world if len(row.replaced_by) == 1)
    whole, only = compact(world.below(old), world)
    assert (len(whole), only) == (1, ())


def test_an_exception_is_named_where_that_is_shorter() -> None:
    base = {"tlp_up_to": "AMBER", "expires": "2027-01-01", "reason": "x", "to": ["office:hq"], "categories": ["*"]}
    rules = [
        read(Rule, {**base, "id": "g", "grant": ["summary"], "areas": ["*"]}),
        read(Rule, {"id": "f", "forbid": ["summary"], "to": ["office:hq"], "areas": ["AA-1"], "reason": "x"}),
    ]
    (sight,) = all_of(domain_of(rules), "hq", AREAS)
    assert (sight.areas, sight.but, sight.categories) == (("*",), ("AA-1",), (("*",),))
    assert (sight.severities, sight.tlp, sight.rules) == ((1, 2, 3, 4, 5), LEVELS[2:], ("g",))
    assert all_of(domain_of(rules), "cso", AREAS) == []
