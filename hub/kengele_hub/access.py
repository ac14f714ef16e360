"""The hub's own access to a broker, embedded or external: its connections, and who else may connect.

Account claims live in the broker's resolver; they are pushed, never configured, because a preloaded claim overwrites
the stored one at every start and would let revoked members back in. What is pushed holds the revocations that the
broker has, besides new ones: a worker with an old roster lets nobody back in. A revocation up to a time is a pause; it
keeps its time, and never takes the place of a longer one.
Source: docs.nats.io, "Account Lookup Using Resolver": ``$SYS.REQ.CLAIMS.UPDATE``, ``$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP``.

    >>> access = Access(keys, "tls://nats.example.org:4222", tls=ssl.create_default_context())
    >>> await access.push_accounts()
    >>> async with await access.connect() as nc: ...
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import time
from collections.abc import Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import nats.errors
from nats.aio.client import Client

from kengele_schemas import disk
from kengele_schemas.encoding import dumps, loads
from kengele_schemas.errors import Damaged, Malformed
from kengele_schemas.nkeys import KeyPair

from . import credentials
from .credentials import Role
from .errors import Unavailable
from .home import HubKeys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PING_INTERVAL: Final = 20
"""Seconds: two unanswered pings end a connection."""
_OWN_PING: Final = 5
"""The same for the hub's own connections: of a cluster's servers one that says nothing is soon left for another."""
_ATTEMPTS: Final = 5
_MAX_ANSWER: Final = 1024 * 1024
_UPDATE: Final = "$SYS.REQ.CLAIMS.UPDATE"


_EXPORTED: Final = (
    "# For nats-server, started in this directory: include it beside listen addresses and TLS.",
    "# Members speak TLS from the first byte on: give its block handshake_first: true.",
)


class Access:
    """A broker's address and the keys to it.

    Args:
        keys: the hub's.
        url: ``nats://`` or ``tls://``, host and port; of a cluster several with commas between.
        tls: how the broker's certificate is verified; the system's authorities if None.
    """

    def __init__(self, keys: HubKeys, url: str, *, tls: ssl.SSLContext | None = None) -> None:
        self.keys = keys
        self.url = url
        self._tls = tls
        self._pushing = asyncio.Lock()
        """What one part of this process has read of the account is pushed before another reads it."""

    async def connect(self, name: str = "hub", timeout: float = 15) -> Client:
        """A connection in the account ``HUB``, where everything is allowed. It reconnects by itself for ever.

        Args:
            name: what the broker's monitoring shows.
            timeout: seconds for the first connection.

        Raises:
            Unavailable: the broker did not answer or did not admit the hub.
        """
        return await self._connect(self.keys.accounts.hub, self.keys.hub_user, name, timeout)

    async def _connect(self, account: KeyPair, user: KeyPair, name: str, timeout: float) -> Client:
        client = Client()
        jwt = credentials.insider(account, user.public, name, now=_now()).encode("ascii")
        options: dict[str, Any] = {"tls": self._tls} if self._tls is not None else {}
        try:
            await asyncio.wait_for(
                client.connect(
                    self.url.split(","),
                    name=name,
                    user_jwt_cb=lambda: jwt,
                    signature_cb=lambda nonce: base64.b64encode(user.sign(nonce.encode("ascii"))),
                    tls_handshake_first=self.url.startswith("tls:"),
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.2,  # type: ignore[arg-type]
                    ping_interval=_OWN_PING,
                    error_cb=_ignore,
                    **options,
                ),
                timeout,
            )
        except (TimeoutError, OSError, nats.errors.Error):
            await client.close()
            raise Unavailable(
                "broker-unavailable", "The broker does not answer.", "Check that it runs and that the address is right."
            ) from None
        return client

    @asynccontextmanager
    async def system(self) -> AsyncIterator[Client]:
        """A connection in the account ``SYS`` while the block runs. Raises Unavailable."""
        client = await self._connect(self.keys.accounts.system, self.keys.system_user, "hub-system", 15)
        try:
            yield client
        finally:
            await client.close()

    async def push_accounts(self, revoked: Iterable[str] = ()) -> None:
        """Makes the broker know the accounts ``HUB`` and ``NODES`` as this version of the hub defines them.

        Revocations the broker holds already stay.

        Args:
            revoked: nkeys to revoke besides.

        Raises:
            Unavailable: the broker does not answer or does not take the claims.
        """
        async with self._pushing, self.system() as system:
            await _update(system, credentials.hub_account(self.keys.accounts, now=_now()))
            await self._push_nodes(system, credentials.for_ever(revoked))

    async def revoke(self, nkeys: Iterable[str]) -> None:
        """Drops the connections of members and keeps them out, for good: there is no way back but a new key.

        The broker knows no compare-and-set: of two workers that add different nkeys in the same instant, one may undo
        the other. So pass the roster's whole list, each time it changes and now and then; when the broker holds all of
        it, this costs one request.

        Raises:
            Malformed: one of ``nkeys`` is none; nobody is revoked then.
            Unavailable: the broker does not answer; call again.
        """
        await self._keep_out(credentials.for_ever(nkeys))

    async def pause(self, until: Mapping[str, int], revoked: Iterable[str] = ()) -> None:
        """Drops the connections of members and keeps them out until they show a JWT issued after a moment.

        Args:
            until: nkeys, and seconds since 1970 for each. Who is kept out for longer stays so.
            revoked: the roster's list, lest what another worker has just revoked is undone.

        Raises:
            Malformed, Unavailable: as :meth:`revoke`.
        """
        await self._keep_out({**until, **credentials.for_ever(revoked)})

    async def revoked(self) -> set[str]:
        """The nkeys that the broker keeps out for good. Raises Unavailable."""
        return {nkey for nkey, until in (await self._kept_out()).items() if until >= credentials.FOREVER}

    async def paused(self) -> dict[str, int]:
        """The nkeys that the broker keeps out for a time, and until when. Raises Unavailable."""
        return {nkey: until for nkey, until in (await self._kept_out()).items() if until < credentials.FOREVER}

    async def _kept_out(self) -> dict[str, int]:
        async with self.system() as system:
            return (await self._held(system))[0]

    async def _keep_out(self, wanted: Mapping[str, int]) -> None:
        async with self._pushing, self.system() as system:
            if not _covers((await self._held(system))[0], wanted):
                await self._push_nodes(system, wanted)

    async def servers(self, quiet: float = 0.5) -> list[dict[str, Any]]:
        """What each of the broker's servers says of itself and of its configuration (docs.nats.io, "varz").

        Args:
            quiet: seconds without another answer after which there is none to come.

        Raises:
            Unavailable: none answers.
        """
        found: list[dict[str, Any]] = []
        async with self.system() as system:
            inbox = system.new_inbox()
            answers = await system.subscribe(inbox)
            await system.publish("$SYS.REQ.SERVER.PING.VARZ", b"{}", reply=inbox)
            with suppress(TimeoutError, nats.errors.Error):
                while True:
                    answer = await answers.next_msg(quiet if found else 5)
                    document = loads(answer.data, max_bytes=_MAX_ANSWER, max_depth=24)
                    found.append(dict(document["data"]))
        if not found:
            raise Unavailable("broker-unavailable", "The broker's servers do not answer.", "Try again.")
        return found

    async def holds_accounts(self) -> bool:
        """Whether the broker has the accounts that members and the hub connect to. Raises Unavailable."""
        async with self.system() as system:
            for account in (self.keys.accounts.hub, self.keys.accounts.nodes):
                if not await _request(system, f"$SYS.REQ.ACCOUNT.{account.public}.CLAIMS.LOOKUP", b""):
                    return False
        return True

    async def _push_nodes(self, system: Client, wanted: Mapping[str, int]) -> None:
        for _ in range(_ATTEMPTS):
            held, issued = await self._held(system)
            # The broker keeps the claims with the later time of issue, and clocks of workers differ.
            revocations = credentials.merged(held, wanted, now=_now())
            await _update(system, credentials.nodes_account(self.keys.accounts, revocations, now=max(_now(), issued)))
            if _covers((await self._held(system))[0], wanted):
                return
        raise Unavailable("broker-unavailable", "The broker does not keep the revocations.", "Try again.")

    async def _held(self, system: Client) -> tuple[dict[str, int], int]:
        """The revocations that the broker holds, and when that claim was issued."""
        subject = f"$SYS.REQ.ACCOUNT.{self.keys.accounts.nodes.public}.CLAIMS.LOOKUP"
        jwt = await _request(system, subject, b"")
        if not jwt:
            return {}, 0
        try:
            claims = credentials.decode(jwt.decode("ascii"))
            if claims["iss"] != self.keys.accounts.operator.public:
                raise Malformed("malformed", "The broker's NODES account is another operator's.")
            held = claims["nats"].get("revocations", {})
            return {nkey: int(until) for nkey, until in held.items()}, int(claims["iat"])
        except (Malformed, KeyError, TypeError, ValueError, AttributeError):
            raise Damaged(
                "damaged", "The broker's NODES account is not of this hub's making.", "Restore the hub's keys."
            ) from None

    def member_jwt(self, nkey: str, role: Role, *, expires: int | None = None) -> str:
        """The JWT with which a member connects; worth nothing without its nkey's seed. Raises Malformed."""
        return credentials.member(self.keys.accounts, nkey, role, now=_now(), expires=expires)

    def export(self, directory: Path, revoked: Iterable[str] = (), *, max_store: int | None = None) -> list[Path]:
        """Writes what an external broker's operator needs: a configuration snippet and the account JWTs; no secret.

        Args:
            directory: made if missing.
            revoked: nkeys to keep out from the start.
            max_store: bytes of all streams on one server; what its disk gives if None.

        Returns:
            The files written.
        """
        accounts, now = self.keys.accounts, _now()
        rests = ground(self.keys, Path())
        if max_store is not None:
            rests["jetstream"]["max_file_store"] = max_store
        lines = [f"{name}: {dumps(value).decode('ascii')}" for name, value in rests.items()]
        merged = {name: rests[name] for name in ("max_payload", "operator", "system_account", "resolver_preload")}
        files = {
            "kengele.conf": "\n".join((*_EXPORTED, *lines, "")),
            # JSON is YAML: what NATS' Helm chart wants to be told of it.
            "helm-values.yaml": dumps({"config": {"merge": merged}}).decode("ascii") + "\n",
            f"jwt/{accounts.hub.public}.jwt": credentials.hub_account(accounts, now=now),
            f"jwt/{accounts.nodes.public}.jwt": credentials.nodes_account(
                accounts, credentials.for_ever(revoked), now=now
            ),
        }
        disk.make_directory(directory)
        written = []
        for name, text in files.items():
            disk.write_below(directory, name, text.encode("ascii"))
            written.append(directory / name)
        return written


