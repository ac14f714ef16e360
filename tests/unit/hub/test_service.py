"""The hub as a whole: what ends for good is begun anew, and requests are answered again."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from structlog.testing import capture_logs

from kengele_hub import service, watch
from kengele_hub.access import Access
from kengele_hub.broker import Broker
from kengele_hub.broker import Settings as BrokerSettings
from kengele_hub.delivery import Delivery
from kengele_hub.home import HubKeys
from kengele_hub.service import Running, led, origin, run
from kengele_hub.settings import Settings
from kengele_node.link import Link
from kengele_schemas import subjects
from kengele_schemas.encoding import b64u
from kengele_schemas.envelope import parse
from kengele_schemas.errors import Unreachable
from kengele_testing.certificates import make_certificate
from kengele_testing.hub import TOKEN, Roster
from kengele_testing.server import member_credentials

pytestmark = pytest.mark.full
CANARY = "Zq7CANARYx9"


@asynccontextmanager
async def living(keys: HubKeys, **members: Any) -> AsyncIterator[asyncio.Queue[Running]]:
    """A hub while the block runs; what it says each time it answers requests."""
    begun: asyncio.Queue[Running] = asyncio.Queue()
    token_hash = b64u(hashlib.sha256(TOKEN).digest())
    settings = Settings(**{"port": -1, "ops_port": 0, "token_hash": token_hash, **members})
    hub = asyncio.create_task(run(keys, settings, begun.put_nowait))
    try:
        async with asyncio.timeout(30):
            yield begun
    finally:
        hub.cancel()
        await asyncio.gather(hub, return_exceptions=True)


async def asked(link: Link, subject: str) -> Any:
    """The answer, None if nobody listened: the broker says so at times though the new subscription is confirmed."""
    try:
        return json.loads(await link.request(subject, b"x"))
    except Unreachable:
        return None


def test_a_line_that_was_closed_for_good_is_made_anew_and_requests_are_answered_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        keys = HubKeys.create(tmp_path / "hub")
        settings = Settings(port=-1, ops_port=0, token_hash="A" * 43)
        begun: asyncio.Queue[Running] = asyncio.Queue()
        hub = asyncio.create_task(run(keys, settings, begun.put_nowait))
        try:
            async with asyncio.timeout(30):
                first = await begun.get()
                member = member_credentials(keys, "monitor")
                async with member.link(first.url) as link:
                    await link.wait_connected(60)
                    subject = subjects.reports_submit(member.nkey)
                    assert json.loads(await link.request(subject, b"x"))["code"] == "hub-unavailable"
                    await first.worker._nc.close()
                    assert await begun.get() is not first
                    while (answer := await asked(link, subject)) is None:
                        await asyncio.sleep(0.02)
                    assert answer["code"] == "hub-unavailable"
        finally:
            hub.cancel()
            await asyncio.gather(hub, return_exceptions=True)

    asyncio.run(scenario())


def test_a_part_that_fails_is_begun_anew_and_told_by_its_errors_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_RETRY", 0.05)

    async def scenario() -> None:
        async def failing(_: Delivery) -> None:
            raise RuntimeError(CANARY)

        with capture_logs() as logs, monkeypatch.context() as patched:
            patched.setattr(Delivery, "run", failing)
            async with living(HubKeys.create(tmp_path / "hub")) as begun:
                first, second = await begun.get(), await begun.get()
                assert first.worker is not second.worker
                assert first.url == second.url
        events = [(entry["event"], entry.get("error")) for entry in logs if entry["event"].startswith("hub-")]
        assert events[:2] == [("hub-task-ended", "RuntimeError"), ("hub-begins-anew", None)]
        assert CANARY not in str(logs)

    asyncio.run(scenario())


def test_a_hub_that_waits_for_its_broker_ends_when_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        waiting = asyncio.Event()

        async def unanswered(_: Access) -> None:
            waiting.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(Access, "push_accounts", unanswered)
        settings = Settings(external="nats://127.0.0.1:1", token_hash="A" * 43)
        hub = asyncio.create_task(run(HubKeys.create(tmp_path / "hub"), settings))
        await waiting.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(60):
            await hub

    asyncio.run(scenario())


def test_an_external_broker_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def scenario() -> None:
        keys = HubKeys.create(tmp_path / "hub")
        late = Broker(keys, BrokerSettings(port=port))
        async with living(keys, external=f"nats://127.0.0.1:{port}") as begun, late:
            running = await begun.get()
            assert running.url == f"nats://127.0.0.1:{port}"
            async with member_credentials(keys, "monitor").link(running.url) as link:
                await link.wait_connected(60)

    asyncio.run(scenario())


def test_with_a_certificate_the_hub_is_reached_by_tls(tmp_path: Path) -> None:
    async def scenario() -> None:
        tls, _ = make_certificate(tmp_path)
        keys = HubKeys.create(tmp_path / "hub")
        members = {"tls_certificate": tls.certificate, "tls_key": tls.key, "websocket_port": -1}
        async with living(keys, **members) as begun:
            running = await begun.get()
            assert running.url.startswith("tls://127.0.0.1:")
            assert running.websocket_url.startswith("wss://127.0.0.1:")

    asyncio.run(scenario())


def test_the_operators_page_says_how_the_hub_is_and_nothing_of_who_or_where(tmp_path: Path) -> None:
    async def scenario() -> None:
        keys, roster = HubKeys.create(tmp_path / "hub"), Roster()
        roster.hub, roster.snapshot, roster.timestamp = keys.hub_key, keys.snapshot_key, keys.timestamp_key
        async with living(keys, ops_port=-1) as begun, aiohttp.ClientSession() as http:
            running = await begun.get()

            async def page(path: str, status: int = 200) -> str:
                async with http.get(running.ops_url + path) as answer:
                    assert answer.status == status
                    return await answer.text()

            await page("/livez")
            await page("/readyz", 503)
            state = json.loads(await page("/status"))
            assert (state["founded"], state["ready"], state["connected"]) == (False, False, True)
            assert "kengele_ready 0" in await page("/metrics")

            await running.authority.found(b64u(TOKEN), roster.first())
            nc = running.authority.nc
            sent = [roster.sealed(), roster.sealed(), b"garbage", roster.sealed("batken")]
            for data in sent:
                await nc.request(subjects.reports_submit(roster.nkeys["osh"]), data, timeout=10)
            while running.delivery.delivered < 4:
                await asyncio.sleep(0.02)
            await page("/readyz")
            state = json.loads(await page("/status"))
            assert state["receipts"] == {"accepted": 2, "malformed": 1, "replayed": 1}
            assert (state["pid"], state["roster_version"], state["policy_version"]) == (os.getpid(), 1, 1)
            assert (state["log_size"], state["delivered"], state["ready"]) == (3, 4, True)
            shown = await page("/status") + await page("/metrics")
            named = {
                *roster.nkeys.values(),
                *roster.nkeys,
                *map(roster.kid, roster.authors),
                "KG",
                "rumour",
                "to-unrcca",
            }
            assert not [name for name in named if name in shown]
            assert not [data for data in (sent[0], sent[1]) if parse(data).claims["id"] in shown]

    asyncio.run(scenario())


async def readiness(http: aiohttp.ClientSession, running: Running) -> tuple[int, list[str]]:
    async with http.get(f"{running.ops_url}/readyz") as answer:
        return answer.status, (await answer.text()).split("\n")[1:-1]


async def until(http: aiohttp.ClientSession, running: Running, *codes: str) -> None:
    """Returns when the page gives ``codes`` for why it is not ready, or none and is ready."""
    while await readiness(http, running) != (503 if codes else 200, [*codes]):
        await asyncio.sleep(0.02)


def founding(keys: HubKeys) -> Roster:
    roster = Roster()
    roster.hub, roster.snapshot, roster.timestamp = keys.hub_key, keys.snapshot_key, keys.timestamp_key
    return roster


def test_a_hub_whose_broker_is_gone_is_not_ready_and_lives(tmp_path: Path) -> None:
    async def scenario() -> None:
        keys = HubKeys.create(tmp_path / "hub")
        async with (
            Broker(keys, BrokerSettings(port=-1)) as broker,
            aiohttp.ClientSession() as http,
            living(keys, external=broker.url, ops_port=-1) as begun,
        ):
            running = await begun.get()
            await running.authority.found(b64u(TOKEN), founding(keys).first())
            await until(http, running)
            await broker.stop()
            await until(http, running, "broker-away")
            async with http.get(f"{running.ops_url}/livez") as answer:
                assert answer.status == 200

    asyncio.run(scenario())


def test_a_hub_that_has_no_room_for_reports_is_not_ready(tmp_path: Path) -> None:
    async def scenario() -> None:
        keys = HubKeys.create(tmp_path / "hub")
        async with living(keys, ops_port=-1, ledger_max_bytes=20_000) as begun, aiohttp.ClientSession() as http:
            running = await begun.get()
            roster = founding(keys)
            await running.authority.found(b64u(TOKEN), roster.first())
            await until(http, running)
            code = ""
            while code != "storage-full":
                subject = subjects.reports_submit(roster.nkeys["osh"])
                code = json.loads((await running.authority.nc.request(subject, roster.sealed(), timeout=10)).data)[
                    "code"
                ]
            await until(http, running, "storage-full")

    asyncio.run(scenario())


@pytest.mark.parametrize("free", [0, 2**26 - 1])
def test_a_hub_whose_disk_is_full_is_not_ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(watch, "PACE", 0.02)

    async def scenario() -> None:
        keys = HubKeys.create(tmp_path / "hub")
        async with living(keys, ops_port=-1) as begun, aiohttp.ClientSession() as http:
            running = await begun.get()
            await running.authority.found(b64u(TOKEN), founding(keys).first())
            await until(http, running)
            monkeypatch.setattr(watch, "disk_of", lambda _: (free, 2**40, True))
            await until(http, running, "storage-full")
            monkeypatch.setattr(watch, "disk_of", lambda _: (2**26, 2**40, True))
            await until(http, running)

    asyncio.run(scenario())


def test_a_hub_whose_coordinators_signatures_have_run_out_is_not_ready(tmp_path: Path) -> None:
    async def scenario() -> None:
        keys = HubKeys.create(tmp_path / "hub")
        async with living(keys, ops_port=-1) as begun, aiohttp.ClientSession() as http:
            running = await begun.get()
            await running.authority.found(b64u(TOKEN), founding(keys).first())
            await until(http, running)
            standing = running.authority.standing
            assert standing is not None
            past = replace(standing.trusted, targets_expire=datetime.now(UTC))
            running.authority.standing = replace(standing, trusted=past)
            await until(http, running, "signatures-expired")

    asyncio.run(scenario())


def test_a_logs_name_is_each_hubs_own_and_says_nothing_of_it(tmp_path: Path) -> None:
    first, second = HubKeys.create(tmp_path / "a"), HubKeys.create(tmp_path / "b")
    assert origin(first) == origin(HubKeys.load(tmp_path / "a")) != origin(second)
    assert re.fullmatch(r"kengele/[0-9a-f]{16}", origin(first))


def heard(name: str, seconds: float, **more: object) -> dict[str, Any]:
    return {"name": name, "current": True, "active": int(seconds * 1e9), **more}


@pytest.mark.parametrize(
    ("cluster", "leads"),
    [
        (None, True),
        ({"leader": "n0"}, True),
        ({"leader": "n0", "replicas": [heard("n1", 0.4), heard("n2", 0.5)]}, True),
        ({"leader": "n0", "replicas": [heard("n1", 0.4), heard("n2", 60.4)]}, True),
        ({"leader": "n0", "replicas": [heard("n1", 0.4), heard("n2", 0.3, offline=True)]}, True),
        # A leader that was cut off.
        ({"leader": "n0", "replicas": [heard("n1", 60.4), heard("n2", 60.4)]}, False),
        ({"leader": "n0", "replicas": [heard("n1", 0), heard("n2", 0)]}, False),
        ({"leader": "n0", "replicas": [heard("n1", 0.4, offline=True), heard("n2", 0.4, offline=True)]}, False),
        # A follower that was cut off: it tells of itself, too.
        ({"replicas": [heard("n0", 0), heard("n1", 0.5), heard("n2", 0)]}, False),
        ({"leader": "", "replicas": [heard("n1", 0.4), heard("n2", 0.5)]}, False),
    ],
)
def test_a_server_that_was_cut_off_is_told_from_one_that_stores(cluster: dict[str, Any] | None, leads: bool) -> None:
    assert led(cluster) is leads
