"""A draft that enough have signed is sent to the hub, which brings it into force.

version = await publish(session, draft)
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from kengele_node.member import Session, encode_files
from kengele_schemas import foreign, subjects
from kengele_schemas.drafts import Draft
from kengele_schemas.errors import Refused

from .drafting import HUB_RESTORED

_PATIENCE: Final = 30.0
"""Seconds: a cluster that has lost a server elects within a few."""
_PAUSE: Final = 1.0
_PASSING: Final = "broker-unavailable"


async def publish(session: Session, draft: Draft) -> int:
    """The version that ``draft`` is now.

    While the hub's broker does not confirm, it is sent again: the hub brings to its end what it had begun. A hub that
    was restored from a copy is given what its sender holds as well, for it may lack what was signed since.

    Raises:
        Refused: the hub does not take it, or not within half a minute.
        Unreachable: no line.
    """
    files = encode_files(draft.files())
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return await _sent(session, files)
        except Refused as told:
            if told.code != _PASSING or time.monotonic() > deadline:
                raise
        await asyncio.sleep(_PAUSE)


async def _sent(session: Session, files: dict[str, str]) -> int:
    try:
        return await _asked(session, files)
    except Refused as told:
        if told.code != HUB_RESTORED:
            raise
    return await _asked(session, {**encode_files(session.member.trust.files()), **files})


async def _asked(session: Session, files: dict[str, str]) -> int:
    answer = await session.ask(subjects.publish_metadata(session.member.nkey.public), files)
    if answer["code"] != "published":
        raise Refused(foreign.code(answer["code"]), "The hub did not say that this is in force.", "Publish it again.")
    return int(answer["version"])
