"""The board: where coordinators find each other's proposals, so that none has to be carried from desk to desk.

A proposal is a draft with at least one coordinator's signature. It counts for nothing here, and the hub can change
none: who takes it from the board checks it as if it came by courier. What it would bring into force is no secret from
the hub, which serves the documents once they hold.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from nats.aio.client import Client

from kengele_schemas import signatures, subjects
from kengele_schemas.drafts import Draft
from kengele_schemas.encoding import dumps, loads
from kengele_schemas.errors import KengeleError, Malformed, Refused
from kengele_schemas.packing import pack, unpack

from . import consumers, jetstream

MAX_UNPACKED: Final = 8 * 1024 * 1024
MAX_PROPOSALS: Final = 200
MAX_HELD: Final = 64 * 1024 * 1024
"""Bytes of all proposals together, unpacked: whoever looks at the board has the hub read them all."""
_PROPOSAL: Final = "proposal"


class _Item(NamedTuple):
    """A proposal; ``size`` is that of the item in bytes."""

    name: str
    at: str
    draft: Draft
    size: int


@dataclass
class Board:
    """Proposals by their id, kept in the broker for thirty days."""

    nc: Client
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def answer(self, request: bytes) -> dict[str, Any]:
        """The answer to a coordinator: ``list``, ``get``, ``put`` or ``drop``.

        Raises:
            Malformed, Refused, Untrusted: what is wrong with the request or the draft.
        """
        document = loads(unpack(request, max_bytes=MAX_UNPACKED), max_bytes=MAX_UNPACKED)
        if not isinstance(document, dict):
            raise Malformed("malformed", "This is no request to the board.")
        what, name = document.get("do"), document.get("name")
        if what == "list":
            return {"code": "listed", "proposals": [_told(item) for item in await self._all()]}
        if what == "put":
            return await self._put(_draft(document.get("draft")))
        if not isinstance(name, str):
            raise Malformed("malformed", "This is no request to the board.")
        if what == "get":
            _, draft = await self._find(name)
            return {"code": "found", "draft": draft.encode().decode("utf-8")}
        if what == "drop":
            await self._find(name)
            await jetstream.purge(self.nc, subjects.BOARD, subjects.board_item(_PROPOSAL, name))
            return {"code": "dropped"}
        raise Malformed("malformed", "This is no request to the board.")

    async def _put(self, draft: Draft) -> dict[str, Any]:
        if not signatures.signed_by(draft):
            raise Refused("too-few-signatures", "A proposal is signed by whoever makes it.", "Sign it first.")
        name = signatures.draft_id(draft)
        async with self._changing:
            known = {item.name: item for item in await self._all()}
            if name in known:
                draft = signatures.merge(known[name].draft, draft)
            text = draft.encode().decode("utf-8")
            held = sum(item.size for item in known.values() if item.name != name) + len(text)
            if (name not in known and len(known) >= MAX_PROPOSALS) or held > MAX_HELD:
                raise Refused("board-full", "Too many proposals are on the board.", "Take some off it: board drop")
            body = pack(dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), "draft": text}))
            await jetstream.publish_batch(self.nc, [(subjects.board_item(_PROPOSAL, name), body, {})])
        return {"code": "kept", "name": name, "missing": signatures.missing(draft)}

    async def _find(self, name: str) -> tuple[str, Draft]:
        for item in await self._all():
            if item.name == name:
                return item.at, item.draft
        raise Refused("no-such-proposal", "There is no such proposal on the board.", "See: kengele coordinator board")

    async def _all(self) -> list[_Item]:
        """All proposals, the oldest first."""
        found = []
        async for stored in consumers.read_all(self.nc, subjects.BOARD):
            try:
                data = unpack(stored.data, max_bytes=2 * MAX_UNPACKED)
                document = loads(data, max_bytes=2 * MAX_UNPACKED)
                name, draft = stored.subject.rpartition(".")[2], _draft(document["draft"])
                found.append(_Item(name, str(document["at"]), draft, len(data)))
            except (KengeleError, KeyError, TypeError):
                continue
        return found


def _told(item: _Item) -> dict[str, Any]:
    signed_by = signatures.signed_by(item.draft)
    return {"name": item.name, "at": item.at, "version": item.draft.version, "signed_by": signed_by}


def _draft(text: Any) -> Draft:
    if not isinstance(text, str):
        raise Malformed("bad-draft", "This is not a draft of roster or policy.", "Ask for the file again.")
    draft = Draft.decode(text.encode("utf-8"))
    signatures.missing(draft)
    return draft
