"""The lines: how many connections one key holds at a time. Each costs the broker some 70 kB, and NATS bounds none.

The broker tells of each that comes and goes; where one key has more than it needs, its oldest is ended, so that whoever
comes anew always gets in. A member that goes on is paused. All who are not in yet share the card's key: there the
oldest goes, too, and nobody is paused for it.
Source: docs.nats.io, "System Events"; ``$SYS.REQ.SERVER.<id>.KICK``.

    >>> await Lines(access, pauses).run()
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from kengele_schemas.encoding import dumps, loads
from kengele_schemas.errors import KengeleError, Malformed

from .access import Access
from .pauses import Pauses

MOST: Final = 16
"""Connections of one member at a time: its node, its commands, and those whose loss the broker has not noticed yet."""
MOST_AT_THE_DOOR: Final = 512
"""The same of the card's key; each is done within seconds."""
_WEIGHT: Final = 10
"""What a connection too many counts for, where it is counted what a sender sends too much."""
_MAX_EVENT: Final = 64 * 1024
_RETRY: Final = 5.0
_LOOK: Final = 1.0
_log = structlog.get_logger(__name__)
_Line = tuple[str, int]
"""A server's id, and the number that it gave the connection."""


class Held:
    """The connections of each key, the oldest first; no more than the broker has."""

    def __init__(self) -> None:
        self._lines: dict[str, dict[_Line, None]] = {}

    def come(self, key: str, line: _Line, most: int) -> _Line | None:
        """Notes a new one; gives the one that is to end, if there are more than ``most`` now."""
        held = self._lines.setdefault(key, {})
        held[line] = None
        if len(held) <= most:
            return None
        oldest = next(iter(held))
        del held[oldest]
        return oldest

    def gone(self, key: str, line: _Line) -> None:
        """Notes that one has ended."""
        held = self._lines.get(key, {})
        held.pop(line, None)
        if not held:
            self._lines.pop(key, None)

    def count(self, key: str) -> int:
        return len(self._lines.get(key, {}))


class Lines:
    """Keeps every key to its number of connections. Call :meth:`run`.

    Args:
        access: to the broker.
        pauses: are told of a member that goes on.
    """

    def __init__(self, access: Access, pauses: Pauses) -> None:
        self._access, self._pauses = access, pauses
        self._door = access.keys.accounts.signing["joiner"].public
        self.held = Held()
        self.watching = asyncio.Event()
        """Set while the broker tells of connections."""

    async def run(self) -> None:
        """Does so for ever. What came while the broker could not be heard is not counted."""
        while True:
            try:
                await self._watch()
            except KengeleError as error:
                _log.warning("lines-not-watched", code=error.code)
            except nats.errors.Error as error:
                _log.warning("lines-not-watched", error=type(error).__name__)
            finally:
                self.watching.clear()
            await asyncio.sleep(_RETRY)

    async def _watch(self) -> None:
        nodes = self._access.keys.accounts.nodes.public
        self.held = Held()
        async with self._access.system() as system:

            async def come(message: Msg) -> None:
                await self._come(system, message)

            await system.subscribe(f"$SYS.ACCOUNT.{nodes}.CONNECT", cb=come)
            await system.subscribe(f"$SYS.ACCOUNT.{nodes}.DISCONNECT", cb=self._gone)
            await system.flush()
            self.watching.set()
            while system.is_connected:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK)

    async def _come(self, system: Client, message: Msg) -> None:
        found = _read(message.data)
        if found is None:
            return
        key, line, issuer = found
        at_the_door = issuer == self._door
        oldest = self.held.come(key, line, MOST_AT_THE_DOOR if at_the_door else MOST)
        if oldest is None:
            return
        server, number = oldest
        # The broker does nothing for who wants no answer.
        await system.publish(f"$SYS.REQ.SERVER.{server}.KICK", dumps({"cid": number}), reply=system.new_inbox())
        if not at_the_door:
            self._pauses.note(key, _WEIGHT)

    async def _gone(self, message: Msg) -> None:
        found = _read(message.data)
        if found is not None:
            self.held.gone(*found[:2])


def _read(data: bytes) -> tuple[str, _Line, str] | None:
    """Whose connection the broker tells of, which it is, and the key by which it was let in."""
    try:
        event: Mapping[str, Any] = loads(data, max_bytes=_MAX_EVENT, max_depth=12)
        client, server = event["client"], event["server"]
        return str(client["user"]), (str(server["id"]), int(client["id"])), str(client.get("issuer_key"))
    except (Malformed, KeyError, TypeError, ValueError, AttributeError):
        return None
