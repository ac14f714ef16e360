"""The door: so many knocks are heard and no more, then it is opened anew. Against a real broker."""

from __future__ import annotations

import asyncio
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from kengele_hub import door
from kengele_testing.streams import run

pytestmark = pytest.mark.full
KNOCK = "join.somebody.credentials"


async def knocks(nc: Client, count: int) -> int:
    """How many of ``count`` knocks somebody heard."""
    answers = await asyncio.gather(*(nc.request(KNOCK, b"", timeout=30) for _ in range(count)), return_exceptions=True)
    assert all(isinstance(one, Msg | nats.errors.NoRespondersError) for one in answers)
    return sum(isinstance(one, Msg) for one in answers)


def test_what_is_too_much_is_heard_by_nobody_and_later_the_door_is_open_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "MOST", 3)

    async def claim(nc: Client) -> None:
        async def start(message: Msg) -> None:
            await message.respond(b"")

        kept = asyncio.create_task(door.keep(await door.opened(nc, KNOCK, "hub"), nc, start))
        assert await knocks(nc, 2) == 2
        assert 1 <= await knocks(nc, 5) < 5
        while not await knocks(nc, 1):
            await asyncio.sleep(0.01)
        assert not kept.done()
        await nc.close()
        await asyncio.wait_for(kept, 30)

    run(tmp_path, claim)
