"""A member's home and its session with the hub: the same for a monitor's node, an office's desk and a coordinator.

A home holds the network's card, a vault with the member's keys, and what was last verified of the network's rules.
Everything secret is in the vault; the rest says no more than that this machine belongs to a member.

    >>> member = Member.open(Path("node"), lock)
    >>> async with member.session() as session:
    ...     trusted = await session.refresh()
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from nacl.signing import SigningKey

from kengele_schemas import disk, subjects
from kengele_schemas.cards import Joiner, NetworkCard, read_card
from kengele_schemas.concern import Scope
from kengele_schemas.encoding import b64u, dumps, loads, unb64u
from kengele_schemas.errors import Damaged, KengeleError, Malformed, Refused, Untrusted
from kengele_schemas.keys import OpeningKey, monitor_id, new_signing_key
from kengele_schemas.nkeys import KeyPair
from kengele_schemas.packing import pack, unpack
from kengele_schemas.trust import TrustStore
from kengele_schemas.trusted import Trusted

from .clock import Clock, signed_at
from .errors import NotAdmitted, said_by_hub
from .link import Link
from .newest import Newest
from .vault import Lock, Vault

CARD: Final = "network.json"
_PROFILE: Final = "profile"
_ROOT: Final = "root"
OPENING: Final = "open."
"""How the names of an office's opening keys begin."""
EPOCH: Final = "epoch."
"""How the names of a monitor's earlier signing keys begin."""
FIRST: Final = "first"
_ANSWER: Final = 20.0
"""Seconds for the hub to answer one request of a refresh."""
_MAX_ANSWER: Final = 8 * 1024 * 1024
_RENEWAL: Final = 15.0
_SLOW: Final = 3.0
"""Seconds of silence after which it is told that the hub is waited for."""
_SPREAD: Final = 1.5
"""Seconds over which members spread their asking for what has changed; and the least from one asking to the next."""
_LONGEST_REST: Final = 60.0
"""Seconds from one asking to the next where the hub goes on telling of news and has none."""


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def _machine() -> datetime:
    return now()


