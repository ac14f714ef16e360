"""Diff: whatever differs between two sets of rules is told, and nothing else is, down to the number of headers."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kengele_schemas import taxonomy
from kengele_schemas.areas import Areas, AreasFile
from kengele_schemas.compartments import GRANTABLE, bitmap, names
from kengele_schemas.diff import Change, diff, widens
from kengele_schemas.domain import Side
from kengele_schemas.fields import read
from kengele_schemas.policy import Rule
from kengele_schemas.release import Compiled
from kengele_schemas.roster import Offices
from kengele_schemas.tlp import LEVELS
from oracle.worlds import AREA_ROWS, AREAS, OFFICES, TODAY, Facts, offices_file, policy, random_header, random_rule

DAY = timedelta(days=1)
SEEDS = st.integers(0, 2**32)


def grant(id: str = "g", **fields: object) -> Rule:
    document: dict[str, object] = {
        "id": id,
        "grant": ["summary"],
        "to": ["office:hq"],
        "areas": ["AA"],
        "categories": ["*"],
        "tlp_up_to": "AMBER",
        "expires": "2027-01-01",
        "reason": "test",
    }
    return read(Rule, document | fields)


def forbid(id: str = "f", **fields: object) -> Rule:
    document: dict[str, object] = {"id": id, "forbid": ["summary"], "to": ["office:hq"], "reason": "test"}
    return read(Rule, document | fields)


def compared(old: Sequence[Rule], new: Sequence[Rule], offices: Offices = OFFICES) -> list[Change]:
    return diff(Side.of(old, OFFICES, AREAS), Side.of(new, offices, AREAS), TODAY)


def days(*policies: Sequence[Rule]) -> list[date]:
    """Today, and each day on which what holds may be other than on the day before."""
    ends = {rule.expires + DAY for rules in policies for rule in rules if rule.expires}
    return sorted({TODAY, *(day for day in ends if day > TODAY)})


def opened(rules: Sequence[Rule], header: Facts, day: date, compiled: Compiled) -> set[tuple[str, str]]:
    released = compiled.release(header, day).items()
    return {(office, part) for office, (bits, _) in released for part in names(bits)[1:]}


def one_by_one(old: Sequence[Rule], new: Sequence[Rule]) -> dict[tuple[str, str, bool, date], int]:
    """How many headers of one category differ, by office, compartment, gain or loss, and day: all are asked."""
    counted: Counter[tuple[str, str, bool, date]] = Counter()
    before, after = (Compiled([policy(*rules)], OFFICES, AREAS) for rules in (old, new))
    every = itertools.product((row.code for row in AREA_ROWS), taxonomy.leaves(), range(1, 6), LEVELS)
    for day, (area, leaf, severity, tlp) in itertools.product(days(old, new), list(every)):
        header = Facts(area, (leaf,), severity, tlp)
        a, b = before.release(header, day), after.release(header, day)
        for office in {*a, *b} if a != b else ():
            had, has = (side[office].bits if office in side else 0 for side in (a, b))
            counted.update((office, part, True, day) for part in names(has & ~had & ~1))
            counted.update((office, part, False, day) for part in names(had & ~has & ~1))
    return counted


def told(changes: list[Change], asked: list[date]) -> dict[tuple[str, str, bool, date], int]:
    found = {}
    for change, day in itertools.product(changes, asked):
        for since, until, single, _ in change.periods:
            if since <= day and (until is None or day <= until) and single:
                found[change.office, change.compartment, change.gained, day] = single
    return found


@pytest.mark.full
@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_all_headers_of_one_category_asked_one_by_one_say_the_same(seed: int) -> None:
    rng = random.Random(seed)
    old = [random_rule(rng, f"r{i}") for i in range(8)]
    new = [rule for rule in old if rng.random() < 0.7] + [random_rule(rng, f"n{i}") for i in range(3)]
    assert told(compared(old, new), days(old, new)) == one_by_one(old, new)


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_headers_at_random_say_the_same_and_each_example_is_one(seed: int) -> None:
    rng = random.Random(seed)
    old = [random_rule(rng, f"r{i}") for i in range(12)]
    new = [rule for rule in old if rng.random() < 0.7] + [random_rule(rng, f"n{i}") for i in range(4)]
    changes = {(change.office, change.compartment, change.gained): change for change in compared(old, new)}
    before, after = (Compiled([policy(*rules)], OFFICES, AREAS) for rules in (old, new))
    for _ in range(40):
        header, day = random_header(rng), rng.choice(days(old, new))
        had, has = opened(old, header, day, before), opened(new, header, day, after)
        if header.area != "ELSEWHERE":
            for office, part in had ^ has:
                change = changes[office, part, (office, part) in has]
                assert any(p.since <= day and (p.until is None or day <= p.until) for p in change.periods)
    for (office, part, gained), change in changes.items():
        example = change.example
        header = Facts(example.area, example.categories, example.severity, example.tlp)
        verdicts = [side.explain(header, example.day)[office][part] for side in (before, after)]
        assert [verdict.allowed for verdict in verdicts] == [not gained, gained]
        assert [verdict.rules for verdict in verdicts] == [change.before, change.after]
        assert change.example.day == change.periods[0].since
        assert set(change.rules) <= {rule.id for rule in (*old, *new) if part in rule.compartments}
        assert change.rules


def test_the_same_rules_change_nothing_whatever_their_order_and_reason() -> None:
    rules = [grant("a"), grant("b", areas=["BB"]), forbid()]
    other = [rule.model_copy(update={"reason": "another"}) for rule in reversed(rules)]
    assert compared(rules, other) == []


def test_an_office_gains_what_a_new_grant_gives_it() -> None:
    (change,) = compared([], [grant()])
    assert (change.office, change.compartment, change.gained, change.rules) == ("hq", "summary", True, ("g",))
    assert (change.before, change.after) == ((), ("g",))
    assert change.example.area == "AA"
    # AA and the two below it; three markings, five severities.
    assert change.periods[0].single == 3 * len(taxonomy.leaves()) * 3 * 5
    assert (change.periods[0].since, change.periods[0].until) == (TODAY, date(2027, 1, 1))


def test_what_a_new_forbid_takes_is_lost_through_it_alone() -> None:
    (change,) = compared([grant()], [grant(), forbid(categories=["rumour"])])
    assert (change.gained, change.rules, change.before, change.after) == (False, ("f",), ("g",), ("f",))
    assert change.example.categories == ("rumour",)


def test_what_is_lost_with_its_grant_is_lost_through_it_even_where_it_is_forbidden_as_well() -> None:
    (change,) = compared([grant()], [forbid()])
    assert (change.gained, change.rules) == (False, ("g",))


def test_a_forbid_that_goes_gives_through_itself_and_the_grant() -> None:
    (change,) = compared([grant(), forbid()], [grant()])
    assert (change.gained, change.rules) == (True, ("f", "g"))


def test_a_longer_grant_is_a_gain_on_the_days_that_are_added() -> None:
    (change,) = compared([grant()], [grant(expires="2027-06-30")])
    assert change.gained
    assert [(p.since, p.until) for p in change.periods] == [(date(2027, 1, 2), date(2027, 6, 30))]
    assert change.example.day == date(2027, 1, 2)


def test_a_forbid_that_ends_before_the_grant_is_a_gain_then() -> None:
    rules = [grant(), forbid()]
    (change,) = compared(rules, [grant(), forbid(expires="2026-12-01")])
    assert change.gained
    assert [(p.since, p.until) for p in change.periods] == [(date(2026, 12, 2), date(2027, 1, 1))]


def test_two_grants_made_one_give_reports_of_both_categories() -> None:
    apart = [grant("r", categories=["rumour"]), grant("a", categories=["abduction"])]
    (change,) = compared(apart, [grant("both", categories=["abduction", "rumour"])])
    assert change.gained
    assert change.example.categories == ("abduction", "rumour")
    assert (change.periods[0].single, change.periods[0].several) == (0, 3 * 15)


def test_who_joins_a_group_gains_and_who_is_suspended_loses() -> None:
    statuses = {office.id: office.status for office in OFFICES.document.offices}
    groups = {name: list(parts) for name, parts in OFFICES.document.groups.items()}
    rules = [grant(to=["group:regional"])]
    changed = Offices(
        offices_file(statuses | {"north": "suspended"}, groups | {"regional": [*groups["regional"], "office:cso"]})
    )
    assert {(c.office, c.gained) for c in compared(rules, rules, changed)} == {("cso", True), ("north", False)}


def test_an_area_that_moves_changes_who_reads_of_it() -> None:
    rows = [row.model_copy(update={"parents": ("BB",)}) if row.code == "AA-1" else row for row in AREA_ROWS]
    moved = Areas(AreasFile(areas=tuple(rows)))
    (change,) = diff(Side.of([grant()], OFFICES, AREAS), Side.of([grant()], OFFICES, moved), TODAY)
    assert (change.gained, change.example.area) == (False, "AA-1")


def test_only_what_can_give_a_person_away_is_sensitive_and_only_a_gain() -> None:
    parts = list(GRANTABLE)
    changes = compared([], [grant(grant=parts)])
    assert {change.compartment for change in changes if change.sensitive} == {"people", "source"}
    assert not any(change.sensitive for change in compared([grant(grant=parts)], []))
    assert bitmap(change.compartment for change in changes) == bitmap(GRANTABLE)


def test_it_is_told_whether_anybody_gains_anything() -> None:
    less, more = (Side.of(rules, OFFICES, AREAS) for rules in ([grant()], [grant(), grant("h", areas=["BB"])]))
    assert [widens(less, more, TODAY), widens(more, less, TODAY), widens(more, more, TODAY)] == [True, False, False]


def test_progress_goes_up_to_all_offices() -> None:
    seen: list[tuple[int, int]] = []
    side = Side.of([grant(to=["group:all"])], OFFICES, AREAS)
    diff(side, side, TODAY, lambda done, of: seen.append((done, of)))
    assert seen == [(done, 5) for done in range(1, 6)]
