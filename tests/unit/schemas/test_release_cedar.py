"""Kengele and Cedar decide alike, and name the same rules as having decided."""

from __future__ import annotations

import random

import pytest

from kengele_schemas.compartments import GRANTABLE, HANDLING_BIT, bitmap
from kengele_schemas.release import Compiled, Verdict
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


@pytest.mark.full
def test_sixty_thousand_decisions_agree() -> None:
    counted = compare(seed=2, policies=50, rules=40, headers=40)
    assert counted["allowed"] + counted["forbidden"] + counted["by default"] == 60_000
    assert min(counted.values()) > 3_000
