"""Consumers: what is read, and who is told that there is nothing more to wait for."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from kengele_hub import consumers
from kengele_hub.errors import Unavailable
from kengele_hub.jetstream import ONCE, publish_batch
from kengele_schemas import subjects
from kengele_testing.streams import info, made_streams, run

pytestmark = pytest.mark.full
REPORT = subjects.ledger_report


def test_a_part_of_a_stream_is_read_by_its_subjects_and_no_further_than_asked(tmp_path: Path) -> None:
    async def claim(nc: Client) -> None:
        await publish_batch(
            nc, [(subjects.ledger_entry("odd" if i % 2 else "even", str(i)), b"", ONCE) for i in range(9)]
        )

        async def read(start: int = 1, **options: Any) -> list[int]:
            return [one.sequence async for one in consumers.read_all(nc, subjects.LEDGER, start, **options)]

        assert await read(only="ledger.odd.*") == [2, 4, 6, 8]
        assert await read(3, limit=4) == [3, 4, 5, 6]
        assert await read(3, only="ledger.even.*", limit=2) == [3, 5]
        assert await read(8, limit=100) == [8, 9]
        assert await read(only="ledger.none.*") == []

    run(tmp_path, claim)


def test_who_waits_for_messages_is_told_at_once_that_the_line_broke(tmp_path: Path) -> None:
    async def claims() -> None:
        async with made_streams(tmp_path) as (broker, nc):
            await consumers.ensure_consumer(nc, subjects.LEDGER, "router")
            waiting = asyncio.create_task(consumers.pull(nc, subjects.LEDGER, "router", 10, 600))
            while not (await info(nc, "CONSUMER.INFO.LEDGER.router"))["num_waiting"]:
                await asyncio.sleep(0.01)
            pid = broker.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            async with asyncio.timeout(60):
                with pytest.raises(Unavailable):
                    await waiting

    asyncio.run(claims())
