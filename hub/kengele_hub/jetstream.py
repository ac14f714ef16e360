"""The hub's streams, and the one way into them: atomic batches.

A batch is stored wholly or not at all, and shares its fsyncs: 500 reports in a batch cost some twenty. A batch belongs
to one stream. These headers hold within a batch, and refuse all of it when one of them fails: ``Nats-Msg-Id``,
``Nats-Expected-Last-Sequence``, ``Nats-Expected-Last-Subject-Sequence``. With the last one at 0 (:data:`ONCE`) a
subject is written once and never again, whichever worker comes first, and not twice within one batch either.
Source: github.com/nats-io/nats-architecture-and-design, ADR-50 "JetStream Batch Publishing".

    >>> await ensure_streams(nc)
    >>> last = await publish_batch(nc, [(ledger_report(envelope.id), data, ONCE)])
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from kengele_schemas import subjects
from kengele_schemas.encoding import dumps, loads
from kengele_schemas.errors import Malformed, Refused

from .errors import Conflict, StorageFull, Unavailable

Message = tuple[str, bytes, Mapping[str, str]]
"""Subject, payload, headers."""

MAX_BATCH: Final = 1000
"""Messages; the broker's own bound."""
ONCE: Final[Mapping[str, str]] = {"Nats-Expected-Last-Subject-Sequence": "0"}
"""Headers of a message that must be the first under its subject."""
HOUR: Final = 3600
MAX_PENDING: Final = 1000
"""Deliveries that one office may leave unacknowledged before it gets no more; it bounds a fetch, too."""

FEED: Final = "FEED_"
"""How the name of each feed's stream begins."""

_NANOSECONDS: Final = 1_000_000_000
_CLOSED: Final = timedelta(days=90)
"""The broker tells what is left of it in nanoseconds; of more than 104 days these are no number of I-JSON."""
_LOOK: Final = 1.0
"""Seconds between two looks at whether the line still stands over which something was asked."""
_NOBODY: Final = "503"
"""The status of an answer by which the broker says that nobody leads this stream just now."""
_MAX_REPLY: Final = 4 * 1024 * 1024
_NAME_IN_USE: Final = 10058
NOT_FOUND: Final = (10037, 10059, 10014)
"""No message, no stream, no consumer."""
_NOT_DELETED: Final = 10057
"""It is gone already."""
_CONFLICT: Final = (10071, 10164, 10201)
"""Wrong last sequence, the same within a batch, message id seen before."""
_PASSING: Final = (10176, 10005, 10074)
"""A part of the batch was lost on the way, as when the connection breaks; a cluster that lacks servers just now."""
_FULL: Final = (10002, 10023, 10047, 10077, 10122)
"""Account's or server's resources exceeded, no storage, store failed (as a full stream does), stream too large."""


class Stored(NamedTuple):
    """A message as it stands in a stream."""

    sequence: int
    data: bytes
    subject: str = ""


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
    await _ensure_stream(
        nc,
        subjects.LEDGER,
        [subjects.LEDGER_ALL],
        replicas,
        {"discard": "new", "max_bytes": ledger_max_bytes, "deny_delete": True, "deny_purge": True},
    )
    await _ensure_stream(
        nc, subjects.TRUST, [subjects.TRUST_FILES, subjects.TRUST_HELD], replicas, {"max_msgs_per_subject": 1}
    )
    await _ensure_stream(
        nc,
        subjects.BOARD,
        [subjects.BOARD_ITEMS],
        replicas,
        {"max_msgs_per_subject": 1, "max_bytes": 256 * 1024**2, "max_age": 30 * 24 * HOUR * _NANOSECONDS},
    )
    await _ensure_stream(
        nc,
        subjects.LOBBY,
        [subjects.LOBBY_ITEMS],
        replicas,
        # Longer than any invitation stands open: one that was used is not forgotten while it could be used.
        {"max_msgs_per_subject": 1, "max_bytes": 64 * 1024**2, "max_age": 60 * 24 * HOUR * _NANOSECONDS},
    )
    await _ensure_stream(
        nc,
        subjects.LETTERS,
        [subjects.LETTER_ITEMS],
        replicas,
        {"max_msgs_per_subject": 1, "max_bytes": 256 * 1024**2, "max_age": 60 * 24 * HOUR * _NANOSECONDS},
    )
    await _ensure_stream(
        nc,
        subjects.AUDIT,
        [subjects.AUDITED],
        replicas,
        {"max_msgs_per_subject": 1, "max_bytes": 1024**3, "max_age": 100 * 24 * HOUR * _NANOSECONDS},
    )
    await _ensure_stream(
        nc,
        subjects.REFUSED,
        [subjects.REFUSALS],
        replicas,
        # A bound for each sender, so that nobody washes out what was kept of others.
        {"max_msgs_per_subject": 100, "max_bytes": 1024**3, "max_age": 90 * 24 * HOUR * _NANOSECONDS},
    )


