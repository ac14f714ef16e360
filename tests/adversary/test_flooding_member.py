"""A member, or whoever has the network's card, that sends all it can: what it costs the hub, and nobody else."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from nats.aio.msg import Msg

from kengele_hub import credentials, door, pauses
from kengele_hub import reception as reception_module
from kengele_hub import worker as worker_module
from kengele_hub.pauses import Pauses
from kengele_hub.reception import MAX_JOIN
from kengele_hub.submissions import MAX_EACH
from kengele_hub.worker import MAX_REQUESTS
from kengele_node.errors import NotAdmitted
from kengele_node.link import Link
from kengele_node.member import joiner
from kengele_schemas import subjects
from kengele_schemas.cards import Joiner
from kengele_schemas.encoding import b64u, dumps
from kengele_schemas.errors import Refused
from kengele_schemas.nkeys import KeyPair
from kengele_testing.hub import TOKEN, Hub, Roster, running_hub
from kengele_testing.network import draft, sealed, small_network, until

pytestmark = pytest.mark.full


def run(tmp_path: Path, claim: Callable[[Hub], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(90):
            async with running_hub(tmp_path) as hub:
                await claim(hub)

    asyncio.run(whole())


@contextmanager
def flooding(url: str, key: KeyPair, jwt: str) -> Iterator[None]:
    """A process that sends garbage under ``key`` without pause, and connects again as often as it is dropped."""
    command = [sys.executable, "-m", "bench.hostile", url, key.seed, jwt]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}) as process:
        try:
            yield
            assert process.poll() is None
        finally:
            process.kill()


def kept_out(home: Path) -> str:
    """What the hub's operator is told when she asks who is paused."""
    command = [sys.executable, "-m", "kengele_node.cli", "hub", "paused", "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_one_hostile_member_at_full_speed_is_cut_off_within_seconds_and_the_others_reports_are_taken(
    tmp_path: Path,
) -> None:
    async def whole() -> None:
        async with small_network(tmp_path) as network:
            loud, other = network.monitors["osh"], network.monitors["batken"]

            def paused() -> int:
                return int((network.hub.state() or {}).get("paused", 0))

            async with loud.session():
                pass
            async with other.session() as session:
                trusted = await session.refresh()
                with flooding(other.card.urls[0], loud.nkey, loud.vault.secrets["jwt"].decode("ascii")):
                    await until(lambda: paused() == 1, 60)
                    for _ in range(20):
                        data = sealed(other, draft(area="KG-B"), trusted)
                        answer = await session.link.request(subjects.reports_submit(other.nkey.public), data, 30)
                        assert json.loads(answer)["code"] == "accepted"
                    assert paused() == 1
                    listed = await asyncio.to_thread(kept_out, network.hub.home)
                    assert loud.nkey.public in listed
                    assert other.nkey.public not in listed
                    with pytest.raises(NotAdmitted):
                        async with loud.session(1):
                            pass
            log = (network.hub.home / "hub.log").read_text()
            assert "senders-paused" in log
            assert loud.nkey.public not in log
            assert loud.kid not in log

    asyncio.run(whole())


def test_whoever_was_paused_by_mistake_comes_back_by_itself(tmp_path: Path) -> None:
    key = KeyPair.generate("user")
    roster = Roster()
    roster.nkeys["osh"] = key.public

    async def whole() -> None:
        async with asyncio.timeout(90), running_hub(tmp_path, roster) as hub:
            hub.worker.senders.pauses = Pauses(hub.authority.access, lambda: hub.authority.revoked, first=3)
            pausing = asyncio.create_task(hub.worker.senders.pauses.run())
            accounts, door = hub.keys.accounts, KeyPair.generate("user")
            card = Joiner(jwt=credentials.member(accounts, door.public, "joiner", now=1), seed=door.seed)
            jwt = credentials.member(accounts, key.public, "monitor", now=1)

            async def renew() -> str:
                async with joiner([hub.broker.access.url], card) as ask:
                    return str((await ask(key.public, {}))["jwt"])

            told: list[str] = []
            async with (
                hub.running("worker"),
                Link([hub.broker.access.url], jwt, key, first_wait=0.05, longest_wait=0.2, renew=renew) as link,
            ):
                link.told = told.append
                await link.wait_connected(60)
                with flooding(hub.broker.access.url, key, jwt):
                    await until(lambda: "paused" in told, 60)
                await until(lambda: link.connected, 60)
                answer = await link.request(subjects.reports_submit(key.public), hub.roster.sealed(), 30)
                assert json.loads(answer)["code"] == "accepted"
            assert await hub.broker.access.revoked() == set()
            pausing.cancel()

    asyncio.run(whole())


@pytest.mark.parametrize(("member", "code"), [("osh", "over-quota"), ("council", "unknown-monitor")])
def test_who_goes_on_though_told_not_to_is_paused_though_nothing_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str, code: str
) -> None:
    monkeypatch.setattr(pauses, "MOST", 40)

    async def claim(hub: Hub) -> None:
        network = hub.roster.documents()["network.json"]
        await hub.publish({"network.json": {**network, "reports_per_hour": 5}})
        async with hub.running("worker"):
            answers = [(await hub.send(member, b"garbage"))["code"] for _ in range(39)]
            assert hub.worker.senders.pauses.count == 0
            answers += [(await hub.send(member, b"garbage"))["code"] for _ in range(6)]
        assert set(answers[5:]) == {code}
        assert set(hub.worker.senders.pauses._wanted) == {hub.roster.nkeys[member]}

    run(tmp_path, claim)


