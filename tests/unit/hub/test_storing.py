"""Whether the broker writes what it is given."""

from __future__ import annotations

from kengele_hub.errors import StorageFull, Unavailable
from kengele_hub.storing import Storing

FAILED = Unavailable("broker-unavailable", "The broker did not confirm.", "Send it again.")
FULL = StorageFull("storage-full", "The hub's storage takes no more.", "Give it more room.")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now

    def later(self, seconds: float) -> None:
        self.now += seconds


def test_a_stream_that_fails_again_and_again_is_stuck_for_as_long() -> None:
    clock = Clock()
    storing = Storing(clock)
    assert storing.stuck == 0
    storing.note("LEDGER", FAILED)
    clock.later(12)
    storing.note("LEDGER", FAILED)
    clock.later(9)
    storing.note("LEDGER", FAILED)
    assert storing.stuck == 21


def test_one_failure_is_no_sign_however_long_ago_it_was() -> None:
    clock = Clock()
    storing = Storing(clock)
    storing.note("LEDGER", FAILED)
    clock.later(3600)
    assert storing.stuck == 0


def test_what_was_stored_ends_it_for_its_own_stream_only() -> None:
    clock = Clock()
    storing = Storing(clock)
    for _ in range(2):
        storing.note("LEDGER", FAILED)
        storing.note("FEED", FAILED)
        clock.later(5)
    storing.note("LEDGER", None)
    assert storing.stuck == 5
    storing.note("FEED", None)
    assert storing.stuck == 0


def test_a_bound_that_is_reached_is_no_failure_of_the_broker() -> None:
    clock = Clock()
    storing = Storing(clock)
    for _ in range(3):
        storing.note("LEDGER", FULL)
        clock.later(30)
    assert storing.stuck == 0


def test_a_broker_that_begins_anew_begins_with_nothing_held_against_it() -> None:
    clock = Clock()
    storing = Storing(clock)
    for _ in range(2):
        storing.note("LEDGER", FAILED)
        clock.later(30)
    storing.begin_anew()
    assert storing.stuck == 0