async def ensure_feed(nc: Client, nkey: str, *, replicas: int = 1, max_bytes: int = -1, ack_wait: int = 15) -> None:
    """Creates an office's feed and its consumer, or brings them to this configuration.

    Args:
        nc: a connection in the account ``HUB``.
        nkey: the office's.
        replicas: as for :func:`ensure_streams`.
        max_bytes: from which on the feed takes no more; it never drops what was not fetched.
        ack_wait: seconds after which what was not acknowledged is delivered again.

    Raises:
        Malformed: ``nkey`` is none. Otherwise as :func:`ensure_streams`.
    """
    name = subjects.feed_stream(nkey)
    own = [subjects.feed_subject(nkey), f"{subjects.feed_subject(nkey)}.*"]
    await _ensure_stream(
        nc,
        name,
        own,
        replicas,
        {"discard": "new", "max_bytes": max_bytes, "duplicate_window": HOUR * _NANOSECONDS},
    )
    await ensure_consumer(nc, name, subjects.feed_consumer(nkey), ack_wait=ack_wait)


async def remove_feed(nc: Client, nkey: str) -> None:
    """Deletes an office's feed with all that it did not fetch. Does nothing if there is none. Raises Unavailable."""
    await call(nc, f"STREAM.DELETE.{subjects.feed_stream(nkey)}", {}, or_none=NOT_FOUND)


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
        ack_wait: seconds, as for :func:`ensure_feed`.
        only: the subjects it delivers; all if empty.
        max_pending: unacknowledged deliveries from which on it hands out no more; :data:`MAX_PENDING` if None.

    Raises:
        As :func:`ensure_streams`.
    """
    config: dict[str, Any] = {
        "durable_name": subjects.token(name),
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": ack_wait * _NANOSECONDS,
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


async def publish_batch(nc: Client, messages: Sequence[Message], timeout: float = 10) -> int:
    """Stores ``messages`` in one stream, all or none, each on disk when this returns.

    Args:
        nc: a connection in the account ``HUB``.
        messages: 1 to :data:`MAX_BATCH`; their subjects belong to one stream.
        timeout: seconds for the broker to confirm.

    Returns:
        The sequence of the last message; those before have the ones before.

    Raises:
        Conflict: an expected sequence is wrong, or a message id was seen before; nothing was stored.
        StorageFull: nothing was stored.
        Unavailable: the broker did not confirm. **The batch may be stored or may still be**, never in part: publish it
            again with headers that make a repetition a conflict.
        Refused: the broker takes such a batch never.
    """
    if not 0 < len(messages) <= MAX_BATCH:
        raise ValueError("a batch has 1 to 1,000 messages")
    if not nc.is_connected:
        # Else nats-py keeps the messages and sends them when nobody waits for them any more.
        raise _unavailable()
    batch = secrets.token_hex(16)
    try:
        for number, (subject, payload, headers) in enumerate(messages[:-1], 1):
            own = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
            await nc.publish(subject, payload, headers={**headers, **own})
        subject, payload, headers = messages[-1]
        own = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(len(messages)), "Nats-Batch-Commit": "1"}
        reply = await nc.request(subject, payload, timeout=timeout, headers={**headers, **own})
    except nats.errors.MaxPayloadError:
        raise Refused("oversized", "A message is larger than the broker takes.") from None
    except (TimeoutError, OSError, nats.errors.Error):
        raise _unavailable() from None
    return int(_checked(_answer(reply.data))["seq"])


async def last(nc: Client, stream: str, subject: str) -> Stored | None:
    """The last message under ``subject``, or None if there is none. Raises Unavailable."""
    found = await call(nc, f"STREAM.MSG.GET.{subjects.token(stream)}", {"last_by_subj": subject}, or_none=NOT_FOUND)
    if found is None:
        return None
    return _stored(found)


async def at(nc: Client, stream: str, sequence: int) -> Stored | None:
    """The message with ``sequence``, or None if there is none. Raises Unavailable."""
    found = await call(nc, f"STREAM.MSG.GET.{subjects.token(stream)}", {"seq": sequence}, or_none=NOT_FOUND)
    return None if found is None else _stored(found)


def _stored(found: Mapping[str, Any]) -> Stored:
    message = found["message"]
    return Stored(int(message["seq"]), base64.b64decode(message.get("data", "")), message["subject"])


async def last_time(nc: Client, stream: str, subject: str) -> datetime | None:
    """When the last message under ``subject`` was stored, in UTC; None if there is none. Raises Unavailable."""
    found = await call(nc, f"STREAM.MSG.GET.{subjects.token(stream)}", {"last_by_subj": subject}, or_none=NOT_FOUND)
    return None if found is None else moment(found["message"]["time"])


def moment(text: str) -> datetime:
    """A time as the broker writes it, in UTC. Raises ValueError."""
    # It has up to nine digits of a second; datetime reads six.
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{fraction[:6].ljust(6, '0')}+00:00")


async def account(nc: Client) -> dict[str, Any]:
    """What the account uses of the storage and may use. Raises Unavailable."""
    return await call(nc, "INFO", {}) or {}


async def stream(nc: Client, name: str, timeout: float = 10) -> dict[str, Any] | None:
    """A stream's configuration and state; None if there is none. Raises Unavailable."""
    return await call(nc, f"STREAM.INFO.{subjects.token(name)}", {}, or_none=NOT_FOUND, timeout=timeout)


