"""Streams as they stand, out of the broker and into another: with their sequences and what consumers have acknowledged.

Source: github.com/nats-io/nats-architecture-and-design, JetStream API "STREAM.SNAPSHOT", "STREAM.RESTORE".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import nats.errors
from nats.aio.client import Client

from kengele_schemas import subjects

from . import jetstream
from .errors import Unavailable
from .patience import PATIENCE, patiently

CHUNK: Final = 256 * 1024
_WAIT: Final = 60.0
"""Seconds for the next piece; the broker looks through a whole stream before the first."""
_PAUSE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Shape:
    """A stream's configuration and how far it goes: what a restoration needs besides the pieces."""

    config: dict[str, Any]
    state: dict[str, Any]


async def taken(nc: Client, stream: str) -> tuple[Shape, AsyncIterator[bytes]] | None:
    """A stream's shape, and its pieces in order; None if there is none. The broker checks each message for damage.

    Raises:
        Unavailable: also while the pieces are read; begin again.
    """
    inbox = nc.new_inbox()
    subscription = await nc.subscribe(inbox)
    document = {"deliver_subject": inbox, "chunk_size": CHUNK, "jsck": True}
    made = await jetstream.call(
        nc, f"STREAM.SNAPSHOT.{subjects.token(stream)}", document, or_none=jetstream.NOT_FOUND, timeout=_WAIT
    )
    if made is None:
        await subscription.unsubscribe()
        return None

    async def pieces() -> AsyncIterator[bytes]:
        try:
            while True:
                message = await subscription.next_msg(_WAIT)
                if (message.headers or {}).get("Status", "204") != "204":
                    raise _broken()
                if not message.data:
                    return
                yield message.data
                # Some ask for a sign that they came, so that the broker does not run ahead.
                if message.reply:
                    await nc.publish(message.reply, b"")
        except (TimeoutError, OSError, nats.errors.Error):
            raise _broken() from None
        finally:
            with suppress(nats.errors.Error):
                await subscription.unsubscribe()

    return Shape(made["config"], made["state"]), pieces()


async def put_back(nc: Client, shape: Shape, pieces: Iterable[bytes], *, replicas: int) -> None:
    """Makes a stream of what :func:`taken` gave. Raises Unavailable, StorageFull, Refused."""
    config = {**shape.config, "num_replicas": replicas}
    name = subjects.token(config["name"])
    asked = f"STREAM.RESTORE.{name}", {"config": config, "state": shape.state}, (), _WAIT
    made = await patiently(jetstream.call, nc, *asked)
    subject = str((made or {}).get("deliver_subject", ""))
    for piece in pieces:
        await _sent(nc, subject, piece)
    jetstream.checked(await _sent(nc, subject, b""))


async def _sent(nc: Client, subject: str, piece: bytes) -> bytes:
    """The broker's answer. Raises Unavailable."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return (await nc.request(subject, piece, timeout=_WAIT)).data
        except nats.errors.NoRespondersError:
            # In a cluster it takes a moment until the server that is asked knows of the one that takes the pieces.
            if time.monotonic() > deadline:
                raise _broken() from None
        except (TimeoutError, OSError, nats.errors.Error):
            raise _broken() from None
        await asyncio.sleep(_PAUSE)


async def remove(nc: Client, stream: str) -> None:
    """Deletes a stream, if there is one. Raises Unavailable."""
    await jetstream.call(nc, f"STREAM.DELETE.{subjects.token(stream)}", {}, or_none=jetstream.NOT_FOUND)


def _broken() -> Unavailable:
    return Unavailable("broker-unavailable", "The broker did not go on.", "Begin again.")
