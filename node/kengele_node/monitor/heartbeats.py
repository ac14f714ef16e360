"""A node's heartbeats: on its own schedule, whether she reports or not, it tells each office how far it has counted."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

from kengele_node.member import Session
from kengele_schemas import subjects
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import KengeleError, Unreachable
from kengele_schemas.heartbeat import sign_heartbeat
from kengele_schemas.trusted import Trusted

from .outbox import Outbox
from .sender import Sender

_FIRST: Final = 60.0
"""Seconds within which the first goes out once there is a line."""
_EVERY: Final = 6 * 3600.0
"""Seconds from one to the next, half of them more or less."""
_AT_ONCE: Final = 25
"""The hub takes so many in one request."""


def beats(session: Session, outbox: Outbox, trusted: Trusted, now: datetime) -> list[bytes]:
    """A heartbeat for each office to which something numbered was sent and that has a key."""
    network, key = trusted.identity, session.member.key
    made = []
    for office, number in outbox.reached(one.id for one in trusted.offices.document.offices).items():
        public = trusted.offices.public(office, now.date())
        if public is not None:
            at = int(now.timestamp())
            made.append(sign_heartbeat(office, public, number, network=network, at=at, key=key))
    return made


async def beat(session: Session, made: Sequence[bytes]) -> None:
    """Leaves ``made`` at the hub; without any it asks all the same, so that nobody sees who has never reported.

    Raises:
        KengeleError: no line, or the hub does not take them.
    """
    subject = subjects.letters_ask(session.member.nkey.public)
    for start in range(0, max(1, len(made)), _AT_ONCE):
        some = [b64u(one) for one in made[start : start + _AT_ONCE]]
        await session.ask(subject, {"do": "beat", "beats": some})


@asynccontextmanager
async def beating(session: Session, outbox: Outbox, sender: Sender) -> AsyncIterator[None]:
    """While the block runs, heartbeats go out."""
    work = asyncio.create_task(_work(session, outbox, sender))
    try:
        yield
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


async def _work(session: Session, outbox: Outbox, sender: Sender) -> None:
    wait = random.uniform(0, _FIRST)  # noqa: S311
    while True:
        await asyncio.sleep(wait)
        wait = random.uniform(0.5, 1.5) * _EVERY  # noqa: S311
        try:
            trusted = sender.trusted or await session.refresh()
            await beat(session, beats(session, outbox, trusted, datetime.now(UTC)))
        except Unreachable:
            wait = random.uniform(0.5, 1.5) * _FIRST  # noqa: S311
        except KengeleError:
            # An older hub does not know them: a report goes out all the same.
            continue
