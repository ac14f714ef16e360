"""A real nats-server for one test, on a free port of this machine, and members that may connect to it.

async with running_broker(tmp_path) as (broker, keys):
    hub = await broker.access.connect()
    office = member_credentials(keys, "office")
    async with office.link(broker.url) as link: ...
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kengele_hub import credentials
from kengele_hub.broker import Broker, HubKeys, Settings
from kengele_hub.credentials import Role
from kengele_node.link import Link
from kengele_schemas.nkeys import KeyPair


@asynccontextmanager
async def running_broker(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[Broker, HubKeys]]:
    """A broker with fresh keys under ``tmp_path``; ``settings`` are those of :class:`Settings`."""
    keys = HubKeys.create(tmp_path / "hub")
    async with Broker(keys, Settings(**{"port": -1, **settings})) as broker:
        yield broker, keys


@dataclass(frozen=True, slots=True)
class Member:
    """A member's nkey and the JWT that lets it in."""

    key: KeyPair
    jwt: str

    @property
    def nkey(self) -> str:
        return self.key.public

    def link(self, url: str, **options: Any) -> Link:
        return Link([url], self.jwt, self.key, **{"first_wait": 0.05, "longest_wait": 0.2, **options})


def member_credentials(keys: HubKeys, role: Role, *, expires: int | None = None) -> Member:
    """A new member in ``role``."""
    key = KeyPair.generate("user")
    jwt = credentials.member(keys.accounts, key.public, role, now=int(time.time()), expires=expires)
    return Member(key, jwt)