def test_who_asks_for_the_rules_without_end_is_given_no_more_and_is_paused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "MOST", 40)
    monkeypatch.setattr(pauses, "WINDOW", 3600.0)
    monkeypatch.setattr(worker_module, "MAX_ASKED", 20)

    async def claim(hub: Hub) -> None:
        served = 0
        serve = hub.worker.reception.serve

        def counted(nkey: str, request: bytes) -> bytes:
            nonlocal served
            served += 1
            return serve(nkey, request)

        monkeypatch.setattr(hub.worker.reception, "serve", counted)
        loud, other = hub.roster.nkeys["osh"], hub.roster.nkeys["batken"]
        path = dumps({"path": "metadata/timestamp.json"})
        async with hub.running("worker"):
            for _ in range(20 + 40):
                await hub.nc.publish(subjects.trust_get(loud), path)
            assert (await hub.nc.request(subjects.trust_get(other), path, timeout=30)).data
        assert served == 20 + 1
        assert set(hub.worker.senders.pauses._wanted) == {loud}

    run(tmp_path, claim)


def test_whoever_has_the_card_cannot_have_a_member_paused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "MOST", 5)

    async def claim(hub: Hub) -> None:
        go_on = asyncio.Event()
        heard = 0

        async def answer(_: str, __: bytes) -> dict[str, Any]:
            nonlocal heard
            heard += 1
            await go_on.wait()
            return {"code": "not-admitted"}

        monkeypatch.setattr(hub.worker.reception, "answer_join", answer)
        async with hub.running("worker"):
            for _ in range(60):
                await hub.nc.publish(subjects.join_credentials(hub.roster.nkeys["osh"]), b"{}")
            await until(lambda: heard == MAX_REQUESTS)
            other = KeyPair.generate("user").public
            asked = asyncio.create_task(hub.nc.request(subjects.join_credentials(other), b"{}", timeout=30))
            await until(lambda: heard == MAX_REQUESTS + 1)
            go_on.set()
            await asked
        assert hub.worker.senders.pauses.count == 0

    run(tmp_path, claim)


def test_whoever_has_the_card_cannot_make_the_hub_hear_more_than_it_wants_and_the_door_opens_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "MOST", 20)

    async def claim(hub: Hub) -> None:
        heard = 0
        answer = hub.worker.reception.answer_join

        async def counted(nkey: str, request: bytes) -> dict[str, Any]:
            nonlocal heard
            heard += 1
            return await answer(nkey, request)

        monkeypatch.setattr(hub.worker.reception, "answer_join", counted)

        async def knocks(nkey: str) -> str:
            found = await hub.nc.request(subjects.join_credentials(nkey), b"{}", timeout=30)
            return str(json.loads(found.data)["code"])

        async with hub.running("worker"):
            # All that come at once and are not too many are answered.
            started = time.monotonic()
            assert (
                await asyncio.gather(*(knocks(KeyPair.generate("user").public) for _ in range(20)))
                == ["not-admitted"] * 20
            )
            for _ in range(5000):
                await hub.nc.publish(subjects.join_credentials(KeyPair.generate("user").public), b"{}")
            await hub.nc.flush()
            code = ""
            while not code:
                with suppress(nats.errors.NoRespondersError):
                    code = await knocks(hub.roster.nkeys["osh"])
                await asyncio.sleep(0.01)
            assert code == "admitted"
            assert heard <= 20 * (time.monotonic() - started + 2)

    run(tmp_path, claim)


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
            while hub.worker.submissions.waiting < 2 * MAX_EACH + 1:
                await asyncio.sleep(0.01)
        assert hub.worker.submissions.waiting == 2 * MAX_EACH + 1
        running = asyncio.create_task(hub.worker.submissions.run())
        assert json.loads((await answers.next_msg(30)).data)["code"] == "accepted"
        # Whoever has calmed down is heard again.
        assert (await hub.send("osh", hub.roster.sealed()))["code"] == "accepted"
        assert not hub.worker.senders.busy
        running.cancel()

    run(tmp_path, claim)


def test_nobodys_report_waits_for_what_is_done_with_anothers_garbage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(hub: Hub) -> None:
        heard: list[str] = []
        respond = hub.worker.senders.answer

        async def listening(message: Msg, data: bytes) -> None:
            heard.append(json.loads(data)["code"])
            await respond(message, data)

        monkeypatch.setattr(hub.worker.senders, "answer", listening)
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
        loads = reception_module.loads

        def reading(data: bytes, **bounds: Any) -> Any:
            read.append(len(data))
            return loads(data, **bounds)

        monkeypatch.setattr(reception_module, "loads", reading)
        nkey = KeyPair.generate("user").public
        lists = b'{"a":[' + b"[]," * 300_000 + b"[]]}"
        founding = b'{"found":"%s","files":{"x":"%s"}}' % (b64u(TOKEN).encode(), b"A" * 900_000)
        for request in (lists, founding, b"{}"):
            with pytest.raises(Refused) as caught:
                await hub.worker.reception.answer_join(nkey, request)
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

        monkeypatch.setattr(hub.worker.reception, "answer_publish", answer)
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
