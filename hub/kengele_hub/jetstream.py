"""The broker's own interface: single messages of a stream, and the one way into it, atomic batches.

A batch is stored wholly or not at all, and shares its fsyncs: 500 reports in a batch cost some twenty. A batch belongs
to one stream. These headers hold within a batch, and refuse all of it when one of them fails: ``Nats-Msg-Id``,
``Nats-Expected-Last-Sequence``, ``Nats-Expected-Last-Subject-Sequence``. With the last one at 0 (:data:`ONCE`) a
subject is written once and never again, whichever worker comes first, and not twice within one batch either.
Source: github.com/nats-io/nats-architecture-and-design, ADR-50 "JetStream Batch Publishing".

    >>> last = await publish_batch(nc, [(ledger_report(envelope.id), data, ONCE)])
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import nats.errors
from nats.aio.client import Client

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


NANOSECONDS: Final = 1_000_000_000
_MAX_REPLY: Final = 4 * 1024 * 1024
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
    """A message as it stands in a stream; ``at`` is when it was stored, where that was told."""

    sequence: int
    data: bytes
    subject: str = ""
    at: datetime | None = None


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
        raise unavailable()
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
        raise unavailable() from None
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


async def call(
    nc: Client, name: str, document: Mapping[str, Any], or_none: tuple[int, ...] = (), timeout: float = 10
) -> dict[str, Any] | None:
    """The broker's answer to a request of its API; None where it says one of ``or_none``. Raises as publish_batch."""
    if not nc.is_connected:
        raise unavailable()
    try:
        reply = await nc.request(f"$JS.API.{name}", dumps(document), timeout=timeout)
    except (TimeoutError, OSError, nats.errors.Error):
        raise unavailable() from None
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
        raise unavailable() from None
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
        raise unavailable()
    raise Refused("broker-refused", f"The broker does not do this (its code: {code}).", "Look it up in its manual.")


def unavailable() -> Unavailable:
    return Unavailable("broker-unavailable", "The broker did not confirm.", "Send it again.")
