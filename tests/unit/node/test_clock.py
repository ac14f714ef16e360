"""A home's time: a clock that is set back brings no rules back, and nobody's word alone makes any run out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kengele_node.clock import Clock
from kengele_node.rows import RowCipher
from kengele_testing.values import NOW, grant, network

ROWS = RowCipher(b"k" * 32, "clock")
DAY = timedelta(days=1)
END = NOW + 7 * DAY
RULES = network(grant(), expires=END)
FOREVER = datetime(9999, 12, 31, tzinfo=UTC)


class Machine:
    def __init__(self, at: datetime = NOW) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def machine() -> Machine:
    return Machine()


def home_clock(home: Path, machine: Machine, rows: RowCipher = ROWS) -> Clock:
    """As each command opens it anew."""
    return Clock(home, rows, machine)


def test_rules_that_ran_out_by_this_clock_stay_so_when_it_is_set_back(tmp_path: Path, machine: Machine) -> None:
    machine.at = END + DAY
    home_clock(tmp_path, machine).used(RULES)
    machine.at = NOW
    clock = home_clock(tmp_path, machine)
    assert clock.now() > END
    assert clock.behind() == clock.now()


def test_what_was_verified_at_the_hub_is_the_least_that_the_time_is(tmp_path: Path, machine: Machine) -> None:
    machine.at = NOW + 3 * DAY
    home_clock(tmp_path, machine).looked(RULES)
    machine.at = datetime(2020, 1, 1, tzinfo=UTC)
    clock = home_clock(tmp_path, machine)
    assert clock.now() == clock.at_the_hub() == NOW + 3 * DAY


@pytest.mark.parametrize("claimed", [END, END + 400 * DAY, FOREVER])
def test_a_hub_alone_cannot_make_rules_run_out_nor_shut_out_the_hub_that_follows_it(
    tmp_path: Path, machine: Machine, claimed: datetime
) -> None:
    clock = home_clock(tmp_path, machine)
    clock.looked(RULES, claimed)
    clock.told(RULES, claimed)
    for found in (clock, home_clock(tmp_path, machine)):
        assert NOW < found.now() < END
        assert found.at_the_hub() == NOW


def test_the_hubs_word_is_enough_to_notice_that_a_clock_is_behind(tmp_path: Path, machine: Machine) -> None:
    machine.at = datetime(2020, 1, 1, tzinfo=UTC)
    clock = home_clock(tmp_path, machine)
    clock.told(RULES, NOW)
    assert home_clock(tmp_path, machine).behind() == clock.now() == NOW


def test_a_clock_that_was_wrong_costs_the_rules_it_judged_and_no_others(tmp_path: Path, machine: Machine) -> None:
    machine.at = FOREVER
    home_clock(tmp_path, machine).used(RULES)
    machine.at = NOW
    clock = home_clock(tmp_path, machine)
    assert END < clock.now() < END + DAY
    assert clock.at_the_hub() == NOW  # and the next look at the hub is none too late
    assert clock.now() < network(grant(), version=2, expires=END + 7 * DAY).targets_expire


def test_an_area_whose_own_rules_end_first_is_not_ended_by_the_hubs_word(tmp_path: Path, machine: Machine) -> None:
    ends = {"policy/KG.json": NOW + 2 * DAY, "policy/SD.json": NOW - DAY}
    clock = home_clock(tmp_path, machine)
    clock.told(replace(RULES, ends=ends), FOREVER)
    assert NOW < clock.now() < NOW + 2 * DAY


def test_a_small_step_is_kept_where_rules_ran_out_in_it(tmp_path: Path, machine: Machine) -> None:
    machine.at = END - timedelta(seconds=5)
    home_clock(tmp_path, machine).used(RULES)
    machine.at = END + timedelta(seconds=5)
    home_clock(tmp_path, machine).used(RULES)
    machine.at = NOW
    assert home_clock(tmp_path, machine).now() > END


def test_small_steps_add_up(tmp_path: Path, machine: Machine) -> None:
    clock = home_clock(tmp_path, machine)
    for _ in range(100):
        machine.at += timedelta(seconds=10)
        clock.used(RULES)
    machine.at = NOW
    assert home_clock(tmp_path, machine).now() > NOW + timedelta(seconds=900)


def test_nothing_that_another_wrote_counts_nor_stops_the_home(tmp_path: Path, machine: Machine) -> None:
    machine.at = END + DAY
    home_clock(tmp_path, machine, RowCipher(b"o" * 32, "clock")).used(RULES)
    machine.at = NOW
    assert home_clock(tmp_path, machine).now() == NOW
    for data in (b"", b"x" * 10_000, b"{}"):
        (tmp_path / "clock").write_bytes(data)
        assert home_clock(tmp_path, machine).now() == NOW


def test_the_file_tells_no_time(tmp_path: Path, machine: Machine) -> None:
    home_clock(tmp_path, machine).used(RULES)
    data = (tmp_path / "clock").read_bytes()
    assert str(int(NOW.timestamp())).encode() not in data
    assert (tmp_path / "clock").stat().st_mode & 0o077 == 0