async def names(nc: Client) -> list[str]:
    """The names of all streams. Raises Unavailable."""
    found: list[str] = []
    while True:
        page = await call(nc, "STREAM.NAMES", {"offset": len(found)}) or {}
        found += page.get("streams") or ()
        if not page.get("streams") or len(found) >= page.get("total", 0):
            return found


async def consumer(nc: Client, stream_name: str, name: str) -> dict[str, Any] | None:
    """A consumer's configuration and state; None if there is none. Raises Unavailable."""
    wanted = f"CONSUMER.INFO.{subjects.token(stream_name)}.{subjects.token(name)}"
    return await call(nc, wanted, {}, or_none=NOT_FOUND)


async def erase_last(nc: Client, stream: str, subject: str) -> None:
    """Deletes the last message under ``subject`` and overwrites it, if there is one. Raises Unavailable."""
    stored = await last(nc, stream, subject)
    if stored is not None:
        await erase(nc, stream, stored.sequence)


async def erase(nc: Client, stream: str, sequence: int) -> None:
    """Deletes one message and overwrites it, if it is there still. Raises Unavailable."""
    document = {"seq": sequence}
    await call(nc, f"STREAM.MSG.DELETE.{subjects.token(stream)}", document, or_none=(*NOT_FOUND, _NOT_DELETED))


async def purge(nc: Client, stream: str, subject: str) -> None:
    """Deletes all messages under ``subject``. Raises Unavailable."""
    await call(nc, f"STREAM.PURGE.{subjects.token(stream)}", {"filter": subject}, or_none=NOT_FOUND)


async def read_all(
    nc: Client, stream: str, start: int = 1, *, only: str = "", limit: int = 0, timeout: float = 10
) -> AsyncGenerator[Stored, None]:
    """Every message that stands in ``stream`` now, from sequence ``start`` on, in order.

    Args:
        nc: a connection in the account ``HUB``.
        stream: which must exist.
        start: the first sequence to read.
        only: the subjects to read; all if empty.
        limit: how many at most; all if 0.
        timeout: seconds without a message after which it is given up.

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
        "inactive_threshold": 60 * _NANOSECONDS,
    }
    if only:
        config["filter_subject"] = only
    document = {"stream_name": stream, "config": config, "action": "create"}
    made = await call(nc, f"CONSUMER.CREATE.{subjects.token(stream)}.{name}" + (f".{only}" if only else ""), document)
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
                    raise _unavailable()
                pending -= 1
                yield Stored(message.metadata.sequence.stream, message.data, message.subject)
    except (TimeoutError, OSError, nats.errors.Error):
        raise _unavailable() from None
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
        await nc.publish(subject, dumps({"batch": 1, "expires": int(timeout * _NANOSECONDS)}), reply=inbox)
        message = await _next(nc, subscription, timeout + 10)
        return [] if _ends(message) else [message]
    except (TimeoutError, OSError, nats.errors.Error):
        raise _unavailable() from None
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


async def _ensure_stream(nc: Client, name: str, own: list[str], replicas: int, more: Mapping[str, Any]) -> None:
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


async def call(
    nc: Client, name: str, document: Mapping[str, Any], or_none: tuple[int, ...] = (), timeout: float = 10
) -> dict[str, Any] | None:
    """The broker's answer to a request of its API; None where it says one of ``or_none``. Raises as publish_batch."""
    if not nc.is_connected:
        raise _unavailable()
    try:
        reply = await nc.request(f"$JS.API.{name}", dumps(document), timeout=timeout)
    except (TimeoutError, OSError, nats.errors.Error):
        raise _unavailable() from None
    answer = _answer(reply.data)
    if answer.get("error", {}).get("err_code") in or_none:
        return None
    return _checked(answer)


def checked(data: bytes) -> dict[str, Any]:
    """An answer of the broker's that says no error. Raises as :func:`publish_batch`."""
    return _checked(_answer(data))


def _answer(data: bytes) -> dict[str, Any]:
    try:
        answer = loads(data, max_bytes=_MAX_REPLY, max_depth=16)
    except Malformed:
        raise _unavailable() from None
    return answer if isinstance(answer, dict) else {}


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    error = answer.get("error")
    if error is None:
        return answer
    code = error.get("err_code", 0)
    if code in _CONFLICT:
        raise Conflict("conflict", "Something of this name is stored already.")
    if code in _FULL:
        raise StorageFull("storage-full", "The hub's storage takes no more.", "Give it more room; nothing was stored.")
    if error.get("code") == 503 or code in _PASSING:
        raise _unavailable()
    raise Refused("broker-refused", f"The broker does not do this (its code: {code}).", "Look it up in its manual.")


def _unavailable() -> Unavailable:
    return Unavailable("broker-unavailable", "The broker did not confirm.", "Send it again.")
