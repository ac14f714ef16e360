"""The door: what comes from those who are not in yet, who share one key, so that nobody can be paused without all.

await keep(await opened(nc, subject, queue), nc, start)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

MOST: Final = 100
"""Requests a second of each kind; of what is more, the broker hands on nothing."""
_PATIENCE: Final = 5.0


async def opened(nc: Client, subject: str, queue: str) -> Subscription:
    """A subscription that the broker ends after :data:`MOST` messages: what is more never gets here."""
    subscription = await nc.subscribe(subject, queue=queue)
    await subscription.unsubscribe(MOST)
    return subscription


async def keep(open_: Subscription, nc: Client, start: Callable[[Msg], Awaitable[None]]) -> None:
    """Hands what comes to ``start``, and opens anew each second, until the line is closed.

    Without a callback, as nats-py would throw away what came in together with the last message that is due.
    """
    loop = asyncio.get_running_loop()
    subject, queue = open_.subject, open_.queue
    with suppress(nats.errors.ConnectionClosedError, nats.errors.ConnectionDrainingError):
        while True:
            since, left = loop.time(), MOST
            while left:
                try:
                    message = await open_.next_msg(_PATIENCE)
                except nats.errors.TimeoutError:
                    continue
                left -= 1
                await start(message)
            await asyncio.sleep(max(0.0, since + 1 - loop.time()))
            open_ = await opened(nc, subject, queue)
