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
import random
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from kengele_schemas import subjects
from kengele_schemas.errors import KengeleError, Malformed, Unreachable
from kengele_schemas.nkeys import KeyPair

from .addresses import SECURE, WEB, checked_scheme
from .bus import Delivery
from .connection import CLOSING, CONNECT_TIMEOUT, close, ended, pull, unless_lost
from .errors import NotAdmitted, Paused, unreachable

PING_INTERVAL: Final = 20
"""Seconds; a line is given up after two pings without an answer."""
_STEADY: Final = 10.0
"""Seconds a connection must last before the waits begin anew with the shortest."""
_UNANSWERED: Final = 3
"""Requests in turn without an answer after which another of the hub's addresses is tried."""
_LONGEST_NEWS: Final = 15
State = Literal["up", "away", "denied", "paused"]


class Link:
    """A :class:`~.bus.Bus` over NATS, kept up in the background while the ``async with`` block runs.

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
    known: int
    """The version of roster and policy that is here: only a higher one is news."""

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
        schemes = {url: checked_scheme(url, allow_plain) for url in urls}
        if not schemes:
            raise Malformed("malformed", "The hub has no address.", "Ask a coordinator for the network's card.")
        # nats-py takes addresses of one kind at a time.
        kinds = ([url for url in urls if schemes[url] in kind] for kind in (("nats", "tls"), WEB))
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
        self._tls = (tls or ssl.create_default_context()) if {*schemes.values()} & {*SECURE} else None
        self._waits = (first_wait, longest_wait)
        self.told = lambda _: None
        self.known = 0
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
            await asyncio.wait((self._supervisor,), timeout=CLOSING + 1)

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
        """As :meth:`~.bus.Bus.request`. Raises Refused, too, if ``data`` is more than the hub takes in one message."""
        with self._answered():
            client, lost = self._current()
            message = await unless_lost(client.request(subject, data, timeout=timeout), lost)
        return bytes(message.data)

    async def fetch(self, stream: str, consumer: str, batch: int, timeout: float) -> list[Delivery]:
        """As :meth:`~.bus.Bus.fetch`. Raises Unreachable."""
        with self._answered():
            client, lost = self._current()
            return await unless_lost(pull(client, subjects.consumer_next(stream, consumer), batch, timeout), lost)

    async def acknowledge(self, delivery: Delivery, *, confirm: bool = False) -> None:
        """As :meth:`~.bus.Bus.acknowledge`. Raises Unreachable."""
        client, lost = self._current()
        if confirm:
            await unless_lost(client.request(delivery.receipt, b"+ACK", timeout=CONNECT_TIMEOUT), lost)
            return
        try:
            await client.publish(delivery.receipt, b"+ACK")
        except (OSError, TimeoutError, nats.errors.Error):
            raise unreachable() from None

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
        return self._denied() if self._denied else unreachable()

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
                    await ended(client, lost)
                else:
                    self._ways.append(self._ways.pop(0))
            finally:
                self._client = None
                self._connected.clear()
                lost.set()
                await close(client)
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
                await client.subscribe(subjects.NEWS_HEARD, cb=self._heard)
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
        tls = {"tls": self._tls} if schemes & {*SECURE} else {}
        return {"servers": list(urls), "tls_handshake_first": "tls" in schemes, **tls}

    async def _heard(self, message: Msg) -> None:
        if _number(message.data) > self.known:
            self._news.set()


def _number(news: bytes) -> int:
    """The version that ``news`` tells of; 0 if it is anything but a bare number."""
    return int(news) if len(news) <= _LONGEST_NEWS and news.isdigit() else 0


async def _ignore(_: Exception) -> None:
    """Trouble shows in the requests that fail; nats-py would print it with whatever it holds."""
