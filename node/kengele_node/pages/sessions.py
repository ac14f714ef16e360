"""Tickets and sessions: an address that lets one browser in, once, and what that browser is known by from then on.

A session is known by two secrets: one in the path of every page, one in a cookie for that path alone. Cookies know no
ports, so any other server on 127.0.0.1 can ask a browser for them; it does not know the path, and is sent none.
Source: RFC 6265 §5.1.4 (path-match), §8.5 (cookies know no ports).
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

TICKET_LIFE: Final = 120.0
"""Seconds for which an address lets somebody in, if nobody came by it before."""
MOST: Final = 8
"""Sessions, and tickets, that are kept; the oldest go first."""

Clock = Callable[[], float]


def awake() -> float:
    """Seconds on a clock that runs on while the machine sleeps, where the system has one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _secret() -> str:
    return secrets.token_urlsafe(24)


@dataclass(slots=True)
class Session:
    """One browser that came in."""

    place: str = field(default_factory=_secret, repr=False)
    cookie: str = field(default_factory=_secret, repr=False)
    form_token: str = field(default_factory=_secret, repr=False)
    proved: float | None = None
    """When the passphrase was typed in it last."""
    wrong: int = 0
    """Wrong passphrases since then."""


@dataclass(slots=True)
class Ticket:
    """An address that lets one browser in."""

    until: float
    token: str = field(default_factory=_secret, repr=False)
    used: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    session: Session | None = None


class Sessions:
    """All tickets and sessions of one process."""

    def __init__(self, clock: Clock = awake) -> None:
        self.clock = clock
        self._tickets: dict[str, Ticket] = {}
        self._open: dict[str, Session] = {}

    def ticket(self) -> Ticket:
        """A new ticket."""
        ticket = Ticket(self.clock() + TICKET_LIFE)
        self._tickets[ticket.token] = ticket
        _trim(self._tickets)
        return ticket

    def redeem(self, token: str) -> Session | None:
        """The session that the ticket opens; None if there is no such ticket or it is over.

        A ticket that comes twice was seen by somebody else: the session that it opened ends.
        """
        ticket = self._tickets.get(token)
        if ticket is None:
            return None
        if ticket.session is not None:
            self.end(ticket.session)
            return None
        if self.clock() > ticket.until:
            return None
        ticket.session = session = Session()
        ticket.used.set()
        self._open[session.place] = session
        _trim(self._open)
        return session

    def find(self, place: str) -> Session | None:
        """The session at ``place``."""
        return self._open.get(place)

    def end(self, session: Session) -> None:
        """Ends ``session``."""
        self._open.pop(session.place, None)


def _trim(kept: dict[str, object] | dict[str, Ticket] | dict[str, Session]) -> None:
    while len(kept) > MOST:
        del kept[next(iter(kept))]
