"""One NATS connection: what is asked over it while it lasts, and how its end is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Final, TypeVar

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from kengele_schemas.encoding import dumps
from kengele_schemas.errors import Refused

from .bus import Delivery
from .errors import unreachable

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for one attempt, handshakes included."""
CLOSING: Final = 2.0
"""Seconds that closing may take."""
_LOOK: Final = 0.25
"""Seconds between two looks at whether a connection is still there."""
_NOBODY: Final = "503"
_T = TypeVar("_T")


async def unless_lost(work: Coroutine[Any, Any, _T], lost: asyncio.Event) -> _T:
    """The result of ``work``; Unreachable as soon as the connection it runs over is lost, or if it fails."""
    working, losing = asyncio.ensure_future(work), asyncio.ensure_future(lost.wait())
    try:
        await asyncio.wait((working, losing), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise unreachable()
        return working.result()
    except nats.errors.MaxPayloadError:
        raise Refused("oversized", "This is more than the hub takes in one message.", "Shorten it.") from None
    except (OSError, TimeoutError, nats.errors.Error):
        raise unreachable() from None
    finally:
        working.cancel()
        losing.cancel()
        await asyncio.gather(working, losing, return_exceptions=True)


async def pull(client: Client, next_subject: str, batch: int, timeout: float) -> list[Delivery]:
    """Takes what is there; if that is nothing, waits for one message (ADR-13 "Pull Consumers")."""
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    try:
        await client.publish(next_subject, dumps({"batch": batch, "no_wait": True}), reply=inbox)
        found: list[Delivery] = []
        while len(found) < batch and not _status(message := await subscription.next_msg(CONNECT_TIMEOUT)):
            found.append(_delivery(message))
        if len(found) < batch and _status(message) == _NOBODY:
            raise unreachable()
        if found or timeout <= 0:
            return found
        expires = int(timeout * 1_000_000_000)
        await client.publish(next_subject, dumps({"batch": 1, "expires": expires}), reply=inbox)
        message = await subscription.next_msg(timeout + CONNECT_TIMEOUT)
        if _status(message) == _NOBODY:
            raise unreachable()
        return [] if _status(message) else [_delivery(message)]
    finally:
        with suppress(nats.errors.Error):
            await subscription.unsubscribe()


def _status(message: Msg) -> str:
    """The status code of a message that only ends a request: none left (404), expired (408), consumer gone (409),
    nobody there who answers (503)."""
    return (message.headers or {}).get("Status", "")


def _delivery(message: Msg) -> Delivery:
    metadata = message.metadata
    return Delivery(message.data, metadata.sequence.stream, metadata.num_delivered or 1, message.reply)


async def ended(client: Client, lost: asyncio.Event) -> None:
    """Returns when the connection is no more. A connection that breaks under unsent bytes makes nats-py fail while it
    closes, and call nobody back; so it is looked at besides."""
    while not lost.is_set() and not client.is_closed:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK):
                await lost.wait()


async def close(client: Client) -> None:
    """Closes ``client``, whatever state it is in."""
    with suppress(Exception):
        await asyncio.wait_for(client.close(), CLOSING)
    # Where nats-py has failed to close before, it does not do it now either, and the socket would stay.
    if client._transport is not None:
        with suppress(Exception):
            client._transport.close()  # type: ignore[no-untyped-call]
