"""The streams at the broker: the hub's own, each with what it keeps and for how long.

>>> await ensure_streams(nc)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from nats.aio.client import Client

from kengele_schemas import subjects

from .errors import StorageFull
from .jetstream import HOUR, NANOSECONDS, NOT_FOUND, call

_NAME_IN_USE: Final = 10058


async def ensure_streams(nc: Client, *, replicas: int = 1, ledger_max_bytes: int = -1) -> None:
    """Creates the hub's own streams, or brings them to this configuration.

    Args:
        nc: a connection in the account ``HUB``.
        replicas: servers that hold each message: 1, 3 or 5.
        ledger_max_bytes: from which on the ledger takes no more; -1 for the disk's bound. It never forgets.

    Raises:
        Unavailable: the broker does not answer.
        StorageFull, Refused: the broker does not make the stream.
    """
    await ensure_stream(
        nc,
        subjects.LEDGER,
        [subjects.LEDGER_ALL],
        replicas,
        {"discard": "new", "max_bytes": ledger_max_bytes, "deny_delete": True, "deny_purge": True},
    )
    await ensure_stream(
        nc, subjects.TRUST, [subjects.TRUST_FILES, subjects.TRUST_HELD], replicas, {"max_msgs_per_subject": 1}
    )
    await ensure_stream(
        nc,
        subjects.BOARD,
        [subjects.BOARD_ITEMS],
        replicas,
        {"max_msgs_per_subject": 1, "max_bytes": 256 * 1024**2, "max_age": 30 * 24 * HOUR * NANOSECONDS},
    )
    await ensure_stream(
        nc,
        subjects.LOBBY,
        [subjects.LOBBY_ITEMS],
        replicas,
        # Longer than any invitation stands open: one that was used is not forgotten while it could be used.
        {"max_msgs_per_subject": 1, "max_bytes": 64 * 1024**2, "max_age": 60 * 24 * HOUR * NANOSECONDS},
    )
    await ensure_stream(
        nc,
        subjects.LETTERS,
        [subjects.LETTER_ITEMS],
        replicas,
        {"max_msgs_per_subject": 1, "max_bytes": 256 * 1024**2, "max_age": 60 * 24 * HOUR * NANOSECONDS},
    )
    await ensure_stream(
        nc,
        subjects.AUDIT,
        [subjects.AUDITED],
        replicas,
        {"max_msgs_per_subject": 1, "max_bytes": 1024**3, "max_age": 100 * 24 * HOUR * NANOSECONDS},
    )
    await ensure_stream(
        nc,
        subjects.REFUSED,
        [subjects.REFUSALS],
        replicas,
        # A bound for each sender, so that nobody washes out what was kept of others.
        {"max_msgs_per_subject": 100, "max_bytes": 1024**3, "max_age": 90 * 24 * HOUR * NANOSECONDS},
    )


async def stream(nc: Client, name: str, timeout: float = 10) -> dict[str, Any] | None:
    """A stream's configuration and state; None if there is none. Raises Unavailable."""
    return await call(nc, f"STREAM.INFO.{subjects.token(name)}", {}, or_none=NOT_FOUND, timeout=timeout)


async def subjects_in(nc: Client, name: str, pattern: str) -> list[str]:
    """The subjects under ``pattern`` of which the stream ``name`` has messages, sorted. Raises Unavailable."""
    found: list[str] = []
    while True:
        wanted = {"subjects_filter": pattern, "offset": len(found)}
        page = await call(nc, f"STREAM.INFO.{subjects.token(name)}", wanted) or {}
        told = page.get("state", {}).get("subjects") or ()
        found += told
        if not told or len(found) >= page.get("total", 0):
            return sorted(found)


async def names(nc: Client) -> list[str]:
    """The names of all streams. Raises Unavailable."""
    found: list[str] = []
    while True:
        page = await call(nc, "STREAM.NAMES", {"offset": len(found)}) or {}
        found += page.get("streams") or ()
        if not page.get("streams") or len(found) >= page.get("total", 0):
            return found


async def ensure_stream(nc: Client, name: str, own: list[str], replicas: int, more: Mapping[str, Any]) -> None:
    config = {
        "name": name,
        "subjects": own,
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "allow_atomic": True,
        "allow_direct": False,
        **more,
    }
    # First as one that exists: what it may grow to is reserved, and to create it the broker wants that room once more.
    if await call(nc, f"STREAM.UPDATE.{name}", config, or_none=NOT_FOUND) is not None:
        return
    try:
        made = await call(nc, f"STREAM.CREATE.{name}", config, or_none=(_NAME_IN_USE,))
    except StorageFull:
        # Another worker may have made it a moment ago.
        if await call(nc, f"STREAM.UPDATE.{name}", config, or_none=NOT_FOUND) is None:
            raise
        return
    if made is None:
        await call(nc, f"STREAM.UPDATE.{name}", config)