def ground(keys: HubKeys, home: Path) -> dict[str, Any]:
    """The part of a broker's configuration on which Kengele rests, whoever runs it (docs.nats.io, "Configuration").

    ``sync_interval: always`` is not negotiable: the default acknowledges what a power cut then loses.

    Args:
        keys: the hub's.
        home: the directory for the broker's data.
    """
    accounts, now = keys.accounts, _now()
    return {
        "max_payload": credentials.MAX_PAYLOAD,
        "jetstream": {"store_dir": str(home), "sync_interval": "always", "max_memory_store": 0},
        "operator": credentials.operator(accounts, now=now),
        "system_account": accounts.system.public,
        "resolver": {"type": "full", "dir": str(home / "jwt"), "allow_delete": False, "interval": "2m"},
        # Only SYS: a preloaded account overwrites the stored one, and revoked members would be back after a restart.
        "resolver_preload": {accounts.system.public: credentials.system_account(accounts, now=now)},
    }


def _covers(held: Mapping[str, int], wanted: Mapping[str, int]) -> bool:
    return all(held.get(nkey, 0) >= until for nkey, until in wanted.items())


def _now() -> int:
    return int(time.time())


async def _ignore(_: Exception) -> None:
    """Connection trouble shows in the requests that fail; nats-py would print it with whatever it holds."""


async def _request(system: Client, subject: str, data: bytes) -> bytes:
    try:
        return (await system.request(subject, data, timeout=10)).data
    except (TimeoutError, nats.errors.Error):
        raise Unavailable(
            "broker-unavailable", "The broker does not answer about its accounts.", "Try again."
        ) from None


async def _update(system: Client, jwt: str) -> None:
    reply = loads(await _request(system, _UPDATE, jwt.encode("ascii")), max_bytes=65536)
    if not isinstance(reply, dict) or not isinstance(reply.get("data"), dict) or reply["data"].get("code") != 200:
        raise Unavailable(
            "broker-unavailable",
            "The broker does not take the hub's accounts.",
            "Check that it runs under this hub's operator and with a full resolver.",
        )
