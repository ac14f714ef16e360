"""A broker with the hub's streams, and no hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from kengele_hub import streams
from kengele_hub.broker import Broker
from kengele_schemas.encoding import loads
from kengele_testing.server import running_broker


@asynccontextmanager
async def made_streams(tmp_path: Path, **options: Any) -> AsyncIterator[tuple[Broker, Client]]:
    """A broker with the hub's streams, and the hub's connection to it."""
    async with running_broker(tmp_path) as (broker, _):
        nc = await broker.access.connect()
        try:
            await streams.ensure_streams(nc, **options)
            yield broker, nc
        finally:
            await nc.close()


def run(tmp_path: Path, claim: Callable[[Client], Awaitable[None]], **options: Any) -> None:
    """Holds ``claim`` against a fresh broker."""

    async def against_a_broker() -> None:
        async with made_streams(tmp_path, **options) as (_, nc):
            await claim(nc)

    asyncio.run(against_a_broker())


async def info(nc: Client, what: str) -> dict[str, Any]:
    return dict(loads((await nc.request(f"$JS.API.{what}", b"", timeout=30)).data, max_bytes=1 << 20, max_depth=16))


async def count(nc: Client, stream: str) -> int:
    return int((await info(nc, f"STREAM.INFO.{stream}"))["state"]["messages"])
