"""Kengele and Cedar decide alike, and name the same rules as having decided."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta

import pytest

from kengele_schemas.compartments import GRANTABLE, HANDLING_BIT, bitmap
from kengele_schemas.release import Compiled, Verdict, narrow
from kengele_schemas.report import Caveat
from kengele_schemas.roster import check_regional_policy
from oracle.cedar import Cedar
from oracle.worlds import AREA_ROWS, AREAS, OFFICES, OFFICES_FILE, TODAY, policy, random_header, random_rule

Counted = dict[str, int]


def compare(seed: int, policies: int, rules: int, headers: int) -> Counted:
    """Puts random headers to both under random policies. How often each kind of decision came up is returned."""
    rng = random.Random(seed)
    counted: Counted = {"allowed": 0, "forbidden": 0, "by default": 0, "by several": 0}
    for _ in range(policies):
        listed = [random_rule(rng, f"r{i}") for i in range(rules)]
        half = len(listed) // 2
        compiled = Compiled([policy(*listed[:half]), policy(*listed[half:])], OFFICES, AREAS)
        cedar = Cedar(listed, OFFICES_FILE, AREA_ROWS)
        for _ in range(headers):
            header = random_header(rng)
            expected = cedar.explain(header, TODAY)
            assert compiled.explain(header, TODAY) == expected, header
            assert {office: bits for office, (bits, _) in compiled.release(header, TODAY).items()} == {
                office: bitmap(allowed) | HANDLING_BIT
                for office, verdicts in expected.items()
                if (allowed := [name for name in GRANTABLE if verdicts[name].allowed])
            }
            for verdicts in expected.values():
                for verdict in verdicts.values():
                    counted[_kind(verdict)] += 1
                    counted["by several"] += len(verdict.rules) > 1
    return counted


def _kind(verdict: Verdict) -> str:
    return "allowed" if verdict.allowed else "forbidden" if verdict.rules else "by default"


def test_a_few_thousand_decisions_agree() -> None:
    counted = compare(seed=1, policies=6, rules=30, headers=20)
    assert min(counted.values()) > 100, "the sample must hold every kind of decision"


@pytest.mark.timeout(500)
@pytest.mark.full
def test_a_hundred_thousand_decisions_agree() -> None:
    counted = compare(seed=2, policies=84, rules=40, headers=40)
    assert counted["allowed"] + counted["forbidden"] + counted["by default"] == 100_800
    assert min(counted.values()) > 5_000


def narrowed(caveats: list[Caveat], verdicts: Mapping[str, Mapping[str, Verdict]]) -> dict[str, int]:
    """What is left of Cedar's verdicts when each caveat takes, group by group, what it names."""
    left = {office: {name for name in GRANTABLE if row[name].allowed} for office, row in verdicts.items()}
    for caveat in caveats:
        for office in {*flat(caveat.not_to)} & left.keys():
            left[office] -= {*GRANTABLE} if "*" in caveat.compartments else {*caveat.compartments}
    return {office: bitmap(names) | HANDLING_BIT for office, names in left.items() if names}


def flat(audiences: Iterable[str]) -> Iterator[str]:
    """The offices in ``audiences``, groups walked one by one."""
    for audience in audiences:
        kind, _, name = audience.partition(":")
        if kind == "office":
            yield name
        else:
            yield from flat(OFFICES_FILE.groups[name])


@pytest.mark.full
def test_they_agree_in_regions_on_each_day_and_after_what_authors_keep_back() -> None:
    """Rules in a network's file and those of two regions, decided today and after the last days of some."""
    rng = random.Random(3)
    compared = kept_back = 0
    for _ in range(12):
        rules = [random_rule(rng, f"r{i}") for i in range(36)]
        files = [policy(*rules[:12])]
        for region, some in (("NORTH", rules[12:24]), ("CC", rules[24:])):
            within = sorted(AREAS.below(region))
            moved = [rule.model_copy(update={"areas": (rng.choice(within),)}) for rule in some]
            files.append(policy(*moved))
            check_regional_policy(files[-1], region, AREAS)
        compiled = Compiled(files, OFFICES, AREAS)
        cedar = Cedar([rule for file in files for rule in file.rules], OFFICES_FILE, AREA_ROWS)
        for day in (TODAY, TODAY + timedelta(days=1), TODAY + timedelta(days=2), TODAY + timedelta(days=91)):
            for _ in range(9):
                header = random_header(rng)
                expected = cedar.explain(header, day)
                assert compiled.explain(header, day) == expected, (header, day)
                caveats = [
                    Caveat(
                        not_to=tuple(rng.sample(OFFICES.audiences, rng.randint(1, 2))),
                        compartments=tuple(rng.sample(["*", *GRANTABLE], rng.randint(1, 2))),
                    )
                    for _ in range(rng.randint(0, 2))
                ]
                released = compiled.release(header, day)
                kept = {office: bits for office, (bits, _) in narrow(released, caveats, OFFICES).items()}
                assert kept == narrowed(caveats, expected)
                compared += sum(map(len, expected.values()))
                kept_back += sum(kept.get(office, 0) != bits for office, (bits, _) in released.items())
    assert compared == 12 * 4 * 9 * len(OFFICES.active) * len(GRANTABLE)
    assert kept_back > 50
