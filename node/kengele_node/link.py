"""The node's line to the hub: one supervised NATS connection, and the three things that may be done over it.

A line that is away says so at once. Nothing is queued to be sent later behind the caller's back: what must not be lost
stands in the outbox, and only a receipt takes it out. For that reason nats-py's own reconnection is not used; each
connection lives once, and when it ends, for whatever reason, the next one is made after a random wait.

    >>> async with Link(["tls://hub.example.org:4222"], jwt, key) as link:
    ...     await link.wait_connected(15)
    ...     receipt = await link.request(reports_submit(key.public), envelope)
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import random
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal, Protocol, Self, TypeVar
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from kengele_schemas import subjects
from kengele_schemas.encoding import dumps
from kengele_schemas.errors import KengeleError, Malformed, Refused, Unreachable
from kengele_schemas.nkeys import KeyPair

from .errors import NotAdmitted, Paused

PING_INTERVAL: Final = 20
"""Seconds; a line is given up after two pings without an answer."""
CONNECT_TIMEOUT: Final = 10.0
"""Seconds for one attempt, handshakes included."""
_STEADY: Final = 10.0
"""Seconds a connection must last before the waits begin anew with the shortest."""
_UNANSWERED: Final = 3
"""Requests in turn without an answer after which another of the hub's addresses is tried."""
_CLOSING: Final = 2.0
_LOOK: Final = 0.25
"""Seconds between two looks at whether a connection is still there."""
_NOBODY: Final = "503"
_SECURE: Final = ("tls", "wss")
_WEB: Final = ("ws", "wss")
_SCHEMES: Final = {"nats": 4222, "tls": 4222, "ws": 80, "wss": 443}
_T = TypeVar("_T")
State = Literal["up", "away", "denied", "paused"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message of a feed. ``attempt`` counts from 1; ``receipt`` is where its acknowledgement goes."""

    data: bytes
    sequence: int
    attempt: int
    receipt: str


class Bus(Protocol):
    """What the node needs of a line; tests stand a fake in its place."""

    async def request(self, subject: str, data: bytes, timeout: float = 10) -> bytes:
        """The answer to ``data``. Raises Unreachable; what was sent may have arrived all the same."""
        ...

    async def fetch(self, stream: str, consumer: str, batch: int, timeout: float) -> list[Delivery]:
        """Up to ``batch`` messages: those there at once, or the first to come within ``timeout`` seconds, or none."""
        ...

    async def acknowledge(self, delivery: Delivery, *, confirm: bool = False) -> None:
        """Tells the hub not to deliver again. Only with ``confirm`` it is certain, when this returns, that it knows."""
        ...


class Link:
    """A :class:`Bus` over NATS, kept up in the background while the ``async with`` block runs.

    Args:
        urls: of ``nats:``, ``tls:`` (the TLS handshake comes first), ``ws:``, ``wss:``. Where one
            kind, NATS or WebSocket, has failed, the other is tried: firewalls let through what they know.
        jwt: with which the hub admits ``key``.
        key: the member's user nkey.
        tls: how the hub's certificate is verified; the system's authorities if None.
        allow_plain: lets ``nats:`` and ``ws:`` leave this machine, as through a tunnel that encrypts.
        first_wait, longest_wait: seconds between attempts; the wait is a random part of a bound that doubles.
        renew: asks the hub for another JWT when it turns this one away, as it does with one that has run out or was
            issued before the end of a pause. Raises NotAdmitted if there is none.

    Raises:
        Malformed: a URL is none, holds credentials or would go out in the clear.
    """

    told: Callable[[State], None]
    """Called when the line comes up, is gone, or the hub turns this key away."""

    def __init__(
        self,
        urls: Sequence[str],
        jwt: str,
        key: KeyPair,
        *,
        tls: ssl.SSLContext | None = None,
        allow_plain: bool = False,
        first_wait: float = 0.5,
        longest_wait: float = 60,
        renew: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        schemes = {url: _checked_scheme(url, allow_plain) for url in urls}
        if not schemes:
            raise Malformed("malformed", "The hub has no address.", "Ask a coordinator for the network's card.")
        # nats-py takes addresses of one kind at a time.
        kinds = ([url for url in urls if schemes[url] in kind] for kind in (("nats", "tls"), _WEB))
        self._ways = [way for way in kinds if way]
        self._key = key
        self._jwt, self._renew = jwt, renew
        self._options: dict[str, Any] = {
            "user_jwt_cb": lambda: self._jwt.encode("ascii"),
            "signature_cb": self._sign,
            "inbox_prefix": subjects.inbox_prefix(key.public),
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0,
            "connect_timeout": CONNECT_TIMEOUT,
            "ping_interval": PING_INTERVAL,
            "no_echo": True,
            "error_cb": _ignore,
        }
        self._tls = (tls or ssl.create_default_context()) if {*schemes.values()} & {*_SECURE} else None
        self._waits = (first_wait, longest_wait)
        self.told = lambda _: None
        self._state: State | None = None
        self._client: Client | None = None
        self._lost = asyncio.Event()
        self._connected = asyncio.Event()
        self._news = asyncio.Event()
        self._denied: type[NotAdmitted] | None = None
        self._turned_away = False
        self._unanswered = 0
        self._leaving = False
        self._supervisor: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._supervisor = asyncio.create_task(self._supervise())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving = True
        # Again and again, because nats-py swallows a cancellation that finds it closing.
        while self._supervisor is not None and not self._supervisor.done():
            self._supervisor.cancel()
            await asyncio.wait((self._supervisor,), timeout=_CLOSING + 1)

    @property
    def connected(self) -> bool:
        """Whether the line is up, as far as is known: a dead peer is noticed after about a minute."""
        return self._connected.is_set()

    async def wait_connected(self, timeout: float) -> None:
        """Returns when the line is up.

        Raises:
            NotAdmitted: the hub turned this node's key away when last asked; Paused, if only for a while.
            Unreachable: it did not answer.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._connected.wait()
        except TimeoutError:
            raise self._why() from None

    async def news(self) -> None:
        """Returns when roster or policy may have changed: the hub said so, or it was away and is back."""
        await self._news.wait()
        self._news.clear()

    def look_again(self) -> None:
        """Makes :meth:`news` return: what it told of before was not had."""
        self._news.set()

    async def request(self, subject: str, data: bytes, timeout: float = 10) -> bytes:
        """As :meth:`Bus.request`. Raises Refused, too, if ``data`` is more than the hub takes in one message."""
        with self._answered():
            client, lost = self._current()
            message = await _unless_lost(client.request(subject, data, timeout=timeout), lost)
        return bytes(message.data)

    async def fetch(self, stream: str, consumer: str, batch: int, timeout: float) -> list[Delivery]:
        """As :meth:`Bus.fetch`. Raises Unreachable."""
        with self._answered():
            client, lost = self._current()
            return await _unless_lost(_fetch(client, subjects.consumer_next(stream, consumer), batch, timeout), lost)

    async def acknowledge(self, delivery: Delivery, *, confirm: bool = False) -> None:
        """As :meth:`Bus.acknowledge`. Raises Unreachable."""
        client, lost = self._current()
        if confirm:
            await _unless_lost(client.request(delivery.receipt, b"+ACK", timeout=CONNECT_TIMEOUT), lost)
            return
        try:
            await client.publish(delivery.receipt, b"+ACK")
        except (OSError, TimeoutError, nats.errors.Error):
            raise _unreachable() from None

    @contextmanager
    def _answered(self) -> Iterator[None]:
        """Leaves a server that does not answer again and again for another: it may be cut off from its cluster."""
        try:
            yield
        except Unreachable:
            self._unanswered += 1
            if self._unanswered >= _UNANSWERED and sum(map(len, self._ways)) > 1:
                self._lost.set()
            raise
        self._unanswered = 0

    def _current(self) -> tuple[Client, asyncio.Event]:
        if self._client is None or self._client.is_closed:
            raise self._why()
        return self._client, self._lost

    def _why(self) -> KengeleError:
        return self._denied() if self._denied else _unreachable()

    def _sign(self, nonce: str) -> bytes:
        return base64.b64encode(self._key.sign(nonce.encode("ascii")))

    async def _supervise(self) -> None:
        """Makes one connection after the other. Waits are random so that a hub's return is not its next fall."""
        first, longest = self._waits
        bound = first
        renewed = False
        loop = asyncio.get_running_loop()
        while not self._leaving:
            client, lost = Client(), asyncio.Event()
            started = loop.time()
            try:
                if await self._connect(client, lost):
                    renewed = False
                    self._client, self._lost, self._unanswered = client, lost, 0
                    self._connected.set()
                    self._is("up")
                    await _ended(client, lost)
                else:
                    self._ways.append(self._ways.pop(0))
            finally:
                self._client = None
                self._connected.clear()
                lost.set()
                await _close(client)
            bound = first if loop.time() - started > max(_STEADY, bound) else min(2 * bound, longest)
            if self._leaving:
                return
            if self._turned_away:
                self._denied = Paused if renewed else self._denied or NotAdmitted
                if renewed:
                    self._is("paused")
                    await asyncio.sleep(random.uniform(0, bound))  # noqa: S311
                renewed = self._renew is not None and await self._renewed(self._renew)
                if renewed:
                    continue  # at once: during a pause each JWT holds as little as the one before
            self._is("paused" if self._denied is Paused else "denied" if self._denied else "away")
            await asyncio.sleep(random.uniform(0, bound))  # noqa: S311

    async def _renewed(self, renew: Callable[[], Awaitable[str]]) -> bool:
        """Whether the hub has issued another JWT: whoever is turned away with that is in the roster, and paused."""
        try:
            self._jwt = await renew()
        except NotAdmitted:
            self._denied = NotAdmitted
        except KengeleError:
            pass
        else:
            return True
        return False

    def _is(self, state: State) -> None:
        if state != self._state:
            self._state = state
            self.told(state)

    async def _connect(self, client: Client, lost: asyncio.Event) -> bool:
        async def closed() -> None:
            lost.set()

        self._turned_away = False
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await client.connect(**self._options, **self._way(), closed_cb=closed)
                await client.subscribe(subjects.NEWS, cb=self._heard)
        except Exception as error:  # a greeting that is none makes nats-py raise anything
            # "Authorization Violation", "User Authentication Expired", "User Authentication Revoked"
            self._turned_away = isinstance(error, nats.errors.Error) and "auth" in str(error).lower()
            return False
        self._denied = None
        self._news.set()
        return True

    def _way(self) -> dict[str, Any]:
        """What is particular to the addresses that are tried now."""
        urls = self._ways[0]
        schemes = {urlsplit(url).scheme for url in urls}
        tls = {"tls": self._tls} if schemes & {*_SECURE} else {}
        return {"servers": list(urls), "tls_handshake_first": "tls" in schemes, **tls}

    async def _heard(self, _: Msg) -> None:
        self._news.set()


async def _close(client: Client) -> None:
    with suppress(Exception):
        await asyncio.wait_for(client.close(), _CLOSING)
    # Where nats-py has failed to close before, it does not do it now either, and the socket would stay.
    if client._transport is not None:
        with suppress(Exception):
            client._transport.close()  # type: ignore[no-untyped-call]


async def _ended(client: Client, lost: asyncio.Event) -> None:
    """Returns when the connection is no more. A connection that breaks under unsent bytes makes nats-py fail while it
    closes, and call nobody back; so it is looked at besides."""
    while not lost.is_set() and not client.is_closed:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK):
                await lost.wait()


