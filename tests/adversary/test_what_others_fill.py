"""Members, newcomers and coordinators who send what costs the hub much to read, and them little to send."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kengele_hub import letterbox, lobby, reception
from kengele_hub.tasks import end
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import KengeleError
from kengele_schemas.packing import pack
from kengele_testing.hub import Hub, running_hub

pytestmark = pytest.mark.full
LONGEST = 1.0
"""Seconds for which nobody else may be served; on an idle machine it is a fiftieth of it."""


@asynccontextmanager
async def served(tmp_path: Path) -> AsyncIterator[Hub]:
    """A hub whose loop never stands still for longer than :data:`LONGEST`."""
    worst = 0.0

    async def watch() -> None:
        nonlocal worst
        while True:
            since = time.perf_counter()
            await asyncio.sleep(0.005)
            worst = max(worst, time.perf_counter() - since)

    async with running_hub(tmp_path) as hub, asyncio.timeout(120):
        watching = asyncio.create_task(watch())
        await asyncio.sleep(0)
        try:
            yield hub
            await asyncio.sleep(0.01)
        finally:
            await end([watching])
    assert worst < LONGEST


async def published(hub: Hub, request: bytes) -> str:
    with pytest.raises(KengeleError) as caught:
        await hub.worker.reception.answer_publish(hub.roster.nkeys["aigul"], request)
    return caught.value.code


def test_one_coordinator_cannot_hold_the_hub_with_what_is_no_version(tmp_path: Path) -> None:
    many = b"[" + b"1," * (4 * 1024 * 1024 - 100) + b"1]"
    names = b"{" + b",".join(b'"%06x":""' % one for one in range(600_000)) + b"}"
    long = b64u(pack(bytes(7 * 1024 * 1024))).encode()
    files = b"{" + b",".join(b'"targets/monitors/K%d.json":"%s"' % (one, long) for one in range(4)) + b"}"
    rows = b64u(pack(b'{"area":"KG","monitors":[' + b'{"kid":"abcdefgh"},' * 60_000 + b"{}]}")).encode()
    lists = b"{" + b",".join(b'"targets/monitors/K%d.json":"%s"' % (one, rows) for one in range(8)) + b"}"
    refused = ((many, "oversized"), (names, "oversized"), (files, "old-version"), (lists, "old-version"))
    sent = [(pack(request), code) for request, code in refused]

    async def main() -> None:
        async with served(tmp_path) as hub:
            # What lists say is looked at when they bear the signatures they need.
            for request, code in sent:
                assert await asyncio.gather(*(published(hub, request) for _ in range(4))) == [code] * 4

    asyncio.run(main())


def test_whoever_has_the_card_cannot_hold_the_hub_with_requests_of_many_values(tmp_path: Path) -> None:
    async def main() -> None:
        async with served(tmp_path) as hub:
            nkey = hub.roster.nkeys
            for most, answer, sender in (
                (lobby.MAX_VALUES, hub.worker.reception.answer_enter, "UA" + "A" * 54),
                (lobby.MAX_VALUES, hub.worker.reception.answer_lobby, nkey["aigul"]),
                (letterbox.MAX_VALUES, hub.worker.reception.answer_letters, nkey["osh"]),
                (reception.MAX_SENT, hub.worker.reception.answer_publish, nkey["aigul"]),
            ):
                with pytest.raises(KengeleError) as caught:
                    await answer(sender, b'{"do":[' + b"1," * most + b"1]}")
                assert caught.value.code == "oversized", answer

    asyncio.run(main())
