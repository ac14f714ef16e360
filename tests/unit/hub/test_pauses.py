"""Pauses: whoever goes on sending too much is kept out, longer each time, and nobody else is."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import pytest
from structlog.testing import capture_logs

from kengele_hub import pauses as pauses_module
from kengele_hub.errors import Unavailable
from kengele_hub.pauses import FIRST, LONGEST, MOST, QUIET, WINDOW, Pauses, Tally

NOW = 1_800_000_000


class Broker:
    """What is asked of the broker, in its place."""

    def __init__(self) -> None:
        self.asked: list[dict[str, int]] = []
        self.revoked: list[set[str]] = []
        self.failures: list[Exception] = []
        self.heard = asyncio.Event()

    async def pause(self, until: Mapping[str, int], revoked: Collection[str] = ()) -> None:
        self.heard.set()
        if self.failures:
            raise self.failures.pop(0)
        self.asked.append(dict(until))
        self.revoked.append(set(revoked))


class Setting:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pauses_module, "_REST", 0.0)
        self.now = float(NOW)
        self.broker = Broker()
        self.pauses = Pauses(self.broker, lambda: {"gone"}, clock=lambda: self.now)  # type: ignore[arg-type]

    async def settled(self) -> None:
        """Returns when the broker has been asked for what is wanted."""
        running = asyncio.create_task(self.pauses.run())
        async with asyncio.timeout(60):
            while self.pauses._wanted or not self.broker.heard.is_set():
                await asyncio.sleep(0)
        self.broker.heard.clear()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    def floods(self, *senders: str) -> list[dict[str, int]]:
        """What the broker was asked for after ``senders`` sent more than is borne."""
        for sender in senders:
            for _ in range(MOST):
                self.pauses.note(sender, 1)
        self.broker.asked.clear()
        asyncio.run(self.settled())
        return self.broker.asked

    def lengths(self, *waits: int) -> list[int]:
        """How long each pause is of a sender that begins again so many seconds after the end of the one before."""
        found: list[int] = []
        for wait in waits:
            self.now += wait
            ((_, until),) = self.floods("loud")[0].items()
            found.append(until - int(self.now))
            self.now = until
        return found


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Setting:
    return Setting(monkeypatch)


def test_what_is_counted_is_forgotten_when_its_window_closes() -> None:
    tally = Tally()
    assert [tally.add("a", 2, at) for at in (100, 101, 100 + WINDOW - 0.1, 100 + WINDOW)] == [2, 4, 6, 2]
    assert tally.add("b", 1, 100 + WINDOW) == 1
    tally.forget("a")
    assert tally.add("a", 1, 100 + WINDOW) == 1


def test_who_stays_below_what_is_borne_is_not_paused(setting: Setting) -> None:
    for _ in range(MOST - 1):
        setting.pauses.note("calm", 1)
        setting.pauses.note("other", 1)
    assert setting.pauses._wanted == {}
    assert setting.pauses.count == 0


def test_many_senders_are_paused_with_one_word_to_the_broker_and_it_knows_whom_the_roster_revoked(
    setting: Setting,
) -> None:
    assert setting.floods("a", "b", "c") == [dict.fromkeys("abc", NOW + FIRST)]
    assert setting.broker.revoked == [{"gone"}]
    assert setting.pauses.count == 3


def test_each_pause_is_twice_as_long_as_the_one_before_up_to_the_longest(setting: Setting) -> None:
    assert setting.lengths(*[1] * 8) == [60, 120, 240, 480, 960, 1920, LONGEST, LONGEST]


def test_after_a_quiet_day_it_begins_anew(setting: Setting) -> None:
    assert setting.lengths(0, 1, QUIET, QUIET + 1) == [60, 120, 240, 60]


def test_pauses_that_are_over_for_a_day_fill_nothing(setting: Setting) -> None:
    for number in range(5):
        setting.floods(*(f"{number}/{one}" for one in range(10)))
        setting.now += 2 * QUIET
    setting.floods("last")
    assert set(setting.pauses._ends) == {"last"}


def test_what_was_still_on_its_way_makes_no_pause_longer(setting: Setting) -> None:
    first = setting.floods("loud")
    setting.now += FIRST
    assert setting.floods("loud") == first == [{"loud": NOW + FIRST}]
    assert setting.pauses.count == 1


def test_a_broker_that_is_away_ends_nothing_and_whoever_goes_on_is_paused_later(setting: Setting) -> None:
    setting.broker.failures = [Unavailable("broker-unavailable", "Away."), RuntimeError("canary")]
    with capture_logs() as told:
        assert [setting.floods("loud") for _ in range(2)] == [[], []]
        assert setting.floods("loud") == [{"loud": NOW + FIRST}]
    assert told == [
        {"event": "pause-not-taken", "code": "broker-unavailable", "log_level": "warning"},
        {"event": "pause-failed", "error": "RuntimeError", "log_level": "error"},
        {"event": "senders-paused", "count": 1, "log_level": "warning"},
    ]
