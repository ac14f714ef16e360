"""Where a log is read from: the hub, over a coordinator's line, or a directory to which it was exported."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kengele_schemas import subjects
from kengele_schemas.encoding import unb64u
from kengele_schemas.errors import Malformed, Untrusted

_BATCH: Final = 256


class Source(Protocol):
    """A log."""

    async def witnessed(self) -> str:
        """The checkpoint (a note) that offices cosigned last, with their cosignatures."""
        ...

    async def checkpoint(self) -> str:
        """The checkpoint over all there is. To be asked after :meth:`witnessed`, which must not be larger."""
        ...

    def entries(self, start: int, end: int) -> AsyncIterator[bytes]:
        """The entries from ``start`` up to ``end``."""
        ...


class Session(Protocol):
    """What is needed of a :class:`~kengele_node.member.Session`."""

    async def ask(self, subject: str, document: Any) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class HubLog:
    """The log as the hub serves it to the coordinator with this nkey.

    Raises, in every method:
        Untrusted: ``log-short``: the hub does not give what it signed for.
        Unreachable, Refused, Malformed: no line, or no answer.
    """

    session: Session
    nkey: str

    async def witnessed(self) -> str:
        return await self._note("witnessed")

    async def checkpoint(self) -> str:
        return await self._note("newest")

    async def entries(self, start: int, end: int) -> AsyncIterator[bytes]:
        while start < end:
            wanted = [start, min(end, start + _BATCH)]
            answer = await self.session.ask(subjects.audit_get(self.nkey), {"entries": wanted})
            found = answer.get("entries")
            if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
                raise _no_answer()
            if not 0 < len(found) <= wanted[1] - start:
                raise Untrusted("log-short", f"The hub does not give entry {start} of its log.", "Try again.")
            for one in found:
                yield unb64u(one)
            start += len(found)

    async def _note(self, which: str) -> str:
        note = (await self.session.ask(subjects.audit_get(self.nkey), {"checkpoint": which})).get("note")
        if not isinstance(note, str):
            raise _no_answer()
        return note


def _no_answer() -> Malformed:
    return Malformed("malformed", "The hub's answer about its log is not one.", "Update this program, or the hub.")
