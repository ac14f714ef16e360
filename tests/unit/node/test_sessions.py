"""Tickets let in once and not for long; sessions are few, and end."""

from __future__ import annotations

import asyncio

from kengele_node.pages.sessions import MOST, TICKET_LIFE, Sessions, Ticket, awake


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def begun() -> tuple[Sessions, Clock]:
    clock = Clock()
    return Sessions(clock), clock


def test_a_ticket_lets_in_until_its_time_is_over() -> None:
    sessions, clock = begun()
    early, late = sessions.ticket(), sessions.ticket()
    clock.now += TICKET_LIFE
    session = sessions.redeem(early.token)
    assert session is not None
    assert sessions.find(session.place) is session
    assert session.proved is None
    assert early.used.is_set()
    clock.now += 0.1
    assert sessions.redeem(late.token) is None
    assert not late.used.is_set()


def test_a_ticket_that_comes_twice_ends_what_it_opened_and_nothing_else() -> None:
    sessions, _ = begun()
    seen, other = sessions.ticket(), sessions.ticket()
    session, unharmed = sessions.redeem(seen.token), sessions.redeem(other.token)
    assert session is not None
    assert unharmed is not None
    assert sessions.redeem(seen.token) is None
    assert sessions.find(session.place) is None
    assert sessions.find(unharmed.place) is unharmed


def test_what_was_guessed_finds_nothing() -> None:
    sessions, _ = begun()
    ticket = sessions.ticket()
    for token in ("", ticket.token[:-1], ticket.token + "x", "\udcff"):
        assert sessions.redeem(token) is None
        assert sessions.find(token) is None
    assert sessions.redeem(ticket.token) is not None


def test_tickets_and_sessions_are_kept_up_to_a_number_the_newest() -> None:
    sessions, _ = begun()
    tickets = [sessions.ticket() for _ in range(MOST + 2)]
    assert [sessions.redeem(one.token) is not None for one in tickets] == [False] * 2 + [True] * MOST
    more = [sessions.redeem(sessions.ticket().token) for _ in range(3)]
    kept = [one.session for one in tickets[2:] if one.session is not None]
    assert [sessions.find(one.place) is not None for one in kept] == [False] * 3 + [True] * (MOST - 3)
    assert all(one is not None and sessions.find(one.place) for one in more)


def test_every_secret_is_another_and_none_is_shown() -> None:
    sessions, _ = begun()
    ticket = sessions.ticket()
    session = sessions.redeem(ticket.token)
    assert session is not None
    words = {ticket.token, session.place, session.cookie, session.form_token}
    assert len(words) == 4
    assert all(len(word) == 32 for word in words)
    assert not [word for word in words if word in repr(ticket) + repr(session)]


def test_who_waits_for_a_ticket_hears_that_it_was_used() -> None:
    async def run() -> None:
        sessions, _ = begun()
        ticket: Ticket = sessions.ticket()
        waiting = asyncio.create_task(ticket.used.wait())
        await asyncio.sleep(0)
        sessions.redeem(ticket.token)
        await asyncio.wait_for(waiting, 10)

    asyncio.run(run())


def test_the_clock_goes_on() -> None:
    assert awake() <= awake()
