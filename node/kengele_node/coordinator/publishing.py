"""A draft that enough have signed is sent to the hub, which brings it into force.

version = await publish(session, draft)
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from kengele_node.member import Session, encode_files
from kengele_schemas import foreign, metadata, subjects
from kengele_schemas.drafts import Draft
from kengele_schemas.errors import Refused
from kengele_schemas.metadata import Files

from .drafting import HUB_RESTORED

_PATIENCE: Final = 30.0
"""Seconds: a cluster that has lost a server elects within a few."""
_PAUSE: Final = 1.0
_MOMENT: Final = 15.0
"""Seconds for which workers of the hub may differ."""
_PASSING: Final = "broker-unavailable"


async def publish(session: Session, draft: Draft) -> int:
    """The version that ``draft`` is now.

    While the hub's broker does not confirm, it is sent again: the hub brings to its end what it had begun. A hub that
    was restored from a copy is given what its sender holds as well, for it may lack what was signed since.

    The hub's word that it is in force is not taken: it is fetched and verified as any member would.

    Raises:
        Refused: the hub does not take it, or not within half a minute; ``not-in-force``: it serves something else.
        Untrusted: what the hub serves does not hold.
        Unreachable: no line.
    """
    files = encode_files(draft.files())
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            await _sent(session, files)
            break
        except Refused as told:
            if told.code != _PASSING or time.monotonic() > deadline:
                raise
        await asyncio.sleep(_PAUSE)
    return await in_force(session, draft)


async def in_force(session: Session, draft: Draft) -> int:
    """The version that the hub serves to members, ``draft`` or one that followed it. Raises as :func:`publish`.

    Another worker of the hub may be a moment behind, so it is asked for some seconds.
    """
    deadline = time.monotonic() + _MOMENT
    while True:
        trusted = await session.refresh()
        if _holds(session.member.trust.files(), draft.files()):
            return trusted.version
        if time.monotonic() > deadline:
            raise Refused(
                "not-in-force",
                f"The hub says that this version is in force, but it serves members version {trusted.version}.",
                "Do not rely on it. Tell the other coordinators and who runs the hub; then publish it again.",
            )
        await asyncio.sleep(_PAUSE)


def _holds(files: Files, sent: Files) -> bool:
    """Whether each list that was sent is the one in ``files``, or another has followed it there."""
    held = {name: (version, path) for version, name, path in _lists(files)}
    return all(
        version < held.get(name, (0, ""))[0] or files.get(path) == sent[path] for version, name, path in _lists(sent)
    )


def _lists(files: Files) -> list[tuple[int, str, str]]:
    """Version, role and path of each metadata file, the older versions of a role first."""
    return sorted((version, name, path) for path in files for version, name in metadata.versions([path]))


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
