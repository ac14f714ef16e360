"""Authors' heartbeats: one an author and office, the newest in the place of the one before.

The hub sees for whom one is, and not what it says. An office is given those that are for it, by who is a monitor now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from nats.aio.client import Client

from kengele_schemas import subjects
from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.heartbeat import read_heartbeat

from . import consumers, jetstream, streams
from .intake import Standing

MAX_BEATS: Final = 25
"""In one request: of the larger suite they have 45 kB."""
MAX_HEARD: Final = 100
"""In one answer."""


@dataclass(frozen=True)
class Heartbeats:
    """They stand beside the letters, and are forgotten as those are."""

    nc: Client

    async def answer(
        self, role: str, member: str, document: Mapping[str, Any], standing: Standing
    ) -> dict[str, Any] | None:
        """The answer to ``{"do": "beat"}`` of a monitor or ``{"do": "heard"}`` of an office; None to anything else.

        Raises:
            Malformed, Untrusted, Refused: what is wrong with it.
        """
        what = document.get("do")
        if what == "beat" and role == "monitor":
            return await self._put(member, document.get("beats"), standing)
        if what == "heard" and role == "office":
            return await self._heard(member, document.get("skip", 0), standing)
        return None

    async def _put(self, member: str, beats: object, standing: Standing) -> dict[str, Any]:
        monitor = standing.trusted.monitors.get(member)
        if monitor is None or monitor.status != "active":
            raise Refused("not-admitted", "This monitor is not active.")
        if not isinstance(beats, list) or len(beats) > MAX_BEATS or not all(isinstance(one, str) for one in beats):
            raise Malformed("malformed", "This is no request of heartbeats.")
        items: dict[str, tuple[str, bytes, dict[str, str]]] = {}
        for data in map(unb64u, beats):
            said = read_heartbeat(data, None, standing.trusted.identity)
            author = standing.trusted.monitors.get(said.kid) if said.kid in standing.names_of(member) else None
            if author is None or standing.trusted.offices.get(said.office) is None:
                raise Malformed("malformed", "A heartbeat is of another author, or for no office.")
            read_heartbeat(data, unb64u(author.key), standing.trusted.identity)
            subject = subjects.letter_item(f"beat-{said.office}", member)
            items[subject] = (subject, data, {})
        if items:
            await jetstream.publish_batch(self.nc, [*items.values()])
        return {"code": "kept"}

    async def _heard(self, office: str, skip: object, standing: Standing) -> dict[str, Any]:
        if type(skip) is not int or skip < 0:
            raise Malformed("malformed", "This is no request for heartbeats.")
        now = {
            member
            for role, member in standing.roles.values()
            if role == "monitor" and standing.trusted.monitors[member].status == "active"
        }
        # Names first, and then what is on this page: to read all for each page would take one second for ten thousand.
        there = await streams.subjects_in(self.nc, subjects.LETTERS, subjects.letter_items(f"beat-{office}"))
        held = [subject for subject in there if subject.split(".")[2] in now]
        page = held[skip : skip + MAX_HEARD]
        reading = consumers.read_all(self.nc, subjects.LETTERS, only=page) if page else None
        found = {one.subject: one.data async for one in reading} if reading else {}
        more = skip + MAX_HEARD if skip + MAX_HEARD < len(held) else None
        return {"code": "heard", "beats": [found[one].decode("ascii") for one in page if one in found], "next": more}