async def _fetch(client: Client, next_subject: str, batch: int, timeout: float) -> list[Delivery]:
    """Takes what is there; if that is nothing, waits for one message (ADR-13 "Pull Consumers")."""
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    try:
        await client.publish(next_subject, dumps({"batch": batch, "no_wait": True}), reply=inbox)
        found: list[Delivery] = []
        while len(found) < batch and not _status(message := await subscription.next_msg(CONNECT_TIMEOUT)):
            found.append(_delivery(message))
        if len(found) < batch and _status(message) == _NOBODY:
            raise _unreachable()
        if found or timeout <= 0:
            return found
        expires = int(timeout * 1_000_000_000)
        await client.publish(next_subject, dumps({"batch": 1, "expires": expires}), reply=inbox)
        message = await subscription.next_msg(timeout + CONNECT_TIMEOUT)
        if _status(message) == _NOBODY:
            raise _unreachable()
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


async def _unless_lost(work: Coroutine[Any, Any, _T], lost: asyncio.Event) -> _T:
    """The result of ``work``; Unreachable as soon as the connection it runs over is lost, or if it fails."""
    working, losing = asyncio.ensure_future(work), asyncio.ensure_future(lost.wait())
    try:
        await asyncio.wait((working, losing), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise _unreachable()
        return working.result()
    except nats.errors.MaxPayloadError:
        raise Refused("oversized", "This is more than the hub takes in one message.", "Shorten it.") from None
    except (OSError, TimeoutError, nats.errors.Error):
        raise _unreachable() from None
    finally:
        working.cancel()
        losing.cancel()
        await asyncio.gather(working, losing, return_exceptions=True)


def _checked_scheme(url: str, allow_plain: bool) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in _SCHEMES and parts.hostname and (parts.port or 1) > 0
    except ValueError:
        valid = False
    if not valid or "@" in url or not url.isascii():
        raise Malformed("malformed", "The hub's address is not one.", "It looks like tls://hub.example.org:4222")
    if parts.scheme not in _SECURE and not allow_plain and not _loopback(parts.hostname or ""):
        raise Malformed("plain-connection", "The hub's address would go out unencrypted.", "Use tls: or wss: instead.")
    return parts.scheme


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unreachable() -> Unreachable:
    return Unreachable(
        "unreachable",
        "The hub does not answer.",
        "Look at the line, then try again. What an outbox holds goes by itself.",
    )


async def _ignore(_: Exception) -> None:
    """Trouble shows in the requests that fail; nats-py would print it with whatever it holds."""
