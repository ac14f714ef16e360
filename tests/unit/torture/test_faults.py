"""The schedule of faults is the seed's, whole and repeatable."""

from __future__ import annotations

from collections import Counter

import pytest

from torture.faults import schedule


def test_one_seed_gives_one_schedule_and_another_gives_another() -> None:
    assert schedule(7, 50, 30) == schedule(7, 50, 30)
    assert schedule(7, 50, 30) != schedule(8, 50, 30)


@pytest.mark.parametrize("kills", [0, 1, 6, 50])
def test_as_many_processes_are_killed_as_were_asked_for_and_every_other_way_is_tried(kills: int) -> None:
    found = Counter(fault.kind for fault in schedule(1, kills, 30))
    assert found["kill"] == kills
    assert all(found[kind] for kind in ("disk", "byte", "rules", "revoke", "forge"))


def test_what_cannot_be_had_is_left_out_and_the_rest_stays_as_it_is() -> None:
    whole = schedule(3, 50, 30)
    assert schedule(3, 50, 30, ("cut", "clock")) == [fault for fault in whole if fault.kind not in ("cut", "clock")]


def test_faults_come_in_order_and_before_the_last_report() -> None:
    times = [fault.at for fault in schedule(5, 100, 30)]
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] < 1


def test_every_role_is_killed_in_time() -> None:
    killed = {fault.role for fault in schedule(1, 200, 30) if fault.kind == "kill"}
    assert killed == {"broker", "hub", "node", "desk", "writer"}


def test_few_nodes_are_revoked_or_damaged_however_many_are_killed() -> None:
    found = Counter(fault.kind for fault in schedule(1, 1000, 12))
    assert found["revoke"] <= 2
    assert found["byte"] <= 3
