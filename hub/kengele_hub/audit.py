"""The log shown: checkpoints for the offices to witness, their cosignatures, and all of it for coordinators.

For witnesses a checkpoint is made at most once in a quarter of an hour, and it is the same for all: cosignatures of
several offices can meet under one checkpoint only if they are shown one, and an office that saw the log grow entry by
entry could tell when others report (docs/adr/0007-checkpoints-at-moments.md). What lies in the log, and how far it is
just now, is for coordinators.

    >>> await audit.answer_get(nkey, b'{"checkpoint":"witnessed"}')
    {'code': 'checkpoint', 'note': 'kengele/1a2b…'}
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from nats.aio.client import Client

from kengele_schemas import subjects
from kengele_schemas.cosignature import attach, cosigner, read_cosignatures
from kengele_schemas.encoding import b64u, loads, unb64u
from kengele_schemas.errors import Malformed, Refused
from kengele_schemas.tiles import read_tile

from . import consumers, jetstream
from .errors import Conflict, not_admitted
from .intake import Standing
from .ledger import Ledger

MOMENT: Final = 900
"""Seconds for which witnesses are shown the same checkpoint."""
MAX_ENTRIES: Final = 256
MAX_BYTES: Final = 256 * 1024
"""Of entries in one answer; the first is given however long it is."""
_MAX_REQUEST: Final = 4096
_MAX_SIZE: Final = 2**53
_ASKERS: Final = frozenset({"monitor", "office", "coordinator"})
_AHEAD: Final = 3600
"""Seconds by which an office's clock may be ahead."""
_REMEMBERED: Final = 60
_SIZES: Final = 16
"""Checkpoints whose cosignatures are remembered."""
_AT_ONCE: Final = 8
"""Requests that are answered at the same time; more of them wait, so that nobody keeps the broker busy."""

Lines = Callable[[str, Standing], Awaitable[list[str]]]
"""Gives the cosignatures under a note."""


