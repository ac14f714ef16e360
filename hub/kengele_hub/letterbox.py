"""The letterbox: where members leave word for the coordinators that other keys are to follow theirs.

A member has one letter there, its latest. The hub lets in what that member signed and nothing else, to keep out
rubbish; coordinators look at each signature themselves, and nothing counts before enough of them have signed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from nats.aio.client import Client

from kengele_schemas import subjects
from kengele_schemas.encoding import dumps, loads
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.invitations import read_signed
from kengele_schemas.rotation import Epoch, OfficeKeys

from . import consumers, jetstream
from .intake import Standing

MAX_REQUEST: Final = 64 * 1024
MAX_VALUES: Final = 1000
"""In one request. Anybody who is let in sends them, and reading one holds up all others."""
MAX_LISTED: Final = 1000
"""Letters that one list names, the oldest first; more wait until those are dealt with."""
_LETTERS: Final = tuple(map(subjects.letter_items, ("office", "monitor")))


@dataclass(frozen=True)
class Letterbox:
    """The letters, kept in the broker for sixty days."""

    nc: Client

    async def put(self, role: str, member: str, request: bytes, standing: Standing, network: str) -> dict[str, Any]:
        """Keeps the letter of ``member``, in the place of its last one; a monitor is told whether it was taken in.

        A monitor is never served the list in which it stands, as others stand there, too; so it goes by the hub's word
        for when to change its name. A hub that lies could as well refuse its reports.

        Args:
            role: of the member.
            member: who sends it.
            request: ``{"do": "put", "card": …}``.
            standing: the members in force.
            network: the digest of its first root.

        Raises:
            Malformed, Untrusted, Refused: what is wrong with it.
        """
        document = letter_in(request)
        if document.get("do") != "put":
            raise Malformed("malformed", "This is no request to the letterbox.")
        office = standing.trusted.offices.get(member) if role == "office" else None
        monitor = standing.trusted.monitors.get(member) if role == "monitor" else None
        if office is not None:
            read_signed(document.get("card"), OfficeKeys).check(office, network)
        elif monitor is not None:
            epoch = read_signed(document.get("card"), Epoch)
            if epoch.kid == member and epoch.after in standing.names_of(member):
                return {"code": "taken"}
            epoch.check(monitor, network)
        else:
            raise Refused("not-admitted", "This member leaves no letters.")
        body = dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), "card": document["card"]})
        await jetstream.publish_batch(self.nc, [(subjects.letter_item(role, member), body, {})])
        return {"code": "kept"}

    async def read(self, request: bytes, standing: Standing) -> dict[str, Any]:
        """The answer to a coordinator: ``list``, or ``get`` for one member's letter.

        Raises:
            Malformed: this is no request.
            Refused: ``no-such-letter``.
        """
        document = letter_in(request)
        what, role, member = (document.get(name) for name in ("do", "role", "member"))
        if what == "list":
            return {"code": "listed", "letters": await self._all(standing)}
        if what != "get" or role not in ("office", "monitor") or not isinstance(member, str):
            raise Malformed("malformed", "This is no request to the letterbox.")
        stored = await jetstream.last(self.nc, subjects.LETTERS, subjects.letter_item(role, member))
        if stored is None:
            raise Refused("no-such-letter", "No letter of this member waits.", "See: coordinator members pending")
        return {"code": "found", **loads(stored.data, max_bytes=2 * MAX_REQUEST)}

    async def _all(self, standing: Standing) -> list[dict[str, str]]:
        """Who has left a letter and when; nobody who is not a member any more."""
        members = set(standing.roles.values())
        found: list[dict[str, str]] = []
        # Without what stands in them, and without the heartbeats beside them, of which there are many more.
        async for stored in consumers.read_all(self.nc, subjects.LETTERS, only=_LETTERS, bare=True):
            _, role, member = stored.subject.split(".")
            if (role, member) in members and stored.at is not None and len(found) < MAX_LISTED:
                found.append({"role": role, "member": member, "at": stored.at.isoformat(timespec="seconds")})
        return found


def letter_in(request: bytes) -> Mapping[str, Any]:
    """The document of a request to the letterbox. Raises Malformed."""
    document = loads(request, max_bytes=MAX_REQUEST, max_values=MAX_VALUES)
    if not isinstance(document, dict):
        raise Malformed("malformed", "This is no request to the letterbox.")
    return document