class Member:
    """An opened home. ``role`` is whose; ``id`` is the monitor's kid, the office's id or the coordinator's id."""

    slow: Callable[[], None]
    """Called when a session waits for the hub's first answer for longer than a person expects."""

    def __init__(self, home: Path, vault: Vault) -> None:
        """Raises Damaged if the home is not one."""
        self.slow = lambda: None
        self.home = home
        self.vault = vault
        try:
            self.profile: Mapping[str, Any] = loads(vault.secrets[_PROFILE], max_bytes=65536)
            self.role: Scope = self.profile["role"]
            self.key = SigningKey(vault.secrets["sign"])
            self.nkey = KeyPair.from_seed(vault.secrets["nkey"].decode("ascii"))
        except (KeyError, TypeError, ValueError, Malformed):
            raise Damaged("damaged", "This home's vault lacks its keys.", "Restore it from a copy.") from None
        self.clock = Clock(home, vault.rows("clock"), _machine)
        self.newest = Newest(home, vault.rows("newest"), self.now)

    @classmethod
    def create(
        cls,
        home: Path,
        lock: Lock,
        role: Scope,
        profile: Mapping[str, Any],
        opening: tuple[OpeningKey, ...] = (),
        *,
        card: NetworkCard | None = None,
    ) -> Member:
        """A new home with keys of its own.

        Args:
            home: directory, made if missing.
            lock: what will open it.
            role: whose home it is.
            profile: what the role wants to remember, kept in the vault.
            opening: an office's private keys.
            card: the network's, if there is one already.

        Raises:
            Refused: ``exists``.
        """
        secrets = {
            "sign": bytes(new_signing_key()),
            "nkey": KeyPair.generate("user").seed.encode("ascii"),
            _PROFILE: dumps({**profile, "role": role}),
            **{f"{OPENING}{key.suite}": key.raw for key in opening},
        }
        member = cls(home, Vault.create(home, lock, secrets))
        if card is not None:
            member.join(card)
        return member

    def join(self, card: NetworkCard) -> None:
        """Makes ``card`` this home's network: the vault keeps the root that counts from now on, and no other does."""
        self.remember(_ROOT, card.root_digest.encode("ascii"))
        disk.write(self.home / CARD, card.encode())

    @classmethod
    def open(cls, home: Path, lock: Lock, role: Scope) -> Member:
        """The member at home in ``home``. Raises Locked, Damaged; Refused if another role lives here."""
        member = cls(home, Vault.open(home, lock))
        if member.role != role:
            raise Refused("another-role", f"This is the home of a {member.role}.", "Give the right --home.")
        return member

    @property
    def kid(self) -> str:
        """The monitor's pseudonym, from its key."""
        return monitor_id(bytes(self.key.verify_key))

    @property
    def signing_keys(self) -> dict[str, SigningKey]:
        """A monitor's signing keys by ``kid``, today's and those before: a report is recalled under its own."""
        secrets = self.vault.secrets
        names = [name for name in secrets if name.startswith(EPOCH)]
        return {**{name.removeprefix(EPOCH): SigningKey(secrets[name]) for name in names}, self.kid: self.key}

    @property
    def first_kid(self) -> str:
        """The pseudonym under which this monitor began: its numbers go on from one to the next."""
        return self.vault.secrets.get(FIRST, self.kid.encode("ascii")).decode("ascii")

    @property
    def id(self) -> str:
        """The member's id in the roster."""
        return str(self.profile["id"]) if "id" in self.profile else self.kid

    @property
    def opening_keys(self) -> tuple[OpeningKey, ...]:
        """An office's private keys."""
        return tuple(self.opening_by_name.values())

    @property
    def opening_by_name(self) -> dict[str, OpeningKey]:
        """The same by the names of their secrets: ``open.SUITE``, for each further one ``open.SUITE.FINGERPRINT``."""
        secrets = self.vault.secrets
        names = sorted(name for name in secrets if name.startswith(OPENING))
        return {name: OpeningKey(name.split(".")[1], secrets[name]) for name in names}

    @property
    def card(self) -> NetworkCard:
        """The network's card.

        Raises:
            Damaged: ``no-network``: there is none yet.
            Untrusted: ``another-network``: not the network that this home joined. Whoever has had the disk in hand
                could make a node seal for offices of their own, without knowing its passphrase.
        """
        try:
            card = read_card(disk.read(self.home / CARD), NetworkCard)
        except OSError:
            raise Damaged(
                "no-network",
                "This home does not belong to a network yet.",
                "A coordinator's joins with: kengele coordinator join CARD",
            ) from None
        if self.vault.secrets.get(_ROOT) != card.root_digest.encode("ascii"):
            raise Untrusted(
                "another-network",
                "The network's card in this home is not the one it was set up with.",
                "Somebody may have changed it. Send nothing from here; tell a coordinator.",
            )
        return card

    @property
    def trust(self) -> TrustStore:
        """What this member has verified of the network's rules."""
        return TrustStore(self.home / "trust", unb64u(self.card.root))

    def change_key(self, key: SigningKey, secrets: Mapping[str, bytes]) -> None:
        """Signs with ``key`` from now on; ``secrets`` take the place of all that the vault holds, at once."""
        self.vault.replace({**secrets, "sign": bytes(key)})
        self.key = key

    def rename(self, member_id: str) -> None:
        """Keeps ``member_id`` as this member's id."""
        self.profile = {**self.profile, "id": member_id}
        self.remember(_PROFILE, dumps(self.profile))

    def remember(self, name: str, secret: bytes) -> None:
        """Keeps one more secret in the vault, durably."""
        self.vault.replace({**self.vault.secrets, name: secret})

    def now(self) -> datetime:
        """The time, and never earlier than what was seen here: by this is judged what holds, and sealed."""
        return self.clock.now()

    def offline(self) -> Trusted:
        """What was verified last. Raises Untrusted, ``no-trust``, if nothing ever was."""
        trusted = self.trust.offline(self.role, self.now(), self.id)
        self.clock.used(trusted)
        return trusted

    @asynccontextmanager
    async def session(self, wait: float = 15) -> AsyncIterator[Session]:
        """A session with the hub; the line is kept up as long as the block runs.

        Args:
            wait: seconds for the first connection; 0 does not wait, for who can work without a line.

        Raises:
            Unreachable: the hub did not answer in time.
            NotAdmitted: it did, and no coordinator has admitted this member yet.
        """
        card = self.card
        tls = ssl.create_default_context(cadata=card.ca) if card.ca else None
        if "jwt" not in self.vault.secrets:
            with self._told_if_slow():
                self.remember("jwt", (await self._admission(card, tls, wait)).encode("ascii"))

        async def renew() -> str:
            # Not kept: it is asked for again in a second, and another process may have written to the vault since.
            return await self._admission(card, tls, _RENEWAL)

        jwt = self.vault.secrets["jwt"].decode("ascii")
        async with Link(card.urls, jwt, self.nkey, tls=tls, renew=renew) as link:
            if wait:
                with self._told_if_slow():
                    await link.wait_connected(wait)
            yield Session(self, link)

    @contextmanager
    def _told_if_slow(self) -> Iterator[None]:
        late = asyncio.get_running_loop().call_later(_SLOW, self.slow)
        try:
            yield
        finally:
            late.cancel()

    async def _admission(self, card: NetworkCard, tls: ssl.SSLContext | None, wait: float) -> str:
        async with joiner(card.urls, card.join, tls=tls, wait=wait) as ask:
            answer = await ask(self.nkey.public, {})
        jwt = answer.get("jwt")
        if answer.get("code") != "admitted" or not isinstance(jwt, str) or not jwt.isascii():
            raise NotAdmitted
        return jwt