class Audit:
    """One worker's part of the service.

    Args:
        nc: a connection in the account ``HUB``.
        ledger: the log.
        standing: gives the members in force.
        clock: Unix seconds.
    """

    def __init__(
        self,
        nc: Client,
        ledger: Ledger,
        standing: Callable[[], Standing | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._nc, self._ledger, self._standing, self._clock = nc, ledger, standing, clock
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._making = asyncio.Lock()
        self._quiet = -1
        self._remembered: dict[int, tuple[float, list[str]]] = {}

    async def answer_get(self, nkey: str, request: bytes) -> dict[str, Any]:
        """The answer to a member who looks at the log; entries and tiles are for coordinators.

        Raises:
            Refused: ``not-admitted``, ``not-in-log``.
            Malformed: this is no request.
        """
        standing, role, _ = self._asker(nkey)
        document = loads(request, max_bytes=_MAX_REQUEST)
        if not isinstance(document, dict) or len(document) != 1:
            raise _no_request()
        ((what, wanted),) = document.items()
        whole = role == "coordinator"
        async with self._room:
            if what == "checkpoint":
                # Monitors are many, and a minute matters to none of them.
                lines = self._recent_cosignatures if role == "monitor" else self._cosignatures
                return {"code": "checkpoint", "note": await self._checkpoint(wanted, standing, whole, lines)}
            if what == "consistency":
                old, new = _range(wanted)
                # The size that a proof can be had for would tell how far the log is.
                if new > (self._ledger.size if whole else _size(await self._current())):
                    raise _not_in_log()
                return {"code": "consistency", "hashes": [b64u(one) for one in self._ledger.consistency(old, new)]}
            if not whole:
                raise not_admitted()
            if what == "tile" and isinstance(wanted, str):
                return {"code": "tile", "data": b64u(self._ledger.tile(read_tile(wanted)))}
            if what == "entries":
                start, end = _range(wanted)
                if not start < end <= self._ledger.size:
                    raise _not_in_log()
                leaves = await self._ledger.leaves(start, min(end, start + MAX_ENTRIES), MAX_BYTES)
                return {"code": "entries", "entries": [b64u(leaf) for leaf in leaves]}
        raise _no_request()

    async def answer_cosign(self, nkey: str, request: bytes) -> dict[str, Any]:
        """Keeps an office's cosignature.

        Raises:
            Refused: ``not-admitted``, ``not-in-log``: there is no such checkpoint; ``future-dated``.
            Untrusted: ``bad-cosignature``.
            Malformed: this is no request.
        """
        standing, role, office = self._asker(nkey)
        if role != "office":
            raise not_admitted()
        document = loads(request, max_bytes=_MAX_REQUEST)
        size, line = (document.get("size"), document.get("line")) if isinstance(document, dict) else (None, None)
        if not isinstance(line, str) or line.count("\n") != 1 or not line.endswith("\n"):
            raise _no_request()
        async with self._room:
            note = await self._earlier(_number(size))
            keys = _keys(standing)
            name = cosigner(standing.trusted.network.log, office)
            found = read_cosignatures(attach(note, [line]), {name: keys[name]})
            if name not in found:
                raise _no_request()
            if found[name] > self._clock() + _AHEAD:
                raise Refused("future-dated", "The cosignature's time lies in the future.", "Set this machine's clock.")
            # One that is made later takes the place of the one before.
            subject = subjects.audited_cosignature(_size(note), office)
            await jetstream.publish_batch(self._nc, [(subject, line.encode("utf-8"), {})])
        return {"code": "kept"}

    def _asker(self, nkey: str) -> tuple[Standing, str, str]:
        standing = self._standing()
        role, member = standing.roles.get(nkey, ("", "")) if standing else ("", "")
        if standing is None or role not in _ASKERS:
            raise not_admitted()
        if role == "office" and member not in standing.trusted.offices.active:
            raise not_admitted()
        return standing, role, member

    async def _checkpoint(self, wanted: Any, standing: Standing, whole: bool, lines: Lines) -> str:
        if wanted == "newest" and whole:
            await self._ledger.refresh()
            return self._ledger.checkpoint()
        note = await (self._current() if wanted == "witnessed" else self._earlier(_number(wanted)))
        return attach(note, await lines(note, standing))

    async def _current(self) -> str:
        """The checkpoint that witnesses are shown in this moment, made now if nobody has asked before."""
        moment = int(self._clock()) // MOMENT
        stored = await jetstream.last(self._nc, subjects.AUDIT, subjects.AUDITED_CHECKPOINTS)
        if stored is not None and moment <= max(self._quiet, int(stored.subject.rpartition(".")[2])):
            return stored.data.decode("utf-8")
        async with self._making:
            # Another worker may have written what this one has not read: who is shown less than before sees a log
            # rolled back.
            await self._ledger.refresh()
            if stored is not None and self._ledger.size <= _size(stored.data.decode("utf-8")):
                self._quiet = moment
                return stored.data.decode("utf-8")
            note = self._ledger.checkpoint()
            names = (subjects.audited_checkpoint(moment), subjects.audited_size(_size(note)))
            try:
                data = note.encode("utf-8")
                await jetstream.publish_batch(self._nc, [(name, data, jetstream.ONCE) for name in names])
            except Conflict:
                stored = await jetstream.last(self._nc, subjects.AUDIT, subjects.AUDITED_CHECKPOINTS)
                if stored is None:
                    raise
                return stored.data.decode("utf-8")
            return note

    async def _earlier(self, size: int) -> str:
        stored = await jetstream.last(self._nc, subjects.AUDIT, subjects.audited_size(size))
        if stored is None:
            raise _not_in_log()
        return stored.data.decode("utf-8")

    async def _cosignatures(self, note: str, standing: Standing) -> list[str]:
        """The lines of those offices that are active now, under the keys that they have now."""
        lines = {}
        only = subjects.audited_cosignature(_size(note))
        async for stored in consumers.read_all(self._nc, subjects.AUDIT, only=only):
            line = stored.data.decode("utf-8")
            if read_cosignatures(attach(note, [line]), _keys(standing)):
                lines[stored.subject] = line
        return [lines[name] for name in sorted(lines)]

    async def _recent_cosignatures(self, note: str, standing: Standing) -> list[str]:
        """Likewise, as they were at most :data:`_REMEMBERED` seconds ago."""
        size, now = _size(note), self._clock()
        at, lines = self._remembered.get(size, (float("-inf"), []))
        if not 0 <= now - at < _REMEMBERED:
            lines = await self._cosignatures(note, standing)
            while len(self._remembered) >= _SIZES:
                self._remembered.pop(next(iter(self._remembered)))
            self._remembered[size] = (now, lines)
        return lines


def _keys(standing: Standing) -> dict[str, bytes]:
    trusted = standing.trusted
    rows = (row for row in trusted.offices.document.offices if row.status == "active")
    return {cosigner(trusted.network.log, row.id): unb64u(row.sign) for row in rows}


def _size(note: str) -> int:
    return int(note.split("\n", 2)[1])


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_SIZE:
        raise _no_request()
    return value


def _range(value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise _no_request()
    start, end = _number(value[0]), _number(value[1])
    if start > end:
        raise _no_request()
    return start, end


def _no_request() -> Malformed:
    return Malformed("malformed", "This is no request about the log.")


def _not_in_log() -> Refused:
    return Refused("not-in-log", "The log has no such entry or checkpoint.", "Ask for the checkpoint first.")
