"""Senders: no more of one under way than is allowed, whoever sends more is noted, and nobody at the door."""

from __future__ import annotations

import asyncio

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from kengele_hub.senders import WEIGHT, Senders
from kengele_schemas import subjects
from kengele_schemas.nkeys import KeyPair

ONE, OTHER = (KeyPair.generate("user").public for _ in range(2))


class Noted:
    """Takes the place of the pauses."""

    def __init__(self) -> None:
        self.found: list[tuple[str, int]] = []

    def note(self, sender: str, weight: int) -> None:
        self.found.append((sender, weight))


class Line:
    """Takes the place of the line; it is gone where ``away``."""

    def __init__(self, *, away: bool = False) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self._away = away

    async def publish(self, subject: str, data: bytes) -> None:
        if self._away:
            raise nats.errors.ConnectionClosedError
        self.sent.append((subject, data))


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
def senders(noted: Noted) -> Senders:
    return Senders(Line(), noted)  # type: ignore[arg-type]


def message(subject: str, data: bytes = b"", reply: str = "") -> Msg:
    return Msg(Client(), subject, reply, data)


def test_each_has_so_much_under_way_and_no_more_until_something_is_done_with(senders: Senders, noted: Noted) -> None:
    own, another = message(subjects.reports_submit(ONE)), message(subjects.reports_submit(OTHER))
    assert [senders.enter(own, 2) for _ in range(3)] == [True, True, False]
    assert senders.enter(another, 2)
    assert senders.busy == 2
    senders.leave(own)
    assert senders.enter(own, 2)
    assert noted.found == [(ONE, 1)]


def test_nothing_is_kept_of_who_has_nothing_under_way(senders: Senders) -> None:
    own = message(subjects.reports_submit(ONE))
    senders.enter(own, 1)
    senders.leave(own)
    senders.leave(own)
    assert senders.busy == 0


def test_what_is_large_counts_for_more(senders: Senders, noted: Noted) -> None:
    senders.too_much(message(subjects.reports_submit(ONE), bytes(3 * WEIGHT)))
    assert noted.found == [(ONE, 4)]


@pytest.mark.parametrize("subject", [subjects.join_credentials(ONE), "report.nobody.submit", "x"])
def test_nobody_is_noted_for_what_another_may_have_sent(senders: Senders, noted: Noted, subject: str) -> None:
    senders.too_much(message(subject))
    assert noted.found == []


@pytest.mark.parametrize(("line", "reply"), [(Line(away=True), "inbox"), (Line(), "")])
def test_an_answer_that_reaches_nobody_stops_nothing(noted: Noted, line: Line, reply: str) -> None:
    asyncio.run(Senders(line, noted).answer(message("x", reply=reply), b"answer"))  # type: ignore[arg-type]
    assert line.sent == []
