"""A member, or whoever has the network's card, that sends all it can: what it costs the hub, and nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from nats.aio.msg import Msg

from kengele_hub import authority as authority_module
from kengele_hub.authority import MAX_JOIN
from kengele_hub.worker import MAX_EACH, MAX_REQUESTS
from kengele_schemas import subjects
from kengele_schemas.encoding import b64u
from kengele_schemas.errors import Refused
from kengele_schemas.nkeys import KeyPair
from kengele_testing.hub import TOKEN, Hub, running_hub

pytestmark = pytest.mark.full


def run(tmp_path: Path, claim: Callable[[Hub], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(90):
            async with running_hub(tmp_path) as hub:
                await claim(hub)

    asyncio.run(whole())


def test_one_member_cannot_fill_the_hub_so_that_nobody_elses_report_is_taken(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        await hub.worker.listen()
        inbox = hub.nc.new_inbox()
        answers = await hub.nc.subscribe(inbox)
        garbage = bytes(16 * 1024)
        for sender in ("osh", "unrcca"):
            for _ in range(300):
                await hub.nc.publish(subjects.reports_submit(hub.roster.nkeys[sender]), garbage)
        await hub.nc.publish(subjects.reports_submit(hub.roster.nkeys["batken"]), hub.roster.sealed("batken"), inbox)
        async with asyncio.timeout(30):
            while hub.worker._waiting.qsize() < 2 * MAX_EACH + 1:
                await asyncio.sleep(0.01)
        assert hub.worker._waiting.qsize() == 2 * MAX_EACH + 1
        running = asyncio.create_task(hub.worker.run())
        assert json.loads((await answers.next_msg(30)).data)["code"] == "accepted"
        # Whoever has calmed down is heard again.
        assert (await hub.send("osh", hub.roster.sealed()))["code"] == "accepted"
        assert not hub.worker._each
        running.cancel()

    run(tmp_path, claim)


def test_nobodys_report_waits_for_what_is_done_with_anothers_garbage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(hub: Hub) -> None:
        heard: list[str] = []
        respond = hub.worker._respond

        async def listening(message: Msg, data: bytes) -> None:
            heard.append(json.loads(data)["code"])
            await respond(message, data)

        monkeypatch.setattr(hub.worker, "_respond", listening)
        garbage = [("osh", b"garbage %d" % number) for number in range(20)]
        await hub.take(*garbage, ("batken", hub.roster.sealed("batken")))
        assert heard == ["accepted", *["malformed"] * 20]
        assert len(await hub.stored(subjects.REFUSED)) == 20

    run(tmp_path, claim)


def test_what_comes_from_who_is_no_monitor_takes_no_room_on_the_hubs_disk(tmp_path: Path) -> None:
    async def claim(hub: Hub) -> None:
        (answer,) = await hub.take(("unrcca", bytes(1024)))
        assert answer["code"] == "unknown-monitor"
        assert await hub.stored(subjects.REFUSED) == []

    run(tmp_path, claim)


def test_the_networks_card_alone_cannot_make_the_hub_read_large_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(hub: Hub) -> None:
        read: list[int] = []
        loads = authority_module.loads

        def reading(data: bytes, **bounds: Any) -> Any:
            read.append(len(data))
            return loads(data, **bounds)

        monkeypatch.setattr(authority_module, "loads", reading)
        nkey = KeyPair.generate("user").public
        lists = b'{"a":[' + b"[]," * 300_000 + b"[]]}"
        founding = b'{"found":"%s","files":{"x":"%s"}}' % (b64u(TOKEN).encode(), b"A" * 900_000)
        for request in (lists, founding, b"{}"):
            with pytest.raises(Refused) as caught:
                await hub.authority.answer_join(nkey, request)
            assert caught.value.code == "not-admitted"
        assert read == [2]
        assert MAX_JOIN >= 2

    run(tmp_path, claim)


def test_one_coordinator_cannot_keep_the_hub_from_hearing_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(hub: Hub) -> None:
        under_way: list[str] = []
        go_on = asyncio.Event()

        async def answer(nkey: str, request: bytes) -> dict[str, Any]:
            under_way.append(nkey)
            await go_on.wait()
            return {"code": "published"}

        monkeypatch.setattr(hub.authority, "answer_publish", answer)
        await hub.worker.listen()
        loud, other = hub.roster.nkeys["aigul"], KeyPair.generate("user").public
        for _ in range(50):
            await hub.nc.publish(subjects.publish_metadata(loud), b"{}")
        asked = asyncio.create_task(hub.nc.request(subjects.publish_metadata(other), b"{}", timeout=30))
        async with asyncio.timeout(30):
            while other not in under_way:
                await asyncio.sleep(0.01)
        assert under_way == [*[loud] * MAX_REQUESTS, other]
        go_on.set()
        assert json.loads((await asked).data)["code"] == "published"

    run(tmp_path, claim)
