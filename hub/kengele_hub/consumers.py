"""Consumers at the broker: how a stream is read, once from here to its end, or by many who share what is new."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from kengele_schemas import subjects
from kengele_schemas.encoding import dumps

from .jetstream import NANOSECONDS, NOT_FOUND, Stored, call, unavailable

MAX_PENDING: Final = 1000
"""Deliveries that one office may leave unacknowledged before it gets no more; it bounds a fetch, too."""
_LOOK: Final = 1.0
"""Seconds between two looks at whether the line still stands over which something was asked."""
_NOBODY: Final = "503"
"""The status of an answer by which the broker says that nobody leads this stream just now."""


async def ensure_consumer(
    nc: Client,
    stream: str,
    name: str,
    *,
    ack_wait: int = 60,
    only: Sequence[str] = (),
    max_pending: int | None = None,
) -> None:
    """Creates a durable pull consumer with explicit acknowledgement, from the stream's first message on.

    Args:
        nc: a connection in the account ``HUB``.
        stream: which must exist.
        name: of the consumer; all who pull from it share the messages.
        ack_wait: seconds, as for :func:`~kengele_hub.feeds.ensure_feed`.
        only: the subjects it delivers; all if empty.
        max_pending: unacknowledged deliveries from which on it hands out no more; :data:`MAX_PENDING` if None.

    Raises:
        As :func:`~kengele_hub.streams.ensure_streams`.
    """
    config: dict[str, Any] = {
        "durable_name": subjects.token(name),
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": ack_wait * NANOSECONDS,
        "max_deliver": -1,
        "max_ack_pending": MAX_PENDING if max_pending is None else max_pending,
        "max_waiting": 64,
    }
    if only:
        config["filter_subjects"] = list(only)
    document = {"stream_name": stream, "config": config}
    await call(nc, f"CONSUMER.DURABLE.CREATE.{subjects.token(stream)}.{name}", document)
    # Asked for, as what the broker answers just above leaves it out of a consumer that came with a restored stream.
    if (await consumer(nc, stream, name) or {}).get("paused"):
        await call(nc, f"CONSUMER.PAUSE.{subjects.token(stream)}.{name}", {})


async def consumer(nc: Client, stream_name: str, name: str) -> dict[str, Any] | None:
    """A consumer's configuration and state; None if there is none. Raises Unavailable."""
    wanted = f"CONSUMER.INFO.{subjects.token(stream_name)}.{subjects.token(name)}"
    return await call(nc, wanted, {}, or_none=NOT_FOUND)


async def read_all(
    nc: Client,
    stream: str,
    start: int = 1,
    *,
    only: str | Sequence[str] = "",
    limit: int = 0,
    timeout: float = 10,
    bare: bool = False,
) -> AsyncGenerator[Stored, None]:
    """Every message that stands in ``stream`` now, from sequence ``start`` on, in order.

    Args:
        nc: a connection in the account ``HUB``.
        stream: which must exist.
        start: the first sequence to read.
        only: the subjects to read, or several patterns of which none covers another; all if empty.
        limit: how many at most; all if 0.
        timeout: seconds without a message after which it is given up.
        bare: the broker sends no payloads; to see what there is costs little then.

    Raises:
        Unavailable: the broker does not answer, or the line broke meanwhile: read again.
    """
    name = f"read-{secrets.token_hex(8)}"
    config = {
        "name": name,
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": max(start, 1),
        "ack_policy": "none",
        "mem_storage": True,
        "inactive_threshold": 60 * NANOSECONDS,
    }
    if bare:
        config["headers_only"] = True
    if isinstance(only, str) and only:
        config["filter_subject"] = only
    elif only:
        config["filter_subjects"] = list(only)
    document = {"stream_name": stream, "config": config, "action": "create"}
    part = f".{only}" if isinstance(only, str) and only else ""
    made = await call(nc, f"CONSUMER.CREATE.{subjects.token(stream)}.{name}{part}", document)
    pending = int((made or {}).get("num_pending", 0))
    pending = min(pending, limit or pending)
    inbox = nc.new_inbox()
    subscription = await nc.subscribe(inbox)
    try:
        while pending > 0:
            batch = min(pending, 500)
            await nc.publish(subjects.consumer_next(stream, name), dumps({"batch": batch}), reply=inbox)
            for _ in range(batch):
                message = await _next(nc, subscription, timeout)
                if _ends(message):
                    raise unavailable()
                pending -= 1
                told = message.metadata
                yield Stored(told.sequence.stream, message.data, message.subject, told.timestamp)
    except (TimeoutError, OSError, nats.errors.Error):
        raise unavailable() from None
    finally:
        with suppress(Exception):
            await subscription.unsubscribe()
            await call(nc, f"CONSUMER.DELETE.{stream}.{name}", {}, or_none=NOT_FOUND)


async def pull(nc: Client, stream: str, consumer: str, batch: int, timeout: float) -> list[Msg]:
    """Up to ``batch`` messages: those there at once, or the first to come within ``timeout`` seconds, or none.

    Not nats-py's ``fetch``, which waits for a full batch while the first of it grows old. Raises Unavailable.
    """
    inbox = nc.new_inbox()
    subject = subjects.consumer_next(stream, consumer)
    subscription = None
    try:
        subscription = await nc.subscribe(inbox)
        await nc.publish(subject, dumps({"batch": batch, "no_wait": True}), reply=inbox)
        found: list[Msg] = []
        while len(found) < batch and not _ends(message := await _next(nc, subscription, 10)):
            found.append(message)
        if found or timeout <= 0:
            return found
        await nc.publish(subject, dumps({"batch": 1, "expires": int(timeout * NANOSECONDS)}), reply=inbox)
        message = await _next(nc, subscription, timeout + 10)
        return [] if _ends(message) else [message]
    except (TimeoutError, OSError, nats.errors.Error):
        raise unavailable() from None
    finally:
        if subscription is not None:
            with suppress(nats.errors.Error):
                await subscription.unsubscribe()


async def _next(nc: Client, subscription: Subscription, timeout: float) -> Msg:
    """The next message; no longer waited for once the line broke, as the broker has forgotten the request then."""
    lines = nc.stats["reconnects"]
    end = time.monotonic() + timeout
    while True:
        try:
            message = await subscription.next_msg(min(_LOOK, max(end - time.monotonic(), 0.001)))
        except TimeoutError:
            if time.monotonic() >= end or not nc.is_connected or nc.stats["reconnects"] != lines:
                raise
            continue
        if (message.headers or {}).get("Status") == _NOBODY:
            raise nats.errors.NoRespondersError
        return message


def _ends(message: Msg) -> bool:
    """Whether this message only says that there are no more (ADR-13, "Pull Consumers")."""
    return "Status" in (message.headers or {})