@dataclass(frozen=True, slots=True)
class Session:
    """A member's line to the hub."""

    member: Member
    link: Link

    async def refresh(self) -> Trusted:
        """Roster and policy as they stand at the hub, verified. Raises Untrusted; Unreachable without a line."""
        loop = asyncio.get_running_loop()
        subject = subjects.trust_get(self.member.nkey.public)

        def fetch(path: str) -> bytes | None:
            request = self.link.request(subject, dumps({"path": path}))
            packed = asyncio.run_coroutine_threadsafe(request, loop).result(_ANSWER)
            return unpack(packed, max_bytes=_MAX_ANSWER) or None

        return await asyncio.to_thread(self._verified, fetch)

    @asynccontextmanager
    async def kept_current(self, took: Callable[[Trusted], object]) -> AsyncIterator[None]:
        """While the block runs, roster and policy are fetched anew whenever there is news of them; ``took`` is told."""
        following = asyncio.create_task(self._follow(took))
        try:
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self, took: Callable[[Trusted], object]) -> None:
        # Members do not all ask in the same instant; who is refused or finds no line tries again.
        loop = asyncio.get_running_loop()
        rest, looked = _SPREAD, -_LONGEST_REST
        while True:
            await self.link.news()
            # News that brought nothing makes the next wait: the hub may tell of ever higher numbers that are not there.
            await asyncio.sleep(max(looked + rest - loop.time(), random.uniform(0, _SPREAD)))  # noqa: S311
            looked = loop.time()
            try:
                known, trusted = self.link.known, await self.refresh()
                rest = _SPREAD if trusted.version > known else min(2 * rest, _LONGEST_REST)
                self.link.known = trusted.version
                took(trusted)
            except KengeleError:
                await asyncio.sleep(random.uniform(_SPREAD, 10 * _SPREAD))  # noqa: S311
                self.link.look_again()

    def _verified(self, fetch: Any) -> Trusted:
        member = self.member
        trusted = member.trust.refresh(fetch, member.role, member.clock.at_the_hub(), member.id)
        member.clock.looked(trusted, signed_at(member.home))
        return trusted

    async def ask(self, subject: str, document: Any) -> dict[str, Any]:
        """The hub's answer to a request.

        Raises:
            Refused: the hub does not do it; its code and sentence.
            Unreachable: no line.
        """
        answer = _read(await self.link.request(subject, pack(dumps(document)), timeout=_ANSWER))
        return _checked(answer)


@asynccontextmanager
async def joiner(
    urls: Any, credentials: Joiner, *, tls: ssl.SSLContext | None = None, wait: float = 15
) -> AsyncIterator[Any]:
    """A line for who is not in yet: yields ``ask(nkey, document) -> answer``."""
    key = KeyPair.from_seed(credentials.seed)
    async with Link(list(urls), credentials.jwt, key, tls=tls) as link:
        await link.wait_connected(wait or 15)

        async def ask(nkey: str, document: Any) -> dict[str, Any]:
            return _read(await link.request(subjects.join_credentials(nkey), dumps(document), timeout=_ANSWER))

        yield ask


def _read(data: bytes) -> dict[str, Any]:
    answer = loads(unpack(data, max_bytes=_MAX_ANSWER), max_bytes=_MAX_ANSWER)
    if not isinstance(answer, dict) or not isinstance(answer.get("code"), str):
        raise Malformed("malformed", "The hub's answer is not one.", "Try again.")
    return answer


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if "sentence" in answer:
        raise said_by_hub(answer)
    return answer


def encode_files(files: Mapping[str, bytes]) -> dict[str, str]:
    """Trust files as they travel in a request."""
    return {path: b64u(pack(data)) for path, data in files.items()}
