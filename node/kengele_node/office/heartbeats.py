"""What a desk makes of authors' heartbeats: when each was heard last, and whether her last reports never came."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from kengele_schemas import subjects
from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import KengeleError
from kengele_schemas.heartbeat import read_heartbeat
from kengele_schemas.keys import OpeningKey
from kengele_schemas.rotation import Lineage
from kengele_schemas.trusted import Trusted

from .inbox import Inbox

_PAGES: Final = 200
"""So many answers are asked for at most, whatever the hub says of more."""


class Session(Protocol):
    """What it needs of a :class:`~kengele_node.member.Session`."""

    async def ask(self, subject: str, document: Any) -> dict[str, Any]: ...


async def listen(
    session: Session,
    inbox: Inbox,
    trusted: Trusted,
    *,
    office: str,
    keys: Sequence[OpeningKey],
    nkey: str,
    clock: Callable[[], float] = time.time,
) -> None:
    """Takes what heartbeats the hub has for ``office``. One that does not hold is passed over: it says nothing."""
    lineage, skip = Lineage(trusted.monitors, trusted.identity), 0
    for _ in range(_PAGES):
        answer = await session.ask(subjects.letters_ask(nkey), {"do": "heard", "skip": skip})
        said = answer.get("beats")
        for data in said if isinstance(said, list) else ():
            take(str(data).encode(), inbox, trusted, lineage, office=office, keys=keys, now=clock())
        following = answer.get("next")
        if type(following) is not int or following <= skip:
            break
        skip = following
    inbox.settle_heard(clock())


def take(
    data: bytes,
    inbox: Inbox,
    trusted: Trusted,
    lineage: Lineage,
    *,
    office: str,
    keys: Sequence[OpeningKey],
    now: float,
) -> None:
    """Keeps what a heartbeat says, if it is an active author's for this office."""
    try:
        said = read_heartbeat(data, None, trusted.identity)
        author = trusted.monitors.get(said.kid)
        if author is None or author.status != "active" or said.office != office:
            return
        read_heartbeat(data, unb64u(author.key), trusted.identity)
        number = said.open(keys)
    except KengeleError:
        return
    # A clock that runs ahead does not make her heard in days to come.
    inbox.hear(lineage.first(said.kid), at=min(said.at, now), number=number, now=now)
