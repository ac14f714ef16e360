"""Dates: coordinators are told of what ends in time, and louder when it is nearly too late."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from kengele_node.coordinator.dates import endings
from kengele_testing.values import NOW, grant, network

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("days", "told"), [(-1, None), (0, True), (3, True), (4, False), (14, False), (15, None)], ids=str
)
def test_a_rules_end_is_told_a_fortnight_before_and_louder_in_the_last_three_days(days: int, told: bool | None) -> None:
    trusted = network(grant(expires=str((NOW + days * DAY).date())))
    assert [ending.loud for ending in endings(trusted, NOW)] == ([] if told is None else [told])


def test_signatures_are_told_in_their_last_three_days_each_areas_own_and_after() -> None:
    trusted = network(expires=NOW + 7 * DAY)
    assert endings(trusted, NOW) == []
    ends = {"policy/KG.json": NOW + 2 * DAY, "monitors/KG.json": NOW - DAY, "policy/KZ.json": NOW + 9 * DAY}
    told = [str(ending) for ending in endings(replace(trusted, ends=ends), NOW)]
    assert [text.partition(" on ")[2].partition(" ")[0] for text in told] == ["monitors/KG.json", "policy/KG.json"]
    assert "ran out" in told[0]
    assert "run out" in told[1]
    assert all(text.startswith("NOW: ") for text in told)
