"""Feeds at the broker: one stream for each key of an office, with the one consumer by which its desk reads it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from nats.aio.client import Client

from kengele_schemas import subjects

from .consumers import ensure_consumer
from .jetstream import HOUR, NANOSECONDS, NOT_FOUND, call
from .streams import ensure_stream

FEED: Final = "FEED_"
"""How the name of each feed's stream begins."""
_CLOSED: Final = timedelta(days=90)
"""The broker tells what is left of it in nanoseconds; of more than 104 days these are no number of I-JSON."""


async def ensure_feed(nc: Client, nkey: str, *, replicas: int = 1, max_bytes: int = -1, ack_wait: int = 15) -> None:
    """Creates an office's feed and its consumer, or brings them to this configuration.

    Args:
        nc: a connection in the account ``HUB``.
        nkey: the office's.
        replicas: as for :func:`~kengele_hub.streams.ensure_streams`.
        max_bytes: from which on the feed takes no more; it never drops what was not fetched.
        ack_wait: seconds after which what was not acknowledged is delivered again.

    Raises:
        Malformed: ``nkey`` is none. Otherwise as :func:`~kengele_hub.streams.ensure_streams`.
    """
    name = subjects.feed_stream(nkey)
    own = [subjects.feed_subject(nkey), f"{subjects.feed_subject(nkey)}.*"]
    await ensure_stream(
        nc,
        name,
        own,
        replicas,
        {"discard": "new", "max_bytes": max_bytes, "duplicate_window": HOUR * NANOSECONDS},
    )
    await ensure_consumer(nc, name, subjects.feed_consumer(nkey), ack_wait=ack_wait)


async def remove_feed(nc: Client, nkey: str) -> None:
    """Deletes an office's feed with all that it did not fetch. Does nothing if there is none. Raises Unavailable."""
    await call(nc, f"STREAM.DELETE.{subjects.feed_stream(nkey)}", {}, or_none=NOT_FOUND)


async def close_feeds(nc: Client, streams: Sequence[str]) -> None:
    """Has those of ``streams`` that are feeds hand out nothing, until :func:`ensure_feed` opens them again.

    For 90 days; call it again before they are over. What is not a feed is passed over. Raises Unavailable.
    """
    until = datetime.now(UTC) + _CLOSED
    for name in streams:
        if name.startswith(FEED):
            own = subjects.feed_consumer(name.removeprefix(FEED))
            document = {"pause_until": until.strftime("%Y-%m-%dT%H:%M:%SZ")}
            await call(nc, f"CONSUMER.PAUSE.{subjects.token(name)}.{own}", document, or_none=NOT_FOUND)
