"""Ending tasks for certain."""

from __future__ import annotations

import asyncio

import nats.errors
import pytest

from kengele_hub.tasks import end


async def stubborn(losses: int) -> None:
    """Loses so many cancellations, as whoever waits for a line through nats-py does."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not losses:
                raise
            losses -= 1


@pytest.mark.parametrize("losses", [0, 1, 2])
def test_a_task_ends_however_often_it_loses_a_cancellation(losses: int) -> None:
    async def claims() -> None:
        task = asyncio.create_task(stubborn(losses))
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await end([task])
        assert task.cancelled()

    asyncio.run(claims())


def test_what_has_ended_is_left_as_it_is() -> None:
    async def claims() -> None:
        async def failing() -> None:
            raise nats.errors.ConnectionClosedError

        task = asyncio.create_task(failing())
        await asyncio.wait([task])
        await end([task])
        assert isinstance(task.exception(), nats.errors.ConnectionClosedError)

    asyncio.run(claims())
