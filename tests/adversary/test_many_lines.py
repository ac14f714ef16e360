"""One key that opens connections without end: each costs the broker memory, and the broker itself bounds none."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client

from kengele_hub import lines
from kengele_hub.lines import MOST, Held
from kengele_hub.tasks import end
from kengele_schemas import subjects
from kengele_schemas.encoding import loads
from kengele_testing.hub import Hub, running_hub
from kengele_testing.network import until
from kengele_testing.server import Member, member_credentials

pytestmark = pytest.mark.full


@asynccontextmanager
async def watched(tmp_path: Path, *members: Member) -> AsyncIterator[Hub]:
    """A hub that watches its lines, with ``members`` in its roster."""
    async with asyncio.timeout(120), running_hub(tmp_path) as hub:
        tasks = [asyncio.create_task(work()) for work in (hub.worker.lines.run, hub.worker.senders.pauses.run)]
        try:
            await hub.worker.lines.watching.wait()
            yield hub
        finally:
            await end(tasks)


async def line(url: str, member: Member) -> Client:
    client = Client()

    async def ignore(_: Exception) -> None:
        pass

    try:
        await client.connect(
            url,
            user_jwt_cb=member.jwt.encode,
            signature_cb=lambda nonce: base64.b64encode(member.key.sign(nonce.encode())),
            inbox_prefix=subjects.inbox_prefix(member.nkey),
            allow_reconnect=False,
            error_cb=ignore,
        )
    except (nats.errors.Error, OSError):
        await client.close()
        raise
    return client


def test_one_member_cannot_hold_thousands_of_lines_and_is_paused_when_it_goes_on(tmp_path: Path) -> None:
    async def run() -> None:
        async with watched(tmp_path) as hub, AsyncExitStack() as stack:
            url, watch = hub.broker.access.url, hub.worker.lines
            loud, other = (member_credentials(hub.keys, "monitor") for _ in range(2))
            mine: list[Client] = []

            async def more(many: int) -> None:
                for _ in range(many):
                    mine.append(await line(url, loud))
                    stack.push_async_callback(mine[-1].close)

            await more(MOST)
            await until(lambda: watch.held.count(loud.nkey) == MOST)
            await more(4)
            # The oldest go, so that who comes anew gets in.
            await until(lambda: [one.is_closed for one in mine] == [True] * 4 + [False] * MOST)
            assert watch.held.count(loud.nkey) == MOST
            assert hub.worker.senders.pauses.count == 0
            neighbour = await line(url, other)
            stack.push_async_callback(neighbour.close)
            # Refused as it is let in, or cut off while it is: a slow broker does either.
            with pytest.raises((nats.errors.Error, OSError)):
                await more(1000)
            await until(lambda: hub.worker.senders.pauses.count == 1)
            await until(lambda: all(one.is_closed for one in mine))
            assert loud.nkey in await hub.broker.access.paused()
            await until(lambda: watch.held.count(loud.nkey) == 0)
            await neighbour.flush()
            assert watch.held.count(other.nkey) == 1

    asyncio.run(run())


def test_whoever_has_the_card_cannot_hold_the_door_with_many_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MOST_AT_THE_DOOR", 20)

    async def run() -> None:
        async with watched(tmp_path) as hub, AsyncExitStack() as stack:
            url, card = hub.broker.access.url, member_credentials(hub.keys, "joiner")
            await hub.worker.listen()
            mine = []
            for _ in range(200):
                mine.append(await line(url, card))
                stack.push_async_callback(mine[-1].close)
            await until(lambda: sum(not one.is_closed for one in mine) == 20)
            newcomer = await line(url, card)
            stack.push_async_callback(newcomer.close)
            found = await newcomer.request(subjects.join_credentials(hub.roster.nkeys["osh"]), b"{}", timeout=30)
            assert loads(found.data, max_bytes=65536)["code"] == "admitted"
            assert hub.worker.senders.pauses.count == 0

    asyncio.run(run())


def test_lines_that_come_and_go_leave_nothing_behind() -> None:
    held = Held()
    for number in range(100):
        assert held.come("one", ("server", number), 2) is None
        held.gone("one", ("server", number))
    assert held._lines == {}
    assert [held.come("one", ("server", number), 2) for number in range(4)] == [
        None,
        None,
        ("server", 0),
        ("server", 1),
    ]
    # What was ended is told of once more, as gone.
    held.gone("one", ("server", 0))
    assert held.count("one") == 2
