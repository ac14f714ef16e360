"""The board: where coordinators find each other's proposals, so that none has to be carried from desk to desk.

A proposal is a draft with at least one coordinator's signature. It counts for nothing here, and the hub can change
none: who takes it from the board checks it as if it came by courier. What it would bring into force is no secret from
the hub, which serves the documents once they hold.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
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
from .threads import OneByOne

MAX_UNPACKED: Final = 8 * 1024 * 1024
MAX_PROPOSALS: Final = 200
MAX_HELD: Final = 64 * 1024 * 1024
"""Bytes of all proposals together, unpacked: whoever looks at the board has the hub read them all."""
_PROPOSAL: Final = "proposal"


class _Item(NamedTuple):
    """What a list tells of a proposal; ``size`` is that of the item in bytes."""

    name: str
    at: str
    version: int
    signed_by: list[str]
    size: int


@dataclass
class Board:
    """Proposals by their id, kept in the broker for thirty days."""

    nc: Client
    reading: OneByOne = field(default_factory=OneByOne)
    """Reads what takes long; shared with others who read such."""
    _changing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _listing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _read: dict[int, _Item | None] = field(default_factory=dict)
    """What stands there, by its sequence; None if it is no proposal. What is not there any more is forgotten."""

    async def answer(self, request: bytes) -> dict[str, Any]:
        """The answer to a coordinator: ``list``, ``get``, ``put`` or ``drop``.

        Raises:
            Malformed, Refused, Untrusted: what is wrong with the request or the draft.
        """
        document, draft = await self.reading(_asked, request)
        what, name = document.get("do"), document.get("name")
        if what == "list":
            return {"code": "listed", "proposals": [_told(item) for item in await self._all()]}
        if draft is not None:
            return await self._put(draft)
        if not isinstance(name, str):
            raise Malformed("malformed", "This is no request to the board.")
        if what == "get":
            return {"code": "found", "draft": (await self._find(name)).encode().decode("utf-8")}
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
                draft = signatures.merge(await self._find(name), draft)
            text = draft.encode().decode("utf-8")
            held = sum(item.size for item in known.values() if item.name != name) + len(text)
            if (name not in known and len(known) >= MAX_PROPOSALS) or held > MAX_HELD:
                raise Refused("board-full", "Too many proposals are on the board.", "Take some off it: board drop")
            body = pack(dumps({"at": datetime.now(UTC).isoformat(timespec="seconds"), "draft": text}))
            await jetstream.publish_batch(self.nc, [(subjects.board_item(_PROPOSAL, name), body, {})])
        return {"code": "kept", "name": name, "missing": signatures.missing(draft)}

    async def _find(self, name: str) -> Draft:
        with suppress(Malformed):
            stored = await jetstream.last(self.nc, subjects.BOARD, subjects.board_item(_PROPOSAL, name))
            held = await self.reading(_held, stored.data) if stored is not None else None
            if held is not None:
                return held[1]
        raise Refused("no-such-proposal", "There is no such proposal on the board.", "See: kengele coordinator board")

    async def _all(self) -> list[_Item]:
        """All proposals, the oldest first. Each is read once, and beside the loop: reading one takes long."""
        async with self._listing:
            found: dict[int, _Item | None] = {}
            async for stored in consumers.read_all(self.nc, subjects.BOARD):
                if stored.sequence in self._read:
                    found[stored.sequence] = self._read[stored.sequence]
                else:
                    found[stored.sequence] = await self.reading(_item, stored)
            self._read = found
            return [item for item in found.values() if item is not None]


def _asked(request: bytes) -> tuple[dict[str, Any], Draft | None]:
    """A request, and the draft in it where one is put."""
    document = loads(unpack(request, max_bytes=MAX_UNPACKED), max_bytes=MAX_UNPACKED)
    if not isinstance(document, dict):
        raise Malformed("malformed", "This is no request to the board.")
    return document, _draft(document.get("draft")) if document.get("do") == "put" else None


def _held(stored: bytes) -> tuple[str, Draft, int] | None:
    """When the item was put there, its draft and its size; None if it is no proposal."""
    try:
        data = unpack(stored, max_bytes=2 * MAX_UNPACKED)
        document = loads(data, max_bytes=2 * MAX_UNPACKED)
        return str(document["at"]), _draft(document["draft"]), len(data)
    except (KengeleError, KeyError, TypeError):
        return None


def _item(stored: jetstream.Stored) -> _Item | None:
    held = _held(stored.data)
    if held is None:
        return None
    at, draft, size = held
    return _Item(stored.subject.rpartition(".")[2], at, draft.version, signatures.signed_by(draft), size)


def _told(item: _Item) -> dict[str, Any]:
    return {"name": item.name, "at": item.at, "version": item.version, "signed_by": item.signed_by}


def _draft(text: Any) -> Draft:
    if not isinstance(text, str):
        raise Malformed("bad-draft", "This is not a draft of roster or policy.", "Ask for the file again.")
    draft = Draft.decode(text.encode("utf-8"))
    signatures.missing(draft)
    return draft
